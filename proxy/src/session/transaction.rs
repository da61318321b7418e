//! BEGIN, COMMIT, ROLLBACK. Until transactions are real each statement commits by itself, and what cannot be kept of their promise is refused.

use crate::bound::{Isolation, TransactionModes};
use crate::session::Session;
use crate::settings::Scope;
use crate::statement::{Executor, Severity, Tag, TransactionStatus};
use toroid_common::error::{SqlError, SqlState};

/// SQLSTATE of warnings that have no code of their own.
const WARNING: SqlState = SqlState(*b"01000");

impl<E: Executor> Session<E> {
    pub(super) fn begin(&mut self, tag: &'static str, modes: TransactionModes) -> Result<(), SqlError> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => {
                self.state.transaction.set(TransactionStatus::Open);
                self.wrote = false;
                if !self.warned {
                    self.warned = true;
                    let text = "transactions are not supported yet: each statement commits by itself";
                    self.state.notify(Severity::Warning, SqlError::new(WARNING, text));
                }
            }
            TransactionStatus::Open | TransactionStatus::Failed => {
                let text = "there is already a transaction in progress";
                self.state.notify(Severity::Warning, SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, text));
            }
        }
        self.set_modes(
            modes,
            ["transaction_isolation", "transaction_read_only", "transaction_deferrable"],
            Scope::Local,
        )?;
        self.tag(tag);
        Ok(())
    }

    /// COMMIT and END.
    pub(super) fn commit(&mut self, tag: &'static str, chain: bool) -> Result<(), SqlError> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => self.no_transaction(chain.then_some("COMMIT AND CHAIN"))?,
            TransactionStatus::Open => self.end_or_chain(true, chain)?,
            TransactionStatus::Failed => return self.rollback("ROLLBACK", chain),
        }
        self.tag(tag);
        Ok(())
    }

    pub(super) fn rollback(&mut self, tag: &'static str, chain: bool) -> Result<(), SqlError> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => self.no_transaction(chain.then_some("ROLLBACK AND CHAIN"))?,
            TransactionStatus::Open | TransactionStatus::Failed => {
                self.end_or_chain(false, chain)?;
                if self.wrote {
                    self.wrote = false;
                    let detail = "The statements of this transaction that succeeded are committed and remain.";
                    return Err(SqlError::unsupported("ROLLBACK after a write").with_detail(detail));
                }
            }
        }
        self.tag(tag);
        Ok(())
    }

    /// Why a statement that only makes sense in a transaction fails.
    pub(super) fn not_yet(&self, statement: &str) -> SqlError {
        match self.state.transaction.get() {
            TransactionStatus::Idle => only_in_blocks(statement),
            TransactionStatus::Open | TransactionStatus::Failed => SqlError::unsupported(statement),
        }
    }

    /// A warning, but an error where a statement `only` makes sense in a transaction.
    fn no_transaction(&self, only: Option<&str>) -> Result<(), SqlError> {
        if let Some(statement) = only {
            return Err(only_in_blocks(statement));
        }
        let text = "there is no transaction in progress";
        self.state.notify(Severity::Warning, SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, text));
        Ok(())
    }

    fn end_or_chain(&mut self, commit: bool, chain: bool) -> Result<(), SqlError> {
        if !chain {
            self.end_transaction(commit);
            return Ok(());
        }
        let shown = |name: &str| self.state.settings().show(name).map(|(_, value)| value);
        let names = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
        let modes = [shown(names[0])?, shown(names[1])?, shown(names[2])?];
        self.end_transaction(commit);
        if commit {
            self.wrote = false;
        }
        self.state.transaction.set(TransactionStatus::Open);
        for (name, value) in names.into_iter().zip(&modes) {
            let changed = self.state.change(|settings| settings.set(name, Some(value), Scope::Local))?;
            self.changed.extend(changed);
        }
        Ok(())
    }

    fn end_transaction(&mut self, commit: bool) {
        self.state.transaction.set(TransactionStatus::Idle);
        let changed = self.state.change(|settings| settings.end_transaction(commit));
        self.changed.extend(changed);
        self.portals.clear();
    }

    /// SET TRANSACTION and SET SESSION CHARACTERISTICS.
    pub(super) fn set_transaction(&mut self, modes: TransactionModes, session: bool) -> Result<(), SqlError> {
        let open = self.state.transaction.get() != TransactionStatus::Idle;
        if session {
            let names =
                ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];
            self.set_modes(modes, names, Scope::Session { in_transaction: open })?;
        } else if open {
            let names = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
            self.set_modes(modes, names, Scope::Local)?;
        } else {
            let text = "SET TRANSACTION can only be used in transaction blocks";
            self.state.notify(Severity::Warning, SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, text));
        }
        self.tag("SET");
        Ok(())
    }

    fn set_modes(&mut self, modes: TransactionModes, names: [&str; 3], scope: Scope) -> Result<(), SqlError> {
        let isolation = modes.isolation.map(|isolation| match isolation {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        });
        let on = |value: Option<bool>| value.map(|on| if on { "on" } else { "off" });
        let values = [isolation, on(modes.read_only), on(modes.deferrable)];
        for (name, value) in names.into_iter().zip(values) {
            if value.is_some() {
                let changed = self.state.change(|settings| settings.set(name, value, scope))?;
                self.changed.extend(changed);
            }
        }
        Ok(())
    }

    pub(super) fn tag(&mut self, tag: &'static str) {
        self.send_notices();
        self.wire.output.complete(Tag::Plain(tag), 0);
    }
}

fn only_in_blocks(statement: &str) -> SqlError {
    let text = format!("{statement} can only be used in transaction blocks");
    SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, text)
}

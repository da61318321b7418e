//! BEGIN, COMMIT, ROLLBACK and savepoints, and the modes of transactions.

use crate::bound::{Isolation, TransactionModes};
use crate::session::{Fault, Session};
use crate::settings::Scope;
use crate::statement::{Executor, Severity, Tag, TransactionStatus};
use toroid_common::error::{SqlError, SqlState};

/// The modes of the open transaction, as settings.
const MODES: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

impl<E: Executor> Session<E> {
    pub(super) fn begin(&mut self, tag: &'static str, modes: TransactionModes) -> Result<(), SqlError> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => {
                // Statements sent before this one may stand against them: then there is no block.
                self.each_mode(modes, MODES, |session, name, value| session.may_set_mode(name, Some(value)))?;
                self.open_block();
            }
            TransactionStatus::Open | TransactionStatus::Failed => {
                let text = "there is already a transaction in progress";
                self.state.notify(Severity::Warning, SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, text));
            }
        }
        self.set_modes(modes, MODES, Scope::Local)?;
        self.tag(tag);
        Ok(())
    }

    /// From now on there is a block. What statements did that were sent together with this one belongs to it.
    fn open_block(&mut self) {
        self.begin_implicit();
        self.state.transaction.set(TransactionStatus::Open);
    }

    /// COMMIT and END.
    pub(super) async fn commit(&mut self, tag: &'static str, chain: bool) -> Result<(), Fault> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => {
                self.no_transaction(chain.then_some("COMMIT AND CHAIN"))?;
                self.end_of_implicit().await?;
                self.portals.clear();
            }
            TransactionStatus::Open => {
                let modes = if chain { self.modes() } else { Vec::new() };
                let executor = self.executor.clone();
                // Whatever comes of it: there is no transaction any more.
                let committed = executor.commit(&self.state).await;
                self.end_transaction(committed.is_ok());
                committed?;
                self.chain(chain, &modes)?;
            }
            TransactionStatus::Failed => return self.rollback("ROLLBACK", chain).await,
        }
        self.tag(tag);
        Ok(())
    }

    pub(super) async fn rollback(&mut self, tag: &'static str, chain: bool) -> Result<(), Fault> {
        let executor = self.executor.clone();
        match self.state.transaction.get() {
            TransactionStatus::Idle => {
                self.no_transaction(chain.then_some("ROLLBACK AND CHAIN"))?;
                executor.roll_back(&self.state).await;
                self.end_transaction(false);
            }
            status @ (TransactionStatus::Open | TransactionStatus::Failed) => {
                // What was said of a transaction is forgotten with its failure.
                let modes = if chain && status == TransactionStatus::Open { self.modes() } else { Vec::new() };
                executor.roll_back(&self.state).await;
                self.end_transaction(false);
                self.chain(chain, &modes)?;
            }
        }
        self.tag(tag);
        Ok(())
    }

    pub(super) fn savepoint(&mut self, name: String) -> Result<(), SqlError> {
        self.only_in_block("SAVEPOINT")?;
        let Some(open) = self.state.open() else { return Err(SqlError::unsupported("SAVEPOINT")) };
        open.with(|transaction| {
            transaction.savepoint(name);
            Ok(())
        })?;
        let settings = self.state.change(|settings| settings.mark());
        let wishes = self.state.hearing().wishes.len();
        self.savepoints.push((settings, self.opened, wishes));
        self.tag("SAVEPOINT");
        Ok(())
    }

    pub(super) fn release(&mut self, name: &str) -> Result<(), SqlError> {
        self.only_in_block("RELEASE SAVEPOINT")?;
        let Some(open) = self.state.open() else { return Err(SqlError::unsupported("RELEASE SAVEPOINT")) };
        let place = open.with(|transaction| {
            let place = transaction.find_savepoint(name)?;
            transaction.release(place);
            Ok(place)
        })?;
        if let Some((settings, _, _)) = self.savepoints.get(place) {
            self.state.change(|known| known.release(settings));
        }
        self.savepoints.truncate(place);
        self.tag("RELEASE");
        Ok(())
    }

    /// ROLLBACK TO, which mends a failed transaction.
    pub(super) async fn rollback_to(&mut self, name: &str) -> Result<(), Fault> {
        self.only_in_block("ROLLBACK TO SAVEPOINT")?;
        let Some(open) = self.state.open() else { return Err(SqlError::unsupported("ROLLBACK TO SAVEPOINT").into()) };
        let place = open.with(|transaction| transaction.find_savepoint(name))?;
        let executor = self.executor.clone();
        executor.roll_back_to(&self.state, place).await?;
        self.savepoints.truncate(place + 1);
        if let Some((settings, opened, wishes)) = self.savepoints.last() {
            self.state.hearing().wishes.truncate(*wishes);
            self.portals.retain(|portal| portal.number <= *opened);
            self.changed.extend(self.state.change(|known| known.restore(settings)));
        }
        self.state.transaction.set(TransactionStatus::Open);
        self.tag("ROLLBACK");
        Ok(())
    }

    fn only_in_block(&self, statement: &str) -> Result<(), SqlError> {
        match self.state.transaction.get() {
            TransactionStatus::Idle => Err(only_in_blocks(statement)),
            TransactionStatus::Open | TransactionStatus::Failed => Ok(()),
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

    /// What only lasts until the end of the transaction means little where nobody began one.
    pub(super) fn warn_outside_block(&self, statement: &str) {
        if self.state.transaction.get() == TransactionStatus::Idle && !self.several {
            let error = only_in_blocks(statement);
            self.state.notify(Severity::Warning, error);
        }
    }

    /// What the open transaction's modes are.
    fn modes(&self) -> Vec<String> {
        let settings = self.state.settings();
        MODES.iter().filter_map(|name| settings.show(name).ok()).map(|(_, value)| value).collect()
    }

    /// A transaction of the same modes begins where the last one ended.
    fn chain(&mut self, chain: bool, modes: &[String]) -> Result<(), SqlError> {
        if chain {
            self.state.begin_transaction_time();
            self.open_block();
            for (name, value) in MODES.into_iter().zip(modes) {
                let changed = self.state.change(|settings| settings.set(name, Some(value), Scope::Local))?;
                self.changed.extend(changed);
            }
        }
        Ok(())
    }

    /// What there is no more when a transaction is over.
    pub(super) fn end_transaction(&mut self, commit: bool) {
        self.state.transaction.set(TransactionStatus::Idle);
        let changed = self.state.end_transaction(commit);
        self.changed.extend(changed);
        self.portals.clear();
        self.savepoints.clear();
        self.queried = false;
    }

    /// SET TRANSACTION and SET SESSION CHARACTERISTICS.
    pub(super) fn set_transaction(&mut self, modes: TransactionModes, session: bool) -> Result<(), SqlError> {
        let open = self.in_transaction();
        if session {
            let names =
                ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];
            self.set_modes(modes, names, Scope::Session { in_transaction: open })?;
        } else {
            self.warn_outside_block("SET TRANSACTION");
            if open {
                self.set_modes(modes, MODES, Scope::Local)?;
            }
        }
        self.tag("SET");
        Ok(())
    }

    fn set_modes(&mut self, modes: TransactionModes, names: [&'static str; 3], scope: Scope) -> Result<(), SqlError> {
        self.each_mode(modes, names, |session, name, value| {
            session.may_set_mode(name, Some(value))?;
            let changed = session.state.change(|settings| settings.set(name, Some(value), scope))?;
            session.changed.extend(changed);
            Ok(())
        })
    }

    fn each_mode(
        &mut self,
        modes: TransactionModes,
        names: [&'static str; 3],
        mut action: impl FnMut(&mut Self, &'static str, &'static str) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let isolation = modes.isolation.map(|isolation| match isolation {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        });
        let on = |value: Option<bool>| value.map(|on| if on { "on" } else { "off" });
        let values = [isolation, on(modes.read_only), on(modes.deferrable)];
        for (name, value) in names.into_iter().zip(values) {
            if let Some(value) = value {
                action(self, name, value)?;
            }
        }
        Ok(())
    }

    /// The modes of a transaction stand when it has looked at rows, or has savepoints.
    pub(super) fn may_set_mode(&self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        let Some(place) = MODES.iter().position(|mode| mode.eq_ignore_ascii_case(name)) else { return Ok(()) };
        let nested = !self.savepoints.is_empty();
        if !nested && !self.queried || !self.in_transaction() {
            return Ok(());
        }
        let same = self.state.settings().is_already(name, value);
        let text = match (place, nested) {
            (0 | 1, _) if same => return Ok(()),
            (0, _) if self.queried => "SET TRANSACTION ISOLATION LEVEL must be called before any query",
            (0, _) => "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction",
            (1, _) if !self.state.settings().read_only() => return Ok(()),
            (1, true) => "cannot set transaction read-write mode inside a read-only transaction",
            (1, false) => "transaction read-write mode must be set before any query",
            (_, true) => "SET TRANSACTION [NOT] DEFERRABLE cannot be called within a subtransaction",
            (_, false) => "SET TRANSACTION [NOT] DEFERRABLE must be called before any query",
        };
        Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, text))
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

//! Statements that the session carries out itself: SET, SHOW, PREPARE, EXECUTE, CLOSE, DEALLOCATE, DISCARD.

use crate::bound;
use crate::encode::row::{Field, data_row};
use crate::encode::value::Style;
use crate::protocol::backend::Format;
use crate::session::extended::{changed_result, duplicate, no_statement};
use crate::session::portal::{Cursor, Fields, fields};
use crate::session::{Fault, MAX_NAMES, Session};
use crate::settings::Scope;
use crate::statement::{Answer, Executor, SetConfig, Tag, TransactionStatus, Wish, show_columns};
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::SqlType;

impl<E: Executor> Session<E> {
    /// `fields` are the columns of EXECUTE's rows as the client wants them; in the simple protocol they are described first.
    pub(super) async fn command(&mut self, command: bound::Session, fields: Fields, simple: bool) -> Result<(), Fault> {
        match command {
            bound::Session::Set { name, value, local } => self.set(&name, value.as_deref(), local)?,
            bound::Session::Reset { name: Some(name) } => self.reset(&name)?,
            bound::Session::Reset { name: None } => {
                self.reset_all();
                self.tag("RESET");
            }
            bound::Session::Show { name } => self.show(name.as_deref(), simple)?,
            bound::Session::SetTransaction { modes, session } => self.set_transaction(modes, session)?,
            bound::Session::Begin { tag, modes } => self.begin(tag, modes)?,
            bound::Session::Commit { tag, chain } => self.commit(tag, chain).await?,
            bound::Session::Rollback { tag, chain } => self.rollback(tag, chain).await?,
            bound::Session::Savepoint { name } => self.savepoint(name)?,
            bound::Session::Release { name } => self.release(&name)?,
            bound::Session::RollbackTo { name } => self.rollback_to(&name).await?,
            bound::Session::LockTables { .. } => return Err(SqlError::internal("LOCK TABLE is the conductor's").into()),
            bound::Session::Listen { channel } => self.wish(Wish::Listen(channel), "LISTEN").await?,
            bound::Session::Unlisten { channel } => self.wish(Wish::Unlisten(channel), "UNLISTEN").await?,
            bound::Session::Notify { .. } => {
                return Err(SqlError::internal("NOTIFY is no command of the session").into());
            }
            bound::Session::Prepare { name, types, text } => {
                if self.statements.contains(&name) {
                    return Err(duplicate(&name).into());
                }
                let prepared = self.prepare(&text, types).await?;
                self.keep(&name, prepared)?;
                self.queried = true;
                self.tag("PREPARE");
            }
            bound::Session::Execute { name, args } => self.execute_named(&name, &args, fields, simple).await?,
            bound::Session::Close { name: Some(name) } => {
                self.portals.remove(&name).ok_or_else(|| {
                    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
                })?;
                self.tag("CLOSE CURSOR");
            }
            bound::Session::Close { name: None } => {
                self.portals.clear();
                self.tag("CLOSE CURSOR ALL");
            }
            bound::Session::Deallocate { name: Some(name) } => {
                self.queried = true;
                self.statements.remove(&name).ok_or_else(|| no_statement(&name))?;
                self.tag("DEALLOCATE");
            }
            bound::Session::Deallocate { name: None } => {
                self.queried = true;
                self.statements.clear();
                self.tag("DEALLOCATE ALL");
            }
            bound::Session::Discard { all, tag } => {
                self.queried = true;
                self.discard(all, tag).await?;
            }
        }
        Ok(())
    }

    /// LISTEN and UNLISTEN: with the transaction, or at once.
    async fn wish(&mut self, wish: Wish, tag: &'static str) -> Result<(), SqlError> {
        {
            let mut hearing = self.state.hearing();
            let is_full = hearing.wishes.len() + hearing.channels.len() >= MAX_NAMES;
            if is_full && matches!(wish, Wish::Listen(_)) {
                let message = "too many channels in this session";
                return Err(SqlError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message));
            }
            hearing.wish(wish);
        }
        if !self.in_transaction() {
            let executor = self.executor.clone();
            executor.fulfil(&self.state).await?;
        }
        self.tag(tag);
        Ok(())
    }

    /// Whether settings are those of a transaction, begun or not.
    pub(super) fn in_transaction(&self) -> bool {
        self.state.transaction.get() != TransactionStatus::Idle || self.state.open().is_some()
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), SqlError> {
        let in_transaction = self.in_transaction();
        if local {
            self.warn_outside_block("SET LOCAL");
        }
        // Outside a transaction SET LOCAL ends with its own statement; its value is checked all the same.
        let scope = if local { Scope::Local } else { Scope::Session { in_transaction } };
        self.may_set_mode(name, value)?;
        let changed = self.state.change(|settings| settings.set(name, value, scope))?;
        if local && !in_transaction {
            self.state.end_transaction(true);
        } else {
            self.changed.extend(changed);
        }
        self.tag("SET");
        Ok(())
    }

    /// Changes the settings that the rows of a result name, or none of them, and sends what they are now.
    pub(super) fn set_config(&mut self, rows: Vec<Vec<SetConfig>>, fields: &[Field]) -> Result<(), SqlError> {
        let in_transaction = self.in_transaction();
        let before = self.state.settings().clone();
        let mut shown: Vec<Vec<String>> = Vec::with_capacity(rows.len());
        let mut local = false;
        for row in rows {
            let mut values = Vec::with_capacity(row.len());
            for call in row {
                local |= call.local;
                match self.set_one(&call, in_transaction) {
                    Ok(value) => values.push(value),
                    Err(error) => {
                        self.state.change(|settings| *settings = before);
                        return Err(error);
                    }
                }
            }
            shown.push(values);
        }
        if local && !in_transaction {
            self.state.end_transaction(true);
        }
        let style = Style::of(&self.state);
        for row in &shown {
            data_row(&mut self.wire.output, fields, row.iter().map(|value| DatumRef::Text(value)), &style);
        }
        drop(style);
        self.wire.output.complete(Tag::Counted("SELECT"), shown.len() as u64);
        Ok(())
    }

    fn set_one(&mut self, call: &SetConfig, in_transaction: bool) -> Result<String, SqlError> {
        let name = call
            .name
            .as_deref()
            .ok_or_else(|| SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "SET requires parameter name"))?;
        self.may_set_mode(name, call.value.as_deref())?;
        let scope = if call.local { Scope::Local } else { Scope::Session { in_transaction } };
        let changed = self.state.change(|settings| settings.set(name, call.value.as_deref(), scope))?;
        if !call.local || in_transaction {
            self.changed.extend(changed);
        }
        self.state.settings().show(name).map(|(_, value)| value)
    }

    fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let scope = Scope::Session { in_transaction: self.in_transaction() };
        self.may_set_mode(name, None)?;
        let changed = self.state.change(|settings| settings.set(name, None, scope))?;
        self.changed.extend(changed);
        self.tag("RESET");
        Ok(())
    }

    fn reset_all(&mut self) {
        let in_transaction = self.in_transaction();
        let changed = self.state.change(|settings| settings.reset_all(in_transaction));
        self.changed.extend(changed);
    }

    async fn discard(&mut self, all: bool, tag: &'static str) -> Result<(), SqlError> {
        if all {
            if self.in_transaction() {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, message));
            }
            let executor = self.executor.clone();
            executor.give_back(&self.state).await?;
            self.state.hearing().wishes.push(Wish::Unlisten(None));
            executor.fulfil(&self.state).await?;
            self.reset_all();
            self.statements.clear();
            self.portals.clear();
        }
        self.tag(tag);
        Ok(())
    }

    fn show(&mut self, name: Option<&str>, simple: bool) -> Result<(), SqlError> {
        let rows: Vec<Vec<String>> = match name {
            Some(name) => vec![vec![self.state.settings().show(name)?.1]],
            None => {
                let settings = self.state.settings();
                let own = |(name, value, text): (&str, &str, &str)| vec![name.into(), value.into(), text.into()];
                settings.show_all().map(own).collect()
            }
        };
        if simple {
            let columns = show_columns(name);
            self.wire.output.row_description(columns.iter().map(|column| (column, Format::Text)));
        }
        let text = Field { ty: SqlType::Text.into(), format: Format::Text };
        let style = Style::of(&self.state);
        for row in &rows {
            let values = row.iter().map(|value| DatumRef::Text(value));
            data_row(&mut self.wire.output, &vec![text; row.len()], values, &style);
        }
        drop(style);
        self.tag("SHOW");
        Ok(())
    }

    async fn execute_named(&mut self, name: &str, args: &[Expr], described: Fields, simple: bool) -> Result<(), Fault> {
        let prepared = self.current(name).await?;
        // PostgreSQL does not look at the arguments of a statement that has no parameters.
        let args = if prepared.params.is_empty() { &[] } else { args };
        let (expected, given) = (prepared.params.len(), args.len());
        if expected != given {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail = format!("Expected {expected} parameters but got {given}.");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_detail(detail).into());
        }
        let params = self.executor.arguments(&self.state, args, &prepared.params)?;
        match self.run(&prepared, &params).await? {
            Answer::Rows(rows) => {
                let columns = prepared.columns.as_deref().unwrap_or_default();
                let mut fields = fields(columns, &[]);
                if simple {
                    self.wire.output.row_description(columns.iter().map(|column| (column, Format::Text)));
                } else if described.len() == fields.len() {
                    fields = described;
                } else {
                    return Err(changed_result().into());
                }
                self.send_rows(&mut Cursor::new(rows, fields), &prepared, None).await?;
            }
            Answer::Done { count } => self.complete(prepared.tag, count).await?,
            Answer::Tag(tag) => self.complete(Tag::Plain(tag), 0).await?,
            Answer::SetConfig(rows) => {
                let columns = prepared.columns.as_deref().unwrap_or_default();
                let fields = if simple { fields(columns, &[]) } else { described };
                if simple {
                    self.wire.output.row_description(columns.iter().map(|column| (column, Format::Text)));
                }
                self.set_config(rows, &fields)?;
            }
            Answer::CopyIn(_) | Answer::CopyOut(_) | Answer::Session(_) => {
                return Err(SqlError::unsupported("EXECUTE of such a statement").into());
            }
        }
        Ok(())
    }
}

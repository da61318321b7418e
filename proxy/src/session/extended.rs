//! Extended query: Parse, Bind, Describe, Execute, Close.

use crate::protocol::backend::Format;
use crate::protocol::frontend::{Bind, Target, Words, utf8};
use crate::protocol::input::Executes;
use crate::session::portal::{Cursor, Portal, Progress, Stop, fields};
use crate::session::{Fault, MAX_NAMES, Session, aborted};
use crate::statement::{Answer, Column, Executor, Kind, Prepared, Tag, TransactionStatus};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::types::SqlType;
use toroid_common::types::binary::read_binary;
use toroid_common::types::input::parse_text;

fn protocol(message: String) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

pub(super) fn no_statement(name: &str) -> SqlError {
    let message = match name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    SqlError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

fn too_many(what: &str) -> SqlError {
    SqlError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, format!("too many {what} in this session"))
}

impl<E: Executor> Session<E> {
    pub(super) async fn parse(&mut self, name: &[u8], text: &[u8], types: Words<'_, 4>) -> Result<(), Fault> {
        let (name, text) = (utf8(name)?, utf8(text)?);
        if !name.is_empty() && self.statements.contains(name) {
            return Err(duplicate(name).into());
        }
        if name.is_empty() {
            self.statements.remove("");
        }
        let declared = types.iter().map(declared_type).collect::<Result<Vec<_>, _>>()?;
        self.begin_statement();
        let started = Instant::now();
        let prepared = self.prepare(text, declared).await;
        if prepared.is_err() {
            self.metrics.statement(Kind::Empty, false, started.elapsed());
        }
        self.keep(name, prepared?)?;
        self.wire.output.parse_complete();
        Ok(())
    }

    /// Plans a statement for Parse or PREPARE.
    pub(super) async fn prepare(
        &mut self,
        text: &str,
        declared: Vec<SqlType>,
    ) -> Result<Arc<Prepared<E::Plan>>, Fault> {
        if self.state.transaction.get() == TransactionStatus::Failed {
            let pieces = self.executor.split(text)?;
            if !pieces.iter().all(|piece| self.executor.ends_transaction(piece)) {
                return Err(aborted().into());
            }
        }
        let executor = self.executor.clone();
        let prepared = executor.prepare(&self.state, text, &declared).await;
        self.send_notices();
        Ok(prepared?)
    }

    pub(super) fn keep(&mut self, name: &str, prepared: Arc<Prepared<E::Plan>>) -> Result<(), SqlError> {
        if self.statements.len() >= MAX_NAMES {
            return Err(too_many("prepared statements"));
        }
        self.statements.insert(name, prepared);
        Ok(())
    }

    /// The statement as it is to be executed now: planned again where the catalog has changed.
    pub(super) async fn current(&mut self, name: &str) -> Result<Arc<Prepared<E::Plan>>, Fault> {
        let old = self.statements.get(name).ok_or_else(|| no_statement(name))?.clone();
        if self.state.transaction.get() == TransactionStatus::Failed {
            return Ok(old);
        }
        let executor = self.executor.clone();
        let new = executor.refresh(&self.state, &old).await?;
        if !Arc::ptr_eq(&old, &new) {
            if !same_result(old.columns.as_deref(), new.columns.as_deref()) {
                return Err(changed_result().into());
            }
            if let Some(statement) = self.statements.get_mut(name) {
                *statement = new.clone();
            }
        }
        Ok(new)
    }

    pub(super) async fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Fault> {
        self.begin_statement();
        let (portal, name) = (utf8(bind.portal)?, utf8(bind.statement)?);
        let prepared = self.current(name).await?;
        if self.state.transaction.get() == TransactionStatus::Failed && !prepared.ends_transaction {
            return Err(aborted().into());
        }
        let (supplied, wanted) = (usize::from(bind.count), prepared.params.len());
        if bind.formats.len() > 1 && bind.formats.len() != supplied {
            let formats = bind.formats.len();
            return Err(
                protocol(format!("bind message has {formats} parameter formats but {supplied} parameters")).into()
            );
        }
        if supplied != wanted {
            let message = format!(
                "bind message supplies {supplied} parameters, but prepared statement \"{name}\" requires {wanted}"
            );
            return Err(protocol(message).into());
        }
        let params = self.parameters(bind, &prepared.params)?;
        let formats = bind.results.iter().map(format_of).collect::<Result<SmallVec<_>, _>>()?;
        let columns = self.rows_of(&prepared).map_or(0, |columns| columns.len());
        if formats.len() > 1 && formats.len() != columns {
            let given = formats.len();
            return Err(
                protocol(format!("bind message has {given} result formats but query has {columns} columns")).into()
            );
        }
        if !portal.is_empty() && self.portals.contains(portal) {
            let message = format!("cursor \"{portal}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, message).into());
        }
        if self.portals.len() >= MAX_NAMES {
            return Err(too_many("portals").into());
        }
        self.opened += 1;
        let number = self.opened;
        self.portals.insert(portal, Portal { prepared, params, formats, progress: Progress::New, number });
        self.wire.output.bind_complete();
        Ok(())
    }

    fn parameters(&self, bind: &Bind<'_>, types: &[SqlType]) -> Result<Vec<Datum>, SqlError> {
        let mut formats = bind.formats.iter();
        let single = if bind.formats.len() == 1 { formats.next() } else { None };
        let env = self.state.env();
        let mut params = Vec::with_capacity(types.len());
        for (number, (value, ty)) in bind.values().zip(types).enumerate() {
            let code = single.or_else(|| formats.next()).unwrap_or(0);
            let read = format_of(code).and_then(|format| match (value, format) {
                (None, _) => Ok(Datum::Null),
                (Some(bytes), Format::Text) => parse_text(*ty, -1, utf8(bytes)?, &env),
                (Some(bytes), Format::Binary) => read_binary(*ty, -1, bytes),
            });
            params.push(read.map_err(|error| error.with_context(parameter_context(bind.portal, number, code)))?);
        }
        Ok(params)
    }

    /// The columns that Describe tells of: COPY's rows are no result, EXECUTE's are those of the statement that it names.
    fn rows_of(&self, prepared: &Prepared<E::Plan>) -> Option<Arc<[Column]>> {
        let executed = prepared.executes.as_deref().and_then(|name| self.statements.get(name));
        match (executed, prepared.kind) {
            (Some(statement), _) => statement.columns.clone(),
            (None, Kind::Copy) => None,
            (None, _) => prepared.columns.clone(),
        }
    }

    pub(super) fn describe(&mut self, target: Target, name: &[u8]) -> Result<(), Fault> {
        let name = utf8(name)?;
        let (prepared, formats) = match target {
            Target::Statement => {
                let prepared = self.statements.get(name).ok_or_else(|| no_statement(name))?.clone();
                (prepared, SmallVec::new())
            }
            Target::Portal => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (portal.prepared.clone(), portal.formats.clone())
            }
        };
        let columns = self.rows_of(&prepared);
        if columns.is_some() && self.state.transaction.get() == TransactionStatus::Failed {
            return Err(aborted().into());
        }
        if target == Target::Statement {
            self.wire.output.parameter_description(&prepared.params);
        }
        match columns {
            Some(columns) => {
                let fields = fields(&columns, &formats);
                self.wire.output.row_description(columns.iter().zip(fields.iter().map(|field| field.format)));
            }
            None => self.wire.output.no_data(),
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, portal: &[u8], limit: i32) -> Result<(), Fault> {
        let started = Instant::now();
        let name = utf8(portal)?;
        // Taken out while it runs: a portal whose execution failed is gone.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let outcome = self.execute_portal(&mut portal, name, limit).await;
        self.metrics.statement(portal.prepared.kind, outcome.is_ok(), started.elapsed());
        outcome?;
        self.portals.insert(name, portal);
        Ok(())
    }

    async fn execute_portal(
        &mut self,
        portal: &mut Portal<E::Plan>,
        name: &str,
        limit: Option<u64>,
    ) -> Result<(), Fault> {
        let prepared = portal.prepared.clone();
        if self.state.transaction.get() == TransactionStatus::Failed && !prepared.ends_transaction {
            return Err(aborted().into());
        }
        match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New if prepared.kind == Kind::Empty => self.wire.output.empty_query(),
            Progress::New => {
                if prepared.joins && !self.wire.input.is_at_sync() {
                    self.begin_implicit();
                }
                let params = std::mem::take(&mut portal.params);
                self.state.set_commits_next(prepared.writes && self.is_commit_next());
                match self.run(&prepared, &params).await? {
                    Answer::Rows(rows) => {
                        let columns = prepared.columns.as_deref().unwrap_or_default();
                        let cursor = Cursor::new(rows, fields(columns, &portal.formats));
                        portal.progress = self.advance(cursor, &prepared, limit).await?;
                    }
                    answer => {
                        let columns = self.rows_of(&prepared);
                        let fields = fields(columns.as_deref().unwrap_or_default(), &portal.formats);
                        self.send(&prepared, answer, fields, false).await?;
                    }
                }
            }
            Progress::Rows(cursor) => {
                self.begin_statement();
                self.start_clock();
                portal.progress = self.advance(cursor, &prepared, limit).await?;
            }
            Progress::Exhausted => {
                self.wire.output.complete(prepared.tag, 0);
                portal.progress = Progress::Exhausted;
            }
            Progress::Done => {
                let message = format!("portal \"{name}\" cannot be run");
                return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into());
            }
        }
        Ok(())
    }

    /// Whether the client has sent the end of the open transaction behind the message that is being carried out.
    fn is_commit_next(&self) -> bool {
        let input = &self.wire.input;
        // What its client may be slow to take stands before it.
        if self.wire.awaited || self.wire.output.is_big() {
            return false;
        }
        match self.state.transaction.get() {
            TransactionStatus::Idle => self.state.open().is_some() && input.is_at_sync(),
            TransactionStatus::Open => match input.executes_next() {
                Some(Executes::Statement(name)) => utf8(name)
                    .ok()
                    .and_then(|name| self.statements.get(name))
                    .is_some_and(|statement| statement.tag == Tag::Plain("COMMIT")),
                Some(Executes::Text(text)) => is_commit(text),
                None => false,
            },
            TransactionStatus::Failed => false,
        }
    }

    async fn advance(
        &mut self,
        mut cursor: Cursor,
        prepared: &Prepared<E::Plan>,
        limit: Option<u64>,
    ) -> Result<Progress, Fault> {
        match self.send_rows(&mut cursor, prepared, limit).await? {
            Stop::Limit => Ok(Progress::Rows(cursor)),
            Stop::End => Ok(Progress::Exhausted),
        }
    }

    pub(super) fn close(&mut self, target: Target, name: &[u8]) -> Result<(), Fault> {
        let name = utf8(name)?;
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
        self.wire.output.close_complete();
        Ok(())
    }
}

/// Whether a text is COMMIT, as most drivers write it; others are found out when they run.
fn is_commit(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    text.eq_ignore_ascii_case(b"COMMIT") || text.eq_ignore_ascii_case(b"END")
}

pub(super) fn duplicate(name: &str) -> SqlError {
    let message = format!("prepared statement \"{name}\" already exists");
    SqlError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message)
}

fn declared_type(oid: u32) -> Result<SqlType, SqlError> {
    match oid {
        0 => Ok(SqlType::Unknown),
        oid => SqlType::from_oid(oid)
            .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist"))),
    }
}

/// Which parameter was wrong; PostgreSQL hides its text unless told otherwise.
fn parameter_context(portal: &[u8], number: usize, code: i16) -> String {
    let portal = match portal {
        [] => "unnamed portal".to_owned(),
        name => format!("portal \"{}\"", String::from_utf8_lossy(name)),
    };
    let value = if code == 0 { " = '...'" } else { "" };
    format!("{portal} parameter ${}{value}", number + 1)
}

fn format_of(code: i16) -> Result<Format, SqlError> {
    match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => {
            let message = format!("unsupported format code: {other}");
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
    }
}

/// What PostgreSQL says when a statement's rows are no longer those that were described.
pub(super) fn changed_result() -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
}

fn same_result(old: Option<&[Column]>, new: Option<&[Column]>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.ty == b.ty && a.name == b.name)
        }
        _ => false,
    }
}

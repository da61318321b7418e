//! Text → prepared statement: parsed, bound, planned; shared through the cache by what is left of the text without its constants.

use super::cache::Key;
use super::plan::{Body, Plan, PointBody, tables};
use super::schema::changer;
use super::{Conductor, bind};
use crate::bound::{self, Acts, Bound, Ddl, Statement};
use crate::cluster::View;
use crate::cluster::client::PlanHandle;
use crate::ddl;
use crate::merge::reads;
use crate::parse::{self, Command, Parsed};
use crate::point;
use crate::statement::{Column, Kind, Prepared, Ready, State, Tag, show_columns};
use smallvec::SmallVec;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::SqlResult;
use toroid_common::types::input::parse_text;
use toroid_common::types::{ColumnType, SqlType};

/// One statement of a simple query.
pub enum Piece {
    /// Its constants are lifted out; the whole text is kept for the case that this form does not serve.
    Shared {
        text: Arc<str>,
        normalized: String,
        literals: SmallVec<[Lifted; 2]>,
    },
    Parsed(Box<Parsed>),
}

/// A constant lifted out of a text.
#[derive(Clone, Debug)]
pub enum Lifted {
    Value(Datum),
    /// Takes the type that its parameter turns out to have.
    Unknown(String),
}

impl Piece {
    pub fn ends_transaction(&self) -> bool {
        match self {
            Piece::Shared { .. } => false,
            Piece::Parsed(parsed) => match &parsed.command {
                Command::Session(session) => ends_transaction(session),
                Command::Sql(_) | Command::Copy(_) | Command::Prepare { .. } | Command::Nothing { .. } => false,
            },
        }
    }
}

/// What a failed transaction takes.
fn ends_transaction(session: &bound::Session) -> bool {
    use bound::Session as S;
    matches!(session, S::Commit { .. } | S::Rollback { .. } | S::RollbackTo { .. })
}

/// The statements of a simple query's text.
pub fn split(text: &str) -> SqlResult<SmallVec<[Piece; 1]>> {
    if let Some(normalized) = parse::normalize(text) {
        let literals = normalized
            .literals
            .iter()
            .map(|literal| match literal {
                parse::normalize::Literal::Int4(v) => Lifted::Value(Datum::Int4(*v)),
                parse::normalize::Literal::Int8(v) => Lifted::Value(Datum::Int8(*v)),
                parse::normalize::Literal::Text(v) => Lifted::Unknown(v.to_string()),
            })
            .collect();
        let mut pieces = SmallVec::new();
        pieces.push(Piece::Shared { text: Arc::from(text), normalized: normalized.text, literals });
        return Ok(pieces);
    }
    Ok(parse::statements(text)?.into_iter().map(|parsed| Piece::Parsed(Box::new(parsed))).collect())
}

impl Conductor {
    pub(super) fn prepare_simple(&self, session: &State, piece: Piece) -> SqlResult<Ready<Plan>> {
        match piece {
            Piece::Shared { text, normalized, literals } => {
                if let Some(ready) = self.prepare_shared(session, &normalized, literals) {
                    return Ok(ready);
                }
                let parsed = parse::statement(&text)?;
                self.prepare_parsed(session, parsed)
            }
            Piece::Parsed(parsed) => self.prepare_parsed(session, Some(*parsed)),
        }
    }

    fn prepare_parsed(&self, session: &State, parsed: Option<Parsed>) -> SqlResult<Ready<Plan>> {
        let Some(parsed) = parsed else { return Ok(Ready { prepared: Arc::new(empty()), params: Vec::new() }) };
        let view = self.seen(session);
        let prepared = Arc::new(plan(&view, &session.env(), &parsed, &[])?);
        Ok(Ready { prepared, params: Vec::new() })
    }

    /// The plan of a normalized statement; `None` when it has to be taken as it was written, for instance to say where its fault is.
    fn prepare_shared(&self, session: &State, text: &str, literals: SmallVec<[Lifted; 2]>) -> Option<Ready<Plan>> {
        let declared: Vec<SqlType> = literals
            .iter()
            .map(|literal| match literal {
                Lifted::Value(Datum::Int4(_)) => SqlType::Int4,
                Lifted::Value(Datum::Int8(_)) => SqlType::Int8,
                Lifted::Value(_) | Lifted::Unknown(_) => SqlType::Unknown,
            })
            .collect();
        let prepared = self.prepare_text(session, text, &declared).ok()?;
        let env = session.env();
        let mut params = Vec::with_capacity(literals.len());
        for (literal, ty) in literals.into_iter().zip(&prepared.params) {
            params.push(match literal {
                Lifted::Value(value) => value,
                Lifted::Unknown(text) if matches!(ty, SqlType::Text | SqlType::Varchar) => Datum::Text(text),
                Lifted::Unknown(text) => parse_text(*ty, -1, &text, &env).ok()?,
            });
        }
        Some(Ready { prepared, params })
    }

    /// The plan of one statement's text with its parameters' declared types.
    pub(super) fn prepare_text(
        &self,
        session: &State,
        text: &str,
        declared: &[SqlType],
    ) -> SqlResult<Arc<Prepared<Plan>>> {
        let view = self.seen(session);
        let key = Key { text: text.to_owned(), declared: declared.to_vec(), settings: binding_settings(session) };
        // What a transaction has changed in the schema is for nobody else's plans.
        let shared = changer(session).is_none();
        if shared && let Some(prepared) = self.cache.borrow_mut().get(&key, &view.catalog) {
            return Ok(prepared);
        }
        let Some(parsed) = parse::statement(text)? else { return Ok(Arc::new(empty())) };
        let prepared = Arc::new(plan(&view, &session.env(), &parsed, declared)?);
        if shared && cacheable(&prepared) {
            self.cache.borrow_mut().put(key, prepared.clone());
        }
        Ok(prepared)
    }
}

/// What of the session's settings is folded into bound statements.
fn binding_settings(session: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    session.settings().changed().hash(&mut hasher);
    session.user.hash(&mut hasher);
    hasher.finish()
}

/// Volatile and session statements are cheap to bind; only plans that are likely to come again are kept.
fn cacheable(prepared: &Prepared<Plan>) -> bool {
    match prepared.kind {
        Kind::Select | Kind::Insert | Kind::Update | Kind::Delete => true,
        Kind::Empty | Kind::Copy | Kind::Ddl | Kind::Session | Kind::Explain => false,
    }
}

fn plan(view: &View, env: &Env, parsed: &Parsed, declared: &[SqlType]) -> SqlResult<Prepared<Plan>> {
    let bound = bind(view, env, parsed, declared)?;
    let (kind, tag) = kind_of(&bound.statement);
    let columns = columns_of(&bound.statement);
    let ends_transaction = matches!(&bound.statement, Statement::Session(session) if ends_transaction(session));
    let nothing = matches!(bound.statement, Statement::Ddl(Ddl::Nothing { .. }));
    let writes = !nothing && matches!(kind, Kind::Insert | Kind::Update | Kind::Delete | Kind::Ddl)
        || matches!(bound.statement, Statement::CopyIn(_));
    let acts = matches!(bound.statement, Statement::Acts(_));
    let joins = joins_others(&bound.statement);
    let executes = match &bound.statement {
        Statement::Session(bound::Session::Execute { name, .. }) => Some(Arc::from(name.as_str())),
        _ => None,
    };
    let (params, by_name) = (bound.params.clone(), bound.by_name);
    let tables = tables(&bound.statement);
    let locks = match &bound.statement {
        Statement::Query(query) | Statement::CopyOut { query, .. } => reads(query).locks,
        _ => false,
    };
    let body = body_of(view, bound);
    let locks = locks && matches!(body, Body::Statement(_));
    let plan = Plan { text: Arc::from(parsed.source()), catalog: view.catalog.version, tables, by_name, locks, body };
    Ok(Prepared {
        params,
        columns: columns.map(Arc::from),
        kind,
        tag,
        writes,
        acts,
        executes,
        joins,
        ends_transaction,
        plan,
    })
}

/// Whether the statement is one transaction with others that are sent together with it, without BEGIN.
fn joins_others(statement: &Statement) -> bool {
    match statement {
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => true,
        Statement::Explain { .. } | Statement::CopyIn(_) | Statement::CopyOut { .. } | Statement::CreateAs(_) => true,
        Statement::SetConfig { .. } | Statement::Acts(_) => true,
        Statement::Ddl(change) => ddl::is_never_within(change).is_none(),
        Statement::Session(session) => goes_back(session),
    }
}

/// Whether the failure of a later statement takes back what this one does to the session.
fn goes_back(session: &bound::Session) -> bool {
    use bound::Session as S;
    match session {
        S::Set { .. } | S::Reset { .. } | S::SetTransaction { .. } | S::Listen { .. } | S::Unlisten { .. } => true,
        S::Execute { .. } => true,
        S::Begin { .. } | S::Commit { .. } | S::Rollback { .. } => false,
        S::Savepoint { .. } | S::Release { .. } | S::RollbackTo { .. } => false,
        S::Show { .. } | S::LockTables { .. } | S::Notify { .. } => false,
        S::Prepare { .. } | S::Close { .. } | S::Deallocate { .. } | S::Discard { .. } => false,
    }
}

/// A point plan where there is one, else the bound statement.
fn body_of(view: &View, bound: Bound) -> Body {
    let Some(point) = point::point(&bound) else { return Body::Statement(bound.statement) };
    match view.catalog.table(point.plan.table) {
        Some(table) => {
            Body::Point(PointBody { handle: PlanHandle::new(point.plan), route: point.route, table: table.clone() })
        }
        None => Body::Statement(bound.statement),
    }
}

fn empty() -> Prepared<Plan> {
    let plan = Plan {
        text: Arc::from(""),
        catalog: toroid_common::id::CatalogVersion(0),
        tables: Vec::new(),
        by_name: false,
        locks: false,
        body: Body::Empty,
    };
    let (params, columns) = (Vec::new(), None);
    Prepared {
        params,
        columns,
        kind: Kind::Empty,
        tag: Tag::Plain(""),
        writes: false,
        acts: false,
        executes: None,
        joins: false,
        ends_transaction: false,
        plan,
    }
}

fn kind_of(statement: &Statement) -> (Kind, Tag) {
    match statement {
        Statement::Query(_) => (Kind::Select, Tag::Counted("SELECT")),
        Statement::Insert(_) => (Kind::Insert, Tag::Counted("INSERT 0")),
        Statement::Update(_) => (Kind::Update, Tag::Counted("UPDATE")),
        Statement::Delete(_) => (Kind::Delete, Tag::Counted("DELETE")),
        Statement::Explain { .. } => (Kind::Explain, Tag::Plain("EXPLAIN")),
        Statement::CopyIn(_) | Statement::CopyOut { .. } => (Kind::Copy, Tag::Counted("COPY")),
        Statement::Ddl(ddl) => (Kind::Ddl, Tag::Plain(ddl_tag(ddl))),
        Statement::CreateAs(_) => (Kind::Ddl, Tag::Counted("SELECT")),
        Statement::Acts(Acts { tag: Some(tag), .. }) => (Kind::Session, Tag::Plain(tag)),
        Statement::SetConfig { .. } | Statement::Acts(_) => (Kind::Select, Tag::Counted("SELECT")),
        // By which a session knows it before it runs.
        Statement::Session(bound::Session::Commit { tag, .. }) => (Kind::Session, Tag::Plain(tag)),
        Statement::Session(_) => (Kind::Session, Tag::Plain("")),
    }
}

fn ddl_tag(ddl: &Ddl) -> &'static str {
    match ddl {
        Ddl::CreateTable { .. } => "CREATE TABLE",
        Ddl::DropTable { .. } => "DROP TABLE",
        Ddl::Truncate { .. } => "TRUNCATE TABLE",
        Ddl::CreateIndex { .. } => "CREATE INDEX",
        Ddl::DropIndex { .. } => "DROP INDEX",
        Ddl::AlterTable { .. } => "ALTER TABLE",
        Ddl::Nothing { tag } => tag,
    }
}

fn columns_of(statement: &Statement) -> Option<Vec<Column>> {
    let of_output = |output: &[bound::OutputColumn]| {
        let column = |c: &bound::OutputColumn| Column { name: c.name.clone(), ty: c.ty, origin: c.origin };
        output.iter().map(column).collect::<Vec<_>>()
    };
    let returning = |list: &[bound::Returning]| {
        let column = |r: &bound::Returning| Column { name: r.name.clone(), ty: r.ty, origin: r.origin };
        (!list.is_empty()).then(|| list.iter().map(column).collect::<Vec<_>>())
    };
    match statement {
        Statement::Query(query) | Statement::CopyOut { query, .. } => Some(of_output(&query.output)),
        Statement::Acts(acts) => acts.tag.is_none().then(|| of_output(&acts.output)),
        Statement::Insert(insert) => returning(&insert.returning),
        Statement::Update(update) => returning(&update.returning),
        Statement::Delete(delete) => returning(&delete.returning),
        Statement::Explain { .. } => {
            Some(vec![Column { name: "QUERY PLAN".to_owned(), ty: ColumnType::from(SqlType::Text), origin: None }])
        }
        Statement::Session(bound::Session::Show { name }) => Some(show_columns(name.as_deref()).to_vec()),
        Statement::SetConfig { names, .. } => {
            let column = |name: &String| Column { name: name.clone(), ty: SqlType::Text.into(), origin: None };
            Some(names.iter().map(column).collect())
        }
        Statement::CopyIn(_) | Statement::Ddl(_) | Statement::CreateAs(_) | Statement::Session(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_known_before_it_runs() {
        let commit = Statement::Session(bound::Session::Commit { tag: "COMMIT", chain: false });
        assert_eq!(kind_of(&commit), (Kind::Session, Tag::Plain("COMMIT")));
        let rollback = Statement::Session(bound::Session::Rollback { tag: "ROLLBACK", chain: false });
        assert_eq!(kind_of(&rollback), (Kind::Session, Tag::Plain("")));
    }
}

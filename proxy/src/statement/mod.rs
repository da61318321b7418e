//! What a session asks of the conductor, and what it gets back: the one border between protocol and execution.

pub mod answer;
pub mod copy;
pub mod hearing;
pub mod transaction;
pub mod state;

pub use answer::{Answer, Encoded, RowSource, SetConfig};
pub use copy::{CopyBatch, CopyIn, CopyOut, CopySink, Fill};
pub use hearing::{Heard, Hearing, Inbox, Wish};
pub use state::{Notice, Severity, State, TransactionStatus};
pub use toroid_common::holding::Holding;
pub use transaction::{Held, Leave, Open, Running};

use crate::settings::proper_name;
use smallvec::SmallVec;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use toroid_common::coordinator::Transaction;
use toroid_common::datum::Datum;
use toroid_common::env::Relations;
use toroid_common::error::SqlError;
use toroid_common::expr::Expr;
use toroid_common::id::{TableId, TransactionId};
use toroid_common::transaction::Level;
use toroid_common::types::{ColumnType, SqlType};

/// A column of a result as RowDescription tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub ty: ColumnType,
    /// The table column that it is: `pg_class.oid` and `attnum`.
    pub origin: Option<(TableId, u16)>,
}

/// What a statement is, for metrics and for the session's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No statement between semicolons: EmptyQueryResponse.
    Empty,
    Select,
    Insert,
    Update,
    Delete,
    Copy,
    Ddl,
    /// BEGIN, COMMIT, SET, SHOW, PREPARE …: answered with [`Answer::Session`], or by the session alone.
    Session,
    Explain,
}

impl Kind {
    /// The label of this kind in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Empty => "empty",
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Copy => "copy",
            Kind::Ddl => "ddl",
            Kind::Session => "session",
            Kind::Explain => "explain",
        }
    }
}

/// The text of CommandComplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Followed by the number of rows: `SELECT`, `INSERT 0`, `UPDATE`, `DELETE`, `COPY`, `FETCH`.
    Counted(&'static str),
    /// As it is: `CREATE TABLE`, `EXPLAIN`, `SHOW`.
    Plain(&'static str),
}

/// A statement that was parsed, bound and planned; cached and shared, so it holds nothing of one session or one execution.
#[derive(Debug)]
pub struct Prepared<P> {
    /// The types of `$1`, `$2`, …: declared or inferred.
    pub params: Vec<SqlType>,
    /// The columns of its rows; none for a statement that returns no rows.
    pub columns: Option<Arc<[Column]>>,
    pub kind: Kind,
    pub tag: Tag,
    /// Changes tables or the catalog. Such a statement is never abandoned half-way: its future is polled to its end, and it looks at
    /// [`State::canceled`] itself wherever it can still stop without having done a part.
    pub writes: bool,
    /// Takes or gives back what the session holds beside its transactions: polled to its end as well, since it must be known what came of it.
    pub acts: bool,
    /// EXECUTE: the session's prepared statement whose rows are this one's.
    pub executes: Option<Arc<str>>,
    /// Belongs to one transaction with what is sent together with it; not so what never runs in one with others (CREATE INDEX CONCURRENTLY, VACUUM), and what
    /// speaks of transactions or of the session alone.
    pub joins: bool,
    /// COMMIT, ROLLBACK and their kin: allowed in a failed transaction.
    pub ends_transaction: bool,
    /// What the conductor needs to execute it.
    pub plan: P,
}

/// A prepared statement in SQL's or the protocol's sense, with the values that were lifted out of its text.
#[derive(Debug)]
pub struct Ready<P> {
    pub prepared: Arc<Prepared<P>>,
    /// One value per parameter of `prepared`.
    pub params: Vec<Datum>,
}

/// The conductor as sessions see it: one per proxy thread. Its futures run on that thread, and need not be `Send`.
///
/// A session calls one method at a time, but for the statements of a pipeline it may have several [`Executor::execute`] futures
/// under way; they only share `&State`.
pub trait Executor: 'static {
    /// The conductor's part of a [`Prepared`].
    type Plan: 'static;
    /// One statement of a simple query's text.
    type Piece;

    /// Cuts the text of a simple query into statements. A syntax error anywhere fails the whole text, before anything is executed.
    /// Empty statements are left out: no piece at all is EmptyQueryResponse.
    fn split(&self, text: &str) -> Result<SmallVec<[Self::Piece; 1]>, SqlError>;

    /// Whether this is COMMIT, ROLLBACK or one of their kin, which alone are allowed in a failed transaction.
    fn ends_transaction(&self, piece: &Self::Piece) -> bool;

    /// Binds and plans one statement of a simple query, with what the statements before it have changed.
    fn prepare_piece(
        &self,
        session: &State,
        piece: Self::Piece,
    ) -> impl Future<Output = Result<Ready<Self::Plan>, SqlError>>;

    /// Binds and plans the statement of a Parse message or of PREPARE: at most one (else 42601 `cannot insert multiple commands into a
    /// prepared statement`), [`Kind::Empty`] for none. A declared type of [`SqlType::Unknown`] is to be inferred.
    fn prepare(
        &self,
        session: &State,
        text: &str,
        declared: &[SqlType],
    ) -> impl Future<Output = Result<Arc<Prepared<Self::Plan>>, SqlError>>;

    /// Looks whether a prepared statement still holds against today's catalog; gives a new one where it does not. The session compares the
    /// columns (0A000 `cached plan must not change result type`). Hot: it must cost next to nothing while nothing has changed.
    fn refresh(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Self::Plan>>,
    ) -> impl Future<Output = Result<Arc<Prepared<Self::Plan>>, SqlError>>;

    /// Executes. `params` are of the prepared statement's types (or NULL).
    fn execute(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Self::Plan>>,
        params: &[Datum],
    ) -> impl Future<Output = Result<Answer, SqlError>>;

    /// From now on statements run in one transaction ([`State::open`]), which is a block's or that of several statements sent together.
    fn begin(&self, session: &State) {
        session
            .set_open(Some(Open::new(Transaction::new(TransactionId::default(), 0, Level::default()), Rc::new(drop))));
    }

    /// Ends the session's transaction with all that was done; when that fails it is over as well.
    fn commit(&self, session: &State) -> impl Future<Output = Result<(), SqlError>> {
        session.set_open(None);
        async { Ok(()) }
    }

    /// Ends the session's transaction without effect.
    fn roll_back(&self, session: &State) -> impl Future<Output = ()> {
        session.set_open(None);
        async {}
    }

    /// A statement of the session's transaction has failed: what was done since the last savepoint is taken back at once, so that nobody waits for it.
    fn fail(&self, _session: &State) -> impl Future<Output = ()> {
        async {}
    }

    /// Takes back what was done since the savepoint at this place, see [`Transaction::find_savepoint`].
    fn roll_back_to(&self, session: &State, place: usize) -> impl Future<Output = Result<(), SqlError>> {
        let result = session.open().map_or(Ok(()), |open| open.with(|t| t.roll_back_to(place).map(|_| ())));
        async { result }
    }

    /// Has the session listen to what its wishes say, without a transaction.
    fn fulfil(&self, _session: &State) -> impl Future<Output = Result<(), SqlError>> {
        async { Ok(()) }
    }

    /// Gives back what the session holds beside its transactions.
    fn give_back(&self, _session: &State) -> impl Future<Output = Result<(), SqlError>> {
        async { Ok(()) }
    }

    /// The session ends: what it holds is given back while nobody waits for that.
    fn leave(&self, _session: &State) {}

    /// Why the session cannot go on: what it held is lost.
    fn lost(&self, _session: &State) -> Option<SqlError> {
        None
    }

    /// The arguments of EXECUTE as values of a prepared statement's parameters: unknown ones read as the parameter's type, others cast to it
    /// for assignment. There are as many as parameters.
    fn arguments(&self, session: &State, args: &[Expr], types: &[SqlType]) -> Result<Vec<Datum>, SqlError>;

    /// What its sessions' functions see of the catalog.
    fn relations(&self) -> Relations {
        Relations::default()
    }
}

/// The columns of SHOW and, without a name, SHOW ALL.
pub fn show_columns(name: Option<&str>) -> Arc<[Column]> {
    let column = |name: &str| Column { name: name.to_owned(), ty: SqlType::Text.into(), origin: None };
    match name {
        Some(name) => [column(&proper_name(name))].into(),
        None => ["name", "setting", "description"].map(column).into(),
    }
}

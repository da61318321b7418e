//! Bound statements: names resolved, types settled, casts written out. What the binder hands to the planner.

use std::sync::Arc;
use toroid_common::catalog::{Distribution, Index, Table};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::expr::{CastContext, Expr, Leaf};
use toroid_common::func::FuncId;
use toroid_common::id::{CatalogVersion, IndexId, TableId};
use toroid_common::plan::{Act, RowLock, TableLock};
use toroid_common::types::{ColumnType, SqlType};

/// A column of some relation, unique within its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColId(pub u32);

/// What an expression of a bound statement may refer to.
#[derive(Clone, Debug, PartialEq)]
pub enum BoundLeaf {
    Column {
        id: ColId,
        ty: SqlType,
    },
    /// A column of an enclosing query; `depth` 1 is the next one out.
    Outer {
        id: ColId,
        depth: u16,
        ty: SqlType,
    },
    Subquery(Box<Subquery>),
}

pub type BoundExpr = Expr<BoundLeaf>;

impl Leaf for BoundLeaf {
    fn ty(&self) -> SqlType {
        match self {
            BoundLeaf::Column { ty, .. } | BoundLeaf::Outer { ty, .. } => *ty,
            BoundLeaf::Subquery(subquery) => subquery.ty(),
        }
    }
}

/// SELECT of a list of expressions, some of which act on the session or on others.
#[derive(Clone, Debug, PartialEq)]
pub struct Acts {
    /// In the order in which they are carried out. Expressions read the results of those before them: a slot is a call.
    pub calls: Vec<ActCall>,
    /// Over the results of all calls.
    pub columns: Vec<Expr>,
    pub output: Vec<OutputColumn>,
    /// Of a command that gives no rows.
    pub tag: Option<&'static str>,
}

/// A call of a function that does something.
#[derive(Clone, Debug, PartialEq)]
pub struct ActCall {
    pub call: SessionCall,
    pub args: Vec<Expr>,
    /// With a NULL among its arguments it does nothing.
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SessionCall {
    Advisory(Act),
    /// `pg_notify`.
    Notify,
}

/// A subquery inside an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub kind: SubqueryKind,
    pub query: Query,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SubqueryKind {
    Exists {
        negated: bool,
    },
    /// One column, at most one row (more is 21000).
    Scalar,
    /// `arg op ANY|ALL (query)`; `IN` is `= ANY`, `NOT IN` is `<> ALL`. `op` takes (arg, column); both sides have its argument types.
    Quantified {
        arg: Box<BoundExpr>,
        op: FuncId,
        all: bool,
    },
    /// `ARRAY(query)`.
    Array,
}

impl Subquery {
    fn ty(&self) -> SqlType {
        let column = || self.query.output.first().map_or(SqlType::Unknown, |c| c.ty.ty);
        match self.kind {
            SubqueryKind::Exists { .. } | SubqueryKind::Quantified { .. } => SqlType::Bool,
            SubqueryKind::Scalar => column(),
            SubqueryKind::Array => column().array().unwrap_or(SqlType::Unknown),
        }
    }
}

/// A relation with the names under which its columns leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub rel: Rel,
    /// Names may repeat; the same `ColId` may stand twice.
    pub output: Vec<OutputColumn>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    pub name: String,
    pub id: ColId,
    pub ty: ColumnType,
    /// The table column that it is, for RowDescription.
    pub origin: Option<(TableId, u16)>,
}

/// A relational operator. Every one lists the columns it makes; all others pass through from its inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Rel {
    /// One row without columns: `SELECT 1`.
    Unit,
    /// A stored table; `columns` are (id, position in `Table::columns`), only those that are used.
    Scan {
        table: Arc<Table>,
        columns: Vec<(ColId, u16)>,
    },
    /// A virtual table (pg_catalog, information_schema, toroid) by schema and name.
    Virtual {
        schema: &'static str,
        name: &'static str,
        columns: Vec<(ColId, u16, SqlType)>,
    },
    Values {
        columns: Vec<(ColId, ColumnType)>,
        rows: Vec<Vec<BoundExpr>>,
    },
    /// A set-returning function in FROM.
    Series {
        function: SetFunction,
        args: Vec<BoundExpr>,
        column: (ColId, SqlType),
        ordinality: Option<ColId>,
    },
    /// A row for each place in these arrays, side by side: NULL where one is shorter. Adds columns of their elements to the input's. A row whose arrays
    /// are all empty or NULL goes, unless it `keeps` it.
    Unnest {
        input: Box<Rel>,
        arrays: Vec<(ColId, BoundExpr)>,
        keeps: bool,
    },
    Filter {
        input: Box<Rel>,
        predicate: BoundExpr,
    },
    /// Adds computed columns to the input's.
    Project {
        input: Box<Rel>,
        columns: Vec<(ColId, BoundExpr)>,
    },
    /// The output is `groups` and `aggregates` alone. Without groups: one row, always.
    Aggregate {
        input: Box<Rel>,
        groups: Vec<(ColId, BoundExpr)>,
        sets: Option<Vec<Vec<usize>>>,
        aggregates: Vec<(ColId, AggregateCall)>,
    },
    Window {
        input: Box<Rel>,
        columns: Vec<(ColId, WindowCall)>,
    },
    Join {
        kind: JoinKind,
        left: Box<Rel>,
        right: Box<Rel>,
        on: Option<BoundExpr>,
        lateral: bool,
    },
    /// The output is `columns`, each taken from the same place of both inputs.
    SetOp {
        op: SetOp,
        all: bool,
        left: Box<Query>,
        right: Box<Query>,
        columns: Vec<(ColId, SqlType)>,
    },
    /// DISTINCT over `columns` alone, which are then the output.
    Distinct {
        input: Box<Rel>,
        columns: Vec<(ColId, SqlType)>,
    },
    /// DISTINCT ON: the first row of each group in the order of `keys`.
    DistinctOn {
        input: Box<Rel>,
        on: Vec<BoundExpr>,
        keys: Vec<SortKey>,
    },
    Sort {
        input: Box<Rel>,
        keys: Vec<SortKey>,
    },
    /// Both int8.
    Limit {
        input: Box<Rel>,
        limit: Option<BoundExpr>,
        offset: Option<BoundExpr>,
    },
    /// Locks the rows of stored tables that the input's rows were made of, in the input's order, and gives each row as it is then.
    Lock {
        input: Box<Rel>,
        tables: Vec<LockedTable>,
    },
    /// A subquery in FROM or a CTE: its output columns under new ids, in order.
    Derived {
        query: Box<Query>,
        columns: Vec<ColId>,
    },
}

impl Rel {
    /// The columns that it has.
    pub fn columns(&self) -> Vec<(ColId, SqlType)> {
        let mut all = Vec::new();
        collect(self, &mut all);
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|(id, _)| seen.insert(*id));
        all
    }
}

fn collect(rel: &Rel, all: &mut Vec<(ColId, SqlType)>) {
    match rel {
        Rel::Unit => {}
        Rel::Scan { table, columns } => {
            all.extend(columns.iter().filter_map(|(id, position)| {
                table.columns.get(usize::from(*position)).map(|column| (*id, column.ty.ty))
            }))
        }
        Rel::Virtual { columns, .. } => all.extend(columns.iter().map(|(id, _, ty)| (*id, *ty))),
        Rel::Values { columns, .. } => all.extend(columns.iter().map(|(id, ty)| (*id, ty.ty))),
        Rel::Series { column, ordinality, .. } => {
            all.push(*column);
            all.extend(ordinality.map(|id| (id, SqlType::Int8)));
        }
        Rel::Unnest { input, arrays, .. } => {
            collect(input, all);
            all.extend(arrays.iter().map(|(id, e)| (*id, e.ty().element().unwrap_or(SqlType::Unknown))));
        }
        Rel::Project { input, columns } => {
            collect(input, all);
            all.extend(columns.iter().map(|(id, e)| (*id, e.ty())));
        }
        Rel::Aggregate { groups, aggregates, .. } => {
            all.extend(groups.iter().map(|(id, e)| (*id, e.ty())));
            all.extend(aggregates.iter().map(|(id, call)| (*id, call.ty)));
        }
        Rel::Window { input, columns } => {
            collect(input, all);
            all.extend(columns.iter().map(|(id, call)| (*id, call.ty)));
        }
        Rel::Join { left, right, .. } => {
            collect(left, all);
            collect(right, all);
        }
        Rel::SetOp { columns, .. } | Rel::Distinct { columns, .. } => all.extend(columns),
        Rel::Filter { input, .. }
        | Rel::DistinctOn { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Lock { input, .. }
        | Rel::Limit { input, .. } => collect(input, all),
        Rel::Derived { query, columns } => {
            all.extend(query.output.iter().zip(columns).map(|(from, id)| (*id, from.ty.ty)));
        }
    }
}

/// A table whose rows a query locks.
#[derive(Clone, Debug, PartialEq)]
pub struct LockedTable {
    pub table: Arc<Table>,
    /// The columns of the table's scan that tell its rows apart: the primary key, else the hidden identity.
    pub key: Vec<(ColId, u16)>,
    pub lock: RowLock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetFunction {
    GenerateSeries,
    Unnest,
    RegexpSplitToTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    Cross,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOp {
    Union,
    Intersect,
    Except,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    pub expr: BoundExpr,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    pub aggregate: toroid_common::func::aggregate::Aggregate,
    /// Cast to the aggregate's argument types.
    pub args: Vec<BoundExpr>,
    pub ty: SqlType,
    pub distinct: bool,
    pub filter: Option<BoundExpr>,
    pub order: Vec<SortKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WindowCall {
    pub function: WindowFunction,
    pub args: Vec<BoundExpr>,
    pub ty: SqlType,
    pub partition: Vec<BoundExpr>,
    pub order: Vec<SortKey>,
    pub frame: Option<Frame>,
}

/// Which rows of its partition a window function looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub units: FrameUnits,
    pub start: FrameBound,
    pub end: FrameBound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameUnits {
    Rows,
    Range,
    Groups,
}

/// How far a frame reaches; `None` is UNBOUNDED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameBound {
    Preceding(Option<u64>),
    CurrentRow,
    Following(Option<u64>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum WindowFunction {
    Aggregate(toroid_common::func::aggregate::Aggregate),
    RowNumber,
    Rank,
    DenseRank,
    Lag,
    Lead,
    FirstValue,
    LastValue,
}

/// A statement, with the types that its parameters turned out to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub statement: Statement,
    pub params: Vec<SqlType>,
    /// The catalog it was bound against.
    pub catalog: CatalogVersion,
    /// It holds oids that were looked up by name: any change of the catalog makes it stale.
    pub by_name: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    Query(Query),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Explain {
        analyze: bool,
        verbose: bool,
        inner: Box<Statement>,
    },
    CopyIn(CopyIn),
    CopyOut {
        query: Query,
        options: CopyOptions,
    },
    Ddl(Ddl),
    CreateAs(Box<CreateAs>),
    /// SELECT set_config(…), …: `query` has a name, a value and whether it is for the transaction only, for each call; `names` are the result's columns.
    SetConfig {
        query: Query,
        names: Vec<String>,
    },
    Acts(Acts),
    Session(Session),
}

/// CREATE TABLE AS and SELECT INTO.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateAs {
    pub if_not_exists: bool,
    pub table: NewTable,
    /// Yields the table's visible columns.
    pub source: Query,
    pub with_data: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub table: Arc<Table>,
    /// Yields one value per column of `targets`, cast for assignment; VALUES is `Rel::Values`.
    pub source: Query,
    /// Positions in `Table::columns`.
    pub targets: Vec<u16>,
    /// For columns that are no target, and for DEFAULT in VALUES: in table order, NULL where there is no default.
    pub defaults: Vec<Expr>,
    pub conflict: Option<Box<OnConflict>>,
    /// Those that `returning` reads.
    pub columns: Vec<(ColId, u16)>,
    pub returning: Vec<Returning>,
}

/// ON CONFLICT.
#[derive(Clone, Debug, PartialEq)]
pub struct OnConflict {
    /// The unique indexes that are meant.
    pub arbiters: Vec<IndexId>,
    /// None is DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictUpdate {
    pub filter: Option<BoundExpr>,
    pub set: Vec<(u16, BoundExpr)>,
    /// Those of the row that is there, by their positions in the table, and of EXCLUDED, which count on from the table's last column.
    pub columns: Vec<(ColId, u16)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub table: Arc<Table>,
    /// Leaves are `Column` with ids from `columns`, or uncorrelated subqueries.
    pub filter: Option<BoundExpr>,
    pub set: Vec<(u16, BoundExpr)>,
    pub columns: Vec<(ColId, u16)>,
    pub returning: Vec<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    pub table: Arc<Table>,
    pub filter: Option<BoundExpr>,
    pub columns: Vec<(ColId, u16)>,
    pub returning: Vec<Returning>,
}

/// One column of RETURNING: over the new row, or the deleted one, or uncorrelated subqueries.
#[derive(Clone, Debug, PartialEq)]
pub struct Returning {
    pub name: String,
    pub expr: BoundExpr,
    pub ty: ColumnType,
    pub origin: Option<(TableId, u16)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyIn {
    pub table: Arc<Table>,
    pub targets: Vec<u16>,
    pub defaults: Vec<Expr>,
    pub options: CopyOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
    pub escape: u8,
    /// Columns by position in the target list.
    pub force_quote: Option<Vec<usize>>,
    pub force_null: Vec<usize>,
    pub force_not_null: Vec<usize>,
}

/// Schema changes; names are resolved at execution, by the metadata group, against its current catalog.
#[derive(Clone, Debug, PartialEq)]
pub enum Ddl {
    CreateTable {
        if_not_exists: bool,
        table: NewTable,
    },
    DropTable {
        if_exists: bool,
        names: Vec<ObjectName>,
        cascade: bool,
    },
    Truncate {
        names: Vec<ObjectName>,
    },
    CreateIndex {
        if_not_exists: bool,
        table: Arc<Table>,
        index: Index,
        concurrently: bool,
    },
    DropIndex {
        if_exists: bool,
        concurrently: bool,
        names: Vec<ObjectName>,
    },
    AlterTable {
        if_exists: bool,
        name: ObjectName,
        actions: Vec<AlterAction>,
    },
    /// VACUUM, ANALYZE: nothing to do; the tag is the answer.
    Nothing {
        tag: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    pub schema: Option<String>,
    pub name: String,
}

/// A table as CREATE TABLE describes it; identities are given by the metadata group.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTable {
    pub name: ObjectName,
    pub columns: Vec<toroid_common::catalog::Column>,
    /// Index columns are positions in `columns`; ids are 0.
    pub indexes: Vec<Index>,
    /// In the order of their names; ids are 0.
    pub checks: Vec<toroid_common::catalog::Check>,
    pub distribution: Distribution,
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AlterAction {
    AddColumn {
        if_not_exists: bool,
        column: toroid_common::catalog::Column,
    },
    DropColumn {
        if_exists: bool,
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    RenameTable {
        to: String,
    },
    /// Something about columns of a table that was not there when the statement was bound.
    Unseen,
    AddPrimaryKey {
        name: Option<String>,
        columns: Vec<String>,
    },
    AddUnique {
        name: Option<String>,
        columns: Vec<String>,
    },
    SetNotNull {
        column: String,
    },
    DropNotNull {
        column: String,
    },
    SetDefault {
        column: String,
        default: toroid_common::catalog::DefaultValue,
    },
    /// ALTER COLUMN … TYPE: what the values become, over the columns of the table that it was bound against; and the default.
    SetType {
        column: String,
        ty: ColumnType,
        values: Expr,
        default: Option<toroid_common::catalog::DefaultValue>,
    },
    DropDefault {
        column: String,
    },
    AddCheck(toroid_common::catalog::Check),
    DropConstraint {
        if_exists: bool,
        name: String,
    },
    /// SET (…) and RESET (…): kept for display.
    Options(Vec<String>),
}

/// Statements that concern the session alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Session {
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    Reset {
        name: Option<String>,
    },
    Show {
        name: Option<String>,
    },
    /// SET TRANSACTION, or SET SESSION CHARACTERISTICS where `session`.
    SetTransaction {
        modes: TransactionModes,
        session: bool,
    },
    Begin {
        tag: &'static str,
        modes: TransactionModes,
    },
    /// Where `chain`, a transaction with the same modes begins at once.
    Commit {
        tag: &'static str,
        chain: bool,
    },
    Rollback {
        tag: &'static str,
        chain: bool,
    },
    Savepoint {
        name: String,
    },
    Release {
        name: String,
    },
    RollbackTo {
        name: String,
    },
    LockTables {
        names: Vec<ObjectName>,
        mode: TableLock,
        nowait: bool,
    },
    Listen {
        channel: String,
    },
    /// All channels where there is none.
    Unlisten {
        channel: Option<String>,
    },
    Notify {
        channel: String,
        payload: Option<String>,
    },
    /// `text` is the statement behind AS.
    Prepare {
        name: String,
        types: Vec<SqlType>,
        text: String,
    },
    /// Arguments are free of columns and subqueries; those of type unknown take the parameter's type, all others are cast to it for assignment.
    Execute {
        name: String,
        args: Vec<Expr>,
    },
    /// A portal, or all of them.
    Close {
        name: Option<String>,
    },
    Deallocate {
        name: Option<String>,
    },
    Discard {
        all: bool,
        tag: &'static str,
    },
}

/// What BEGIN and SET TRANSACTION may ask for; `None` leaves the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<Isolation>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// What READ COMMITTED is, by another name.
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// The array of numbers from 1 to the length of the longest of these, if it has a column.
pub fn counted(arrays: &[(ColId, BoundExpr)], column: Option<ColId>) -> SqlResult<Option<(ColId, BoundExpr)>> {
    let Some(column) = column else { return Ok(None) };
    let function = |signature: &str| {
        FuncId::by_signature(signature).ok_or_else(|| SqlError::internal(format_args!("no function {signature}")))
    };
    let (length, series) = (function("cardinality(anyarray)")?, function("toroid_series(int8)")?);
    let (ty, less) = (SqlType::Int4, function("<(int4, int4)")?);
    let of = |(_, array): &(ColId, BoundExpr)| Expr::Call { func: length, args: vec![array.clone()], ty };
    let longest = Expr::Extreme { greatest: true, less, args: arrays.iter().map(of).collect(), ty };
    let arg = Expr::Cast { arg: Box::new(longest), ty: SqlType::Int8, modifier: -1, context: CastContext::Implicit };
    let ty = SqlType::Int8.array().unwrap_or(SqlType::Unknown);
    Ok(Some((column, Expr::Call { func: series, args: vec![arg], ty })))
}

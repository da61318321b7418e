//! Tables, columns and indexes, as one immutable versioned value that metadata group, proxies and workers share.

use crate::error::{SqlError, SqlResult, SqlState};
use crate::expr::Expr;
use crate::id::{CatalogVersion, ColumnId, IndexId, TableId, TransactionId};
use crate::types::ColumnType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first identity given to a user's table or index (PostgreSQL: `FirstNormalObjectId`).
pub const FIRST_USER_OBJECT: u32 = 16_384;
/// The only schema that user tables live in for now.
pub const PUBLIC_SCHEMA: &str = "public";
/// Name of the hidden column that identifies rows of a table without a primary key.
pub const ROW_IDENTITY: &str = "_toroid_row";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub id: ColumnId,
    pub name: String,
    pub ty: ColumnType,
    pub not_null: bool,
    /// Evaluated per row at the proxy; its source text beside it for `\d`.
    pub default: Option<DefaultValue>,
    /// What rows have that were there before `ALTER TABLE … ADD COLUMN … DEFAULT`: evaluated once at that time.
    pub missing: Option<crate::datum::Datum>,
    /// Not part of `*`, not nameable: the row identity of tables without a primary key.
    pub hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DefaultValue {
    pub expr: Expr,
    /// As PostgreSQL's `pg_get_expr` would print it.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub id: IndexId,
    pub name: String,
    /// Positions in [`Table::columns`], in key order.
    pub columns: Vec<IndexColumn>,
    pub unique: bool,
    /// Backs the PRIMARY KEY constraint.
    pub primary: bool,
    /// Backs a UNIQUE or PRIMARY KEY constraint rather than a bare CREATE UNIQUE INDEX.
    pub constraint: bool,
    pub state: IndexState,
}

/// A CHECK constraint: a row of which it is false is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Among tables and indexes, 0 before it is given.
    pub id: u32,
    pub name: String,
    /// Over the table's row; immutable.
    pub expr: Expr,
    /// As `pg_get_constraintdef` prints it behind CHECK.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Position in [`Table::columns`].
    pub column: u16,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexState {
    /// Writes keep it, workers are still filling it; no plan reads it.
    Building,
    Ready,
}

/// Where a table's rows live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// By the hash of these columns (positions in [`Table::columns`]).
    Hash(Vec<u16>),
    /// A reference table: every node has a full copy.
    Replicated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableState {
    Open,
    /// Its rows are being moved to another table that will take its name: reads go on, writes wait.
    Moving {
        to: TableId,
    },
    /// The destination of a move: has no name that a statement could use.
    Filling {
        from: TableId,
    },
    /// Made by a transaction that is not committed, in its schema change of this number: nobody else sees it, and neither does the transaction
    /// after the change that replaced or dropped it.
    Private {
        owner: TransactionId,
        number: u32,
        gone: Option<u32>,
    },
    /// Replaced or dropped by a transaction that is not committed, in its schema change of this number, and not seen by it any more. Others read
    /// it; their writes wait. The table keeps its version.
    Claimed {
        owner: TransactionId,
        number: u32,
    },
}

impl TableState {
    /// Whether the table has a name that statements of any transaction could use.
    pub fn is_public(self) -> bool {
        match self {
            TableState::Open | TableState::Moving { .. } | TableState::Claimed { .. } => true,
            TableState::Filling { .. } | TableState::Private { .. } => false,
        }
    }

    /// The transaction that made the table or will drop it.
    pub fn owner(self) -> Option<TransactionId> {
        match self {
            TableState::Private { owner, .. } | TableState::Claimed { owner, .. } => Some(owner),
            TableState::Open | TableState::Moving { .. } | TableState::Filling { .. } => None,
        }
    }

    /// Whether rows of the table can be written by this transaction, or outside of all.
    pub fn takes_writes_of(self, transaction: Option<TransactionId>) -> bool {
        match self {
            TableState::Open | TableState::Filling { .. } | TableState::Private { .. } => true,
            TableState::Moving { .. } => false,
            TableState::Claimed { owner, .. } => transaction == Some(owner),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub id: TableId,
    pub schema: String,
    pub name: String,
    /// Catalog version of this table's last change: plans made for another one are stale.
    pub version: CatalogVersion,
    /// In the order of `attnum`; the hidden row identity, if there is one, is the first.
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    /// In the order of their names, in which PostgreSQL judges rows by them.
    pub checks: Vec<Check>,
    pub distribution: Distribution,
    pub state: TableState,
    /// The next [`ColumnId`] to give.
    pub next_column: u16,
    /// TRUNCATE counts up: rows of an older generation are gone.
    pub generation: u32,
    /// Storage parameters as given (`fillfactor=100`), kept for `\d+`.
    pub options: Vec<String>,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, c)| !c.hidden && c.name == name)
    }

    /// Columns that a user sees, with their positions.
    pub fn visible(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, c)| !c.hidden)
    }

    pub fn primary_key(&self) -> Option<&Index> {
        self.indexes.iter().find(|index| index.primary)
    }

    /// Distribution columns; none for a reference table.
    pub fn distribution_columns(&self) -> &[u16] {
        match &self.distribution {
            Distribution::Hash(columns) => columns,
            Distribution::Replicated => &[],
        }
    }
}

/// All tables at one version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub version: CatalogVersion,
    pub tables: BTreeMap<TableId, Arc<Table>>,
    /// The next identity for a table or index.
    pub next_object: u32,
}

impl Catalog {
    /// The catalog of a new cluster.
    pub fn empty() -> Catalog {
        Catalog { version: CatalogVersion(1), tables: BTreeMap::new(), next_object: FIRST_USER_OBJECT }
    }

    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(&id)
    }

    /// The table with this name in this schema, if it has one that statements can use.
    pub fn find(&self, schema: &str, name: &str) -> Option<&Arc<Table>> {
        self.tables.values().find(|t| t.name == name && t.schema == schema && t.state.is_public())
    }

    pub fn find_index(&self, schema: &str, name: &str) -> Option<(&Arc<Table>, &Index)> {
        self.tables
            .values()
            .filter(|t| t.schema == schema && t.state.is_public())
            .find_map(|t| t.indexes.iter().find(|i| i.name == name).map(|i| (t, i)))
    }

    /// The catalog as a transaction sees it that has changed it: with its own tables, as if they were open, and without those that they replace.
    pub fn seen_by(&self, transaction: TransactionId) -> Catalog {
        let seen = |table: &Arc<Table>| match table.state {
            TableState::Private { owner, gone: None, .. } if owner == transaction => {
                Some(Arc::new(Table { state: TableState::Open, ..Table::clone(table) }))
            }
            TableState::Private { .. } => None,
            TableState::Claimed { owner, .. } if owner == transaction => None,
            TableState::Claimed { .. } | TableState::Open | TableState::Moving { .. } | TableState::Filling { .. } => {
                Some(Arc::clone(table))
            }
        };
        let tables = self.tables.iter().filter_map(|(id, table)| seen(table).map(|table| (*id, table))).collect();
        Catalog { tables, ..*self }
    }

    /// The transactions that have made tables or will drop some, as often as they do.
    pub fn owners(&self) -> impl Iterator<Item = TransactionId> {
        self.tables.values().filter_map(|table| table.state.owner())
    }

    /// Checks that a plan made for `version` of table `id` still holds.
    pub fn expect(&self, id: TableId, version: CatalogVersion) -> SqlResult<&Arc<Table>> {
        match self.tables.get(&id) {
            Some(table) if table.version == version => Ok(table),
            _ => Err(SqlError::new(
                SqlState::SERIALIZATION_FAILURE,
                format!("table {id} changed while a statement was planned"),
            )),
        }
    }
}

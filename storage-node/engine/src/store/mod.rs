//! A partition's state as an immutable value with one writer: column chunks, indexes, roots, and the memory they take.
//!
//! A write: the worker makes [`change::Change`]s, [`root::Root::check`] says whether they may be applied, and [`root::Root::apply`] applies
//! them, which cannot fail. A read: [`root::Root::table`], then [`table::TableRows::get`] by key or [`table::TableRows::batch`] by chunk.
//! A transaction: its changes gather in a [`write_set::WriteSet`], its statements see an [`write_set::Overlay`], and in the end the write set is an entry
//! or, where several partitions take part, is remembered in the root ([`root::Transactions`]) until its outcome is known.
//!
//! A root is cloned in nanoseconds and never changes; [`account::Account`] knows the bytes of all that is alive and drops what is finished.

pub mod cost;
pub mod position;
pub mod column;
pub mod tree;
pub mod index;
pub mod table;
pub mod fence;
pub mod change;
pub mod account;
pub mod advisory;
pub mod notices;
pub mod root;
pub mod write_set;
pub mod checkpoint;

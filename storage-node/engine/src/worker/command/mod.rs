//! What a worker does, one verb a file.

mod answer;
mod statement;
mod select;
mod insert;
mod update;
mod delete;
mod write;
mod request;
mod scan;
mod plan;
mod fragment;
mod append;
mod appended;
mod lease;
mod hello;
mod closed;
mod map;
mod catalog;
mod build;

pub use scan::find_rows;

pub(super) use catalog::PendingCatalog;
pub(super) use fragment::Running;
pub(super) use scan::Parked;
pub(super) use write::Scratch;

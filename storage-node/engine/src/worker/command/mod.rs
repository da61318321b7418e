//! What a worker does, one verb a file.

mod answer;
mod statement;
mod select;
mod patched;
mod insert;
mod update;
mod conflict;
mod delete;
mod write;
mod withdraw;
mod answered;
mod forget;
mod claim;
mod keys;
mod request;
mod scan;
mod compute;
mod found;
mod act;
mod step;
mod attempt;
mod wait;
mod transact;
mod inquiry;
mod plan;
mod capture;
mod release;
mod fragment;
mod append;
mod appended;
mod root_piece;
mod root_taken;
mod follow;
mod watch;
mod lease;
mod hello;
mod closed;
mod catalog;
mod build;
mod role;
mod map;

pub use scan::find_rows;

pub(super) use fragment::Running;
pub(super) use write::Scratch;

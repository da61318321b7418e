//! Answers of statements: rows as they came from workers, rows as a stream of batches, or none.

use crate::bound::Session;
use crate::statement::copy::{CopyIn, CopyOut};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::LocalBoxStream;
use toroid_common::error::SqlError;

/// Rows, one after the other, in the encoding of [`toroid_common::row`].
#[derive(Clone, Debug)]
pub struct Encoded {
    pub bytes: Bytes,
    pub count: u64,
}

/// Where the rows of an answer come from; their types are the prepared statement's columns.
pub enum RowSource {
    /// Small answers of point plans.
    Encoded(Encoded),
    /// Everything else. Columns stand as [`toroid_common::types::SqlType::arrow`] says; polled only as fast as the client reads.
    Stream(LocalBoxStream<'static, Result<RecordBatch, SqlError>>),
}

/// A call of `set_config`; NULL is none.
pub struct SetConfig {
    pub name: Option<String>,
    pub value: Option<String>,
    /// It ends with the transaction.
    pub local: bool,
}

pub enum Answer {
    Rows(RowSource),
    /// No rows; the number of rows touched, where the tag counts.
    Done {
        count: u64,
    },
    /// No rows; another tag than the prepared statement has.
    Tag(&'static str),
    /// By row of a result, the settings that its columns set.
    SetConfig(Vec<Vec<SetConfig>>),
    CopyIn(CopyIn),
    CopyOut(CopyOut),
    /// The session does it itself.
    Session(Session),
}

//! Rows → DataRow messages, straight into the output buffer, in text or binary.

pub mod batch;
pub mod row;
pub mod value;

pub use value::Style;

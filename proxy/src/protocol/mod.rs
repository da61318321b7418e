//! PostgreSQL's protocol 3 as bytes: frames in, messages out, without meaning.
//!
//! The start of a connection goes through pgwire's codec. Messages after it do not: pgwire reads fields past the end of a message (a short
//! one panics or eats its successor), turns bad UTF-8 into other text, and copies every name and text; here fields are borrowed and bounded.

pub mod backend;
pub mod frontend;
pub mod input;
pub mod startup;

pub use backend::Output;
pub use frontend::Message;
pub use input::Input;

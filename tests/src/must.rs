//! Statements that must be answered: whoever asks here fails with the statement where the server does not.

use crate::client::Client;

/// Runs a statement that must succeed.
///
/// # Panics
/// When it fails.
pub fn run(client: &mut Client, sql: &str) {
    client.run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The first value of a statement's first row; nothing is an empty text.
///
/// # Panics
/// When it fails.
pub fn value(client: &mut Client, sql: &str) -> String {
    client.value(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).unwrap_or_default()
}

/// The SQLSTATE with which a statement fails, if it does.
///
/// # Panics
/// When there is no answer.
pub fn state(client: &mut Client, sql: &str) -> Option<String> {
    client.state(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The SQLSTATE with which a statement fails.
///
/// # Panics
/// When it does not fail.
pub fn failure(client: &mut Client, sql: &str) -> String {
    state(client, sql).unwrap_or_else(|| panic!("{sql} has no error"))
}

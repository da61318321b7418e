//! What a setting is: its kind of value, its unit, and who may change it.

/// Who may change a setting, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Any session, at any time.
    User,
    /// Nobody: it describes the server.
    Internal,
    /// Only the server's start.
    Start,
}

/// What an integer or real setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Bytes,
    Kilobytes,
    /// Pages of 8 kB.
    Pages,
    Megabytes,
    Milliseconds,
    Seconds,
}

/// Further checks of text settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Free,
    DateStyle,
    TimeZone,
    Encoding,
    SearchPath,
    /// Everything but printable ASCII becomes `?`.
    Printable,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Integer { unit: Unit, min: i32, max: i32 },
    Real { unit: Unit, min: f64, max: f64 },
    Enum(&'static [&'static str]),
    Text(Check),
}

/// One setting that the server knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub context: Context,
    /// As SHOW prints it.
    pub default: &'static str,
}

/// Settings whose changes are told to the client with ParameterStatus (PostgreSQL manual, "Asynchronous Operations").
pub const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// Settings that change what Toroid does; all others are accepted, checked and shown, because clients send them.
pub const EFFECTIVE: &[(&str, &str)] = &[
    ("application_name", "Name of the client, shown in lists of sessions."),
    ("bytea_output", "How bytea values are printed."),
    ("client_encoding", "Encoding of the client's text: UTF8."),
    ("client_min_messages", "Notices below this severity are not sent."),
    ("DateStyle", "Order of day, month and year when dates are read."),
    ("default_transaction_isolation", "Isolation of new transactions."),
    ("default_transaction_read_only", "Whether new transactions refuse writes."),
    ("extra_float_digits", "Digits of floating-point numbers; above 0 the shortest exact text."),
    ("idle_in_transaction_session_timeout", "Ends a session that leaves a transaction open for so long."),
    ("idle_session_timeout", "Ends a session that is idle for so long."),
    ("is_superuser", "Whether the user has all rights."),
    ("max_connections", "Most sessions at a time on this proxy."),
    ("max_identifier_length", "Longest name in bytes."),
    ("search_path", "Schemas that names without a schema are looked up in."),
    ("server_encoding", "Encoding of stored text."),
    ("server_version", "The version of PostgreSQL that this server answers like."),
    ("server_version_num", "The same as a number."),
    ("statement_timeout", "Cancels a statement that takes longer."),
    ("tcp_keepalives_count", "So many keepalives without an answer end the session; 0: as the system has it."),
    ("tcp_keepalives_idle", "A keepalive is sent after so much silence; 0: as the system has it."),
    ("tcp_keepalives_interval", "Between keepalives without an answer; 0: as the system has it."),
    ("tcp_user_timeout", "Ends a session whose client takes nothing for so long; 0: as the system has it."),
    ("TimeZone", "Zone in which times are read and printed."),
    ("transaction_isolation", "Isolation of the current transaction."),
    ("transaction_read_only", "Whether the current transaction refuses writes."),
];

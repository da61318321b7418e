//! The error that a client sees: SQLSTATE, text and where, made where the fault is found and never rewritten on the way.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A five-letter SQLSTATE (PostgreSQL manual, Appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SqlState(pub [u8; 5]);

macro_rules! states {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl SqlState {
            $(
                #[doc = concat!("SQLSTATE ", $code, ".")]
                pub const $name: SqlState = SqlState::new($code);
            )*
        }
    };
}

states! {
    CONNECTION_FAILURE = "08006",
    PROTOCOL_VIOLATION = "08P01",
    TRANSACTION_RESOLUTION_UNKNOWN = "08007",
    FEATURE_NOT_SUPPORTED = "0A000",
    CARDINALITY_VIOLATION = "21000",
    STRING_DATA_RIGHT_TRUNCATION = "22001",
    NUMERIC_VALUE_OUT_OF_RANGE = "22003",
    NULL_VALUE_NOT_ALLOWED = "22004",
    INVALID_DATETIME_FORMAT = "22007",
    DATETIME_FIELD_OVERFLOW = "22008",
    INVALID_TIME_ZONE_DISPLACEMENT_VALUE = "22009",
    SUBSTRING_ERROR = "22011",
    DIVISION_BY_ZERO = "22012",
    INTERVAL_FIELD_OVERFLOW = "22015",
    INVALID_ESCAPE_CHARACTER = "22019",
    INVALID_ARGUMENT_FOR_LOGARITHM = "2201E",
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = "2201F",
    INVALID_ROW_COUNT_IN_LIMIT = "2201W",
    INVALID_ROW_COUNT_IN_OFFSET = "2201X",
    CHARACTER_NOT_IN_REPERTOIRE = "22021",
    INVALID_PARAMETER_VALUE = "22023",
    INVALID_ESCAPE_SEQUENCE = "22025",
    INVALID_REGULAR_EXPRESSION = "2201B",
    STRING_DATA_LENGTH_MISMATCH = "22026",
    ARRAY_SUBSCRIPT_ERROR = "2202E",
    ARRAY_ELEMENT_ERROR = "2202E",
    INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION = "2201G",
    FLOATING_POINT_EXCEPTION = "22P01",
    INVALID_TEXT_REPRESENTATION = "22P02",
    INVALID_BINARY_REPRESENTATION = "22P03",
    BAD_COPY_FILE_FORMAT = "22P04",
    UNTRANSLATABLE_CHARACTER = "22P05",
    INTEGRITY_CONSTRAINT_VIOLATION = "23000",
    NOT_NULL_VIOLATION = "23502",
    FOREIGN_KEY_VIOLATION = "23503",
    UNIQUE_VIOLATION = "23505",
    CHECK_VIOLATION = "23514",
    ACTIVE_SQL_TRANSACTION = "25001",
    READ_ONLY_SQL_TRANSACTION = "25006",
    NO_ACTIVE_SQL_TRANSACTION = "25P01",
    IN_FAILED_SQL_TRANSACTION = "25P02",
    INVALID_SQL_STATEMENT_NAME = "26000",
    INVALID_SAVEPOINT_SPECIFICATION = "3B001",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000",
    INVALID_CURSOR_NAME = "34000",
    INVALID_CATALOG_NAME = "3D000",
    INVALID_SCHEMA_NAME = "3F000",
    SERIALIZATION_FAILURE = "40001",
    STATEMENT_COMPLETION_UNKNOWN = "40003",
    DEADLOCK_DETECTED = "40P01",
    SYNTAX_ERROR = "42601",
    INSUFFICIENT_PRIVILEGE = "42501",
    CANNOT_COERCE = "42846",
    GROUPING_ERROR = "42803",
    WINDOWING_ERROR = "42P20",
    INVALID_RECURSION = "42P19",
    INVALID_FOREIGN_KEY = "42830",
    INVALID_NAME = "42602",
    NAME_TOO_LONG = "42622",
    DATATYPE_MISMATCH = "42804",
    INDETERMINATE_DATATYPE = "42P18",
    WRONG_OBJECT_TYPE = "42809",
    UNDEFINED_COLUMN = "42703",
    UNDEFINED_FUNCTION = "42883",
    UNDEFINED_TABLE = "42P01",
    UNDEFINED_PARAMETER = "42P02",
    UNDEFINED_OBJECT = "42704",
    DUPLICATE_COLUMN = "42701",
    DUPLICATE_CURSOR = "42P03",
    DUPLICATE_PREPARED_STATEMENT = "42P05",
    DUPLICATE_TABLE = "42P07",
    DUPLICATE_ALIAS = "42712",
    DUPLICATE_OBJECT = "42710",
    AMBIGUOUS_COLUMN = "42702",
    AMBIGUOUS_FUNCTION = "42725",
    AMBIGUOUS_PARAMETER = "42P08",
    AMBIGUOUS_ALIAS = "42P09",
    INVALID_COLUMN_REFERENCE = "42P10",
    INVALID_COLUMN_DEFINITION = "42611",
    INVALID_TABLE_DEFINITION = "42P16",
    INVALID_OBJECT_DEFINITION = "42P17",
    OUT_OF_MEMORY = "53200",
    TOO_MANY_CONNECTIONS = "53300",
    CONFIGURATION_LIMIT_EXCEEDED = "53400",
    PROGRAM_LIMIT_EXCEEDED = "54000",
    STATEMENT_TOO_COMPLEX = "54001",
    TOO_MANY_COLUMNS = "54011",
    TOO_MANY_ARGUMENTS = "54023",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000",
    OBJECT_IN_USE = "55006",
    CANT_CHANGE_RUNTIME_PARAM = "55P02",
    LOCK_NOT_AVAILABLE = "55P03",
    QUERY_CANCELED = "57014",
    ADMIN_SHUTDOWN = "57P01",
    CANNOT_CONNECT_NOW = "57P03",
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01",
    INTERNAL_ERROR = "XX000",
    DATA_CORRUPTED = "XX001",
}

impl SqlState {
    const fn new(code: &str) -> SqlState {
        let bytes = code.as_bytes();
        assert!(bytes.len() == 5);
        SqlState([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
    }

    /// The five letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client is told when a statement fails (PostgreSQL manual, "Error and Notice Message Fields").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlError {
    fields: Box<Fields>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fields {
    state: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<u32>,
    context: Option<String>,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
}

/// Result of everything that can fail with an answer for the client.
pub type SqlResult<T> = Result<T, SqlError>;

impl SqlError {
    /// An error with its SQLSTATE and PostgreSQL's wording.
    pub fn new(state: SqlState, message: impl Into<String>) -> SqlError {
        SqlError {
            fields: Box::new(Fields {
                state,
                message: message.into(),
                detail: None,
                hint: None,
                position: None,
                context: None,
                table: None,
                column: None,
                constraint: None,
            }),
        }
    }

    /// `0A000` naming the feature that is not there: "… is not supported".
    pub fn unsupported(feature: impl fmt::Display) -> SqlError {
        SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{feature} is not supported"))
    }

    /// `XX000`: a fault of Toroid itself, not of the statement.
    pub fn internal(message: impl fmt::Display) -> SqlError {
        SqlError::new(SqlState::INTERNAL_ERROR, format!("internal error: {message}"))
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> SqlError {
        self.fields.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.fields.hint = Some(hint.into());
        self
    }

    /// Where in the statement's text: characters, from 1.
    #[must_use]
    pub fn at(mut self, position: u32) -> SqlError {
        self.fields.position = Some(position);
        self
    }

    /// Like [`SqlError::at`] but keeps a position that is already there.
    #[must_use]
    pub fn or_at(mut self, position: u32) -> SqlError {
        self.fields.position.get_or_insert(position);
        self
    }

    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> SqlError {
        self.fields.context = Some(context.into());
        self
    }

    #[must_use]
    pub fn with_table(mut self, table: impl Into<String>) -> SqlError {
        self.fields.table = Some(table.into());
        self
    }

    #[must_use]
    pub fn with_column(mut self, column: impl Into<String>) -> SqlError {
        self.fields.column = Some(column.into());
        self
    }

    #[must_use]
    pub fn with_constraint(mut self, constraint: impl Into<String>) -> SqlError {
        self.fields.constraint = Some(constraint.into());
        self
    }

    pub fn state(&self) -> SqlState {
        self.fields.state
    }

    pub fn message(&self) -> &str {
        &self.fields.message
    }

    pub fn detail(&self) -> Option<&str> {
        self.fields.detail.as_deref()
    }

    pub fn hint(&self) -> Option<&str> {
        self.fields.hint.as_deref()
    }

    pub fn position(&self) -> Option<u32> {
        self.fields.position
    }

    pub fn context(&self) -> Option<&str> {
        self.fields.context.as_deref()
    }

    pub fn table(&self) -> Option<&str> {
        self.fields.table.as_deref()
    }

    pub fn column(&self) -> Option<&str> {
        self.fields.column.as_deref()
    }

    pub fn constraint(&self) -> Option<&str> {
        self.fields.constraint.as_deref()
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fields.state, self.fields.message)
    }
}

impl std::error::Error for SqlError {}

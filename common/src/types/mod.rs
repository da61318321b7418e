//! PostgreSQL's types as Toroid knows them: names, oids, modifiers, and which Arrow array holds each.

pub mod calendar;
pub mod digits;
pub mod bytea;
pub mod interval;
pub mod numeric;
pub mod datum;
pub mod codec;
pub mod array;
pub mod datetime;
pub mod json;
pub mod text;
pub mod input;
pub mod output;
pub mod binary;
pub mod cast;
pub mod columnar;

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A PostgreSQL type without its modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SqlType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    /// `char(n)`; values are held without their padding.
    Bpchar,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    /// PostgreSQL's catalogs use these five; tables of users may not.
    Oid,
    Name,
    Char,
    Regclass,
    Regtype,
    /// A literal or NULL whose type is not settled yet.
    Unknown,
    Void,
    Array(Element),
}

/// The element type of an array: any [`SqlType`] that is not an array itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Element(u8);

/// All types that are no arrays, with name, oid, oid of the array type, and `typlen`.
const TABLE: &[(SqlType, &str, u32, u32, i16)] = &[
    (SqlType::Bool, "boolean", 16, 1000, 1),
    (SqlType::Int2, "smallint", 21, 1005, 2),
    (SqlType::Int4, "integer", 23, 1007, 4),
    (SqlType::Int8, "bigint", 20, 1016, 8),
    (SqlType::Float4, "real", 700, 1021, 4),
    (SqlType::Float8, "double precision", 701, 1022, 8),
    (SqlType::Numeric, "numeric", 1700, 1231, -1),
    (SqlType::Text, "text", 25, 1009, -1),
    (SqlType::Varchar, "character varying", 1043, 1015, -1),
    (SqlType::Bpchar, "character", 1042, 1014, -1),
    (SqlType::Bytea, "bytea", 17, 1001, -1),
    (SqlType::Date, "date", 1082, 1182, 4),
    (SqlType::Time, "time without time zone", 1083, 1183, 8),
    (SqlType::Timestamp, "timestamp without time zone", 1114, 1115, 8),
    (SqlType::Timestamptz, "timestamp with time zone", 1184, 1185, 8),
    (SqlType::Interval, "interval", 1186, 1187, 16),
    (SqlType::Uuid, "uuid", 2950, 2951, 16),
    (SqlType::Json, "json", 114, 199, -1),
    (SqlType::Jsonb, "jsonb", 3802, 3807, -1),
    (SqlType::Oid, "oid", 26, 1028, 4),
    (SqlType::Name, "name", 19, 1003, 64),
    (SqlType::Char, "\"char\"", 18, 1002, 1),
    (SqlType::Regclass, "regclass", 2205, 2210, 4),
    (SqlType::Regtype, "regtype", 2206, 2211, 4),
    (SqlType::Unknown, "unknown", 705, 0, -2),
    (SqlType::Void, "void", 2278, 0, 4),
];

impl Element {
    /// The element's type.
    pub fn ty(self) -> SqlType {
        TABLE.get(usize::from(self.0)).map_or(SqlType::Unknown, |row| row.0)
    }
}

impl SqlType {
    fn row(self) -> &'static (SqlType, &'static str, u32, u32, i16) {
        let wanted = match self {
            SqlType::Array(element) => element.ty(),
            other => other,
        };
        TABLE.iter().find(|row| row.0 == wanted).unwrap_or(&TABLE[0])
    }

    /// Every type that is no array.
    pub fn all() -> impl Iterator<Item = SqlType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type's `oid` in `pg_type`.
    pub fn oid(self) -> u32 {
        match self {
            SqlType::Array(_) => self.row().3,
            _ => self.row().2,
        }
    }

    pub fn from_oid(oid: u32) -> Option<SqlType> {
        TABLE.iter().find_map(|row| match oid {
            0 => None,
            _ if row.2 == oid => Some(row.0),
            _ if row.3 == oid => row.0.array(),
            _ => None,
        })
    }

    /// `typlen` in `pg_type`.
    pub fn length(self) -> i16 {
        match self {
            SqlType::Array(_) => -1,
            _ => self.row().4,
        }
    }

    /// The array type with this element, if there is one.
    pub fn array(self) -> Option<SqlType> {
        let index = TABLE.iter().position(|row| row.0 == self && row.3 != 0)?;
        Some(SqlType::Array(Element(index as u8)))
    }

    /// The element type of an array type.
    pub fn element(self) -> Option<SqlType> {
        match self {
            SqlType::Array(element) => Some(element.ty()),
            _ => None,
        }
    }

    /// Types whose values are held as UTF-8 text.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            SqlType::Text
                | SqlType::Varchar
                | SqlType::Bpchar
                | SqlType::Json
                | SqlType::Jsonb
                | SqlType::Name
                | SqlType::Char
                | SqlType::Unknown
        )
    }

    /// PostgreSQL's category N without the reg types.
    pub fn is_number(self) -> bool {
        matches!(
            self,
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 | SqlType::Numeric
        )
    }

    /// The Arrow type that holds a column of this type, in the store, in fragments and in merges.
    ///
    /// Numeric is [`numeric::Numeric::encode`]d bytes and interval 16 bytes ([`interval::Interval::to_bytes`]): neither compares as
    /// bytes, so plans order, group and join them by the kernel `sort_key`.
    pub fn arrow(self) -> DataType {
        match self {
            SqlType::Bool => DataType::Boolean,
            SqlType::Int2 => DataType::Int16,
            SqlType::Int4 => DataType::Int32,
            SqlType::Int8 => DataType::Int64,
            SqlType::Float4 => DataType::Float32,
            SqlType::Float8 => DataType::Float64,
            SqlType::Numeric | SqlType::Bytea => DataType::BinaryView,
            SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown => DataType::Utf8View,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            SqlType::Interval | SqlType::Uuid => DataType::FixedSizeBinary(16),
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => DataType::UInt32,
            SqlType::Void => DataType::Null,
            SqlType::Array(element) => {
                DataType::List(Arc::new(arrow::datatypes::Field::new("item", element.ty().arrow(), true)))
            }
        }
    }
}

impl fmt::Display for SqlType {
    /// As `format_type` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)?;
        match self {
            SqlType::Array(_) => f.write_str("[]"),
            _ => Ok(()),
        }
    }
}

/// A type with its modifier, as PostgreSQL's `atttypmod` encodes it; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnType {
    pub ty: SqlType,
    pub modifier: i32,
}

impl From<SqlType> for ColumnType {
    fn from(ty: SqlType) -> ColumnType {
        ColumnType { ty, modifier: -1 }
    }
}

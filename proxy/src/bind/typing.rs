//! Type names with their modifiers: what `varchar(3)`, `numeric(10,2)` and `timestamp(3)` mean.

use super::binder::{at, error_at, object_name, unsupported_at};
use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, IntervalFields, ObjectName, TimezoneInfo,
};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::types::{ColumnType, SqlType};

/// The type that a type name means.
pub(super) fn column_type(ast: &DataType) -> SqlResult<ColumnType> {
    let plain = |ty: SqlType| Ok(ColumnType::from(ty));
    match ast {
        DataType::Bool | DataType::Boolean => plain(SqlType::Bool),
        DataType::SmallInt(None) | DataType::Int2(None) => plain(SqlType::Int2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => plain(SqlType::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(SqlType::Int8),
        DataType::Real | DataType::Float4 => plain(SqlType::Float4),
        DataType::DoublePrecision | DataType::Float8 => plain(SqlType::Float8),
        DataType::Float(info) => float(info),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info),
        DataType::Text => plain(SqlType::Text),
        DataType::Varchar(n) | DataType::CharacterVarying(n) | DataType::CharVarying(n) => {
            characters(SqlType::Varchar, "varchar", n.as_ref())
        }
        DataType::Char(n) | DataType::Character(n) => {
            let one = CharacterLength::IntegerLength { length: 1, unit: None };
            characters(SqlType::Bpchar, "char", Some(n.as_ref().unwrap_or(&one)))
        }
        DataType::Bytea => plain(SqlType::Bytea),
        DataType::Date => plain(SqlType::Date),
        DataType::Time(n, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Ok(seconds(SqlType::Time, *n)),
        DataType::Time(..) => Err(SqlError::unsupported("type time with time zone")),
        DataType::Timestamp(n, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok(seconds(SqlType::Timestamp, *n))
        }
        DataType::Timestamp(n, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Ok(seconds(SqlType::Timestamptz, *n)),
        DataType::Interval { fields, precision } => Ok(interval(fields.as_ref(), *precision)),
        DataType::Uuid => plain(SqlType::Uuid),
        DataType::JSON => plain(SqlType::Json),
        DataType::JSONB => plain(SqlType::Jsonb),
        DataType::Regclass => plain(SqlType::Regclass),
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, _)
            | ArrayElemTypeDef::Qualified(inner, _)
            | ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => array(inner),
        DataType::Custom(name, modifiers) => named(name, modifiers),
        other => Err(undefined(&other.to_string().to_ascii_lowercase(), 0)),
    }
}

fn undefined(name: &str, place: u32) -> SqlError {
    error_at(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"), place)
}

fn array(inner: &DataType) -> SqlResult<ColumnType> {
    let element = match inner {
        // Arrays of arrays are one type in PostgreSQL.
        DataType::Array(_) => return column_type(inner),
        other => column_type(other)?,
    };
    let ty = element.ty.array().ok_or_else(|| SqlError::unsupported(format!("type {}[]", element.ty)))?;
    Ok(ColumnType { ty, modifier: element.modifier })
}

/// Names that sqlparser has no word for, and `pg_catalog.name`.
fn named(name: &ObjectName, modifiers: &[String]) -> SqlResult<ColumnType> {
    let (schema, base, place) = object_name(name)?;
    if schema.as_deref().is_some_and(|s| s != "pg_catalog") {
        return Err(undefined(&name.to_string(), place));
    }
    let quoted = name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| i.quote_style.is_some());
    let ty = match base.as_str() {
        "char" if quoted || schema.is_some() => SqlType::Char,
        "bool" => SqlType::Bool,
        "int2" => SqlType::Int2,
        "int4" => SqlType::Int4,
        "int8" => SqlType::Int8,
        "float4" => SqlType::Float4,
        "float8" => SqlType::Float8,
        "text" => SqlType::Text,
        "bytea" => SqlType::Bytea,
        "date" => SqlType::Date,
        "uuid" => SqlType::Uuid,
        "json" => SqlType::Json,
        "jsonb" => SqlType::Jsonb,
        "oid" => SqlType::Oid,
        "name" => SqlType::Name,
        "regclass" => SqlType::Regclass,
        "regtype" => SqlType::Regtype,
        "void" => SqlType::Void,
        "unknown" => SqlType::Unknown,
        "numeric" | "decimal" => return numeric(&numbers(modifiers)),
        "varchar" => return characters(SqlType::Varchar, "varchar", length(modifiers).as_ref()),
        "bpchar" => return characters(SqlType::Bpchar, "char", length(modifiers).as_ref()),
        "time" => return Ok(seconds(SqlType::Time, first(modifiers))),
        "timestamp" => return Ok(seconds(SqlType::Timestamp, first(modifiers))),
        "timestamptz" => return Ok(seconds(SqlType::Timestamptz, first(modifiers))),
        "interval" => return Ok(interval(None, first(modifiers))),
        "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2" => {
            return Err(unsupported_at(format!("type {base}"), place));
        }
        "money" | "bit" | "varbit" | "inet" | "cidr" | "macaddr" | "xml" | "timetz" | "point" | "line" | "box"
        | "path" | "polygon" | "circle" | "tsvector" | "tsquery" | "int4range" | "int8range" | "numrange"
        | "tsrange" | "tstzrange" | "daterange" | "hstore" | "pg_lsn" | "xid" | "cid" | "tid" | "regproc"
        | "regprocedure" | "regoper" | "regnamespace" | "regrole" => {
            return Err(unsupported_at(format!("type {base}"), place));
        }
        _ => {
            let shown = schema.map_or(base.clone(), |s| format!("{s}.{base}"));
            return Err(undefined(&shown, place));
        }
    };
    Ok(ColumnType::from(ty))
}

fn first(modifiers: &[String]) -> Option<u64> {
    modifiers.first().and_then(|m| m.parse().ok())
}

fn length(modifiers: &[String]) -> Option<CharacterLength> {
    first(modifiers).map(|length| CharacterLength::IntegerLength { length, unit: None })
}

fn numbers(modifiers: &[String]) -> ExactNumberInfo {
    match (first(modifiers), modifiers.get(1).and_then(|m| m.parse().ok())) {
        (Some(precision), Some(scale)) => ExactNumberInfo::PrecisionAndScale(precision, scale),
        (Some(precision), None) => ExactNumberInfo::Precision(precision),
        (None, _) => ExactNumberInfo::None,
    }
}

fn float(info: &ExactNumberInfo) -> SqlResult<ColumnType> {
    let bad = |text: &str| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, text));
    match info {
        ExactNumberInfo::None => Ok(SqlType::Float8.into()),
        ExactNumberInfo::Precision(0) => bad("precision for type float must be at least 1 bit"),
        ExactNumberInfo::Precision(1..=24) => Ok(SqlType::Float4.into()),
        ExactNumberInfo::Precision(25..=53) => Ok(SqlType::Float8.into()),
        ExactNumberInfo::Precision(_) => bad("precision for type float must be less than 54 bits"),
        ExactNumberInfo::PrecisionAndScale(..) => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \",\""))
        }
    }
}

fn numeric(info: &ExactNumberInfo) -> SqlResult<ColumnType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(SqlType::Numeric.into()),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let bad = |text: String| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, text));
    if !(1..=1000).contains(&precision) {
        return bad(format!("NUMERIC precision {precision} must be between 1 and 1000"));
    }
    if !(-1000..=1000).contains(&scale) {
        return bad(format!("NUMERIC scale {scale} must be between -1000 and 1000"));
    }
    Ok(ColumnType { ty: SqlType::Numeric, modifier: (((precision as i32) << 16) | (scale as i32 & 0x7ff)) + 4 })
}

fn characters(ty: SqlType, name: &str, length: Option<&CharacterLength>) -> SqlResult<ColumnType> {
    let bad = |text: String| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, text));
    match length {
        None => Ok(ty.into()),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            bad(format!("length for type {name} must be at least 1"))
        }
        Some(CharacterLength::IntegerLength { length, .. }) if *length > 10_485_760 => {
            bad(format!("length for type {name} cannot exceed 10485760"))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(ColumnType { ty, modifier: *length as i32 + 4 }),
        Some(CharacterLength::Max) => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"max\"")),
    }
}

/// PostgreSQL cuts a larger precision to six digits.
fn seconds(ty: SqlType, precision: Option<u64>) -> ColumnType {
    ColumnType { ty, modifier: precision.map_or(-1, |p| p.min(6) as i32) }
}

fn interval(fields: Option<&IntervalFields>, precision: Option<u64>) -> ColumnType {
    const FULL: i32 = 0x7fff;
    const ANY_PRECISION: i32 = 0xffff;
    let (year, month, day, hour, minute, second) = (1 << 2, 1 << 1, 1 << 3, 1 << 10, 1 << 11, 1 << 12);
    let mask = match fields {
        None => FULL,
        Some(IntervalFields::Year) => year,
        Some(IntervalFields::Month) => month,
        Some(IntervalFields::Day) => day,
        Some(IntervalFields::Hour) => hour,
        Some(IntervalFields::Minute) => minute,
        Some(IntervalFields::Second) => second,
        Some(IntervalFields::YearToMonth) => year | month,
        Some(IntervalFields::DayToHour) => day | hour,
        Some(IntervalFields::DayToMinute) => day | hour | minute,
        Some(IntervalFields::DayToSecond) => day | hour | minute | second,
        Some(IntervalFields::HourToMinute) => hour | minute,
        Some(IntervalFields::HourToSecond) => hour | minute | second,
        Some(IntervalFields::MinuteToSecond) => minute | second,
    };
    let modifier = match (fields, precision) {
        (None, None) => -1,
        (_, precision) => (mask << 16) | precision.map_or(ANY_PRECISION, |p| p.min(6) as i32),
    };
    ColumnType { ty: SqlType::Interval, modifier }
}

/// The types whose values name something without being a type of ours: they are held as oids, or shown as names at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    Namespace,
    Role,
    Function,
}

pub(super) fn registered(ast: &DataType) -> Option<Registered> {
    let DataType::Custom(name, _) = ast else { return None };
    match object_name(name).ok()?.1.as_str() {
        "regnamespace" => Some(Registered::Namespace),
        "regrole" => Some(Registered::Role),
        "regproc" => Some(Registered::Function),
        _ => None,
    }
}

/// Where a type name stands, if its name is an identifier of its own.
pub(super) fn place(ast: &DataType) -> u32 {
    match ast {
        DataType::Custom(name, _) => name.0.first().and_then(|p| p.as_ident()).map_or(0, |i| at(i.span)),
        _ => 0,
    }
}

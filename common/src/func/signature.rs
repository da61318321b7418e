//! Signatures of functions as the manual prints them: `lpad(text, int4) -> text`, polymorphic types included.

use crate::types::SqlType;
use std::fmt;

/// The declared type of a parameter or result (PostgreSQL manual, "Pseudo-Types" and "Polymorphic Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    Is(SqlType),
    /// Any type, each parameter for itself.
    Any,
    /// One type for all parameters that say so.
    AnyElement,
    AnyNonArray,
    AnyArray,
    /// One type to which all arguments that say so can be converted.
    AnyCompatible,
    AnyCompatibleArray,
}

/// A parsed signature.
pub struct Signature {
    pub name: &'static str,
    pub params: Vec<Param>,
    pub variadic: bool,
    pub result: Param,
    /// Name and parameters, without the result.
    pub text: &'static str,
}

/// PostgreSQL's internal name of a type, as signatures and `pg_type.typname` have it.
pub fn type_name(ty: SqlType) -> String {
    let name = match ty {
        SqlType::Bool => "bool",
        SqlType::Int2 => "int2",
        SqlType::Int4 => "int4",
        SqlType::Int8 => "int8",
        SqlType::Float4 => "float4",
        SqlType::Float8 => "float8",
        SqlType::Numeric => "numeric",
        SqlType::Text => "text",
        SqlType::Varchar => "varchar",
        SqlType::Bpchar => "bpchar",
        SqlType::Bytea => "bytea",
        SqlType::Date => "date",
        SqlType::Time => "time",
        SqlType::Timestamp => "timestamp",
        SqlType::Timestamptz => "timestamptz",
        SqlType::Interval => "interval",
        SqlType::Uuid => "uuid",
        SqlType::Json => "json",
        SqlType::Jsonb => "jsonb",
        SqlType::Oid => "oid",
        SqlType::Name => "name",
        SqlType::Char => "char",
        SqlType::Regclass => "regclass",
        SqlType::Regtype => "regtype",
        SqlType::Unknown => "unknown",
        SqlType::Void => "void",
        SqlType::Array(element) => return format!("_{}", type_name(element.ty())),
    };
    name.to_owned()
}

fn parse_type(name: &str) -> Option<Param> {
    Some(match name {
        "any" => Param::Any,
        "anyelement" => Param::AnyElement,
        "anynonarray" => Param::AnyNonArray,
        "anyarray" => Param::AnyArray,
        "anycompatible" => Param::AnyCompatible,
        "anycompatiblearray" => Param::AnyCompatibleArray,
        _ => match name.strip_suffix("[]") {
            Some(element) => match parse_type(element)? {
                Param::Is(ty) => Param::Is(ty.array()?),
                _ => return None,
            },
            None => Param::Is(SqlType::all().find(|ty| type_name(*ty) == name)?),
        },
    })
}

/// Reads `name(type, …) -> type`; `variadic` before the last type lets it repeat.
pub fn parse(signature: &'static str) -> Option<Signature> {
    let (text, result) = signature.split_once(" -> ")?;
    let (name, params) = text.strip_suffix(')')?.split_once('(')?;
    let mut variadic = false;
    let params = params
        .split(", ")
        .filter(|param| !param.is_empty())
        .map(|param| match param.strip_prefix("variadic ") {
            Some(rest) => {
                variadic = true;
                parse_type(rest)
            }
            None => parse_type(param),
        })
        .collect::<Option<Vec<Param>>>()?;
    Some(Signature { name, params, variadic, result: parse_type(result)?, text })
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Param::Is(ty) => ty.fmt(f),
            Param::Any => f.write_str("\"any\""),
            Param::AnyElement => f.write_str("anyelement"),
            Param::AnyNonArray => f.write_str("anynonarray"),
            Param::AnyArray => f.write_str("anyarray"),
            Param::AnyCompatible => f.write_str("anycompatible"),
            Param::AnyCompatibleArray => f.write_str("anycompatiblearray"),
        }
    }
}

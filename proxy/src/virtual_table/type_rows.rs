//! The rows of pg_type, and types by the short names that pg_type has.

use super::{Definition, Row, type_functions};
use toroid_common::datum::Datum;
use toroid_common::types::SqlType;

/// `typname`, `typcategory` and whether the type is its category's preferred one.
fn facts(ty: SqlType) -> (&'static str, &'static str, bool) {
    match ty {
        SqlType::Bool => ("bool", "B", true),
        SqlType::Int2 => ("int2", "N", false),
        SqlType::Int4 => ("int4", "N", false),
        SqlType::Int8 => ("int8", "N", false),
        SqlType::Float4 => ("float4", "N", false),
        SqlType::Float8 => ("float8", "N", true),
        SqlType::Numeric => ("numeric", "N", false),
        SqlType::Text => ("text", "S", true),
        SqlType::Varchar => ("varchar", "S", false),
        SqlType::Bpchar => ("bpchar", "S", false),
        SqlType::Bytea => ("bytea", "U", false),
        SqlType::Date => ("date", "D", false),
        SqlType::Time => ("time", "D", false),
        SqlType::Timestamp => ("timestamp", "D", false),
        SqlType::Timestamptz => ("timestamptz", "D", true),
        SqlType::Interval => ("interval", "T", true),
        SqlType::Uuid => ("uuid", "U", false),
        SqlType::Json => ("json", "U", false),
        SqlType::Jsonb => ("jsonb", "U", false),
        SqlType::Oid => ("oid", "N", true),
        SqlType::Name => ("name", "S", false),
        SqlType::Char => ("char", "Z", false),
        SqlType::Regclass => ("regclass", "N", false),
        SqlType::Regtype => ("regtype", "N", false),
        SqlType::Unknown => ("unknown", "X", false),
        SqlType::Void => ("void", "P", false),
        SqlType::Array(_) => ("", "A", false),
    }
}

/// The type with this `typname`.
pub(super) fn by_short_name(name: &str) -> Option<SqlType> {
    SqlType::all().find(|ty| facts(*ty).0 == name)
}

/// `udt_name` of the information schema, `typname` of pg_type.
pub(super) fn short_name(ty: SqlType) -> String {
    match ty.element() {
        Some(element) => format!("_{}", facts(element).0),
        None => facts(ty).0.to_owned(),
    }
}

/// `typalign`: an array's elements are aligned as they are, but its header is an integer.
pub(super) fn align(ty: SqlType) -> &'static str {
    let own = type_functions::by_type(&short_name(ty.element().unwrap_or(ty))).map_or("i", |own| own.align);
    if ty.element().is_some() && own != "d" { "i" } else { own }
}

/// `typstorage`.
pub(super) fn storage(ty: SqlType) -> &'static str {
    match ty.element() {
        Some(_) => "x",
        None => type_functions::by_type(&short_name(ty)).map_or("p", |own| own.storage),
    }
}

/// All types and their array types.
pub(super) fn rows(table: &Definition, namespace: u32) -> Vec<Vec<Datum>> {
    SqlType::all()
        .flat_map(|ty| [Some(ty), ty.array()])
        .flatten()
        .map(|ty| {
            let (_, category, preferred) = facts(ty);
            let length = ty.length();
            let own = type_functions::by_type(&short_name(ty));
            let array = ty.element().is_some();
            let functions = if array { type_functions::ARRAY } else { own.map_or([(0, ""); 4], |own| own.all) };
            let [input, output, receive, send] = functions.map(|(oid, _)| Datum::Oid(oid));
            Row::catalog(table)
                .set("oid", Datum::Oid(ty.oid()))
                .set("typname", short_name(ty).as_str())
                .set("typnamespace", Datum::Oid(namespace))
                .set("typowner", Datum::Oid(super::pg_catalog::OWNER))
                .set("typlen", Datum::Int2(length))
                .set("typbyval", Datum::Bool((1..=8).contains(&length)))
                .set("typtype", if ty == SqlType::Void || ty == SqlType::Unknown { "p" } else { "b" })
                .set("typcategory", category)
                .set("typispreferred", Datum::Bool(preferred))
                .set("typisdefined", Datum::Bool(true))
                .set("typdelim", ",")
                .set("typelem", Datum::Oid(ty.element().map_or(0, SqlType::oid)))
                .set("typarray", Datum::Oid(ty.array().map_or(0, SqlType::oid)))
                .set("typtypmod", Datum::Int4(-1))
                .set("typinput", input)
                .set("typoutput", output)
                .set("typreceive", receive)
                .set("typsend", send)
                // PostgreSQL: array_subscript_handler.
                .set("typsubscript", Datum::Oid(if array { 6179 } else { 0 }))
                .set("typalign", align(ty))
                .set("typstorage", storage(ty))
                .set("typcollation", Datum::Oid(super::pg_catalog::collation_of(ty)))
                .done()
        })
        .collect()
}

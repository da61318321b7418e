//! Functions about session, system and catalog that need no catalog (PostgreSQL manual, "System Information Functions and Operators").

use super::Entry;
use super::format::quote_ident;
use super::kernel::{kernel, text};
use crate::datum::{Datum, DatumRef};
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use crate::types::numeric::precision_and_scale;

/// What `server_version` says and `version()` begins with.
pub const SERVER_VERSION: &str = "15.0";
/// The schema that is always searched first.
const CATALOG_SCHEMA: &str = "pg_catalog";

/// Schemas cannot be made: these are all.
const EXISTING_SCHEMAS: &[&str] = &["public", CATALOG_SCHEMA, "information_schema", "toroid"];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("version() -> text", kernel!(|| text(version()))).stable(),
    Entry::new("current_database() -> name", kernel!(cx || text(cx.env.database.as_str()))).stable(),
    Entry::new("current_catalog() -> name", kernel!(cx || text(cx.env.database.as_str()))).stable(),
    Entry::new("current_schema() -> name", kernel!(cx || {
        Ok(schemas(cx.env).next().map_or(Datum::Null, |schema| Datum::Text(schema.to_owned())))
    }))
    .stable(),
    Entry::new("current_schemas(bool) -> name[]", kernel!(cx |implicit: Bool| {
        let first = Some(CATALOG_SCHEMA).filter(|_| implicit && !cx.env.search_path.iter().any(|s| s == CATALOG_SCHEMA));
        let all = first.into_iter().chain(schemas(cx.env));
        Ok(Datum::Array(all.map(|schema| Datum::Text(schema.to_owned())).collect()))
    }))
    .stable(),
    Entry::new("current_user() -> name", kernel!(cx || text(cx.env.user.as_str()))).stable(),
    Entry::new("session_user() -> name", kernel!(cx || text(cx.env.user.as_str()))).stable(),
    Entry::new("current_role() -> name", kernel!(cx || text(cx.env.user.as_str()))).stable(),
    Entry::new("user() -> name", kernel!(cx || text(cx.env.user.as_str()))).stable(),
    Entry::new("pg_backend_pid() -> int4", kernel!(cx || Ok(Datum::Int4(cx.env.backend)))).stable(),
    Entry::new("pg_typeof(any) -> regtype", |cx, _| Ok(Datum::Oid(cx.args.first().map_or(0, |ty| ty.oid()))))
        .stable()
        .nullable(),
    Entry::new("current_setting(text) -> text", kernel!(cx |name: Text| setting(cx.env, name)?.ok_or_else(|| {
        SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
    }).map(Datum::Text)))
    .stable(),
    Entry::new("current_setting(text, bool) -> text", kernel!(cx |name: Text, missing_ok: Bool| match setting(cx.env, name)? {
        Some(value) => text(value),
        None if missing_ok => Ok(Datum::Null),
        None => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))),
    }))
    .stable(),
    Entry::new("pg_table_is_visible(oid) -> bool", kernel!(cx |oid: Oid| {
        let visible = cx.env.relations.lookup()?.is_visible(oid, &cx.env.search_path);
        Ok(visible.map_or(Datum::Null, Datum::Bool))
    }))
    .stable(),
    Entry::new("pg_type_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_function_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_operator_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_collation_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_encoding_to_char(int4) -> name", kernel!(|encoding: Int4| text(match encoding {
        0 => "SQL_ASCII",
        6 => "UTF8",
        _ => "",
    })))
    .stable(),
    Entry::new("pg_client_encoding() -> name", kernel!(|| text("UTF8"))).stable(),
    Entry::new("getdatabaseencoding() -> name", kernel!(|| text("UTF8"))).stable(),
    Entry::new("format_type(oid, int4) -> text", format_type).stable().nullable(),
    // Expressions are kept as text in the virtual catalog.
    Entry::new("pg_get_expr(text, oid) -> text", kernel!(|source: Text, _table: Oid| text(source))).stable(),
    Entry::new("pg_get_expr(text, oid, bool) -> text", kernel!(|source: Text, _table: Oid, _pretty: Bool| text(source))).stable(),
    Entry::new("obj_description(oid, name) -> text", kernel!(|_oid: Oid, _catalog: Text| Ok(Datum::Null))).stable(),
    Entry::new("obj_description(oid) -> text", kernel!(|_oid: Oid| Ok(Datum::Null))).stable(),
    Entry::new("col_description(oid, int4) -> text", kernel!(|_oid: Oid, _column: Int4| Ok(Datum::Null))).stable(),
    Entry::new("shobj_description(oid, name) -> text", kernel!(|_oid: Oid, _catalog: Text| Ok(Datum::Null))).stable(),
    Entry::new("pg_is_in_recovery() -> bool", kernel!(|| Ok(Datum::Bool(false)))).stable(),
    Entry::new("txid_current() -> int8", kernel!(cx || Ok(Datum::Int8(transaction_number(cx.env))))).stable(),
    Entry::new("txid_current_if_assigned() -> int8", kernel!(cx || Ok(Datum::Int8(transaction_number(cx.env))))).stable(),
    // Type xid8 is read and written as bigint is.
    Entry::new("pg_current_xact_id() -> int8", kernel!(cx || Ok(Datum::Int8(transaction_number(cx.env))))).stable(),
    Entry::new("pg_current_xact_id_if_assigned() -> int8", kernel!(cx || Ok(Datum::Int8(transaction_number(cx.env))))).stable(),
    Entry::new("pg_size_pretty(int8) -> text", kernel!(|size: Int8| text(pretty_size(size)))),
    Entry::new("gen_random_uuid() -> uuid", kernel!(cx || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&cx.env.draw().to_be_bytes());
        bytes[8..].copy_from_slice(&cx.env.draw().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Datum::Uuid(bytes))
    }))
    .volatile(),
    Entry::new("inet_server_port() -> int4", kernel!(|| Ok(Datum::Null))).stable(),
    Entry::new("hashtext(text) -> int4", kernel!(|value: Text| {
        Ok(Datum::Int4(twox_hash::XxHash3_64::oneshot(value.as_bytes()) as i32))
    })),
];

/// The text of `version()`.
pub fn version() -> String {
    format!(
        "PostgreSQL {SERVER_VERSION} (Toroid {}) on {}, compiled by rustc, 64-bit",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    )
}

/// A number that is another one in every transaction and goes up with time: when it began, and some of its session's number.
fn transaction_number(env: &Env) -> i64 {
    const OF_SESSION: u32 = 12;
    (env.transaction_time << OF_SESSION) | i64::from(env.backend & ((1 << OF_SESSION) - 1))
}

fn schemas(env: &Env) -> impl Iterator<Item = &str> {
    env.search_path.iter().map(String::as_str).filter(|schema| EXISTING_SCHEMAS.contains(schema))
}

fn setting(env: &Env, name: &str) -> SqlResult<Option<String>> {
    let known = env.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    if known.is_some() {
        return Ok(known);
    }
    Ok(Some(match name.to_ascii_lowercase().as_str() {
        "timezone" => env.time_zone.name().to_owned(),
        "search_path" => env.search_path.iter().map(|s| quote_ident(s)).collect::<Vec<_>>().join(", "),
        "extra_float_digits" => env.extra_float_digits.to_string(),
        "server_version" => SERVER_VERSION.to_owned(),
        "server_version_num" => "150000".to_owned(),
        "server_encoding" | "client_encoding" => "UTF8".to_owned(),
        "standard_conforming_strings" | "integer_datetimes" => "on".to_owned(),
        "max_index_keys" => crate::limits::MAX_KEY_COLUMNS.to_string(),
        "block_size" => "8192".to_owned(),
        _ => return Ok(env.relations.default_setting(name)),
    }))
}

fn format_type(_: &super::Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let &[DatumRef::Oid(oid), modifier] = args else { return Ok(Datum::Null) };
    let modifier = if let DatumRef::Int4(modifier) = modifier { modifier } else { -1 };
    text(match (SqlType::from_oid(oid), oid) {
        (Some(ty), _) => type_with_modifier(ty, modifier),
        (None, 0) => "-".to_owned(),
        (None, _) => "???".to_owned(),
    })
}

/// A type with its length, precision or scale, as `format_type` prints it.
pub fn type_with_modifier(ty: SqlType, modifier: i32) -> String {
    let (base, suffix) = match ty.element() {
        Some(element) => (element, "[]"),
        None => (ty, ""),
    };
    let shown = match (base, modifier) {
        (SqlType::Varchar | SqlType::Bpchar, 4..) => format!("{base}({})", modifier - 4),
        (SqlType::Numeric, 4..) => match precision_and_scale(modifier) {
            Some((precision, scale)) => format!("numeric({precision},{scale})"),
            None => base.to_string(),
        },
        (SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz, 0..) => {
            let name = base.to_string();
            match name.split_once(' ') {
                Some((word, rest)) => format!("{word}({modifier}) {rest}"),
                None => name,
            }
        }
        // Without a length PostgreSQL prints bpchar by its internal name.
        (SqlType::Bpchar, _) => "bpchar".to_owned(),
        _ => base.to_string(),
    };
    shown + suffix
}

fn pretty_size(size: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if size.unsigned_abs() < 10 * 1024 {
        return format!("{size} bytes");
    }
    // One bit more is kept until the last step, which rounds half away from zero.
    let mut value = size / 512;
    let half = |value: i64| (value + value.signum()) / 2;
    for unit in UNITS {
        if half(value).unsigned_abs() < 20 * 1024 / 2 * 2 || unit == "PB" {
            return format!("{} {unit}", half(value));
        }
        value /= 1024;
    }
    format!("{} PB", half(value))
}

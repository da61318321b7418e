//! Functions that look into the catalog by oid or name (PostgreSQL manual, "System Catalog Information Functions", "Access Privilege Inquiry
//! Functions", "Database Object Size Functions"). Everything belongs to one role here, and relations have no files, so no sizes.

use super::kernel::{kernel, text};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use crate::types::input::{parse_text, type_by_name};

/// The role that owns everything.
const OWNER: u32 = 10;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("pg_get_indexdef(oid) -> text", kernel!(cx |oid: Oid| index(cx, oid, 0, false))).stable(),
    Entry::new(
        "pg_get_indexdef(oid, int4, bool) -> text",
        kernel!(cx |oid: Oid, at: Int4, pretty: Bool| index(cx, oid, at, pretty)),
    )
    .stable(),
    Entry::new("pg_get_constraintdef(oid) -> text", kernel!(cx |oid: Oid| constraint(cx, oid))).stable(),
    Entry::new("pg_get_constraintdef(oid, bool) -> text", kernel!(cx |oid: Oid, _pretty: Bool| constraint(cx, oid)))
        .stable(),
    Entry::new(
        "pg_get_userbyid(oid) -> name",
        kernel!(cx |oid: Oid| match oid {
            OWNER => text(cx.env.user.as_str()),
            other => text(format!("unknown (OID={other})")),
        }),
    )
    .stable(),
    Entry::new(
        "to_regclass(text) -> regclass",
        kernel!(cx |name: Text| match parse_text(SqlType::Regclass, -1, name, cx.env) {
            Err(error) if error.state() == SqlState::UNDEFINED_TABLE => Ok(Datum::Null),
            other => other,
        }),
    )
    .stable(),
    Entry::new(
        "to_regtype(text) -> regtype",
        kernel!(|name: Text| { Ok(type_by_name(name).map_or(Datum::Null, |ty| Datum::Oid(ty.oid()))) }),
    )
    .stable(),
    Entry::new(
        "pg_relation_is_publishable(regclass) -> bool",
        kernel!(cx |oid: Oid| {
            Ok(Datum::Bool(cx.env.relations.lookup()?.is_user_table(oid)))
        }),
    )
    .stable(),
    Entry::new("nextval(regclass) -> int8", kernel!(cx |oid: Oid| not_a_sequence(cx, oid))).stable(),
    Entry::new("currval(regclass) -> int8", kernel!(cx |oid: Oid| not_a_sequence(cx, oid))).stable(),
    Entry::new("setval(regclass, int8) -> int8", kernel!(cx |oid: Oid, _value: Int8| not_a_sequence(cx, oid))).stable(),
    Entry::new(
        "setval(regclass, int8, bool) -> int8",
        kernel!(cx |oid: Oid, _value: Int8, _called: Bool| not_a_sequence(cx, oid)),
    )
    .stable(),
    Entry::new(
        "lastval() -> int8",
        kernel!(|| Err(SqlError::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "lastval is not yet defined in this session"
        ))),
    )
    .stable(),
    Entry::new("pg_get_serial_sequence(text, text) -> text", nothing).stable(),
    Entry::new("pg_get_statisticsobjdef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_statisticsobjdef_columns(oid) -> text", nothing).stable(),
    Entry::new("pg_get_functiondef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_function_result(oid) -> text", nothing).stable(),
    Entry::new("pg_get_function_arguments(oid) -> text", nothing).stable(),
    Entry::new("pg_get_function_identity_arguments(oid) -> text", nothing).stable(),
    Entry::new("pg_get_function_sqlbody(oid) -> text", nothing).stable(),
    Entry::new("pg_get_viewdef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_viewdef(oid, bool) -> text", nothing).stable(),
    Entry::new("pg_get_viewdef(oid, int4) -> text", nothing).stable(),
    Entry::new("pg_get_ruledef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_ruledef(oid, bool) -> text", nothing).stable(),
    Entry::new("pg_get_triggerdef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_triggerdef(oid, bool) -> text", nothing).stable(),
    Entry::new("pg_get_partkeydef(oid) -> text", nothing).stable(),
    Entry::new("pg_get_partition_constraintdef(oid) -> text", nothing).stable(),
    Entry::new("pg_tablespace_location(oid) -> text", kernel!(|_oid: Oid| text(""))).stable(),
    Entry::new("pg_tablespace_size(oid) -> int8", nothing).stable(),
    Entry::new("pg_tablespace_size(name) -> int8", nothing).stable(),
    Entry::new("pg_database_size(oid) -> int8", nothing).stable(),
    Entry::new("pg_database_size(name) -> int8", nothing).stable(),
    Entry::new("pg_table_size(regclass) -> int8", nothing).stable(),
    Entry::new("pg_relation_size(regclass) -> int8", nothing).stable(),
    Entry::new("pg_relation_size(regclass, text) -> int8", nothing).stable(),
    Entry::new("pg_total_relation_size(regclass) -> int8", nothing).stable(),
    Entry::new("pg_indexes_size(regclass) -> int8", nothing).stable(),
    Entry::new("pg_relation_filenode(regclass) -> oid", nothing).stable(),
    Entry::new("pg_relation_filepath(regclass) -> text", nothing).stable(),
    Entry::new("pg_my_temp_schema() -> oid", kernel!(|| Ok(Datum::Oid(0)))).stable(),
    Entry::new("pg_is_other_temp_schema(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(false)))).stable(),
    Entry::new("pg_conversion_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_opclass_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_opfamily_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_statistics_obj_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_ts_config_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_ts_dict_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_ts_parser_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new("pg_ts_template_is_visible(oid) -> bool", kernel!(|_oid: Oid| Ok(Datum::Bool(true)))).stable(),
    Entry::new(
        "pg_char_to_encoding(name) -> int4",
        kernel!(|name: Text| {
            Ok(Datum::Int4(match name.to_ascii_uppercase().replace(['-', '_'], "").as_str() {
                "UTF8" | "UNICODE" => 6,
                "SQLASCII" => 0,
                _ => -1,
            }))
        }),
    )
    .stable(),
    Entry::new("inet_server_addr() -> text", nothing).stable(),
    Entry::new("inet_client_addr() -> text", nothing).stable(),
    Entry::new("inet_client_port() -> int4", nothing).stable(),
    Entry::new("set_config(text, text, bool) -> text", |_, _| Err(SqlError::unsupported("set_config"))).nullable(),
    Entry::new("setseed(float8) -> void", kernel!(|_seed: Float8| Err(SqlError::unsupported("setseed")))).stable(),
];

/// The one role may do everything to what there is.
pub(super) const PRIVILEGES: &[Entry] = &[
    Entry::new("has_table_privilege(text, text) -> bool", named).stable(),
    Entry::new("has_table_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_table_privilege(name, text, text) -> bool", named).stable(),
    Entry::new("has_table_privilege(name, oid, text) -> bool", yes).stable(),
    Entry::new("has_any_column_privilege(text, text) -> bool", named).stable(),
    Entry::new("has_any_column_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_any_column_privilege(name, oid, text) -> bool", yes).stable(),
    Entry::new("has_column_privilege(text, text, text) -> bool", yes).stable(),
    Entry::new("has_column_privilege(oid, text, text) -> bool", yes).stable(),
    Entry::new("has_column_privilege(oid, int2, text) -> bool", yes).stable(),
    Entry::new("has_sequence_privilege(text, text) -> bool", named).stable(),
    Entry::new("has_sequence_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_schema_privilege(text, text) -> bool", yes).stable(),
    Entry::new("has_schema_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_schema_privilege(name, text, text) -> bool", yes).stable(),
    Entry::new("has_schema_privilege(name, oid, text) -> bool", yes).stable(),
    Entry::new("has_database_privilege(text, text) -> bool", yes).stable(),
    Entry::new("has_database_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_database_privilege(name, text, text) -> bool", yes).stable(),
    Entry::new("has_database_privilege(name, oid, text) -> bool", yes).stable(),
    Entry::new("has_function_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_language_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_tablespace_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_tablespace_privilege(text, text) -> bool", yes).stable(),
    Entry::new("has_type_privilege(oid, text) -> bool", yes).stable(),
    Entry::new("has_type_privilege(text, text) -> bool", yes).stable(),
    Entry::new("pg_has_role(name, text) -> bool", yes).stable(),
    Entry::new("pg_has_role(oid, text) -> bool", yes).stable(),
    Entry::new("pg_has_role(name, name, text) -> bool", yes).stable(),
    Entry::new("pg_has_role(name, oid, text) -> bool", yes).stable(),
];

fn index(cx: &Context<'_>, oid: u32, position: i32, pretty: bool) -> SqlResult<Datum> {
    let hidden = if pretty { cx.env.search_path.as_slice() } else { &[] };
    Ok(cx.env.relations.lookup()?.index_definition(oid, position, hidden).map_or(Datum::Null, Datum::Text))
}

fn constraint(cx: &Context<'_>, oid: u32) -> SqlResult<Datum> {
    Ok(cx.env.relations.lookup()?.constraint_definition(oid).map_or(Datum::Null, Datum::Text))
}

fn not_a_sequence(cx: &Context<'_>, oid: u32) -> SqlResult<Datum> {
    let missing = || SqlError::new(SqlState::UNDEFINED_TABLE, format!("could not open relation with OID {oid}"));
    cx.env.relations.lookup()?;
    let name = cx.env.relations.shown(oid, &cx.env.search_path).ok_or_else(missing)?;
    Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a sequence")))
}

/// What does not exist, or is not known, is NULL.
fn nothing(_: &Context<'_>, _: &[DatumRef<'_>]) -> SqlResult<Datum> {
    Ok(Datum::Null)
}

fn yes(_: &Context<'_>, _: &[DatumRef<'_>]) -> SqlResult<Datum> {
    Ok(Datum::Bool(true))
}

/// The last argument but one names a relation, which must exist.
fn named(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let [.., DatumRef::Text(name), _] = args else { return Ok(Datum::Null) };
    parse_text(SqlType::Regclass, -1, name, cx.env)?;
    Ok(Datum::Bool(true))
}

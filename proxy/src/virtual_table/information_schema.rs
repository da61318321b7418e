//! The rows of information_schema (SQL standard, part 11; PostgreSQL manual, "The Information Schema").

use super::pg_catalog::{number_of, open_tables};
use super::{Definition, Row, Source, type_rows};
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::types::{ColumnType, SqlType};

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "tables" => tables(table, source),
        "columns" => columns(table, source),
        "schemata" => schemata(table, source),
        "table_constraints" => table_constraints(table, source),
        "check_constraints" => check_constraints(table, source),
        "key_column_usage" => key_columns(table, source, true),
        "constraint_column_usage" => key_columns(table, source, false),
        _ => Vec::new(),
    }
}

fn tables(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = |schema: &str, name: &str, kind: &str, insertable: &str| {
        Row::nulls(table)
            .set("table_catalog", source.env.database.as_str())
            .set("table_schema", schema)
            .set("table_name", name)
            .set("table_type", kind)
            .set("is_insertable_into", insertable)
            .set("is_typed", "NO")
            .done()
    };
    let virtuals = super::all().map(|t| {
        let kind = if super::is_view(t) { "VIEW" } else { "BASE TABLE" };
        row(t.schema, t.name, kind, "NO")
    });
    open_tables(source).map(|t| row(&t.schema, &t.name, "BASE TABLE", "YES")).chain(virtuals).collect()
}

fn columns(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let users = open_tables(source).flat_map(|t| {
        t.visible().map(move |(_, c)| {
            let place = (t.schema.as_str(), t.name.as_str(), c.name.as_str());
            column(table, source, place, i32::from(number_of(t, c)), c.ty)
                .set("is_nullable", if c.not_null { "NO" } else { "YES" })
                .set("column_default", c.default.as_ref().map_or(Datum::Null, |d| Datum::Text(d.text.clone())))
                .set("is_updatable", "YES")
                .done()
        })
    });
    let virtuals = super::all().flat_map(|t| {
        t.columns.iter().zip(1..).map(move |((name, ty), position)| {
            let row = column(table, source, (t.schema, t.name, name), position, ColumnType::from(*ty));
            row.set("is_nullable", "YES").set("is_updatable", "NO").done()
        })
    });
    users.chain(virtuals).collect()
}

fn column<'a>(
    table: &'a Definition,
    source: &Source,
    (schema, owner, name): (&str, &str, &str),
    position: i32,
    column: ColumnType,
) -> Row<'a> {
    let database = source.env.database.as_str();
    let (precision, radix, scale) = number_facts(column);
    let time = matches!(
        column.ty,
        SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval
    );
    let length = match (column.ty, column.modifier) {
        (SqlType::Varchar | SqlType::Bpchar, modifier @ 4..) => Datum::Int4(modifier - 4),
        _ => Datum::Null,
    };
    let octets = match (column.ty, &length) {
        (_, Datum::Int4(n)) => Datum::Int4(n.saturating_mul(4)),
        (SqlType::Text | SqlType::Varchar, _) => Datum::Int4(1 << 30),
        _ => Datum::Null,
    };
    let name_of_type = if column.ty.element().is_some() { "ARRAY".to_owned() } else { column.ty.to_string() };
    Row::nulls(table)
        .set("table_catalog", database)
        .set("table_schema", schema)
        .set("table_name", owner)
        .set("column_name", name)
        .set("ordinal_position", Datum::Int4(position))
        .set("data_type", name_of_type.as_str())
        .set("character_maximum_length", length)
        .set("character_octet_length", octets)
        .set("numeric_precision", precision)
        .set("numeric_precision_radix", radix)
        .set("numeric_scale", scale)
        .set(
            "datetime_precision",
            if time { Datum::Int4(if column.ty == SqlType::Date { 0 } else { 6 }) } else { Datum::Null },
        )
        .set("udt_catalog", database)
        .set("udt_schema", "pg_catalog")
        .set("udt_name", type_rows::short_name(column.ty).as_str())
        .set("dtd_identifier", position.to_string().as_str())
        .set("is_self_referencing", "NO")
        .set("is_identity", "NO")
        .set("identity_cycle", "NO")
        .set("is_generated", "NEVER")
}

/// Precision, its radix and scale of a number type.
fn number_facts(column: ColumnType) -> (Datum, Datum, Datum) {
    let binary = |bits, scale| (Datum::Int4(bits), Datum::Int4(2), scale);
    match (column.ty, column.modifier) {
        (SqlType::Int2, _) => binary(16, Datum::Int4(0)),
        (SqlType::Int4, _) => binary(32, Datum::Int4(0)),
        (SqlType::Int8, _) => binary(64, Datum::Int4(0)),
        (SqlType::Float4, _) => binary(24, Datum::Null),
        (SqlType::Float8, _) => binary(53, Datum::Null),
        (SqlType::Numeric, modifier @ 4..) => {
            let packed = modifier - 4;
            (Datum::Int4(packed >> 16), Datum::Int4(10), Datum::Int4(packed & 0x7ff))
        }
        (SqlType::Numeric, _) => (Datum::Null, Datum::Int4(10), Datum::Null),
        _ => (Datum::Null, Datum::Null, Datum::Null),
    }
}

fn schemata(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    ["public", "toroid", "information_schema", "pg_catalog"]
        .into_iter()
        .map(|name| {
            Row::nulls(table)
                .set("catalog_name", source.env.database.as_str())
                .set("schema_name", name)
                .set("schema_owner", source.env.user.as_str())
                .done()
        })
        .collect()
}

fn table_constraints(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let database = source.env.database.as_str();
    let row = |t: &Table, name: &str, kind: &str| {
        Row::nulls(table)
            .set("constraint_catalog", database)
            .set("constraint_schema", t.schema.as_str())
            .set("constraint_name", name)
            .set("table_catalog", database)
            .set("table_schema", t.schema.as_str())
            .set("table_name", t.name.as_str())
            .set("constraint_type", kind)
            .set("is_deferrable", "NO")
            .set("initially_deferred", "NO")
            .set("enforced", "YES")
            .done()
    };
    let of_table = |t: &Table| {
        let keys = t.indexes.iter().filter(|i| i.constraint);
        let keys = keys.map(|i| row(t, &i.name, if i.primary { "PRIMARY KEY" } else { "UNIQUE" }));
        keys.chain(t.checks.iter().map(|c| row(t, &c.name, "CHECK"))).collect::<Vec<_>>()
    };
    open_tables(source).flat_map(of_table).collect()
}

fn check_constraints(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let checks = open_tables(source).flat_map(|t| t.checks.iter().map(move |check| (t, check)));
    checks
        .map(|(t, check)| {
            Row::nulls(table)
                .set("constraint_catalog", source.env.database.as_str())
                .set("constraint_schema", t.schema.as_str())
                .set("constraint_name", check.name.as_str())
                .set("check_clause", check.text.as_str())
                .done()
        })
        .collect()
}

/// The columns of constraints: with their places for key_column_usage, without for constraint_column_usage.
fn key_columns(table: &Definition, source: &Source, places: bool) -> Vec<Vec<Datum>> {
    let database = source.env.database.as_str();
    let mut rows = Vec::new();
    for t in open_tables(source) {
        for i in t.indexes.iter().filter(|i| i.constraint) {
            for (c, position) in i.columns.iter().zip(1..) {
                let Some(column) = t.columns.get(usize::from(c.column)) else { continue };
                let row = Row::nulls(table)
                    .set("constraint_catalog", database)
                    .set("constraint_schema", t.schema.as_str())
                    .set("constraint_name", i.name.as_str())
                    .set("table_catalog", database)
                    .set("table_schema", t.schema.as_str())
                    .set("table_name", t.name.as_str())
                    .set("column_name", column.name.as_str());
                let row = if places { row.set("ordinal_position", Datum::Int4(position)) } else { row };
                rows.push(row.done());
            }
        }
    }
    rows
}

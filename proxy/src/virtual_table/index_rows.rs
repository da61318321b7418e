//! The rows of pg_index and pg_opclass.

use super::pg_catalog::{BTREE, OWNER, PG_CATALOG, collation_of, number_of, open_tables};
use super::{Definition, Row, Source};
use toroid_common::catalog::{Check, Index, IndexColumn, IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::types::SqlType;

/// The default btree operator class of each type that can be indexed: its oid, its name, the oid of its family.
const OPERATOR_CLASSES: &[(SqlType, u32, &str, u32)] = &[
    (SqlType::Bool, 10003, "bool_ops", 424),
    (SqlType::Bytea, 10006, "bytea_ops", 428),
    (SqlType::Char, 10007, "char_ops", 429),
    (SqlType::Name, 10028, "name_ops", 1994),
    (SqlType::Int8, 3124, "int8_ops", 1976),
    (SqlType::Int2, 1979, "int2_ops", 1976),
    (SqlType::Int4, 1978, "int4_ops", 1976),
    (SqlType::Text, 3126, "text_ops", 1994),
    (SqlType::Oid, 1981, "oid_ops", 1989),
    (SqlType::Float4, 10012, "float4_ops", 1970),
    (SqlType::Float8, 3123, "float8_ops", 1970),
    (SqlType::Bpchar, 10004, "bpchar_ops", 426),
    (SqlType::Date, 3122, "date_ops", 434),
    (SqlType::Time, 10038, "time_ops", 1996),
    (SqlType::Timestamp, 3128, "timestamp_ops", 434),
    (SqlType::Timestamptz, 3127, "timestamptz_ops", 434),
    (SqlType::Interval, 10022, "interval_ops", 1982),
    (SqlType::Numeric, 3125, "numeric_ops", 1988),
    (SqlType::Uuid, 10065, "uuid_ops", 2968),
    (SqlType::Jsonb, 10088, "jsonb_ops", 4033),
];

/// varchar is indexed as text.
fn operator_class(ty: SqlType) -> Option<u32> {
    let ty = if ty == SqlType::Varchar { SqlType::Text } else { ty };
    OPERATOR_CLASSES.iter().find(|(of, ..)| *of == ty).map(|(_, oid, ..)| *oid)
}

pub(super) fn operator_classes(table: &Definition) -> Vec<Vec<Datum>> {
    let row = |(ty, oid, name, family): &(SqlType, u32, &str, u32)| {
        Row::catalog(table)
            .set("oid", Datum::Oid(*oid))
            .set("opcmethod", Datum::Oid(BTREE))
            .set("opcname", *name)
            .set("opcnamespace", Datum::Oid(PG_CATALOG))
            .set("opcowner", Datum::Oid(OWNER))
            .set("opcfamily", Datum::Oid(*family))
            .set("opcintype", Datum::Oid(ty.oid()))
            .set("opcdefault", Datum::Bool(true))
            .done()
    };
    OPERATOR_CLASSES.iter().map(row).collect()
}

pub(super) fn key_numbers(table: &Table, index: &Index) -> Datum {
    let number =
        |c: &IndexColumn| table.columns.get(usize::from(c.column)).map_or(0, |column| number_of(table, column) as i16);
    Datum::Array(index.columns.iter().map(|c| Datum::Int2(number(c))).collect())
}

/// The columns that a condition reads, in the order in which they stand there.
pub(super) fn checked_numbers(table: &Table, check: &Check) -> Datum {
    let mut numbers: Vec<Datum> = Vec::new();
    check.expr.each_leaf(&mut |slot| {
        let column = table.columns.get(usize::from(slot.index));
        let number = Datum::Int2(column.map_or(0, |column| number_of(table, column) as i16));
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    });
    Datum::Array(numbers)
}

/// A fact of each column's type.
fn of_columns(table: &Table, index: &Index, fact: impl Fn(SqlType) -> u32) -> Datum {
    let of = |c: &IndexColumn| table.columns.get(usize::from(c.column)).map_or(0, |c| fact(c.ty.ty));
    Datum::Array(index.columns.iter().map(|c| Datum::Oid(of(c))).collect())
}

fn classes_of(table: &Table, index: &Index) -> Datum {
    of_columns(table, index, |ty| operator_class(ty).unwrap_or(0))
}

fn collations_of(table: &Table, index: &Index) -> Datum {
    of_columns(table, index, collation_of)
}

pub(super) fn indexes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let pairs = open_tables(source).flat_map(|t| t.indexes.iter().map(move |i| (t, i)));
    pairs
        .map(|(t, i)| {
            let options =
                i.columns.iter().map(|c| Datum::Int2(i16::from(c.descending) | if c.nulls_first { 2 } else { 0 }));
            Row::catalog(table)
                .set("indexrelid", Datum::Oid(i.id.0))
                .set("indrelid", Datum::Oid(t.id.0))
                .set("indnatts", Datum::Int2(i.columns.len() as i16))
                .set("indnkeyatts", Datum::Int2(i.columns.len() as i16))
                .set("indisunique", Datum::Bool(i.unique))
                .set("indisprimary", Datum::Bool(i.primary))
                .set("indimmediate", Datum::Bool(true))
                .set("indisvalid", Datum::Bool(i.state == IndexState::Ready))
                .set("indisready", Datum::Bool(true))
                .set("indislive", Datum::Bool(true))
                .set("indkey", key_numbers(t, i))
                .set("indclass", classes_of(t, i))
                .set("indcollation", collations_of(t, i))
                .set("indoption", Datum::Array(options.collect()))
                .done()
        })
        .collect()
}

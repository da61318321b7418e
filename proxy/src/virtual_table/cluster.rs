//! The schema `toroid`: nodes and partitions, and definitions that pg_catalog's functions look up.

use super::definition::{constraint_definition, index_column, index_definition, quoted};
use super::{Definition, Row, Source};
use toroid_common::catalog::PUBLIC_SCHEMA;
use toroid_common::datum::Datum;
use toroid_common::id::WorkerId;

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "nodes" => nodes(table, source),
        "partitions" => partitions(table, source),
        "index_definitions" => index_definitions(table, source),
        "constraint_definitions" => constraint_definitions(table, source),
        "relation_names" => relation_names(table, source),
        _ => Vec::new(),
    }
}

fn nodes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = |node: &toroid_common::map::NodeEntry| {
        Row::nulls(table)
            .set("id", Datum::Int4(node.id.0 as i32))
            .set("control", node.control.to_string().as_str())
            .set("zone", node.zone.as_str())
            .set("capacity", Datum::Int4(node.capacity as i32))
            .set("workers", Datum::Int4(node.workers.len() as i32))
            .set("incarnation", format!("{:016x}", node.incarnation.0).as_str())
            .done()
    };
    source.map.nodes.iter().map(row).collect()
}

fn partitions(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for (number, assignment) in source.map.partitions.iter().enumerate() {
        let mut add = |role: &str, worker: WorkerId| {
            rows.push(
                Row::nulls(table)
                    .set("partition", Datum::Int4(number as i32))
                    .set("epoch", Datum::Int4(assignment.epoch.0 as i32))
                    .set("role", role)
                    .set("node", Datum::Int4(worker.node.0 as i32))
                    .set("worker", Datum::Int4(i32::from(worker.index)))
                    .done(),
            );
        };
        add("primary", assignment.primary);
        assignment.backups.iter().for_each(|worker| add("backup", *worker));
        assignment.joining.iter().for_each(|worker| add("joining", *worker));
    }
    rows
}

/// Position 0 is the whole definition, n the name of the n-th column, as `pg_get_indexdef(oid, n, pretty)` counts.
fn index_definitions(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for owner in source.catalog.tables.values() {
        for index in &owner.indexes {
            let whole = (0, index_definition(owner, index));
            let columns = index.columns.iter().zip(1..).map(|(c, at)| (at, index_column(owner, c)));
            for (position, text) in std::iter::once(whole).chain(columns) {
                let row = Row::nulls(table).set("oid", Datum::Oid(index.id.0)).set("position", Datum::Int4(position));
                rows.push(row.set("definition", text.as_str()).done());
            }
        }
    }
    rows
}

fn constraint_definitions(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for owner in source.catalog.tables.values() {
        for index in owner.indexes.iter().filter(|index| index.constraint) {
            let row = Row::nulls(table).set("oid", Datum::Oid(index.id.0));
            rows.push(row.set("definition", constraint_definition(owner, index).as_str()).done());
        }
    }
    rows
}

/// How regclass prints: schemas of the default search path are left out.
fn relation_names(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let name = |oid: u32, schema: &str, name: &str| {
        let text = match schema {
            PUBLIC_SCHEMA | "pg_catalog" => quoted(name),
            other => format!("{}.{}", quoted(other), quoted(name)),
        };
        Row::nulls(table).set("oid", Datum::Oid(oid)).set("name", text.as_str()).done()
    };
    let virtuals = super::all().map(|t| name(t.oid, t.schema, t.name));
    let tables = source.catalog.tables.values().flat_map(|t| {
        std::iter::once(name(t.id.0, &t.schema, &t.name))
            .chain(t.indexes.iter().map(|i| name(i.id.0, &t.schema, &i.name)))
    });
    virtuals.chain(tables).collect()
}

//! The schema `toroid`: nodes and partitions.

use super::{Definition, Row, Source};
use toroid_common::datum::Datum;
use toroid_common::id::WorkerId;

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "nodes" => nodes(table, source),
        "partitions" => partitions(table, source),
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
        assignment.primary.iter().for_each(|worker| add("primary", *worker));
        assignment.backups.iter().for_each(|worker| add("backup", *worker));
        assignment.joining.iter().for_each(|worker| add("joining", *worker));
    }
    rows
}

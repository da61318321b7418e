//! The schema `toroid`: nodes, partitions, and the moves that are under way, as the cluster map has them.

use super::{Definition, Row, Source};
use toroid_common::datum::Datum;
use toroid_common::id::WorkerId;
use toroid_common::map::{NodeEntry, NodeState};

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "nodes" => nodes(table, source),
        "partitions" => partitions(table, source),
        "moves" => moves(table, source),
        _ => Vec::new(),
    }
}

fn nodes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = |node: &NodeEntry| {
        let assignments = || source.map.partitions.iter();
        let primaries = assignments().filter(|a| a.primary.is_some_and(|worker| worker.node == node.id)).count();
        let backups = assignments().flat_map(|a| &a.backups).filter(|worker| worker.node == node.id).count();
        let state = match node.state {
            NodeState::Serving => "serving",
            NodeState::Draining => "draining",
        };
        Row::nulls(table)
            .set("id", Datum::Int4(node.id.0 as i32))
            .set("control", node.control.to_string().as_str())
            .set("zone", node.zone.as_str())
            .set("capacity", Datum::Int4(node.capacity as i32))
            .set("workers", Datum::Int4(node.workers.len() as i32))
            .set("incarnation", format!("{:016x}", node.incarnation.0).as_str())
            .set("state", state)
            .set("primaries", Datum::Int4(primaries as i32))
            .set("backups", Datum::Int4(backups as i32))
            .done()
    };
    source.map.nodes.iter().map(row).collect()
}

/// A partition without any replica has a row, too: it is lost, and must be seen.
fn partitions(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for (number, assignment) in source.map.partitions.iter().enumerate() {
        let mut add = |role: &str, worker: Option<WorkerId>| {
            let mut row = Row::nulls(table)
                .set("partition", Datum::Int4(number as i32))
                .set("epoch", Datum::Int4(assignment.epoch.0 as i32))
                .set("role", role)
                .set("copies", Datum::Int4(assignment.copies() as i32))
                .set("wanted", Datum::Int4(i32::from(source.map.copies)));
            if let Some(worker) = worker {
                row = placed(row, worker);
            }
            rows.push(row.done());
        };
        match assignment.primary {
            Some(worker) => add("primary", Some(worker)),
            None => add("lost", None),
        }
        assignment.backups.iter().for_each(|worker| add("backup", Some(*worker)));
        assignment.joining.iter().for_each(|worker| add("joining", Some(*worker)));
    }
    rows
}

/// Replicas that catch up, and primaries that hand over.
fn moves(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for (number, assignment) in source.map.partitions.iter().enumerate() {
        let mut add = |kind: &str, worker: WorkerId| {
            let row = Row::nulls(table)
                .set("partition", Datum::Int4(number as i32))
                .set("epoch", Datum::Int4(assignment.epoch.0 as i32))
                .set("kind", kind);
            rows.push(placed(row, worker).done());
        };
        assignment.joining.iter().for_each(|worker| add("join", *worker));
        assignment.successor.iter().for_each(|successor| add("hand-over", successor.to));
    }
    rows
}

fn placed(row: Row<'_>, worker: WorkerId) -> Row<'_> {
    row.set("node", Datum::Int4(worker.node.0 as i32)).set("worker", Datum::Int4(i32::from(worker.index)))
}

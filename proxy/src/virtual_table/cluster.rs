//! The schema `toroid`: what `toroid status` shows. The metadata leader is asked; where it does not answer, the proxy's own map says what it can.

use super::{Definition, Row, Source};
use toroid_common::datum::Datum;
use toroid_common::id::{Incarnation, NodeId, PartitionId, WorkerId};
use toroid_common::map::{NodeEntry, NodeState};
use toroid_common::wire::{JoiningStatus, NodeStatus, Status};

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "nodes" => nodes(table, source),
        "partitions" => partitions(table, source),
        "moves" => moves(table, source),
        "cluster" => vec![cluster(table, source)],
        _ => Vec::new(),
    }
}

fn nodes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match &source.status {
        Some(status) => status.nodes.iter().map(|node| known(table, status, node)).collect(),
        None => source.map.nodes.iter().map(|node| mapped(table, source, node)).collect(),
    }
}

/// A node as the leader knows it.
fn known(table: &Definition, status: &Status, node: &NodeStatus) -> Vec<Datum> {
    let load = node.load.as_ref();
    described(table, node.node, node.incarnation, node.state)
        .set("control", node.control.to_string().as_str())
        .set("zone", node.zone.as_str())
        .set("capacity", Datum::Int4(node.capacity as i32))
        .set("workers", Datum::Int4(i32::from(node.workers)))
        .set("life", node.life.name())
        .set("heard_ms", counted(node.heard_ms))
        .set("lease_ms", counted(node.lease_ms))
        .set("primaries", Datum::Int4(i32::from(node.primaries)))
        .set("backups", Datum::Int4(i32::from(node.backups)))
        .set("joining", Datum::Int4(i32::from(node.joining)))
        .set("memory", counted(load.map(|load| load.memory)))
        .set("memory_limit", counted(load.map(|load| load.limit)))
        .set("leads", Datum::Bool(status.leader == Some(node.node)))
        .set("is_member", Datum::Bool(status.members.contains(&node.node)))
        .done()
}

/// A node as it stands in the map.
fn mapped(table: &Definition, source: &Source, node: &NodeEntry) -> Vec<Datum> {
    let count = |workers: &mut dyn Iterator<Item = &WorkerId>| {
        Datum::Int4(workers.filter(|worker| worker.node == node.id).count() as i32)
    };
    let assignments = || source.map.partitions.iter();
    described(table, node.id, node.incarnation, node.state)
        .set("control", node.control.to_string().as_str())
        .set("zone", node.zone.as_str())
        .set("capacity", Datum::Int4(node.capacity as i32))
        .set("workers", Datum::Int4(node.workers.len() as i32))
        .set("primaries", count(&mut assignments().filter_map(|a| a.primary.as_ref())))
        .set("backups", count(&mut assignments().flat_map(|a| &a.backups)))
        .set("joining", count(&mut assignments().flat_map(|a| &a.joining)))
        .done()
}

fn described(table: &Definition, node: NodeId, incarnation: Incarnation, state: NodeState) -> Row<'_> {
    let state = match state {
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
    };
    Row::nulls(table)
        .set("id", Datum::Int4(node.0 as i32))
        .set("incarnation", format!("{:016x}", incarnation.0).as_str())
        .set("state", state)
}

fn counted(number: Option<u64>) -> Datum {
    number.map_or(Datum::Null, |number| Datum::Int8(number as i64))
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
                let of_node = |status: &&NodeStatus| status.node == worker.node;
                if let Some(node) = source.status.as_ref().and_then(|status| status.nodes.iter().find(of_node)) {
                    row = row.set("life", node.life.name());
                }
                let arrived = joining(source, PartitionId(number as u16), worker).and_then(|joining| joining.arrived);
                row = row.set("arrived", counted(arrived));
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

/// What the leader says of a replica that is catching up.
fn joining(source: &Source, partition: PartitionId, worker: WorkerId) -> Option<&JoiningStatus> {
    let is_it = |joining: &&JoiningStatus| joining.partition == partition && joining.worker == worker;
    source.status.as_ref()?.joining.iter().find(is_it)
}

/// Replicas that catch up, and primaries that hand over.
fn moves(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for (number, assignment) in source.map.partitions.iter().enumerate() {
        let partition = PartitionId(number as u16);
        let add = |kind: &str, worker: WorkerId| {
            let row = Row::nulls(table)
                .set("partition", Datum::Int4(number as i32))
                .set("epoch", Datum::Int4(assignment.epoch.0 as i32))
                .set("kind", kind);
            placed(row, worker)
        };
        for worker in &assignment.joining {
            let mut row = add("join", *worker);
            if let Some(joining) = joining(source, partition, *worker) {
                let reason = if joining.is_move { "the ring wants it there" } else { "a lost replica is made again" };
                row = row.set("reason", reason).set("arrived", counted(joining.arrived));
            }
            rows.push(row.done());
        }
        rows.extend(assignment.successor.iter().map(|successor| add("hand-over", successor.to).done()));
    }
    rows
}

/// One row: who decides, and how far what the ring wants is done.
fn cluster(table: &Definition, source: &Source) -> Vec<Datum> {
    let map = &source.map;
    let row = Row::nulls(table)
        .set("id", format!("{:016x}", map.cluster.0).as_str())
        .set("map", counted(Some(map.version.0)))
        .set("catalog", counted(Some(source.catalog.version.0)))
        .set("partitions", Datum::Int4(map.partitions.len() as i32))
        .set("copies", Datum::Int4(i32::from(map.copies)))
        .set("min_copies", Datum::Int4(i32::from(map.min_copies)));
    let Some(status) = &source.status else { return row.done() };
    let partitions =
        |those: &[PartitionId]| Datum::Array(those.iter().map(|it| Datum::Int4(i32::from(it.0))).collect());
    row.set("term", counted(Some(status.term)))
        .set("leader", status.leader.map_or(Datum::Null, |leader| Datum::Int4(leader.0 as i32)))
        .set("members", Datum::Array(status.members.iter().map(|node| Datum::Int4(node.0 as i32)).collect()))
        .set("changing", Datum::Bool(status.changing))
        .set("ready", Datum::Bool(status.ready))
        .set("under_replicated", partitions(&status.under_replicated))
        .set("lost", partitions(&status.lost))
        .set("hand_overs", Datum::Int4(i32::from(status.hand_overs)))
        .set("required", counted(Some(status.required)))
        .set("moved", counted(Some(status.moved)))
        .set("repaired", counted(Some(status.repaired)))
        .set("expired", counted(Some(status.expired)))
        .set("returned", counted(Some(status.returned)))
        .set("proxies", Datum::Int4(status.proxies as i32))
        .done()
}

fn placed(row: Row<'_>, worker: WorkerId) -> Row<'_> {
    row.set("node", Datum::Int4(worker.node.0 as i32)).set("worker", Datum::Int4(i32::from(worker.index)))
}

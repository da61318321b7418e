//! `toroid status`, `node`, `copies` and `recover`: looking at a cluster, and changing what it is made of.

use crate::arguments::{Group, Node, NodeCommand};
use crate::control;
use crate::process::print;
use crate::settings;
use std::fmt::Write;
use toroid_common::id::{NodeId, PartitionId};
use toroid_common::map::NodeState;
use toroid_common::wire::{ControlBody, NoticeBody, Status};

fn ask(group: &Group, body: &ControlBody) -> Result<NoticeBody, String> {
    let join = settings::addresses(&group.join)?;
    let key = settings::cluster_key(group.cluster_key_file.as_deref())?;
    control::ask(&join, key.as_ref(), body)
}

fn unexpected(notice: &NoticeBody) -> String {
    format!("the metadata group answered another question: {notice:?}")
}

/// Prints what the metadata leader knows; for people, or as JSON.
pub fn status(group: &Group, json: bool) -> Result<(), String> {
    match ask(group, &ControlBody::Status)? {
        NoticeBody::Status(status) if json => {
            let text = serde_json::to_string_pretty(&status).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"))
        }
        NoticeBody::Status(status) => print(&table(&status)),
        other => Err(unexpected(&other)),
    }
}

pub fn node(node: &Node) -> Result<(), String> {
    let (group, body, done) = match &node.command {
        NodeCommand::Drain { node, group } => {
            (group, ControlBody::Drain { node: NodeId(*node) }, format!("node {node} is being emptied\n"))
        }
        NodeCommand::Remove { node, group } => {
            (group, ControlBody::Remove { node: NodeId(*node) }, format!("node {node} is no longer of the cluster\n"))
        }
    };
    done_as(group, &body, &done)
}

pub fn copies(copies: u8, min_copies: Option<u8>, group: &Group) -> Result<(), String> {
    let copies = settings::within("copies", copies, 1, toroid_common::limits::MAX_COPIES as u8)?;
    let min_copies = min_copies.map(|least| settings::within("min-copies", least, 1, copies)).transpose()?;
    let least = min_copies.map_or(String::new(), |least| format!(", at least {least}"));
    let done = format!("every partition is to have {copies} copies{least}\n");
    done_as(group, &ControlBody::SetCopies { copies, min_copies }, &done)
}

fn done_as(group: &Group, body: &ControlBody, done: &str) -> Result<(), String> {
    match ask(group, body)? {
        NoticeBody::Done => print(done),
        other => Err(unexpected(&other)),
    }
}

/// Makes lost partitions anew, and says which.
pub fn recover(accept_loss: bool, group: &Group) -> Result<(), String> {
    if !accept_loss {
        return Err("partitions without a living replica come back empty: say --accept-loss if that is what you want"
            .to_owned());
    }
    // Asked again after an answer that was lost with its leader, it is told what that one said.
    let id = control::draw().map_err(|error| format!("cannot draw a number: {error}"))?;
    match ask(group, &ControlBody::Recover { id })? {
        NoticeBody::Recovered(partitions) if partitions.is_empty() => print("no partition was lost\n"),
        NoticeBody::Recovered(partitions) => print(&format!("made anew, empty: partitions {}\n", list(&partitions))),
        other => Err(unexpected(&other)),
    }
}

fn list(partitions: &[PartitionId]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = describe(status, &mut out);
    out
}

fn describe(status: &Status, out: &mut String) -> std::fmt::Result {
    let map = status.map.map_or("none yet".to_owned(), |map| map.to_string());
    writeln!(
        out,
        "cluster {:016x}: {} partitions, {} copies (at least {}), map {map}, catalog {}",
        status.cluster.0, status.partitions, status.copies, status.min_copies, status.catalog
    )?;
    let members: Vec<String> = status.members.iter().map(ToString::to_string).collect();
    let leader = status.leader.map_or("none".to_owned(), |leader| leader.to_string());
    writeln!(out, "metadata: leader node {leader}, term {}, members {}", status.term, members.join(", "))?;
    writeln!(
        out,
        "\n node  control                workers  weight  zone        primaries  backups  joining      memory  heard       lease     state"
    )?;
    for node in &status.nodes {
        let heard = node.heard_ms.map_or("-".to_owned(), |ms| format!("{ms} ms ago"));
        let lease = node.lease_ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let memory = node.load.as_ref().map_or("-".to_owned(), |load| format!("{} MiB", load.memory >> 20));
        let draining = if node.state == NodeState::Draining { ", draining" } else { "" };
        writeln!(
            out,
            "{:>5}  {:<21}  {:>7}  {:>6}  {:<10}  {:>9}  {:>7}  {:>7}  {memory:>10}  {:<10}  {lease:<8}  {}{draining}",
            node.node.0,
            node.control.to_string(),
            node.workers,
            node.capacity,
            node.zone,
            node.primaries,
            node.backups,
            node.joining,
            heard,
            node.life.name()
        )?;
    }
    writeln!(out)?;
    for joining in &status.joining {
        let why = if joining.is_move { "moves" } else { "is made again" };
        let arrived = joining.arrived.map_or(String::new(), |bytes| format!(", {} KiB have arrived", bytes >> 10));
        writeln!(out, "partition {} {why}: worker {} is catching up{arrived}", joining.partition, joining.worker)?;
    }
    if !status.under_replicated.is_empty() {
        writeln!(out, "WARNING: fewer than {} copies: partitions {}", status.copies, list(&status.under_replicated))?;
    }
    if !status.lost.is_empty() {
        writeln!(out, "LOST: no replica is left: partitions {} (see toroid recover)", list(&status.lost))?;
    }
    writeln!(
        out,
        "moved {} of {} replicas that the ring wants elsewhere, {} made again, {} hand-overs under way, {} proxy threads",
        status.moved, status.required, status.repaired, status.hand_overs, status.proxies
    )?;
    writeln!(out, "{} nodes were given up for silence, {} of them lived and came back", status.expired, status.returned)
}

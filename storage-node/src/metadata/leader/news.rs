//! What a new map changes in who does what, and why: for the log of the process.

use crate::metadata::state::Command;
use toroid_common::id::PartitionId;
use toroid_common::map::{Assignment, ClusterMap};
use toroid_common::wire::Reconfigure;

/// Writes one line per node and partition that changed.
pub(super) fn tell(before: Option<&ClusterMap>, after: &ClusterMap, command: &Command) {
    tell_copies(before, after);
    let Some(before) = before else {
        let (nodes, partitions, copies) = (after.nodes.len(), after.partitions.len(), after.copies);
        return tracing::info!(nodes, partitions, copies, "the cluster is formed");
    };
    let why = why(command);
    for node in &after.nodes {
        match before.node(node.id) {
            None => tracing::info!(node = %node.id, zone = node.zone, why, "a node is new in the map"),
            Some(former) if former.incarnation != node.incarnation => {
                tracing::info!(node = %node.id, incarnation = %node.incarnation, why, "a node is back as another process");
            }
            Some(_) => {}
        }
    }
    for node in before.nodes.iter().filter(|node| after.node(node.id).is_none()) {
        tracing::info!(node = %node.id, why, "a node has left the map");
    }
    for (index, (now, former)) in after.partitions.iter().zip(&before.partitions).enumerate() {
        if now != former {
            tell_partition(PartitionId(index as u16), former, now, why);
        }
    }
}

/// What would be lost with fewer failures than the cluster is to survive.
fn tell_copies(before: Option<&ClusterMap>, after: &ClusterMap) {
    let copies = after.copies;
    match (before.map_or(0, lacking), lacking(after)) {
        (0, 0) => {}
        (0, partitions) => tracing::warn!(partitions, copies, "partitions have fewer copies than they should have"),
        (_, 0) => tracing::info!(copies, "all partitions have all their copies again"),
        (_, _) => {}
    }
}

/// How many partitions have fewer replicas than copies are wanted.
fn lacking(map: &ClusterMap) -> usize {
    let has = |assignment: &Assignment| usize::from(assignment.primary.is_some()) + assignment.backups.len();
    map.partitions.iter().filter(|assignment| has(assignment) < usize::from(map.copies)).count()
}

fn tell_partition(partition: PartitionId, former: &Assignment, now: &Assignment, why: &str) {
    let epoch = now.epoch;
    match (former.primary, now.primary) {
        (Some(from), Some(to)) if from != to => {
            tracing::info!(%partition, %epoch, %from, %to, why, "another worker is primary");
        }
        (Some(from), None) => tracing::error!(%partition, %epoch, %from, why, "a partition has lost all its replicas"),
        (None, Some(to)) => tracing::warn!(%partition, %epoch, %to, why, "a partition begins again, empty"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    for worker in now.backups.iter().filter(|worker| !former.backups.contains(worker)) {
        tracing::info!(%partition, %epoch, %worker, why, "a worker is now backup");
    }
    for worker in former.backups.iter().filter(|worker| !now.backups.contains(worker)) {
        if now.primary != Some(*worker) {
            tracing::info!(%partition, %epoch, %worker, why, "a worker is no backup any more");
        }
    }
    for worker in now.joining.iter().filter(|worker| !former.joining.contains(worker)) {
        tracing::info!(%partition, %epoch, %worker, why, "a worker begins to join");
    }
    for worker in former.joining.iter().filter(|worker| !now.holds(**worker)) {
        tracing::info!(%partition, %epoch, %worker, why, "a worker does not join any more");
    }
    if let Some(successor) = now.successor.filter(|successor| former.successor != Some(*successor)) {
        tracing::info!(%partition, %epoch, to = %successor.to, why, "a primary is to hand over");
    }
}

fn why(command: &Command) -> &'static str {
    match command {
        Command::Found(_) | Command::Form => "the cluster was made",
        Command::AllocateIncarnation | Command::Fence { .. } | Command::Ready => "of a proxy",
        Command::Join { dead: Some(_), .. } => "its node came back as another process",
        Command::Join { dead: None, .. } => "its node joined",
        Command::Expire { .. } => "its node was silent for the grace period",
        Command::Abandon { .. } => "its node has been away for long",
        Command::Revive { .. } => "its node is heard of again",
        Command::Leave { .. } | Command::Depart { .. } => "its node stops",
        Command::Drain { .. } => "its node is to be emptied",
        Command::Remove { .. } => "its node was removed",
        Command::SetCopies { .. } => "the number of copies was changed",
        Command::Recover { .. } => "the loss of rows was accepted",
        Command::Propose(proposal) => match proposal.change {
            Reconfigure::DropBackup { .. } => "it did not answer its primary",
            Reconfigure::DropJoining { .. } => "it did not answer while it joined",
            Reconfigure::Replace { .. } => "it has caught up, and another did not answer",
            Reconfigure::Admit { .. } => "it has caught up",
            Reconfigure::HandOver { .. } => "the primary handed over",
        },
        Command::Retarget { .. } => "the ring changed",
        Command::AddJoining { .. } => "the ring wants a replica there",
        Command::NameSuccessor { .. } => "the ring wants it, or the primary's node stops",
        Command::Release { .. } => "there are enough others",
        Command::Change { .. } | Command::CatalogTaken { .. } | Command::Decide { .. } | Command::Confirmed { .. } => {
            "of a schema change"
        }
    }
}

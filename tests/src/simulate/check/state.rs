//! What the replicas of a partition may be at one moment, looked at from above: something that no node can do.
//!
//! Looks come often, but not after every step: what holds at all moments holds at these.

use super::super::context::Context;
use std::collections::BTreeMap;
use toroid_common::id::{Epoch, Lsn, PartitionId, WorkerId};
use toroid_engine::worker::{Role, View};

/// A replica at a living worker.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub worker: WorkerId,
    /// The process, counted over all nodes and lives.
    pub life: u32,
    pub view: View,
    /// Whether it would answer a request now: its process runs and is under its lease.
    pub leased: bool,
}

/// What was seen before, to compare with.
#[derive(Debug, Default)]
pub struct Past {
    epochs: BTreeMap<(PartitionId, WorkerId, u32), Epoch>,
    acknowledged: BTreeMap<(PartitionId, Epoch), Lsn>,
}

impl Past {
    /// Judges the replicas of one partition.
    pub fn look(&mut self, partition: PartitionId, seen: &[Seen], context: &mut Context) {
        for replica in seen {
            let last = self.epochs.entry((partition, replica.worker, replica.life)).or_default();
            if replica.view.epoch < *last {
                context
                    .violated(|| format!("partition {partition}: {} went back to {:?}", replica.worker, replica.view));
            }
            *last = replica.view.epoch;
        }
        self.one_answers(partition, seen, context);
        self.nested(partition, seen, context);
    }

    /// At most one node may answer for a partition at any true instant.
    fn one_answers(&self, partition: PartitionId, seen: &[Seen], context: &mut Context) {
        if context.observed.lawless {
            return;
        }
        let may = |replica: &&Seen| replica.leased && matches!(replica.view.role, Role::Primary { serves: true, .. });
        let answering: Vec<&Seen> = seen.iter().filter(may).collect();
        if let [one, other, ..] = answering[..] {
            context.violated(|| format!("partition {partition}: two may answer: {one:?} and {other:?}"));
        }
    }

    /// acknowledged(backup) ⊆ acknowledged(primary) ⊆ appended(backup), within an epoch.
    fn nested(&mut self, partition: PartitionId, seen: &[Seen], context: &mut Context) {
        for primary in seen.iter().filter(|replica| matches!(replica.view.role, Role::Primary { .. })) {
            let epoch = primary.view.epoch;
            let acknowledged = primary.view.acknowledged;
            // A new primary has yet to hear what was acknowledged; it holds that in any case.
            let known = match primary.view.role {
                Role::Primary { serves: true, .. } => acknowledged,
                Role::Primary { serves: false, .. } | Role::Backup | Role::Joining => primary.view.appended,
            };
            let most = self.acknowledged.entry((partition, epoch)).or_default();
            *most = (*most).max(acknowledged);
            if acknowledged < *most {
                context.violated(|| format!("partition {partition}: what was acknowledged is so no more: {primary:?}"));
            }
            for backup in seen.iter().filter(|r| r.view.role == Role::Backup && r.view.epoch == epoch) {
                if backup.view.acknowledged > known {
                    context.violated(|| {
                        format!(
                            "partition {partition}: a backup knows more to be acknowledged: {backup:?}, {primary:?}"
                        )
                    });
                }
                if acknowledged > backup.view.appended {
                    context.violated(|| {
                        format!("partition {partition}: a backup lacks what is acknowledged: {backup:?}, {primary:?}")
                    });
                }
            }
        }
    }
}

//! Where a request goes, and what a proxy does when it was not executed: pure, so that the simulator runs the same decisions.

use crate::error::{SqlError, SqlState};
use crate::id::{CatalogVersion, Epoch, MapVersion, PartitionId, WorkerId};
use crate::map::ClusterMap;
use crate::transaction::Step;
use crate::wire::Refusal;

/// Where a partition's primary is, as a map says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub worker: WorkerId,
    pub epoch: Epoch,
}

/// The primary of a partition; `None` when the map has no such partition, or all its replicas were lost.
pub fn route(map: &ClusterMap, partition: PartitionId) -> Option<Route> {
    let assignment = map.assignment(partition)?;
    Some(Route { worker: assignment.primary?, epoch: assignment.epoch })
}

/// A partition that nobody holds any more: it says so, and never comes back empty by itself.
pub fn lost(partition: PartitionId) -> SqlError {
    SqlError::new(SqlState::CANNOT_CONNECT_NOW, format!("partition {partition} is lost: none of its replicas is left"))
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The worker answered why it has no answer; but for one reason it did not execute it.
    Refused(Refusal),
    /// The connection was lost before the answer: it may have been executed.
    Lost,
    /// Another worker became the partition's primary before the answer: it may have been executed.
    Moved,
}

/// What the proxy does next. Every resend is under the same identity, so that it happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the plan, then the request again.
    RegisterPlan,
    /// Wait so many milliseconds, or until the map changes, and send again.
    Resend { after_ms: u32 },
    /// Wait for this map or a later one, send again.
    AwaitMap(MapVersion),
    /// Wait for this catalog or a later one and plan the statement again.
    Replan(CatalogVersion),
}

/// Milliseconds after which a proxy stops trying to get one request executed.
pub const PATIENCE_MS: u32 = 30_000;
const FIRST_PAUSE_MS: u32 = 1;
const LONGEST_PAUSE_MS: u32 = 100;

/// Decides on a request that was in trouble `attempts` times before and has waited `waited_ms` in all; `known` is the map that it was routed by.
/// `None`: nothing helps any more.
pub fn after(trouble: Trouble, attempts: u32, waited_ms: u32, known: MapVersion) -> Option<Next> {
    if waited_ms >= PATIENCE_MS {
        return None;
    }
    let pause = Next::Resend { after_ms: pause_ms(attempts) };
    Some(match trouble {
        Trouble::Refused(Refusal::StaleCatalog { have }) => Next::Replan(have),
        Trouble::Refused(Refusal::Moving { have }) => Next::Replan(have.next()),
        Trouble::Refused(Refusal::StaleMap { have } | Refusal::Deposed { have }) if have > known => {
            Next::AwaitMap(have)
        }
        Trouble::Refused(
            Refusal::StaleMap { .. } | Refusal::Deposed { .. } | Refusal::BehindCatalog { .. } | Refusal::Busy,
        )
        | Trouble::Lost => pause,
        Trouble::Moved => Next::Resend { after_ms: 0 },
        Trouble::Refused(Refusal::UnknownPlan) => Next::RegisterPlan,
        // Answers are kept until the proxy itself moves its mark past them: asking below it is a fault of the proxy, never to be hidden by a second try.
        Trouble::Refused(Refusal::BelowMark | Refusal::Fenced | Refusal::Withdrawn) => return None,
        // Another cut is another state: only who has shown nothing of this one may read it.
        Trouble::Refused(Refusal::NoCut) => return None,
        // Another request waits for that, which is part of a transaction.
        Trouble::Refused(Refusal::TableLocked) => return None,
    })
}

/// How a request ends that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may have been executed, and nobody will ever know.
    Unknown,
    /// Nothing came of it, because of this.
    Nothing(Trouble),
    /// It has no effect, and its partition has no replica left.
    PartitionLost,
}

/// What a request has been through: who sends it asks here after each trouble.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    writes: bool,
    sent: bool,
    /// An earlier copy of it may still be under way, or have been executed.
    copies: bool,
    /// It is being withdrawn, to be planned again for this catalog.
    withdrawn_for: Option<CatalogVersion>,
    troubles: u32,
    endless: bool,
}

impl Attempts {
    pub fn new(writes: bool) -> Attempts {
        Attempts { writes, sent: false, copies: false, withdrawn_for: None, troubles: 0, endless: false }
    }

    /// Of a step of a transaction. Who may be rolled back must be in the end, however long that takes: its worker keeps locks for it as long as its proxy
    /// lives. Of all other steps that get no answer participants and anchors learn by asking each other.
    pub fn of_step(step: &Step) -> Attempts {
        Attempts { endless: *step == Step::RollBack, ..Attempts::new(true) }
    }

    /// Whether it is never given up while there is anybody to ask.
    pub fn is_endless(&self) -> bool {
        self.endless
    }

    /// It leaves now, or leaves again.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Whether it is not the request itself that is sent now, but its withdrawal, under the same identity. Who refused the request may not be the
    /// primary any more, or meet a copy that is under way later; what a partition says of a withdrawal holds for ever.
    pub fn withdraws(&self) -> bool {
        self.withdrawn_for.is_some()
    }

    /// What to do after this trouble, `waited_ms` after the first.
    pub fn after(&mut self, trouble: Trouble, waited_ms: u32, known: MapVersion) -> Result<Next, Failure> {
        if let (Some(version), Trouble::Refused(Refusal::Withdrawn)) = (self.withdrawn_for, trouble) {
            return Ok(Next::Replan(version));
        }
        let executed = matches!(trouble, Trouble::Refused(Refusal::Deposed { .. }));
        let unclear = self.copies || executed || matches!(trouble, Trouble::Lost | Trouble::Moved);
        let refused_as_another = matches!(trouble, Trouble::Refused(Refusal::Fenced | Refusal::BelowMark));
        let waited_ms = if self.endless { 0 } else { waited_ms };
        let result = match after(trouble, self.troubles, waited_ms, known) {
            // A copy that is still under way must not meet the same statement under another identity.
            Some(Next::Replan(version)) if (self.copies || self.withdraws()) && self.writes => {
                let after_ms = if self.withdraws() { pause_ms(self.troubles) } else { 0 };
                self.withdrawn_for = self.withdrawn_for.max(Some(version));
                Ok(Next::Resend { after_ms })
            }
            Some(next) => Ok(next),
            None if self.writes && (unclear || refused_as_another) => Err(Failure::Unknown),
            None => Err(Failure::Nothing(trouble)),
        };
        self.troubles += 1;
        self.copies = unclear || self.withdraws();
        result
    }

    /// Whether a copy of it may be executed yet, or have been, now that its trouble is known.
    pub fn is_unclear(&self) -> bool {
        self.copies
    }

    /// Its partition has no primary any more: whether it happened before, nobody will ever see.
    pub fn nowhere(&self) -> Failure {
        if self.sent && self.writes { Failure::Unknown } else { Failure::PartitionLost }
    }
}

fn pause_ms(attempts: u32) -> u32 {
    FIRST_PAUSE_MS.checked_shl(attempts.min(16)).unwrap_or(LONGEST_PAUSE_MS).min(LONGEST_PAUSE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: MapVersion = MapVersion(3);

    #[test]
    fn a_newer_map_is_awaited_and_the_same_one_is_tried_again() {
        let stale = |have| Trouble::Refused(Refusal::StaleMap { have: MapVersion(have) });
        assert_eq!(after(stale(4), 0, 0, KNOWN), Some(Next::AwaitMap(MapVersion(4))));
        assert_eq!(after(stale(3), 0, 0, KNOWN), Some(Next::Resend { after_ms: 1 }));
    }

    #[test]
    fn a_moving_table_waits_for_the_catalog_that_ends_the_move() {
        let moving = Trouble::Refused(Refusal::Moving { have: CatalogVersion(7) });
        assert_eq!(after(moving, 0, 0, KNOWN), Some(Next::Replan(CatalogVersion(8))));
    }

    #[test]
    fn a_write_is_not_planned_anew_while_a_copy_of_it_may_be_under_way() {
        let stale = |have| Trouble::Refused(Refusal::StaleCatalog { have: CatalogVersion(have) });
        let withdrawn = Trouble::Refused(Refusal::Withdrawn);
        let replan = |version| Ok(Next::Replan(CatalogVersion(version)));
        let mut read = Attempts::new(false);
        assert_eq!(read.after(Trouble::Lost, 0, KNOWN), Ok(Next::Resend { after_ms: 1 }));
        assert_eq!(read.after(stale(2), 0, KNOWN), replan(2));
        let mut write = Attempts::new(true);
        assert_eq!((write.after(stale(2), 0, KNOWN), write.withdraws()), (replan(2), false), "it was sent once");
        assert_eq!(write.after(Trouble::Lost, 0, KNOWN), Ok(Next::Resend { after_ms: 2 }));
        assert_eq!((write.after(stale(2), 0, KNOWN), write.withdraws()), (Ok(Next::Resend { after_ms: 0 }), true));
        // What an earlier copy comes to says nothing of the withdrawal, which is as hard to deliver as any request.
        assert_eq!(write.after(stale(3), 0, KNOWN), Ok(Next::Resend { after_ms: 8 }));
        assert_eq!(write.after(Trouble::Moved, 0, KNOWN), Ok(Next::Resend { after_ms: 0 }));
        assert_eq!(write.after(withdrawn, 0, KNOWN), replan(3));
        assert_eq!(write.after(Trouble::Refused(Refusal::Busy), PATIENCE_MS, KNOWN), Err(Failure::Unknown));
    }

    #[test]
    fn a_failure_says_nothing_happened_only_where_that_is_known() {
        let busy = Trouble::Refused(Refusal::Busy);
        let mut attempts = Attempts::new(true);
        assert_eq!(attempts.nowhere(), Failure::PartitionLost);
        attempts.sent();
        assert_eq!(attempts.nowhere(), Failure::Unknown);
        assert_eq!(attempts.after(busy, PATIENCE_MS, KNOWN), Err(Failure::Nothing(busy)));
        assert_eq!(attempts.after(Trouble::Lost, PATIENCE_MS, KNOWN), Err(Failure::Unknown));
        assert_eq!(attempts.after(busy, PATIENCE_MS, KNOWN), Err(Failure::Unknown));
    }

    #[test]
    fn what_was_executed_by_a_primary_that_is_replaced_may_have_happened() {
        let deposed = Trouble::Refused(Refusal::Deposed { have: MapVersion(4) });
        let mut write = Attempts::new(true);
        assert_eq!(write.after(deposed, 0, KNOWN), Ok(Next::AwaitMap(MapVersion(4))));
        assert!(write.is_unclear(), "a statement that is cancelled now does not say that nothing happened");
        let busy = Trouble::Refused(Refusal::Busy);
        assert_eq!(write.after(busy, 0, MapVersion(4)), Ok(Next::Resend { after_ms: 2 }));
        let stale = Trouble::Refused(Refusal::StaleCatalog { have: CatalogVersion(2) });
        assert_eq!(write.after(stale, 0, MapVersion(4)), Ok(Next::Resend { after_ms: 0 }));
        assert!(write.withdraws(), "the next primary may have it");
        assert_eq!(Attempts::new(true).after(deposed, PATIENCE_MS, KNOWN), Err(Failure::Unknown));
        assert_eq!(Attempts::new(false).after(deposed, PATIENCE_MS, KNOWN), Err(Failure::Nothing(deposed)));
        let mut refused = Attempts::new(true);
        let stale_map = Trouble::Refused(Refusal::StaleMap { have: MapVersion(4) });
        assert_eq!(refused.after(stale_map, 0, KNOWN), Ok(Next::AwaitMap(MapVersion(4))));
        assert!(!refused.is_unclear());
    }

    #[test]
    fn a_rollback_is_never_given_up_where_somebody_may_hold_locks() {
        let late = 100 * PATIENCE_MS;
        let busy = Trouble::Refused(Refusal::Busy);
        let mut commit = Attempts::of_step(&Step::Commit { requests: 1 });
        commit.sent();
        assert_eq!(commit.after(Trouble::Lost, late, KNOWN), Err(Failure::Unknown));
        let mut roll_back = Attempts::of_step(&Step::RollBack);
        for attempt in 0..1_000 {
            roll_back.sent();
            let trouble = if attempt % 2 == 0 { Trouble::Lost } else { busy };
            let pause = Next::Resend { after_ms: pause_ms(attempt) };
            assert_eq!(roll_back.after(trouble, late, KNOWN), Ok(pause));
        }
        // Its proxy is fenced: the worker has let go, or will.
        assert_eq!(roll_back.after(Trouble::Refused(Refusal::Fenced), late, KNOWN), Err(Failure::Unknown));
        assert_eq!(roll_back.nowhere(), Failure::Unknown, "nobody has the partition any more");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_patience_ends() {
        assert_eq!(after(Trouble::Lost, 5, 0, KNOWN), Some(Next::Resend { after_ms: 32 }));
        assert_eq!(after(Trouble::Lost, 400, 0, KNOWN), Some(Next::Resend { after_ms: 100 }));
        assert_eq!(after(Trouble::Lost, 9, PATIENCE_MS, KNOWN), None);
    }
}

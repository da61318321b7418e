//! Where a request goes, and what a proxy does when it was not executed: pure, so that the simulator runs the same decisions.

use crate::error::{SqlError, SqlState};
use crate::id::{CatalogVersion, Epoch, MapVersion, PartitionId, WorkerId};
use crate::map::ClusterMap;
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
    /// The worker answered that it did not execute it.
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
    /// Tell the client that the statement failed, or that its outcome is unknown.
    GiveUp,
}

/// Milliseconds after which a proxy stops trying to get one request executed.
pub const PATIENCE_MS: u32 = 30_000;
const FIRST_PAUSE_MS: u32 = 1;
const LONGEST_PAUSE_MS: u32 = 100;

/// Decides on a request that was in trouble `attempts` times before and has waited `waited_ms` in all; `known` is the map that it was routed by.
pub fn after(trouble: Trouble, attempts: u32, waited_ms: u32, known: MapVersion) -> Next {
    if waited_ms >= PATIENCE_MS {
        return Next::GiveUp;
    }
    let pause = Next::Resend { after_ms: pause_ms(attempts) };
    match trouble {
        Trouble::Refused(Refusal::StaleCatalog { have }) => Next::Replan(have),
        Trouble::Refused(Refusal::Moving { have }) => Next::Replan(have.next()),
        Trouble::Refused(Refusal::StaleMap { have }) if have > known => Next::AwaitMap(have),
        Trouble::Refused(Refusal::StaleMap { .. } | Refusal::BehindCatalog { .. } | Refusal::Busy) | Trouble::Lost => {
            pause
        }
        Trouble::Moved => Next::Resend { after_ms: 0 },
        Trouble::Refused(Refusal::UnknownPlan) => Next::RegisterPlan,
        // Answers are kept until the proxy itself moves its mark past them: asking below it is a fault of the proxy, never to be hidden by a second try.
        // A fenced proxy's answers are gone: it may have been executed.
        Trouble::Refused(Refusal::BelowMark | Refusal::Fenced) => Next::GiveUp,
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
        assert_eq!(after(stale(4), 0, 0, KNOWN), Next::AwaitMap(MapVersion(4)));
        assert_eq!(after(stale(3), 0, 0, KNOWN), Next::Resend { after_ms: 1 });
    }

    #[test]
    fn a_moving_table_waits_for_the_catalog_that_ends_the_move() {
        let moving = Trouble::Refused(Refusal::Moving { have: CatalogVersion(7) });
        assert_eq!(after(moving, 0, 0, KNOWN), Next::Replan(CatalogVersion(8)));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_patience_ends() {
        assert_eq!(after(Trouble::Lost, 5, 0, KNOWN), Next::Resend { after_ms: 32 });
        assert_eq!(after(Trouble::Lost, 400, 0, KNOWN), Next::Resend { after_ms: 100 });
        assert_eq!(after(Trouble::Lost, 9, PATIENCE_MS, KNOWN), Next::GiveUp);
    }
}

//! Who was heard of when, and who has been silent for longer than the grace period. Pure.

use std::collections::BTreeMap;
use toroid_common::id::{Incarnation, NodeId};
use toroid_engine::gate::Time;

/// A node that is not heard of for so long is given up. Longer than any lease, which counts from an earlier moment.
pub const GRACE_MICROS: u64 = 600_000;
/// A proxy that is not heard of for so long is fenced; it says that it lives every second. Longer than a node's, because it costs more to be wrong: what
/// it has under way is unknown to its clients from then on. This is for a machine that is gone without a word.
pub const PROXY_GRACE_MICROS: u64 = 10_000_000;
/// So long after the connection ended over which it said so, which the system does for a process that has ended; one that lives comes back at once. Tables
/// that its transactions change, and what its sessions have locked, wait for that.
pub const ENDED_PROXY_GRACE_MICROS: u64 = 3_000_000;
/// So long after the election where it was not heard of since: a leader does not know whose connections to the one before have ended.
pub const UNHEARD_PROXY_GRACE_MICROS: u64 = 5_000_000;
/// Time in which the leader did not look does not count: it could not hear.
const LONGEST_LOOK_MICROS: u64 = 150_000;

/// What the leader heard, since its election.
#[derive(Clone, Debug)]
pub struct Detector {
    looked: Time,
    /// How long the leader has listened, in microseconds since its election.
    listened: u64,
    nodes: BTreeMap<NodeId, (Incarnation, u64)>,
    /// When each was heard of last, or its connection ended.
    proxies: BTreeMap<Incarnation, (u64, Contact)>,
}

#[derive(Clone, Copy, Debug)]
enum Contact {
    Stands,
    Ended,
}

impl Detector {
    /// Counts for everybody from now.
    pub fn elected(now: Time) -> Detector {
        Detector { looked: now, listened: 0, nodes: BTreeMap::new(), proxies: BTreeMap::new() }
    }

    /// To be called whenever the leader gets to run, before anything else.
    pub fn look(&mut self, now: Time) {
        self.listened += now.0.saturating_sub(self.looked.0).min(LONGEST_LOOK_MICROS);
        self.looked = self.looked.max(now);
    }

    pub fn heard(&mut self, node: NodeId, incarnation: Incarnation) {
        self.nodes.insert(node, (incarnation, self.listened));
    }

    pub fn heard_proxy(&mut self, incarnation: Incarnation) {
        self.proxies.insert(incarnation, (self.listened, Contact::Stands));
    }

    /// The last connection over which this proxy said that it lives has ended.
    pub fn proxy_ended(&mut self, incarnation: Incarnation) {
        if let Some(contact) = self.proxies.get_mut(&incarnation) {
            *contact = (self.listened, Contact::Ended);
        }
    }

    pub fn forget_proxy(&mut self, incarnation: Incarnation) {
        self.proxies.remove(&incarnation);
    }

    /// Microseconds since this life of the node was heard of; `None` if it was not since the election.
    pub fn silence(&self, node: NodeId, incarnation: Incarnation) -> Option<u64> {
        let (heard, at) = self.nodes.get(&node)?;
        (*heard == incarnation).then(|| self.listened - at)
    }

    /// Whether the node has been silent for the grace period.
    pub fn is_silent(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.silence(node, incarnation).unwrap_or(self.listened) >= GRACE_MICROS
    }

    pub fn is_proxy_silent(&self, incarnation: Incarnation) -> bool {
        let (since, grace) = match self.proxies.get(&incarnation) {
            Some((heard, Contact::Stands)) => (*heard, PROXY_GRACE_MICROS),
            Some((ended, Contact::Ended)) => (*ended, ENDED_PROXY_GRACE_MICROS),
            None => (0, UNHEARD_PROXY_GRACE_MICROS),
        };
        self.listened - since >= grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);
    const FIRST: Incarnation = Incarnation(2);
    const MS: u64 = 1_000;

    fn run(detector: &mut Detector, from: u64, to: u64) {
        (from / (10 * MS)..=to / (10 * MS)).for_each(|step| detector.look(Time(step * 10 * MS)));
    }

    #[test]
    fn a_node_is_silent_after_the_grace_period_since_it_was_heard_or_the_election() {
        let mut detector = Detector::elected(Time(0));
        run(&mut detector, 0, 590 * MS);
        assert!(!detector.is_silent(NODE, FIRST), "nobody is silent before grace has passed since the election");
        detector.heard(NODE, FIRST);
        run(&mut detector, 590 * MS, 1_180 * MS);
        assert!(!detector.is_silent(NODE, FIRST));
        run(&mut detector, 1_180 * MS, 1_190 * MS);
        assert!(detector.is_silent(NODE, FIRST));
        assert_eq!(detector.silence(NODE, FIRST), Some(600 * MS));
    }

    #[test]
    fn only_the_life_that_was_heard_is_not_silent() {
        let mut detector = Detector::elected(Time(0));
        run(&mut detector, 0, 700 * MS);
        detector.heard(NODE, Incarnation(9));
        assert!(detector.is_silent(NODE, FIRST) && !detector.is_silent(NODE, Incarnation(9)));
    }

    #[test]
    fn a_leader_that_was_paused_blames_nobody_for_it() {
        let mut detector = Detector::elected(Time(0));
        run(&mut detector, 0, 700 * MS);
        detector.heard(NODE, FIRST);
        detector.look(Time(60_000 * MS));
        assert!(!detector.is_silent(NODE, FIRST));
        detector.look(Time(59_000 * MS));
        run(&mut detector, 60_000 * MS, 60_450 * MS);
        assert!(detector.is_silent(NODE, FIRST), "what it listened in counts");
    }

    #[test]
    fn a_proxy_whose_connection_ended_or_that_nobody_heard_of_is_waited_for_less() {
        let mut detector = Detector::elected(Time(0));
        detector.heard_proxy(FIRST);
        detector.proxy_ended(FIRST);
        run(&mut detector, 0, ENDED_PROXY_GRACE_MICROS - 10 * MS);
        assert!(!detector.is_proxy_silent(FIRST));
        detector.heard_proxy(FIRST);
        run(&mut detector, ENDED_PROXY_GRACE_MICROS, UNHEARD_PROXY_GRACE_MICROS - 10 * MS);
        assert!(!detector.is_proxy_silent(FIRST), "it came back");
        detector.proxy_ended(FIRST);
        let unheard = Incarnation(9);
        detector.proxy_ended(unheard);
        assert!(!detector.is_proxy_silent(unheard));
        run(&mut detector, UNHEARD_PROXY_GRACE_MICROS, UNHEARD_PROXY_GRACE_MICROS);
        assert!(detector.is_proxy_silent(unheard) && !detector.is_proxy_silent(FIRST));
        let ended = UNHEARD_PROXY_GRACE_MICROS - 10 * MS;
        run(&mut detector, UNHEARD_PROXY_GRACE_MICROS, ended + ENDED_PROXY_GRACE_MICROS);
        assert!(detector.is_proxy_silent(FIRST));
    }

    #[test]
    fn proxies_have_longer() {
        let mut detector = Detector::elected(Time(0));
        detector.heard_proxy(FIRST);
        run(&mut detector, 0, PROXY_GRACE_MICROS - 10 * MS);
        assert!(!detector.is_proxy_silent(FIRST));
        run(&mut detector, PROXY_GRACE_MICROS, PROXY_GRACE_MICROS);
        assert!(detector.is_proxy_silent(FIRST));
    }
}

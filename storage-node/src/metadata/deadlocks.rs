//! Deadlocks across workers: circles in what workers report of waits that last, and which transaction gives way. Pure.

use std::collections::{BTreeMap, BTreeSet};
use toroid_common::id::{NodeId, TransactionId, WorkerId};
use toroid_common::wire::LockWaits;

/// A transaction that must give way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Where it waits.
    pub worker: WorkerId,
    pub transaction: TransactionId,
    pub wait: u64,
    /// The circle, as PostgreSQL describes it.
    pub detail: String,
}

/// The last report of each worker.
#[derive(Debug, Default)]
pub struct Deadlocks {
    reports: BTreeMap<WorkerId, Vec<Reported>>,
}

#[derive(Debug)]
struct Reported {
    wait: LockWaits,
    /// It was in the report before, too: the reports of different workers are not of one moment, and a wait that lasts is in all of them.
    lasts: bool,
}

type Edges<'a> = BTreeMap<TransactionId, Vec<Edge<'a>>>;

/// One wait that lasts.
#[derive(Clone, Copy, Debug)]
struct Edge<'a> {
    worker: WorkerId,
    wait: &'a LockWaits,
}

impl Deadlocks {
    /// A worker's waits, instead of those that it reported before. Returns who must give way, once for each circle.
    pub fn report(&mut self, worker: WorkerId, waits: Vec<LockWaits>) -> Vec<Victim> {
        let before = self.reports.remove(&worker).unwrap_or_default();
        let known = |wait: &LockWaits| {
            before.iter().any(|r| (r.wait.transaction, r.wait.wait) == (wait.transaction, wait.wait))
        };
        let reported: Vec<Reported> = waits.into_iter().map(|wait| Reported { lasts: known(&wait), wait }).collect();
        if reported.is_empty() {
            return Vec::new();
        }
        self.reports.insert(worker, reported);
        self.victims()
    }

    /// What the workers of a node reported is not so any more.
    pub fn forget(&mut self, node: NodeId) {
        self.reports.retain(|worker, _| worker.node != node);
    }

    fn victims(&self) -> Vec<Victim> {
        let mut edges: Edges<'_> = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        for (worker, reported) in &self.reports {
            for Reported { wait, .. } in reported.iter().filter(|reported| reported.lasts) {
                let waits = who(wait.transaction, wait.process);
                waiting.insert((wait.transaction, waits));
                edges.entry(waits).or_default().push(Edge { worker: *worker, wait });
            }
        }
        let mut victims = Vec::new();
        // Each circle is found from its youngest transaction, which gives way where nobody does by himself, and is then out of all circles.
        for (_, waits) in waiting.into_iter().rev() {
            while let Some(circle) = circle(waits, &edges) {
                let Some(edge) = circle.iter().find(|edge| edge.wait.yields).or(circle.first()) else { break };
                edges.remove(&who(edge.wait.transaction, edge.wait.process));
                victims.push(Victim {
                    worker: edge.worker,
                    transaction: edge.wait.transaction,
                    wait: edge.wait.wait,
                    detail: describe(&circle),
                });
            }
        }
        victims
    }
}

/// Whose waits and locks belong together: a session's, be they its own or its transaction's; a transaction's where that is not known.
fn who(transaction: TransactionId, process: u32) -> TransactionId {
    match process {
        0 => transaction,
        process => TransactionId::of_session(transaction.proxy, process),
    }
}

/// The shortest circle through these waits, beginning with their own.
fn circle<'a>(from: TransactionId, edges: &Edges<'a>) -> Option<Vec<Edge<'a>>> {
    let mut seen = BTreeSet::new();
    let mut paths: Vec<Vec<Edge<'a>>> = edges.get(&from)?.iter().map(|edge| vec![*edge]).collect();
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let Some(last) = path.last() else { continue };
            for (holder, process) in &last.wait.holders {
                let holder = who(*holder, *process);
                if holder == from {
                    return Some(path);
                }
                if !seen.insert(holder) {
                    continue;
                }
                let next = edges.get(&holder).into_iter().flatten();
                longer.extend(next.map(|edge| path.iter().copied().chain([*edge]).collect()));
            }
        }
        paths = longer;
    }
    None
}

/// "Process 12 waits for ShareLock on transaction 3.4; blocked by process 9.", a line for each wait.
fn describe(circle: &[Edge<'_>]) -> String {
    let next = circle.iter().skip(1).chain(circle.first());
    let lines = circle.iter().zip(next).map(|(edge, next)| {
        let (process, blocker) = (edge.wait.process, next.wait.process);
        let what = match next.wait.transaction {
            session if session.session().is_some() => "an advisory lock".to_owned(),
            transaction => format!("ShareLock on transaction {transaction}"),
        };
        format!("Process {process} waits for {what}; blocked by process {blocker}.")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::id::Incarnation;

    fn transaction(number: u64) -> TransactionId {
        TransactionId { proxy: Incarnation(1), number }
    }

    fn worker(node: u32) -> WorkerId {
        WorkerId { node: NodeId(node), index: 0 }
    }

    fn wait(number: u64, wait: u64, holders: &[u64]) -> LockWaits {
        LockWaits {
            transaction: transaction(number),
            process: 100 + number as u32,
            wait,
            yields: false,
            holders: holders.iter().map(|holder| (transaction(*holder), 100 + *holder as u32)).collect(),
        }
    }

    #[test]
    fn a_circle_through_two_workers_is_broken_at_its_youngest_once_it_lasts() {
        let mut deadlocks = Deadlocks::default();
        assert_eq!(deadlocks.report(worker(1), vec![wait(3, 1, &[4])]), []);
        assert_eq!(deadlocks.report(worker(2), vec![wait(4, 1, &[3])]), []);
        assert_eq!(deadlocks.report(worker(1), vec![wait(3, 1, &[4])]), []);
        let found = deadlocks.report(worker(2), vec![wait(4, 1, &[3])]);
        let detail = "Process 104 waits for ShareLock on transaction 1.3; blocked by process 103.\n\
                      Process 103 waits for ShareLock on transaction 1.4; blocked by process 104.";
        let victim = Victim { worker: worker(2), transaction: transaction(4), wait: 1, detail: detail.to_owned() };
        assert_eq!(found, std::slice::from_ref(&victim));
        // Said again while it waits, and not when it has given way.
        assert_eq!(deadlocks.report(worker(1), vec![wait(3, 1, &[4])]), [victim]);
        assert_eq!(deadlocks.report(worker(2), vec![]), []);
        assert_eq!(deadlocks.report(worker(1), vec![wait(3, 1, &[4])]), []);
    }

    #[test]
    fn another_wait_of_the_same_transaction_is_a_new_one() {
        let mut deadlocks = Deadlocks::default();
        deadlocks.report(worker(1), vec![wait(3, 1, &[4])]);
        deadlocks.report(worker(1), vec![wait(3, 1, &[4])]);
        for number in 1..9 {
            assert_eq!(deadlocks.report(worker(2), vec![wait(4, number, &[3])]), []);
        }
        assert_eq!(deadlocks.report(worker(2), vec![wait(4, 8, &[3])]).len(), 1);
    }

    #[test]
    fn every_circle_gets_a_victim_and_a_chain_none() {
        let mut deadlocks = Deadlocks::default();
        let waits = vec![
            wait(1, 1, &[2, 9]),
            wait(2, 2, &[3]),
            wait(3, 3, &[1]),
            wait(5, 4, &[6]),
            wait(6, 5, &[5, 1]),
            wait(7, 6, &[1]),
            wait(8, 7, &[8]),
        ];
        assert_eq!(deadlocks.report(worker(1), waits.clone()), []);
        let found = deadlocks.report(worker(1), waits.clone());
        let found: Vec<u64> = found.iter().map(|victim| victim.transaction.number).collect();
        assert_eq!(found, [8, 6, 3]);
        // Two circles share a transaction that is not the youngest of both.
        let mut deadlocks = Deadlocks::default();
        let waits = vec![wait(1, 1, &[2, 3]), wait(2, 2, &[1]), wait(3, 3, &[1])];
        deadlocks.report(worker(1), waits.clone());
        let found = deadlocks.report(worker(1), waits);
        assert_eq!(found.iter().map(|victim| victim.transaction.number).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn who_yields_gives_way_to_younger_ones() {
        let mut deadlocks = Deadlocks::default();
        let yields = LockWaits { yields: true, ..wait(1, 7, &[2]) };
        let waits = vec![yields, wait(2, 8, &[1, 3]), wait(3, 9, &[2])];
        deadlocks.report(worker(1), waits.clone());
        let found = deadlocks.report(worker(1), waits);
        let found: Vec<_> = found.iter().map(|victim| (victim.transaction.number, victim.wait)).collect();
        assert_eq!(found, [(3, 9), (1, 7)]);
    }

    #[test]
    fn what_a_session_holds_and_what_its_transaction_holds_are_in_one_circle() {
        let session = |number: u64| TransactionId::of_session(Incarnation(1), 100 + number as u32);
        let advisory = |number: u64, holder| LockWaits {
            transaction: session(number),
            holders: vec![(holder, 100 + if number == 3 { 4 } else { 3 })],
            ..wait(number, 1, &[])
        };
        let mut deadlocks = Deadlocks::default();
        // The session of 3 waits for what 4 has locked, whose session waits for a row of 3's transaction.
        deadlocks.report(worker(1), vec![advisory(3, session(4))]);
        deadlocks.report(worker(1), vec![advisory(3, session(4))]);
        deadlocks.report(worker(2), vec![wait(4, 1, &[3])]);
        let found = deadlocks.report(worker(2), vec![wait(4, 1, &[3])]);
        assert_eq!(found.iter().map(|victim| victim.transaction).collect::<Vec<_>>(), [session(3)]);
    }

    #[test]
    fn nothing_is_known_of_a_node_that_is_gone() {
        let mut deadlocks = Deadlocks::default();
        deadlocks.report(worker(1), vec![wait(3, 1, &[4])]);
        deadlocks.report(worker(1), vec![wait(3, 1, &[4])]);
        deadlocks.forget(NodeId(1));
        deadlocks.report(worker(2), vec![wait(4, 1, &[3])]);
        assert_eq!(deadlocks.report(worker(2), vec![wait(4, 1, &[3])]), []);
    }
}

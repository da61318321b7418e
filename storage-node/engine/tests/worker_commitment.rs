//! Transactions in several partitions: prepared, decided, finished; whatever is lost, repeated or dead, they happen everywhere or nowhere.

mod cluster;
mod fixture;

use cluster::transactions::{LOCK, NOBODY, Said, Session, error, names};
use cluster::{Cluster, INSERT, SELECT, UPDATE};
use fixture::T;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table, TableState};
use toroid_common::error::SqlState;
use toroid_common::id::{Incarnation, PartitionId, TransactionId};
use toroid_common::transaction::{Fate, Inquiry, InquiryBody, Level, Step};
use toroid_engine::worker::Event;

/// The transaction writes in partitions 0, which is its anchor, and 1.
struct Deal {
    cluster: Cluster,
    /// Connections of the coordinator, by worker.
    proxies: Vec<usize>,
    session: Session,
    sequence: u64,
}

/// Where a step goes, and under which sequence.
type Sent = (usize, u64, Step);

impl Deal {
    fn new(level: Level) -> Deal {
        let mut cluster = Cluster::new(3, 2);
        cluster.low = 1;
        let proxies: Vec<usize> = (0..3).map(|worker| cluster.proxy(worker, 9)).collect();
        let mut deal = Deal { cluster, session: Session::begin(proxies[0], 7, level), proxies, sequence: 10 };
        for partition in 0..2 {
            deal.sequence += 1;
            deal.cluster.insert(deal.proxies[partition], partition, deal.sequence, 1, "before");
        }
        deal.cluster.run();
        deal.cluster.got.clear();
        deal
    }

    fn proxy(&self, partition: usize) -> usize {
        self.proxies[self.cluster.primary(partition).unwrap()]
    }

    /// One statement in each partition.
    fn write(&mut self) {
        for partition in 0..2 {
            assert_eq!(self.statement(partition, (UPDATE, 1, "after")), Said::Count(1));
        }
    }

    fn statement(&mut self, partition: usize, what: (u32, i32, &str)) -> Said {
        self.sequence += 1;
        self.session.proxy = self.proxy(partition);
        let mut session = self.session.clone();
        self.cluster.statement(&mut session, partition, self.sequence, what);
        self.session = session;
        self.answer(partition, self.sequence).unwrap()
    }

    fn answer(&mut self, partition: usize, sequence: u64) -> Option<Said> {
        let told = self.cluster.told(self.proxy(partition));
        told.into_iter().find(|(answered, _)| *answered == sequence).map(|(_, said)| said)
    }

    /// Prepare, decide, finish, forget.
    fn steps(&mut self) -> Vec<Sent> {
        let requests = &self.session.requests;
        let steps = [
            (1, Step::Prepare { requests: requests[1], anchor: PartitionId(0) }),
            (0, Step::Decide { requests: requests[0], participants: vec![PartitionId(1)] }),
            (1, Step::Finish { commit: true }),
            (0, Step::Forget),
        ];
        let number = |(at, (partition, step)): (usize, (usize, Step))| (partition, self.sequence + 1 + at as u64, step);
        let steps = steps.into_iter().enumerate().map(number).collect();
        self.sequence += 4;
        steps
    }

    fn send(&mut self, (partition, sequence, step): &Sent) -> Option<Said> {
        self.session.proxy = self.proxy(*partition);
        self.cluster.step_of(&self.session.clone(), *partition, *sequence, step.clone());
        self.answer(*partition, *sequence)
    }

    /// The primary of a partition dies, and its backup takes its place.
    fn kill_primary_of(&mut self, partition: usize) {
        let worker = self.cluster.primary(partition).unwrap();
        self.cluster.kill(worker);
        self.cluster.expire(worker, |_| 0);
        self.cluster.advance(100_000);
    }

    fn auto(&mut self, partition: usize, what: (u32, i32, &str)) -> Option<Said> {
        self.sequence += 1;
        let mut session = Session::auto(self.proxy(partition));
        self.cluster.statement(&mut session, partition, self.sequence, what);
        self.answer(partition, self.sequence)
    }

    fn fence(&mut self) {
        let survivor = self.cluster.proxies_of(10);
        self.proxies = survivor;
        for worker in 0..3 {
            let alive = [Incarnation(10)].into();
            self.cluster.step(worker, Event::ProxiesChanged { below: Incarnation(11), alive });
        }
    }

    /// Nothing is left, and both partitions agree: whether the transaction happened.
    #[track_caller]
    fn happened(&mut self) -> bool {
        let seen: Vec<Said> = (0..2)
            .map(|partition| {
                let said = self.auto(partition, (UPDATE, 1, "again"));
                assert_eq!(said, Some(Said::Count(1)), "partition {partition} is free");
                self.auto(partition, (SELECT, 2, "")).unwrap()
            })
            .collect();
        assert_eq!(seen[0], seen[1], "everywhere or nowhere");
        self.cluster.advance(50_000);
        for partition in 0..2 {
            let worker = self.cluster.primary(partition).unwrap();
            let (root, _) = self.cluster.workers[worker].replica(PartitionId(partition as u16)).unwrap();
            let transactions = root.transactions();
            assert!(!transactions.has_prepared() && transactions.all_chunked().next().is_none());
        }
        seen[0] == names(&["new"])
    }

    /// What is there only if the transaction happened.
    fn mark(&mut self) {
        for partition in 0..2 {
            assert_eq!(self.statement(partition, (INSERT, 2, "new")), Said::Count(1));
        }
    }
}

impl Cluster {
    fn proxies_of(&mut self, incarnation: u64) -> Vec<usize> {
        (0..self.workers.len()).map(|worker| self.proxy(worker, incarnation)).collect()
    }
}

const DONE: Option<Said> = Some(Said::Count(0));

#[test]
fn readers_wait_for_what_is_prepared_and_see_all_of_it() {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    assert_eq!(deal.auto(1, (SELECT, 1, "")), Some(names(&["before"])), "an open transaction keeps no reader");
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)));
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)), "it is so again");
    assert_eq!(deal.auto(1, (SELECT, 1, "")), None);
    assert_eq!(deal.auto(1, (SELECT, 2, "")), None);
    assert_eq!(deal.auto(1, (SELECT, 3, "")), Some(names(&[])));
    assert_eq!(deal.auto(0, (SELECT, 1, "")), Some(names(&["before"])));
    assert_eq!(deal.send(&steps[1]), DONE);
    assert_eq!(deal.auto(0, (SELECT, 1, "")), Some(names(&["after"])));
    assert_eq!(deal.auto(1, (SELECT, 1, "")), None);
    let proxy = deal.proxy(1);
    deal.session.proxy = proxy;
    deal.cluster.step_of(&deal.session.clone(), 1, steps[2].1, steps[2].2.clone());
    let told: Vec<Said> = deal.cluster.told(proxy).into_iter().map(|(_, said)| said).collect();
    assert_eq!(told, [Said::Count(0), names(&["after"]), names(&["new"]), names(&["after"])]);
    for step in &steps[1..] {
        assert_eq!(deal.send(step), DONE, "{step:?} once more");
    }
    assert!(deal.happened());
    let (root, _) = deal.cluster.workers[0].replica(PartitionId(0)).unwrap();
    assert!(root.transactions().is_empty());
}

/// Its last request in partition 1 is prepared with it.
fn prepared_at_once() -> (Deal, Vec<Sent>) {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    assert_eq!(deal.statement(0, (INSERT, 2, "new")), Said::Count(1));
    deal.session.prepares = Some(PartitionId(0));
    assert_eq!(deal.statement(1, (INSERT, 2, "new")), Said::Count(1));
    deal.session.prepares = None;
    let steps = deal.steps().split_off(1);
    (deal, steps)
}

#[test]
fn a_last_request_prepares_what_it_changes() {
    for dies in [false, true] {
        let (mut deal, steps) = prepared_at_once();
        assert_eq!(deal.auto(1, (SELECT, 3, "")), Some(names(&[])));
        assert_eq!(deal.auto(1, (SELECT, 1, "")), None, "who reads it waits for the outcome");
        if dies {
            deal.kill_primary_of(1);
        }
        // Its answer may have been lost.
        let (sequence, mut again) = (steps[0].1 - 2, deal.session.clone());
        again.requests[1] -= 1;
        again.prepares = Some(PartitionId(0));
        again.proxy = deal.proxy(1);
        deal.cluster.repeat(&again, 1, sequence, (INSERT, 2, "new"));
        assert_eq!(deal.answer(1, sequence), Some(Said::Count(1)));
        assert_eq!(deal.statement(1, (UPDATE, 1, "late")), error(SqlState::SERIALIZATION_FAILURE), "that was the last");
        for step in &steps {
            assert_eq!(deal.send(step), DONE, "{step:?}");
        }
        assert!(deal.happened());
    }
}

#[test]
fn a_last_request_that_changes_nothing_prepares_nothing() {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    deal.session.prepares = Some(PartitionId(0));
    assert_eq!(deal.statement(1, (UPDATE, 9, "nobody")), Said::Count(0));
    assert_eq!(deal.auto(1, (SELECT, 1, "")), Some(names(&["before"])));
    for step in deal.steps() {
        assert!(matches!(deal.send(&step), Some(Said::Count(_))), "{step:?}");
    }
    assert!(deal.happened());
}

#[test]
fn what_a_last_request_prepared_is_undone_when_nobody_decides() {
    for fenced in [false, true] {
        let (mut deal, steps) = prepared_at_once();
        if fenced {
            deal.fence();
        }
        deal.cluster.advance(4_000_000);
        if !fenced {
            assert_eq!(deal.send(&steps[0]), Some(error(SqlState::SERIALIZATION_FAILURE)), "the anchor was asked");
        }
        assert!(!deal.happened());
    }
}

/// Runs a transaction whose coordinator tries again what is not answered. `trouble` comes before the step of this number, or when its answer is lost.
fn with_trouble(at: usize, answer_lost: bool, trouble: impl Fn(&mut Deal)) {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    let steps = deal.steps();
    let mut committed = false;
    for (number, step) in steps.iter().enumerate() {
        if number == at && answer_lost {
            deal.send(step);
        }
        if number == at {
            trouble(&mut deal);
        }
        match deal.send(step) {
            Some(Said::Count(_)) => committed |= number == 1,
            Some(said) => {
                assert!(!committed, "step {number} after trouble at {at}: {said:?}");
                assert_eq!(said, error(SqlState::SERIALIZATION_FAILURE), "step {number} after trouble at {at}");
                for partition in 0..2 {
                    deal.sequence += 1;
                    let back = (partition, deal.sequence, Step::RollBack);
                    assert_eq!(deal.send(&back), DONE);
                }
                break;
            }
            None => panic!("step {number} is not answered after trouble at {at}"),
        }
    }
    assert_eq!(deal.happened(), committed, "trouble at {at}, answer lost: {answer_lost}");
}

#[test]
fn a_primary_may_die_before_and_after_each_step() {
    for at in 0..4 {
        for answer_lost in [false, true] {
            for partition in 0..2 {
                with_trouble(at, answer_lost, |deal| deal.kill_primary_of(partition));
            }
        }
    }
}

#[test]
fn a_hand_over_takes_what_is_prepared_along_and_ends_what_is_open() {
    for at in 0..4 {
        for partition in 0..2 {
            with_trouble(at, false, |deal| {
                let to = (deal.cluster.primary(partition).unwrap() + 1) % 3;
                deal.cluster.decides = true;
                deal.cluster.name_successor(partition, to);
                deal.cluster.advance(300_000);
                assert_eq!(deal.cluster.primary(partition), Some(to));
            });
        }
    }
}

#[test]
fn a_dead_coordinator_leaves_nothing_in_doubt() {
    for sent in 0..=4 {
        for fenced in [true, false] {
            let mut deal = Deal::new(Level::ReadCommitted);
            deal.write();
            deal.mark();
            let steps = deal.steps();
            for step in &steps[..sent] {
                deal.send(step);
            }
            if fenced {
                deal.fence();
                deal.cluster.advance(100_000);
            } else {
                deal.cluster.advance(4_000_000);
                deal.fence();
            }
            assert_eq!(deal.happened(), sent >= 2, "after {sent} steps, fenced at once: {fenced}");
            deal.cluster.advance(4_000_000);
            for partition in 0..2 {
                let worker = deal.cluster.primary(partition).unwrap();
                let (root, _) = deal.cluster.workers[worker].replica(PartitionId(partition as u16)).unwrap();
                assert!(root.transactions().is_empty(), "after {sent} steps: {:?}", root.transactions());
            }
        }
    }
}

#[test]
fn a_dead_coordinator_and_a_dead_primary() {
    for sent in 0..=4 {
        for partition in 0..2 {
            let mut deal = Deal::new(Level::ReadCommitted);
            deal.write();
            deal.mark();
            let steps = deal.steps();
            for step in &steps[..sent] {
                deal.send(step);
            }
            deal.kill_primary_of(partition);
            deal.fence();
            deal.cluster.advance(5_000_000);
            assert_eq!(deal.happened(), sent >= 2, "after {sent} steps, without the primary of {partition}");
        }
    }
}

#[test]
fn an_anchor_that_was_asked_does_not_decide_any_more() {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)));
    // The participant asks after a second; the decision comes too late, here and at the anchor's next primary.
    deal.cluster.advance(1_200_000);
    assert_eq!(deal.send(&steps[1]), Some(error(SqlState::SERIALIZATION_FAILURE)));
    deal.kill_primary_of(0);
    assert_eq!(deal.send(&steps[1]), Some(error(SqlState::SERIALIZATION_FAILURE)));
    assert!(!deal.happened());
}

#[test]
fn an_anchor_that_is_rolled_back_keeps_what_it_has_decided_and_lets_go_of_the_rest() {
    for decided in [true, false] {
        let mut deal = Deal::new(Level::ReadCommitted);
        deal.write();
        deal.mark();
        let steps = deal.steps();
        assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)));
        if decided {
            assert_eq!(deal.send(&steps[1]), DONE);
        }
        deal.sequence += 1;
        let roll_back = (0, deal.sequence, Step::RollBack);
        assert_eq!(deal.send(&roll_back), DONE, "the coordinator heard nothing of the decision");
        let late = deal.send(&steps[1]);
        assert_eq!(late == DONE, decided, "{late:?}");
        deal.cluster.advance(5_000_000);
        assert_eq!(deal.happened(), decided);
    }
}

/// The transaction of a deal.
const OWNER: TransactionId = TransactionId { proxy: Incarnation(9), number: 7 };

/// Prepares partition 1 with the metadata group as anchor, and waits until it asks.
fn asked_outside() -> (Deal, Sent) {
    let mut deal = Deal::new(Level::ReadCommitted);
    assert_eq!(deal.statement(1, (INSERT, 2, "new")), Said::Count(1));
    deal.sequence += 1;
    let anchor = PartitionId::METADATA;
    let prepare = (1, deal.sequence, Step::Prepare { requests: deal.session.requests[1], anchor });
    assert_eq!(deal.send(&prepare), Some(Said::Count(1)));
    deal.cluster.advance(1_200_000);
    assert_eq!(deal.asked(), Some(InquiryBody::Ask));
    (deal, prepare)
}

impl Deal {
    /// What the metadata group was told last.
    fn asked(&mut self) -> Option<InquiryBody> {
        let told = std::mem::take(&mut self.cluster.inquiries);
        let (_, last) = told.into_iter().next_back()?;
        assert_eq!((last.to, last.from), (PartitionId::METADATA, PartitionId(1)));
        Some(last.body)
    }

    /// The metadata group says what became of the transaction.
    fn tell(&mut self, transaction: TransactionId, fate: Fate) {
        let (from, to, body) = (PartitionId::METADATA, PartitionId(1), InquiryBody::Tell(fate));
        for worker in 0..3 {
            if !self.cluster.dead.contains(&worker) {
                self.cluster.step(worker, Event::Inquiry(Inquiry { transaction, to, from, body }));
            }
        }
        self.cluster.run();
    }
}

#[test]
fn the_metadata_group_may_be_the_anchor() {
    for (fate, dies) in [(Fate::Committed, false), (Fate::Aborted, false), (Fate::Committed, true)] {
        let (mut deal, _) = asked_outside();
        if dies {
            deal.kill_primary_of(1);
            deal.cluster.advance(1_500_000);
            assert_eq!(deal.asked(), Some(InquiryBody::Ask), "who comes after asks");
        }
        deal.tell(OWNER, fate);
        assert_eq!(deal.asked(), Some(InquiryBody::Confirm));
        let found = if fate == Fate::Committed { names(&["new"]) } else { names(&[]) };
        assert_eq!(deal.auto(1, (SELECT, 2, "")), Some(found));
        deal.cluster.advance(2_000_000);
        assert_eq!(deal.asked(), None, "nothing is left to ask");
    }
}

#[test]
fn a_table_that_a_transaction_will_drop_takes_writes_of_nobody_else() {
    let mut deal = Deal::new(Level::ReadCommitted);
    assert_eq!(deal.statement(0, (INSERT, 2, "mine")), Said::Count(1));
    let mut theirs = Session::begin(deal.proxy(0), 8, Level::ReadCommitted);
    deal.cluster.statement(&mut theirs, 0, 90, (INSERT, 3, "theirs"));
    let mut locker = Session::begin(deal.proxy(0), 9, Level::ReadCommitted);
    deal.cluster.statement(&mut locker, 0, 91, (LOCK, 1, ""));
    let mut idle = Session::begin(deal.proxy(0), 10, Level::ReadCommitted);
    deal.cluster.statement(&mut idle, 0, 92, (SELECT, 1, ""));
    deal.sequence = 100;
    let worker = deal.cluster.primary(0).unwrap();
    let (root, _) = deal.cluster.workers[worker].replica(PartitionId(0)).unwrap();
    let definition = Table::clone(root.table(T).unwrap().definition());
    let state = TableState::Claimed { owner: OWNER, number: 1 };
    let mut catalog = Catalog::clone(root.catalog());
    catalog.version.0 += 1;
    catalog.tables.insert(T, Arc::new(Table { state, ..definition }));
    deal.cluster.change_catalog_to(&Arc::new(catalog));
    deal.cluster.got.clear();
    assert_eq!(deal.auto(0, (SELECT, 1, "")), Some(names(&["before"])), "others read it");
    for what in [(UPDATE, 1, "no"), (LOCK, 1, "")] {
        let said = deal.auto(0, what);
        assert!(matches!(&said, Some(Said::Refused(refusal)) if refusal.starts_with("Moving")), "{said:?}");
    }
    assert_eq!(deal.statement(0, (UPDATE, 2, "changed")), Said::Count(1), "the owner may");
    for (session, sequence) in [(theirs, 111), (locker, 112)] {
        deal.cluster.step_of(&session, 0, sequence, Step::Commit { requests: session.requests[0] });
        assert_eq!(deal.answer(0, sequence), Some(error(SqlState::SERIALIZATION_FAILURE)));
    }
    deal.cluster.step_of(&idle, 0, 113, Step::Commit { requests: idle.requests[0] });
    assert_eq!(deal.answer(0, 113), DONE);
    let session = deal.session.clone();
    deal.cluster.step_of(&session, 0, 114, Step::Commit { requests: session.requests[0] });
    assert_eq!(deal.answer(0, 114), DONE);
    assert_eq!(deal.auto(0, (SELECT, 2, "")), Some(names(&["changed"])));
}

/// A transaction writes in partition 0 and reads in 1, where somebody else is kept waiting by this until the outcome, behind another primary too.
fn read_stays(level: Level, read: (u32, i32, &str), write: (u32, i32, &str), dies: bool) {
    let mut deal = Deal::new(level);
    let case = format!("{read:?} {write:?} {dies}");
    assert_eq!(deal.statement(0, (UPDATE, 1, "after")), Said::Count(1));
    deal.statement(1, read);
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)), "{case}");
    if dies {
        deal.kill_primary_of(1);
    }
    assert_eq!(deal.auto(1, write), None, "{case}");
    let waits = deal.sequence;
    assert_eq!(deal.auto(1, (SELECT, 1, "")), Some(names(&["before"])), "who only reads waits for nothing");
    assert_eq!(deal.send(&steps[1]), DONE, "{case}");
    let proxy = deal.proxy(1);
    assert_eq!(deal.cluster.told(proxy), [], "{case}");
    deal.session.proxy = proxy;
    deal.cluster.step_of(&deal.session.clone(), 1, steps[2].1, steps[2].2.clone());
    assert_eq!(deal.cluster.told(proxy), [(steps[2].1, Said::Count(0)), (waits, Said::Count(1))], "{case}");
    assert_eq!(deal.send(&steps[3]), DONE);
    deal.cluster.advance(50_000);
    for partition in 0..2 {
        let worker = deal.cluster.primary(partition).unwrap();
        let (root, _) = deal.cluster.workers[worker].replica(PartitionId(partition as u16)).unwrap();
        assert!(root.transactions().is_empty(), "{case}");
        assert_eq!(deal.cluster.workers[worker].transacting(), 0, "{case}");
    }
}

#[test]
fn what_was_read_stays_until_the_outcome_whoever_is_primary() {
    for dies in [false, true] {
        read_stays(Level::Serializable, (SELECT, 1, ""), (UPDATE, 1, "theirs"), dies);
        read_stays(Level::Serializable, (SELECT, 2, ""), (INSERT, 2, "theirs"), dies);
        read_stays(Level::Serializable, (NOBODY, 0, ""), (INSERT, 2, "theirs"), dies);
        read_stays(Level::ReadCommitted, (LOCK, 1, ""), (UPDATE, 1, "theirs"), dies);
    }
    // A primary that came before it was prepared knows nothing of the locks.
    let mut deal = Deal::new(Level::Serializable);
    assert_eq!(deal.statement(1, (SELECT, 1, "")), names(&["before"]));
    deal.kill_primary_of(1);
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(error(SqlState::SERIALIZATION_FAILURE)));
}

#[test]
fn who_wrote_nowhere_confirms_that_its_locks_are_held() {
    let mut deal = Deal::new(Level::Serializable);
    assert_eq!(deal.statement(1, (SELECT, 1, "")), names(&["before"]));
    assert_eq!(deal.auto(1, (UPDATE, 1, "theirs")), None);
    let (waits, first) = (deal.sequence, deal.sequence + 1);
    deal.sequence += 2;
    let confirm = (1, first, Step::Confirm { requests: 1 });
    assert_eq!(deal.send(&confirm), DONE);
    assert_eq!(deal.send(&confirm), DONE, "once more");
    let proxy = deal.proxy(1);
    deal.cluster.step_of(&deal.session.clone(), 1, first + 1, Step::RollBack);
    assert_eq!(deal.cluster.told(proxy), [(first + 1, Said::Count(0)), (waits, Said::Count(1))]);
    let mut deal = Deal::new(Level::Serializable);
    assert_eq!(deal.statement(1, (SELECT, 1, "")), names(&["before"]));
    deal.kill_primary_of(1);
    assert_eq!(deal.send(&(1, 90, Step::Confirm { requests: 1 })), Some(error(SqlState::SERIALIZATION_FAILURE)));
}

#[test]
fn a_new_primary_has_the_locks_of_what_is_prepared_before_it_serves() {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)));
    deal.kill_primary_of(1);
    assert_eq!(deal.auto(1, (UPDATE, 1, "theirs")), None);
    assert_eq!(deal.auto(1, (INSERT, 2, "theirs")), None);
    assert_eq!(deal.auto(1, (SELECT, 1, "")), None);
    let update = deal.sequence - 2;
    assert_eq!(deal.send(&steps[1]), DONE);
    let proxy = deal.proxy(1);
    deal.session.proxy = proxy;
    deal.cluster.step_of(&deal.session.clone(), 1, steps[2].1, steps[2].2.clone());
    assert_eq!(
        deal.cluster.told(proxy),
        [
            (steps[2].1, Said::Count(0)),
            (update, Said::Count(1)),
            (update + 1, error(SqlState::UNIQUE_VIOLATION)),
            (update + 2, names(&["theirs"])),
        ]
    );
}

#[test]
fn a_large_write_set_is_replicated_in_chunks_that_go_with_their_primary() {
    let mut deal = Deal::new(Level::ReadCommitted);
    let long = "x".repeat(300_000);
    for id in 10..15 {
        assert_eq!(deal.statement(1, (INSERT, id, &long)), Said::Count(1));
    }
    let chunked = |deal: &Deal, worker: usize| {
        let (root, _) = deal.cluster.workers[worker].replica(PartitionId(1)).unwrap();
        root.transactions().all_chunked().count()
    };
    deal.cluster.advance(50_000);
    assert_eq!((chunked(&deal, 1), chunked(&deal, 2)), (1, 1));
    deal.kill_primary_of(1);
    assert_eq!(chunked(&deal, 2), 0, "nobody can go on with it");
    let requests = deal.session.requests[1];
    deal.sequence += 1;
    let commit = (1, deal.sequence, Step::Commit { requests });
    assert_eq!(deal.send(&commit), Some(error(SqlState::SERIALIZATION_FAILURE)));
    deal.session = Session::begin(deal.proxy(1), 8, Level::ReadCommitted);
    for id in 10..15 {
        assert_eq!(deal.statement(1, (INSERT, id, &long)), Said::Count(1));
    }
    deal.sequence += 1;
    let commit = (1, deal.sequence, Step::Commit { requests: 5 });
    assert_eq!(deal.send(&commit), DONE);
    assert_eq!(deal.send(&commit), DONE);
    assert_eq!(deal.auto(1, (SELECT, 14, "")), Some(names(&[&long])));
    assert_eq!(chunked(&deal, 2), 0);
}

/// Partition 0 has one copy left, of the two that it must have.
fn shorten(deal: &mut Deal) {
    deal.cluster.change_map(|map| map.min_copies = 2);
    deal.cluster.change_assignment(0, |assignment| {
        assignment.epoch.0 += 1;
        assignment.backups.clear();
    });
    deal.cluster.run();
}

#[test]
fn an_outcome_waits_for_copies_and_is_no_abort_meanwhile() {
    let mut deal = Deal::new(Level::ReadCommitted);
    deal.write();
    deal.mark();
    let steps = deal.steps();
    assert_eq!(deal.send(&steps[0]), Some(Said::Count(1)));
    shorten(&mut deal);
    let busy = Some(Said::Refused("Busy".to_owned()));
    // The participant asks meanwhile, again and again.
    for _ in 0..6 {
        assert_eq!(deal.send(&steps[1]), busy);
        deal.cluster.advance(500_000);
    }
    assert_eq!(deal.send(&steps[1]), busy);
    deal.cluster.decides = true;
    deal.cluster.join(0, 2);
    deal.cluster.advance(500_000);
    assert_eq!(deal.cluster.assignment(0).copies(), 2);
    for step in &steps[1..] {
        assert_eq!(deal.send(step), DONE, "{step:?}");
    }
    assert!(deal.happened());
}

#[test]
fn what_wrote_nothing_ends_with_however_few_copies() {
    let mut deal = Deal::new(Level::ReadCommitted);
    shorten(&mut deal);
    assert_eq!(deal.statement(0, (SELECT, 1, "")), names(&["before"]));
    deal.sequence += 1;
    assert_eq!(deal.send(&(0, deal.sequence, Step::Commit { requests: 1 })), DONE);
}

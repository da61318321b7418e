//! Cuts at the workers: captures behind barred gates, releases, fragments that read them, and when they are no more.

mod cluster;
mod fixture;

use cluster::metadata::id;
use cluster::transactions::Session;
use cluster::{Cluster, DELETE, Got, INSERT, Lent, SELECT, UPDATE, accounts, named};
use fixture::{T, content};
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, CutId, Epoch, Incarnation, MapVersion, PartitionId, TransactionId};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Captured, Forget, Fragment, FragmentOutcome, Message, Refusal, Within};
use toroid_engine::worker::Event;

fn cut(term: u64, round: u64) -> CutId {
    CutId { term, round }
}

fn capture(cluster: &mut Cluster, worker: usize, cut: CutId) {
    let map = cluster.map.version;
    cluster.step(worker, Event::Capture { cut, map });
}

fn release(cluster: &mut Cluster, worker: usize, cut: CutId) {
    cluster.step(worker, Event::Release { cut, committed: Some([].into()) });
}

fn void(cluster: &mut Cluster, worker: usize, cut: CutId) {
    cluster.step(worker, Event::Release { cut, committed: None });
}

/// What a worker said of a cut: whether it has captured all that it should.
fn said(cluster: &mut Cluster) -> Vec<(CutId, bool)> {
    std::mem::take(&mut cluster.captured)
        .into_iter()
        .map(|captured| (captured.cut, captured.partitions.is_some()))
        .collect()
}

fn fragment(cluster: &mut Cluster, proxy: usize, sequence: u64, partition: u16, cut: Option<CutId>) {
    let partitions = vec![(PartitionId(partition), Epoch(1))];
    let tables = vec![(T, CatalogVersion(2))];
    let message = Fragment {
        sequence,
        credit: 3,
        cut,
        within: None,
        coordinator: Incarnation::default(),
        earlier: Vec::new(),
        partitions,
        tables,
        env: &[],
        plan: b"plan",
    };
    cluster.send(proxy, &Message::Fragment(message));
}

/// The names that a fragment sees; it ends.
fn read(cluster: &mut Cluster, lent: Lent) -> Vec<String> {
    let table = lent.roots[0].1.table(T).unwrap();
    let name = |row: &[Datum]| if let Datum::Text(name) = &row[1] { name.clone() } else { unreachable!() };
    let rows = content(table).into_iter().map(|(_, row)| name(&row)).collect();
    let outcome = FragmentOutcome::Done { rows: 0 };
    cluster.step(lent.worker, Event::FragmentFinished { ticket: lent.ticket, roots: lent.roots, outcome });
    rows
}

fn ended(sequence: u64) -> Got {
    Got::End(sequence, FragmentOutcome::Done { rows: 0 })
}

fn no_cut(sequence: u64) -> Got {
    Got::End(sequence, FragmentOutcome::Refused(Refusal::NoCut))
}

#[test]
fn what_is_executed_after_a_capture_waits_for_its_release() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    cluster.freeze(0, 1);
    cluster.insert(proxy, 0, 1, 7, "before");
    capture(&mut cluster, 0, cut(1, 1));
    cluster.insert(proxy, 0, 2, 8, "after");
    cluster.select(proxy, 0, 3, 7);
    cluster.run();
    assert_eq!((said(&mut cluster), cluster.take(proxy)), (vec![], vec![]), "nothing is acknowledged");
    cluster.thaw();
    // The capture waits for what it saw, not for what waits behind it, nor for its own bar.
    assert_eq!(said(&mut cluster), [(cut(1, 1), true)]);
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    cluster.select(proxy, 0, 4, 8);
    assert_eq!(cluster.take(proxy), []);
    release(&mut cluster, 0, cut(1, 1));
    let rows = |sequence, id, name| Got::Rows(sequence, vec![named(id, name)]);
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1), rows(3, 7, "before"), rows(4, 8, "after")]);
    cluster.select(proxy, 0, 5, 8);
    assert_eq!(cluster.take(proxy), [rows(5, 8, "after")]);
    assert_eq!(cluster.workers[0].counters().captures, 1);
}

#[test]
fn without_backups_a_capture_is_told_at_once_and_bars_all_the_same() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    capture(&mut cluster, 0, cut(1, 1));
    let [Captured { partitions: Some(partitions), .. }] = &cluster.captured[..] else { panic!() };
    assert_eq!(partitions[..], [(PartitionId(0), Epoch(1))]);
    cluster.insert(proxy, 0, 1, 7, "after");
    assert_eq!(cluster.take(proxy), []);
    release(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
}

#[test]
fn a_fragment_reads_what_was_captured_and_waits_for_the_release() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "before");
    cluster.run();
    capture(&mut cluster, 0, cut(1, 1));
    cluster.insert(proxy, 0, 2, 8, "after");
    cluster.run();
    cluster.take(proxy);
    fragment(&mut cluster, proxy, 10, 0, Some(cut(1, 1)));
    fragment(&mut cluster, proxy, 11, 0, Some(cut(1, 2)));
    assert!(cluster.fragments.is_empty());
    assert_eq!(cluster.take(proxy), [no_cut(11)], "one that nobody has captured");
    release(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1)]);
    let lent = cluster.fragments.pop().unwrap();
    assert_eq!(read(&mut cluster, lent), ["before"]);
    assert_eq!(cluster.take(proxy), [ended(10)]);
    // Again, after more has been written; nothing holds it back.
    cluster.freeze(0, 1);
    cluster.update(proxy, 0, 3, 7, "changed");
    fragment(&mut cluster, proxy, 12, 0, Some(cut(1, 1)));
    let lent = cluster.fragments.pop().unwrap();
    assert_eq!(read(&mut cluster, lent), ["before"]);
    assert_eq!(cluster.take(proxy), [ended(12)]);
    cluster.step(0, Event::DropCut(cut(1, 1)));
    fragment(&mut cluster, proxy, 13, 0, Some(cut(1, 1)));
    assert_eq!(cluster.take(proxy), [no_cut(13)]);
    assert_eq!(cluster.workers[0].cuts(), 0);
}

#[test]
fn what_cancels_a_fragment_that_waits_for_the_release_does_not_overtake_it() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    capture(&mut cluster, 0, cut(1, 1));
    fragment(&mut cluster, proxy, 1, 0, Some(cut(1, 1)));
    fragment(&mut cluster, proxy, 2, 0, Some(cut(1, 1)));
    cluster.send(proxy, &Message::FragmentCancel { sequence: 1 });
    release(&mut cluster, 0, cut(1, 1));
    let [one, two] = [cluster.fragments.remove(0), cluster.fragments.remove(0)];
    read(&mut cluster, one);
    read(&mut cluster, two);
    assert_eq!(cluster.take(proxy), [ended(2)], "nobody waits for the first any more");
    assert_eq!(cluster.workers[0].outside(), 0);
}

#[test]
fn the_end_of_a_transaction_does_not_overtake_its_request_that_waits_for_a_release() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "before");
    cluster.take(proxy);
    capture(&mut cluster, 0, cut(1, 1));
    let mut session = Session::begin(proxy, 1, Level::RepeatableRead);
    session.cut = Some(cut(1, 1));
    cluster.statement(&mut session, 0, 2, (UPDATE, 7, "mine"));
    cluster.step_of(&session, 0, 3, Step::RollBack);
    assert_eq!(cluster.told(proxy), []);
    release(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.told(proxy).len(), 2);
    assert_eq!(cluster.workers[0].transacting(), 0, "no lock is left");
}

#[test]
fn a_fragment_on_present_roots_waits_behind_the_capture_that_came_before_it() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    fragment(&mut cluster, proxy, 1, 0, None);
    capture(&mut cluster, 0, cut(1, 1));
    fragment(&mut cluster, proxy, 2, 0, None);
    let behind = cluster.fragments.pop().unwrap();
    let before = cluster.fragments.pop().unwrap();
    read(&mut cluster, before);
    cluster.batch(&behind, b"rows");
    read(&mut cluster, behind);
    assert_eq!(cluster.take(proxy), [ended(1)]);
    release(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.take(proxy), [Got::Batch(2, b"rows".to_vec()), ended(2)]);
}

#[test]
fn a_void_round_opens_the_gates_and_whoever_waits_for_it_is_refused() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    capture(&mut cluster, 0, cut(1, 1));
    cluster.insert(proxy, 0, 1, 7, "after");
    fragment(&mut cluster, proxy, 2, 0, Some(cut(1, 1)));
    cluster.run();
    assert_eq!(said(&mut cluster), [(cut(1, 1), true)]);
    void(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), no_cut(2)]);
    assert_eq!(said(&mut cluster), [(cut(1, 1), false)]);
    // What comes late changes nothing.
    release(&mut cluster, 0, cut(1, 1));
    capture(&mut cluster, 0, cut(1, 1));
    assert_eq!(said(&mut cluster), [(cut(1, 1), false)]);
    fragment(&mut cluster, proxy, 3, 0, Some(cut(1, 1)));
    assert_eq!(cluster.take(proxy), [no_cut(3)]);
}

#[test]
fn a_worker_that_hears_of_no_release_opens_its_gates_by_itself() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    capture(&mut cluster, 0, cut(1, 1));
    cluster.insert(proxy, 0, 1, 7, "after");
    cluster.advance(199_000);
    assert_eq!((said(&mut cluster), cluster.take(proxy)), (vec![(cut(1, 1), true)], vec![]));
    cluster.advance(2_000);
    assert_eq!((said(&mut cluster), cluster.take(proxy)), (vec![(cut(1, 1), false)], vec![Got::Done(1, 1)]));
    release(&mut cluster, 0, cut(1, 1));
    fragment(&mut cluster, proxy, 2, 0, Some(cut(1, 1)));
    assert_eq!(cluster.take(proxy), [no_cut(2)]);
    let counters = cluster.workers[0].counters();
    assert_eq!((counters.voids, counters.barred_micros), (1, 200_000));
}

#[test]
fn only_the_latest_leader_is_obeyed_and_only_with_the_same_map() {
    let mut cluster = Cluster::new(2, 2);
    cluster.step(0, Event::Capture { cut: cut(2, 1), map: MapVersion(9) });
    assert_eq!(said(&mut cluster), [(cut(2, 1), false)], "another map");
    capture(&mut cluster, 0, cut(1, 99));
    assert_eq!(said(&mut cluster), [(cut(1, 99), false)], "a former leader");
    capture(&mut cluster, 0, cut(2, 2));
    capture(&mut cluster, 0, cut(3, 1));
    let expected = [(cut(2, 2), true), (cut(2, 2), false), (cut(3, 1), true)];
    assert_eq!(said(&mut cluster), expected, "the new one's round ends the old one's");
    void(&mut cluster, 0, cut(2, 2));
    let proxy = cluster.proxy(0, 1);
    cluster.select(proxy, 0, 1, 7);
    assert_eq!(cluster.take(proxy), []);
    release(&mut cluster, 0, cut(3, 1));
    assert_eq!(cluster.take(proxy), [Got::Rows(1, vec![])]);
}

#[test]
fn what_was_captured_goes_with_the_primary() {
    let mut cluster = Cluster::new(3, 3);
    // Worker 1 becomes the primary of two partitions.
    cluster.expire(0, |_| 0);
    cluster.run();
    cluster.advance(100_000);
    let proxy = cluster.proxy(1, 1);
    said(&mut cluster);
    capture(&mut cluster, 1, cut(1, 1));
    release(&mut cluster, 1, cut(1, 1));
    assert_eq!(said(&mut cluster), [(cut(1, 1), true)]);
    // A new epoch with the same primary changes nothing.
    cluster.change_assignment(1, |assignment| {
        assignment.epoch = Epoch(assignment.epoch.0 + 1);
        assignment.backups.clear();
    });
    cluster.run();
    fragment(&mut cluster, proxy, 1, 1, Some(cut(1, 1)));
    assert_eq!(cluster.fragments.len(), 1);
    let partition = |cluster: &Cluster, partition: usize| cluster.assignment(partition).clone();
    assert_eq!(partition(&cluster, 0).primary, Some(id(1)));
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(assignment.epoch.0 + 1);
        assignment.primary = Some(id(2));
        assignment.backups = vec![id(1)];
    });
    cluster.run();
    fragment(&mut cluster, proxy, 2, 0, Some(cut(1, 1)));
    fragment(&mut cluster, proxy, 3, 1, Some(cut(1, 1)));
    assert_eq!(cluster.take(proxy), [no_cut(2)]);
    assert_eq!(cluster.fragments.len(), 2);
}

#[test]
fn an_open_round_is_void_when_a_captured_partition_gets_another_primary() {
    let mut cluster = Cluster::new(3, 3);
    let proxy = cluster.proxy(0, 1);
    cluster.freeze(0, 1);
    cluster.insert(proxy, 0, 1, 7, "not acknowledged");
    capture(&mut cluster, 0, cut(1, 1));
    assert_eq!(said(&mut cluster), []);
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(assignment.epoch.0 + 1);
        assignment.primary = Some(id(2));
        assignment.backups = vec![id(1)];
    });
    assert_eq!(said(&mut cluster), [(cut(1, 1), false)]);
    assert!(matches!(cluster.take(proxy)[..], [Got::Refused(1, Refusal::Deposed { .. })]));
}

#[test]
fn cuts_of_a_former_leader_are_kept_for_a_while() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    let mut sequence = 0;
    let mut reads = |cluster: &mut Cluster, cut: CutId| {
        sequence += 1;
        fragment(cluster, proxy, sequence, 0, Some(cut));
        cluster.fragments.pop().is_some_and(|lent| {
            read(cluster, lent);
            true
        })
    };
    for round in 1..=3 {
        capture(&mut cluster, 0, cut(1, round));
        release(&mut cluster, 0, cut(1, round));
    }
    // The same leader over another line: one of them is read no more, and its word of that was lost.
    cluster.step(0, Event::Cuts { term: 1, read: [cut(1, 1), cut(1, 3)].into() });
    assert_eq!([1, 2, 3].map(|round| reads(&mut cluster, cut(1, round))), [true, false, true]);
    // An open round was one of the former line.
    capture(&mut cluster, 0, cut(1, 4));
    said(&mut cluster);
    cluster.step(0, Event::Cuts { term: 1, read: [cut(1, 1), cut(1, 3)].into() });
    assert_eq!(said(&mut cluster), [(cut(1, 4), false)]);
    cluster.step(0, Event::Cuts { term: 2, read: [].into() });
    cluster.advance(9_900_000);
    cluster.step(0, Event::Cuts { term: 1, read: [].into() });
    assert!(reads(&mut cluster, cut(1, 1)));
    capture(&mut cluster, 0, cut(2, 7));
    release(&mut cluster, 0, cut(2, 7));
    cluster.advance(200_000);
    assert_eq!([cut(1, 1), cut(1, 3), cut(2, 7)].map(|cut| reads(&mut cluster, cut)), [false, false, true]);
}

#[test]
fn a_schema_change_is_not_reported_while_the_gates_are_barred() {
    let mut cluster = Cluster::new(1, 1);
    cluster.catalogs_applied.clear();
    capture(&mut cluster, 0, cut(1, 1));
    let mut table = accounts();
    table.version = CatalogVersion(3);
    cluster.change_catalog(&table);
    assert_eq!(cluster.catalogs_applied, []);
    release(&mut cluster, 0, cut(1, 1));
    assert_eq!(cluster.catalogs_applied, [(0, CatalogVersion(3), Ok(()))]);
    // Whoever knows the new table does not find it in the cut.
    let proxy = cluster.proxy(0, 1);
    let message = |sequence, version| Fragment {
        sequence,
        credit: 3,
        cut: Some(cut(1, 1)),
        within: None,
        coordinator: Incarnation::default(),
        earlier: Vec::new(),
        partitions: vec![(PartitionId(0), Epoch(1))],
        tables: vec![(T, CatalogVersion(version))],
        env: &[],
        plan: b"plan",
    };
    cluster.send(proxy, &Message::Fragment(message(1, 3)));
    let behind = FragmentOutcome::Refused(Refusal::BehindCatalog { have: CatalogVersion(2) });
    assert_eq!(cluster.take(proxy), [Got::End(1, behind)]);
    cluster.send(proxy, &Message::Fragment(message(2, 2)));
    assert_eq!(cluster.fragments.len(), 1);
}

#[test]
fn memory_comes_back_when_a_cut_is_dropped() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    for row in 0..3_000 {
        cluster.insert(proxy, 0, row as u64 + 1, row, "a name that is longer than what fits a view");
    }
    cluster.run();
    let before = cluster.workers[0].memory();
    capture(&mut cluster, 0, cut(1, 1));
    release(&mut cluster, 0, cut(1, 1));
    for row in 0..3_000 {
        cluster.update(proxy, 0, row as u64 + 5_001, row, "a name that is longer than what fits a VIEW");
    }
    cluster.run();
    let copied = cluster.workers[0].memory();
    assert!(copied > before, "{before} {copied}");
    cluster.step(0, Event::DropCut(cut(1, 1)));
    cluster.run();
    let after = cluster.workers[0].memory();
    assert!(after < copied, "{copied} {after}");
}

/// A fragment of a transaction whose other requests go over this connection, of proxy 1.
fn own_fragment(cluster: &mut Cluster, session: &Session, sequence: u64, earlier: u32, cut: Option<CutId>) {
    let message = Fragment {
        sequence,
        credit: 3,
        cut,
        within: Some(Within { number: 4, earlier: 0, level: session.level, cut: None, process: 1, prepares: None }),
        coordinator: Incarnation(1),
        earlier: vec![earlier],
        partitions: vec![(PartitionId(0), Epoch(1))],
        tables: vec![(T, CatalogVersion(2))],
        env: &[],
        plan: b"plan",
    };
    // Fragments come over connections of another life of the proxy.
    let fragments = cluster.proxy(0, 2);
    cluster.send(fragments, &Message::Fragment(message));
    if let Some(Got::End(_, FragmentOutcome::Error(error))) = cluster.take(fragments).pop() {
        panic!("{error}");
    }
}

fn lent(cluster: &mut Cluster) -> Vec<String> {
    let lent = cluster.fragments.pop().unwrap();
    let mut names = read(cluster, lent);
    names.sort();
    names
}

/// One worker with these rows, and cut 1.1 of them; each came with the sequence of its key.
fn with_rows_in_a_cut(rows: &[(i32, &str)]) -> (Cluster, usize) {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    for (id, name) in rows {
        cluster.insert(proxy, 0, *id as u64, *id, name);
    }
    capture(&mut cluster, 0, cut(1, 1));
    release(&mut cluster, 0, cut(1, 1));
    (cluster, proxy)
}

#[test]
fn a_fragment_sees_its_transactions_own_writes_over_present_roots_and_cuts() {
    let (mut cluster, proxy) = with_rows_in_a_cut(&[(1, "one"), (2, "two"), (3, "three")]);
    let mut session = Session::begin(proxy, 4, Level::RepeatableRead);
    cluster.statement(&mut session, 0, 10, (UPDATE, 1, "ONE"));
    cluster.statement(&mut session, 0, 11, (INSERT, 9, "nine"));
    cluster.statement(&mut session, 0, 12, (DELETE, 2, ""));
    cluster.insert(proxy, 0, 13, 5, "of another");
    cluster.run();
    own_fragment(&mut cluster, &session, 1, 3, None);
    assert_eq!(lent(&mut cluster), ["ONE", "nine", "of another", "three"]);
    own_fragment(&mut cluster, &session, 2, 3, Some(cut(1, 1)));
    assert_eq!(lent(&mut cluster), ["ONE", "nine", "three"]);
    fragment(&mut cluster, proxy, 3, 0, Some(cut(1, 1)));
    assert_eq!(lent(&mut cluster), ["one", "three", "two"]);
}

#[test]
fn a_part_of_a_query_that_is_sent_late_sees_what_there_was_when_the_query_began() {
    let (mut cluster, proxy) = with_rows_in_a_cut(&[(1, "one"), (2, "two"), (3, "three")]);
    let empty = cluster.workers[0].memory();
    let mut session = Session::begin(proxy, 4, Level::ReadCommitted);
    cluster.statement(&mut session, 0, 10, (UPDATE, 1, "ONE"));
    cluster.statement(&mut session, 0, 11, (INSERT, 9, "nine"));
    cluster.statement(&mut session, 0, 12, (DELETE, 2, ""));
    cluster.step_of(&session, 0, 13, Step::RollBackTo { requests: 3, keep: 2 });
    cluster.statement(&mut session, 0, 14, (UPDATE, 9, "NINE"));
    let seen: [&[&str]; 5] = [
        &["one", "three", "two"],
        &["ONE", "three", "two"],
        &["ONE", "nine", "three", "two"],
        &["ONE", "nine", "three", "two"],
        &["NINE", "ONE", "three", "two"],
    ];
    for from in [None, Some(cut(1, 1))] {
        for (earlier, names) in seen.iter().enumerate() {
            own_fragment(&mut cluster, &session, 1, earlier as u32, from);
            assert_eq!(lent(&mut cluster), *names, "{earlier} of {from:?}");
        }
    }
    cluster.step_of(&session, 0, 15, Step::RollBack);
    cluster.run();
    assert_eq!(cluster.workers[0].memory(), empty);
}

#[test]
fn a_key_that_is_gone_but_for_the_cut_is_not_brought_again() {
    let (mut cluster, proxy) = with_rows_in_a_cut(&[(3, "three"), (4, "four")]);
    cluster.delete(proxy, 0, 5, 3);
    cluster.take(proxy);
    let mut session = Session::begin(proxy, 4, Level::RepeatableRead);
    session.cut = Some(cut(1, 1));
    cluster.statement(&mut session, 0, 10, (INSERT, 3, "again"));
    let got = cluster.take(proxy);
    let [Got::Error(10, error)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
    assert_eq!(error.message(), "could not serialize access due to concurrent delete");
    // A key that the transaction took away itself is free.
    cluster.statement(&mut session, 0, 11, (DELETE, 4, ""));
    cluster.statement(&mut session, 0, 12, (INSERT, 4, "mine"));
    assert_eq!(cluster.take(proxy), [Got::Done(11, 1), Got::Done(12, 1)]);
    own_fragment(&mut cluster, &session, 1, 3, Some(cut(1, 1)));
    assert_eq!(lent(&mut cluster), ["mine", "three"]);
    cluster.statement(&mut session, 0, 13, (SELECT, 3, ""));
    cluster.step_of(&session, 0, 14, Step::Commit { requests: 4 });
    assert_eq!(cluster.take(proxy), [Got::Rows(13, vec![named(3, "three")]), Got::Done(14, 0)]);
}

#[test]
fn what_was_prepared_at_a_cut_and_belongs_to_it_is_no_later_change() {
    for disturbed in [false, true] {
        let mut cluster = Cluster::new(1, 1);
        let proxy = cluster.proxy(0, 1);
        cluster.insert(proxy, 0, 1, 1, "one");
        let mut other = Session::begin(proxy, 4, Level::ReadCommitted);
        cluster.statement(&mut other, 0, 10, (UPDATE, 1, "ONE"));
        cluster.step_of(&other, 0, 11, Step::Prepare { requests: 1, anchor: PartitionId(0) });
        capture(&mut cluster, 0, cut(1, 1));
        let committed = [TransactionId { proxy: Incarnation(1), number: 4 }];
        cluster.step(0, Event::Release { cut: cut(1, 1), committed: Some(committed.into()) });
        cluster.step_of(&other, 0, 12, Step::Finish { commit: true });
        if disturbed {
            cluster.update(proxy, 0, 13, 1, "later");
        }
        cluster.take(proxy);
        let mut session = Session::begin(proxy, 5, Level::RepeatableRead);
        session.cut = Some(cut(1, 1));
        cluster.statement(&mut session, 0, 20, (SELECT, 1, ""));
        cluster.statement(&mut session, 0, 21, (UPDATE, 1, "mine"));
        let got = cluster.take(proxy);
        assert_eq!(got[0], Got::Rows(20, vec![named(1, "ONE")]));
        assert_eq!(matches!(got[1], Got::Done(21, 1)), !disturbed, "{got:?}");
    }
}

#[test]
#[should_panic(expected = "lost in a failover")]
fn a_fragment_whose_transaction_was_forgotten_fails() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    let mut session = Session::begin(proxy, 4, Level::ReadCommitted);
    cluster.statement(&mut session, 0, 10, (INSERT, 9, "nine"));
    own_fragment(&mut cluster, &session, 1, 2, None);
}

#[test]
fn prepared_transactions_belong_to_a_cut_if_their_anchors_say_so() {
    let mut cluster = Cluster::new(2, 1);
    let proxies = [cluster.proxy(0, 1), cluster.proxy(1, 1)];
    cluster.insert(proxies[0], 0, 1, 1, "one");
    let mut session = Session::begin(proxies[0], 4, Level::ReadCommitted);
    cluster.statement(&mut session, 0, 10, (UPDATE, 1, "ONE"));
    let mut there = Session { proxy: proxies[1], requests: vec![0; 8], ..session.clone() };
    cluster.statement(&mut there, 1, 11, (INSERT, 2, "two"));
    cluster.step_of(&session, 0, 12, Step::Prepare { requests: 1, anchor: PartitionId(1) });
    let name = TransactionId { proxy: Incarnation(1), number: 4 };
    // Nobody can tell without a cut whether that is so.
    fragment(&mut cluster, proxies[0], 20, 0, None);
    assert_eq!(cluster.take(proxies[0]).pop(), Some(no_cut(20)));
    let round = |cluster: &mut Cluster, number, committed: &[TransactionId]| {
        cluster.captured.clear();
        (0..2).for_each(|worker| capture(cluster, worker, cut(1, number)));
        let told: Vec<_> = cluster.captured.drain(..).map(|c| (c.pending, c.committed)).collect();
        let committed: Arc<[TransactionId]> = committed.into();
        let cut = cut(1, number);
        (0..2).for_each(|at| cluster.step(at, Event::Release { cut, committed: Some(committed.clone()) }));
        told
    };
    let pending = vec![(name, PartitionId(1))];
    assert_eq!(round(&mut cluster, 1, &[]), [(pending.clone(), vec![]), (vec![], vec![])]);
    cluster.step_of(&there, 1, 13, Step::Decide { requests: 1, participants: vec![PartitionId(0)] });
    assert_eq!(round(&mut cluster, 2, &[name]), [(pending, vec![]), (vec![], vec![name])]);
    cluster.step_of(&session, 0, 14, Step::Finish { commit: true });
    cluster.send(proxies[1], &Message::Forget(Forget { partition: PartitionId(1), numbers: vec![3, 4, 4] }));
    assert_eq!(round(&mut cluster, 3, &[]), [(vec![], vec![]), (vec![], vec![])]);
    for (number, name) in [(1, "one"), (2, "ONE"), (3, "ONE"), (2, "ONE")] {
        fragment(&mut cluster, proxies[0], 30 + number, 0, Some(cut(1, number)));
        assert_eq!(lent(&mut cluster), [name], "cut {number}");
    }
    fragment(&mut cluster, proxies[0], 40, 0, None);
    assert_eq!(lent(&mut cluster), ["ONE"]);
}

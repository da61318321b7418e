//! What happens when primaries and backups go: promotion, tails that are cut, requests that are asked again, drops.

mod cluster;
mod fixture;

use cluster::metadata::id;
use cluster::{Cluster, Got, RENAME, named, row};
use fixture::{T, content};
use toroid_common::datum::Datum;
use toroid_common::id::{CatalogVersion, Epoch, Incarnation, MapVersion, PartitionId};
use toroid_common::wire::{Fragment, FragmentOutcome, Message, Proposal, Reconfigure, Refusal, RequestBody};
use toroid_engine::worker::{Event, Role};

/// Every replica of a partition has the same state, and nothing is under way.
fn assert_agree(cluster: &mut Cluster, partition: usize) {
    cluster.advance(100_000);
    let assignment = cluster.assignment(partition).clone();
    let root = |worker: toroid_common::id::WorkerId| {
        let worker = worker.node.0 as usize - 1;
        let (root, appended) = cluster.workers[worker].replica(PartitionId(partition as u16)).unwrap();
        assert_eq!(root.lsn(), appended, "worker {worker} has applied all that it holds");
        root
    };
    let expected = root(assignment.primary.unwrap());
    for backup in assignment.backups {
        let found = root(backup);
        assert_eq!(found.lsn(), expected.lsn());
        assert_eq!(found.catalog(), expected.catalog());
        assert_eq!(content(found.table(T).unwrap()), content(expected.table(T).unwrap()));
        assert_eq!(found.answers, expected.answers);
    }
}

fn names(cluster: &Cluster, worker: usize) -> Vec<String> {
    let (root, _) = cluster.workers[worker].replica(PartitionId(0)).unwrap();
    let rows = content(root.table(T).unwrap()).into_iter();
    rows.map(|(_, row)| if let Datum::Text(name) = &row[1] { name.clone() } else { unreachable!() }).collect()
}

#[test]
fn a_deposed_primary_does_not_say_that_nothing_came_of_what_it_executed() {
    let mut cluster = Cluster::new(3, 3);
    cluster.low = 1;
    let proxy = cluster.proxy(0, 9);
    // Its entry reaches one backup; the other one holds the answer up.
    cluster.freeze(0, 2);
    cluster.insert(proxy, 0, 1, 1, "once");
    cluster.run();
    assert_eq!(cluster.take(proxy), []);
    cluster.deaf.insert(0);
    cluster.expire(0, |_| 0);
    cluster.advance(50_000);
    cluster.hear();
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::Deposed { have: MapVersion(2) })]);
    cluster.insert(proxy, 0, 2, 2, "not executed");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Refused(2, Refusal::StaleMap { have: MapVersion(2) })]);
    cluster.heal();
    let proxy = cluster.proxy(1, 9);
    cluster.insert(proxy, 0, 1, 1, "once");
    cluster.advance(100_000);
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    assert_eq!(names(&cluster, 1), ["once"]);
}

#[test]
fn a_promoted_backup_keeps_its_tail_and_requests_happen_once() {
    let mut cluster = Cluster::new(3, 3);
    cluster.low = 1;
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "acknowledged");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    cluster.advance(50_000);
    cluster.freeze(0, 2);
    cluster.insert(proxy, 0, 2, 2, "tail");
    cluster.insert(proxy, 0, 3, 2, "an error is remembered, too");
    cluster.run();
    assert_eq!(cluster.take(proxy), []);
    let before = cluster.log(1, 0);
    assert_eq!((before.0, cluster.log(2, 0).0), (before.1 + 2, before.1));
    cluster.kill(0);
    // The other backup has no connection to the new primary yet: nothing is served before it holds the tail.
    cluster.freeze(2, 1);
    cluster.expire(0, |_| 0);
    let proxy = cluster.proxy(1, 9);
    cluster.select(proxy, 0, 10, 2);
    assert_eq!(cluster.take(proxy), [Got::Refused(10, Refusal::StaleMap { have: MapVersion(2) })]);
    cluster.insert(proxy, 0, 2, 2, "tail");
    cluster.advance(20_000);
    assert_eq!(cluster.take(proxy), [], "the answer is known, and may not be given yet");
    assert_eq!(cluster.log(1, 0), before);
    cluster.thaw();
    cluster.advance(100_000);
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1)]);
    cluster.insert(proxy, 0, 1, 1, "acknowledged");
    cluster.insert(proxy, 0, 3, 2, "still an error");
    cluster.insert(proxy, 0, 4, 4, "new");
    cluster.run();
    let got = cluster.take(proxy);
    assert!(matches!(got[..], [Got::Done(1, 1), Got::Error(3, _), Got::Done(4, 1)]), "{got:?}");
    assert_eq!(names(&cluster, 1), ["acknowledged", "tail", "new"]);
    assert_agree(&mut cluster, 0);
}

#[test]
fn a_longer_tail_is_cut_to_the_new_primarys_log() {
    let mut cluster = Cluster::new(3, 3);
    let proxy = cluster.proxy(0, 9);
    cluster.advance(50_000);
    cluster.freeze(0, 2);
    for number in 1..=5 {
        cluster.insert(proxy, 0, number, number as i32, "lost");
    }
    cluster.run();
    cluster.kill(0);
    cluster.expire(0, |backups| backups.iter().position(|worker| *worker == id(2)).unwrap());
    cluster.thaw();
    cluster.advance(100_000);
    assert_eq!(cluster.log(1, 0), cluster.log(2, 0), "nothing of the tail is left");
    let proxy = cluster.proxy(2, 9);
    for number in 1..=5 {
        cluster.insert(proxy, 0, number, number as i32, "asked again");
    }
    cluster.run();
    assert_eq!(cluster.take(proxy).len(), 5);
    assert_eq!(names(&cluster, 1).len(), 0, "a backup applies what it knows to be acknowledged");
    assert_agree(&mut cluster, 0);
    assert_eq!(names(&cluster, 1), ["asked again"; 5]);
}

/// A's epoch 1 leaves B1 without and B2 with two entries; as primary of epoch 2, B1 makes other two, which only B3 gets; B1 dies.
fn two_tails() -> Cluster {
    let mut cluster = Cluster::new(4, 4);
    cluster.low = 1;
    cluster.advance(50_000);
    let proxy = cluster.proxy(0, 9);
    cluster.freeze(0, 1);
    cluster.freeze(0, 3);
    cluster.insert(proxy, 0, 1, 1, "first of epoch 1");
    cluster.insert(proxy, 0, 2, 2, "second of epoch 1");
    cluster.run();
    cluster.kill(0);
    cluster.freeze(1, 2);
    cluster.freeze(2, 1);
    cluster.expire(0, |backups| backups.iter().position(|worker| *worker == id(1)).unwrap());
    cluster.advance(10_000);
    // It has to hear of all backups before it takes requests: its entries are a catalog's and a fence's.
    let mut table = cluster::accounts();
    table.version = CatalogVersion(3);
    let catalog = fixture::catalog(&table);
    cluster.step(1, Event::CatalogChanged(catalog));
    let mut table = cluster::accounts();
    table.version = CatalogVersion(4);
    cluster.step(1, Event::CatalogChanged(fixture::catalog(&table)));
    cluster.advance(10_000);
    let ends = [1, 2, 3].map(|worker| cluster.log(worker, 0));
    assert_eq!((ends[0].0, ends[2].0), (ends[1].0, ends[1].0), "three logs of one length");
    assert_eq!(ends[1].1 + 2, ends[1].0, "and nothing is acknowledged");
    cluster.kill(1);
    cluster
}

#[test]
fn of_two_tails_the_new_primarys_stays() {
    for (primary, other) in [(2, 3), (3, 2)] {
        let mut cluster = two_tails();
        let tail = cluster.log(primary, 0).0;
        cluster.expire(1, |backups| backups.iter().position(|worker| *worker == id(primary)).unwrap());
        cluster.thaw();
        cluster.advance(100_000);
        let catalog = cluster.workers[primary].replica(PartitionId(0)).unwrap().0.catalog().version.0;
        let kept = names(&cluster, primary);
        match primary {
            2 => assert_eq!((kept.len(), catalog), (2, 2), "{kept:?}"),
            _ => assert_eq!((kept.len(), catalog), (0, 4), "{kept:?}"),
        }
        assert_eq!(cluster.log(other, 0).0, tail);
        let proxy = cluster.proxy(primary, 9);
        if primary == 2 {
            cluster.insert(proxy, 0, 1, 1, "asked again");
            cluster.insert(proxy, 0, 7, 7, "new");
            cluster.run();
            assert_eq!(cluster.take(proxy), [Got::Done(1, 1), Got::Done(7, 1)]);
        }
        assert_agree(&mut cluster, 0);
    }
}

#[test]
fn a_deposed_primary_sends_back_what_waits() {
    let mut cluster = Cluster::new(3, 3);
    cluster.advance(50_000);
    let proxy = cluster.proxy(0, 9);
    cluster.split(0, 1);
    cluster.split(0, 2);
    cluster.hold_scans = true;
    cluster.insert(proxy, 0, 1, 1, "not acknowledged");
    cluster.select(proxy, 0, 2, 1);
    let params = row(&[Datum::Text("old".to_owned()), Datum::Text("new".to_owned())]);
    cluster.request(proxy, 0, 3, RENAME, RequestBody::Point { params: &params });
    cluster.run();
    assert_eq!(cluster.take(proxy), []);
    // It is said to be dead, and hears of it late.
    cluster.deaf.insert(0);
    cluster.expire(0, |_| 0);
    cluster.advance(50_000);
    cluster.select(proxy, 0, 4, 1);
    assert_eq!(cluster.take(proxy), [Got::Refused(4, Refusal::StaleMap { have: MapVersion(1) })], "of a later epoch");
    let next = cluster.proxy(1, 9);
    cluster.insert(next, 0, 1, 1, "asked again");
    cluster.advance(10_000);
    assert_eq!(cluster.take(next), [Got::Done(1, 1)]);
    cluster.hear();
    let (stale, deposed) = (Refusal::StaleMap { have: MapVersion(2) }, Refusal::Deposed { have: MapVersion(2) });
    let expected = [(1, deposed), (2, deposed), (3, stale)].map(|(sequence, refusal)| Got::Refused(sequence, refusal));
    assert_eq!(cluster.take(proxy), expected);
    cluster.hold_scans = false;
    cluster.heal();
    assert_eq!(cluster.take(proxy), []);
    assert_eq!(cluster.workers[0].view(PartitionId(0)), None, "its state is discarded");
    assert_eq!(cluster.workers[0].gated() + cluster.workers[0].outside(), 0);
    assert_eq!(names(&cluster, 1), ["asked again"]);
    assert_agree(&mut cluster, 0);
}

fn drops(cluster: &Cluster, worker: usize) -> Vec<&Proposal> {
    let of = |(from, proposal): &&(usize, Proposal)| *from == worker && proposal.partition == PartitionId(0);
    cluster.proposals.iter().filter(of).map(|(_, proposal)| proposal).collect()
}

#[test]
fn a_backup_that_goes_is_proposed_to_be_dropped_at_once_and_again() {
    let mut cluster = Cluster::new(3, 3);
    cluster.kill(1);
    let change = Reconfigure::DropBackup { worker: id(1) };
    let expected = Proposal { partition: PartitionId(0), epoch: Epoch(1), change };
    assert_eq!(drops(&cluster, 0), [&expected]);
    cluster.advance(90_000);
    assert_eq!(drops(&cluster, 0).len(), 1);
    cluster.advance(300_000);
    assert!((3..=4).contains(&drops(&cluster, 0).len()));
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "waits");
    cluster.run();
    assert_eq!(cluster.take(proxy), [], "until the map says so the backup is one");
    cluster.decides = true;
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    assert_eq!((cluster.assignment(0).epoch, &cluster.assignment(0).backups[..]), (Epoch(2), &[id(2)][..]));
    cluster.proposals.clear();
    cluster.advance(500_000);
    assert_eq!(drops(&cluster, 0).len(), 0);
    assert_agree(&mut cluster, 0);
}

#[test]
fn a_backup_that_is_silent_is_dropped_only_when_something_waits_for_it() {
    let mut cluster = Cluster::new(3, 3);
    cluster.decides = true;
    cluster.freeze(1, 0);
    cluster.advance(2_000_000);
    assert_eq!(cluster.assignment(0).epoch, Epoch(1));
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "waits");
    cluster.advance(250_000);
    assert_eq!((cluster.take(proxy), cluster.assignment(0).epoch), (vec![], Epoch(1)));
    cluster.advance(150_000);
    assert_eq!((cluster.take(proxy), cluster.assignment(0).epoch), (vec![Got::Done(1, 1)], Epoch(2)));
}

#[test]
fn who_was_away_itself_does_not_say_that_others_were_silent() {
    let mut cluster = Cluster::new(2, 2);
    cluster.freeze(1, 0);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "waits");
    cluster.advance(60_000);
    // The process stood still for a second.
    cluster.now = cluster.now.after(1_000_000);
    cluster.advance(100_000);
    assert_eq!(drops(&cluster, 0).len(), 0);
    cluster.advance(300_000);
    assert!(!drops(&cluster, 0).is_empty());
}

#[test]
fn two_failures_are_survived_by_three_copies() {
    let mut cluster = Cluster::new(3, 3);
    cluster.low = 1;
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    for number in 1..=20 {
        cluster.insert(proxy, 0, number, number as i32, "kept");
    }
    cluster.run();
    assert_eq!(cluster.take(proxy).len(), 20);
    // The second goes while the first is being replaced: it is dropped by the one that is left.
    cluster.kill(0);
    cluster.kill(2);
    cluster.expire(0, |backups| backups.iter().position(|worker| *worker == id(1)).unwrap());
    cluster.advance(100_000);
    let proxy = cluster.proxy(1, 9);
    cluster.insert(proxy, 0, 7, 7, "kept");
    cluster.insert(proxy, 0, 21, 21, "new");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(7, 1), Got::Done(21, 1)]);
    assert_eq!(names(&cluster, 1).len(), 21);
    // The last one goes: nothing comes back empty.
    cluster.kill(1);
    cluster.expire(1, |_| 0);
    assert_eq!(cluster.primary(0), None);
}

#[test]
fn min_copies_keeps_writes_waiting() {
    let mut cluster = Cluster::new(2, 2);
    cluster.decides = true;
    cluster.change_map(|map| map.min_copies = 2);
    let proxy = cluster.proxy(0, 9);
    cluster.split(0, 1);
    cluster.disconnect(0, 1);
    cluster.insert(proxy, 0, 1, 1, "waits");
    cluster.advance(1_000_000);
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::Busy)]);
    cluster.heal();
    cluster.advance(100_000);
    cluster.insert(proxy, 0, 1, 1, "waits");
    cluster.advance(100_000);
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    assert_eq!(cluster.assignment(0).epoch, Epoch(1));
    assert_agree(&mut cluster, 0);
}

#[test]
fn below_the_floor_writes_wait_until_copies_are_back() {
    let mut cluster = Cluster::new(4, 3);
    cluster.decides = true;
    cluster.change_map(|map| map.min_copies = 2);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "three copies");
    cluster.run();
    cluster.kill(2);
    cluster.advance(400_000);
    cluster.insert(proxy, 0, 2, 2, "two copies");
    cluster.advance(1_000);
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), Got::Done(2, 1)]);
    // The next is known to be gone for good: nobody else has what was under way.
    cluster.kill(1);
    cluster.expire(1, |_| 0);
    cluster.advance(1_000);
    assert_eq!(cluster.assignment(0).copies(), 1);
    cluster.insert(proxy, 0, 3, 3, "waits");
    cluster.select(proxy, 0, 4, 2);
    cluster.run();
    assert_eq!(
        cluster.take(proxy),
        [Got::Refused(3, Refusal::Busy), Got::Rows(4, vec![named(2, "two copies")])],
        "reads go on"
    );
    cluster.join(0, 3);
    cluster.advance(200_000);
    assert_eq!(cluster.assignment(0).copies(), 2);
    cluster.insert(proxy, 0, 3, 3, "waited");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(3, 1)]);
    assert_agree(&mut cluster, 0);
}

/// Two copies, of which both must hold what is answered, a backup that is silent while a write is under way, and a third worker that joins.
fn below_the_floor() -> (Cluster, usize) {
    let mut cluster = Cluster::new(4, 2);
    cluster.change_map(|map| map.min_copies = 2);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "both");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    cluster.split(0, 1);
    cluster.insert(proxy, 0, 2, 2, "under way");
    cluster.advance(500_000);
    cluster.insert(proxy, 0, 3, 3, "new");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Refused(3, Refusal::Busy)], "who is silent is known, the map names two");
    (cluster, proxy)
}

#[test]
fn a_silent_backup_that_must_not_be_dropped_is_replaced() {
    let (mut cluster, proxy) = below_the_floor();
    cluster.decides = true;
    cluster.select(proxy, 0, 4, 2);
    cluster.join(0, 2);
    cluster.advance(500_000);
    assert_eq!(&cluster.assignment(0).backups[..], [id(2)]);
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1), Got::Rows(4, vec![named(2, "under way")])]);
    cluster.insert(proxy, 0, 3, 3, "new");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(3, 1)]);
    assert_agree(&mut cluster, 0);
    cluster.kill(0);
    cluster.expire(0, |_| 0);
    cluster.advance(300_000);
    assert_eq!(cluster.primary(0), Some(2));
    assert_eq!(names(&cluster, 2), ["both", "under way", "new"]);
}

#[test]
fn a_silent_backup_that_is_back_before_it_is_replaced_goes_on() {
    let (mut cluster, proxy) = below_the_floor();
    // What joins has more than is acknowledged.
    cluster.join(0, 2);
    cluster.advance(500_000);
    assert!(cluster.proposals.iter().any(|(_, proposal)| matches!(
        proposal.change,
        Reconfigure::Replace { silent, by, .. } if (silent, by) == (id(1), id(2))
    )));
    assert_eq!(cluster.log(2, 0).0, cluster.log(1, 0).0 + 1);
    assert_eq!(cluster.take(proxy), []);
    // The primary goes instead, and the backup that is back has never heard of it.
    cluster.kill(0);
    cluster.heal();
    cluster.proposals.clear();
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(assignment.epoch.0 + 1);
        assignment.primary = Some(id(1));
        assignment.backups.clear();
    });
    cluster.decides = true;
    cluster.advance(500_000);
    assert_eq!(&cluster.assignment(0).backups[..], [id(2)]);
    let proxy = cluster.proxy(1, 9);
    cluster.insert(proxy, 0, 2, 2, "again");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1)]);
    assert_agree(&mut cluster, 0);
    assert_eq!(names(&cluster, 2), ["both", "again"]);
}

#[test]
fn a_promoted_primary_brings_the_catalog_and_says_so_for_its_map() {
    let mut cluster = Cluster::new(3, 3);
    let mut table = cluster::accounts();
    table.version = CatalogVersion(3);
    // The primary never hears of the new catalog.
    let catalog = fixture::catalog(&table);
    for worker in 1..3 {
        cluster.step(worker, Event::CatalogChanged(catalog.clone()));
    }
    cluster.kill(0);
    cluster.catalogs_applied.clear();
    cluster.expire(0, |_| 0);
    cluster.advance(100_000);
    let (root, _) = cluster.workers[1].replica(PartitionId(0)).unwrap();
    assert_eq!(root.catalog().version, CatalogVersion(3));
    let applied = cluster.catalogs_applied.iter().rfind(|(worker, ..)| *worker == 1);
    assert_eq!(applied, Some(&(1, CatalogVersion(3), Ok(()))));
    assert_agree(&mut cluster, 0);
}

#[test]
fn what_forbids_a_catalog_is_known_to_the_next_primary() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 9);
    let bytes = row(&[Datum::Int4(1), Datum::Null]);
    cluster.request(proxy, 0, 1, cluster::INSERT, RequestBody::Insert { rows: 1, bytes: &bytes });
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    cluster.catalogs_applied.clear();
    // The primary dies before it can say that there are NULLs.
    cluster.freeze(1, 0);
    let mut table = cluster::accounts();
    table.version = CatalogVersion(3);
    table.columns[1].not_null = true;
    cluster.change_catalog(&table);
    assert!(cluster.catalogs_applied.iter().all(|(worker, ..)| *worker == 1));
    cluster.kill(0);
    cluster.expire(0, |_| 0);
    cluster.advance(50_000);
    let (_, version, result) = cluster.catalogs_applied.last().unwrap();
    assert_eq!(*version, CatalogVersion(3));
    assert_eq!(result.as_ref().unwrap_err().state().as_str(), "23502");
}

#[test]
fn a_request_that_waited_for_its_rows_is_judged_by_the_epoch_of_then() {
    let mut cluster = Cluster::new(3, 3);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "old");
    cluster.run();
    cluster.hold_scans = true;
    let params = row(&[Datum::Text("old".to_owned()), Datum::Text("new".to_owned())]);
    cluster.request(proxy, 0, 2, RENAME, RequestBody::Point { params: &params });
    cluster.kill(2);
    cluster.run();
    cluster.take(proxy);
    cluster.run_scans();
    assert!(matches!(cluster.take(proxy)[..], [Got::Refused(2, Refusal::StaleMap { .. })]));
    cluster.hold_scans = false;
    cluster.request(proxy, 0, 2, RENAME, RequestBody::Point { params: &params });
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Rows(2, vec![named(1, "new")])]);
    assert_eq!(cluster.workers[0].outside(), 0);
}

fn fragment(sequence: u64, epoch: u32) -> Message<'static> {
    Message::Fragment(Fragment {
        sequence,
        credit: 3,
        cut: None,
        within: None,
        coordinator: Incarnation::default(),
        earlier: Vec::new(),
        partitions: vec![(PartitionId(0), Epoch(epoch))],
        tables: vec![(T, CatalogVersion(2))],
        env: &[],
        plan: b"plan",
    })
}

#[test]
fn a_fragment_outlives_a_dropped_backup_and_not_its_primary() {
    let mut cluster = Cluster::new(3, 3);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    cluster.send(proxy, &fragment(1, 1));
    cluster.send(proxy, &fragment(2, 1));
    cluster.kill(2);
    cluster.run();
    assert_eq!(cluster.assignment(0).epoch, Epoch(2));
    let mut lent = std::mem::take(&mut cluster.fragments);
    let second = lent.pop().unwrap();
    let first = lent.pop().unwrap();
    cluster.batch(&first, b"batch");
    let outcome = FragmentOutcome::Done { rows: 1 };
    cluster.step(0, Event::FragmentFinished { ticket: first.ticket, roots: first.roots, outcome: outcome.clone() });
    assert_eq!(cluster.take(proxy), [Got::Batch(1, b"batch".to_vec()), Got::End(1, outcome.clone())]);
    cluster.split(0, 1);
    cluster.expire(0, |_| 0);
    let got = cluster.take(proxy);
    cluster.batch(&second, b"batch");
    cluster.step(0, Event::FragmentFinished { ticket: second.ticket, roots: second.roots, outcome });
    let more = cluster.take(proxy);
    assert!(matches!((&got[..], &more[..]), ([], [Got::End(2, FragmentOutcome::Error(_))])), "{got:?} {more:?}");
}

#[test]
fn dead_proxies_are_fenced_on_all_replicas_and_stay_so() {
    let mut cluster = Cluster::new(2, 2);
    let (dead, alive) = (cluster.proxy(0, 5), cluster.proxy(0, 6));
    for (number, proxy) in [(1, dead), (2, alive)] {
        cluster.insert(proxy, 0, number, number as i32, "kept");
    }
    cluster.run();
    let fence = || Event::ProxiesChanged { below: Incarnation(7), alive: [Incarnation(6)].into() };
    cluster.step(0, fence());
    cluster.advance(50_000);
    for worker in 0..2 {
        let (root, _) = cluster.workers[worker].replica(PartitionId(0)).unwrap();
        assert_eq!((root.answers.len(), root.answers.is_fenced(Incarnation(5))), (1, true));
    }
    cluster.take(dead);
    cluster.take(alive);
    cluster.insert(dead, 0, 1, 1, "kept");
    cluster.insert(alive, 0, 2, 2, "kept");
    cluster.run();
    assert_eq!(
        (cluster.take(dead), cluster.take(alive)),
        (vec![Got::Refused(1, Refusal::Fenced)], vec![Got::Done(2, 1)])
    );
    // The next primary has not heard of it itself.
    cluster.kill(0);
    cluster.expire(0, |_| 0);
    cluster.advance(50_000);
    let dead = cluster.proxy(1, 5);
    cluster.insert(dead, 0, 1, 1, "kept");
    cluster.run();
    assert_eq!(cluster.take(dead), [Got::Refused(1, Refusal::Fenced)]);
    let new = cluster.proxy(1, 8);
    cluster.select(new, 0, 1, 2);
    cluster.run();
    assert_eq!(cluster.take(new), [Got::Rows(1, vec![named(2, "kept")])]);
}

#[test]
fn a_worker_without_the_state_serves_nothing_and_says_so() {
    let mut cluster = Cluster::new(3, 2);
    cluster.reports = Some(Vec::new());
    cluster.decides = true;
    // Worker 2 has nothing of partition 0.
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(2);
        assignment.backups.push(id(2));
    });
    cluster.run();
    assert_eq!(&cluster.assignment(0).backups[..], [id(1)], "it was dropped again");
    let reports = cluster.reports.take().unwrap();
    assert!(reports[0].contains("its state is not here") && reports[1].contains("cannot follow"), "{reports:?}");
    cluster.reports = Some(Vec::new());
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(4);
        assignment.primary = Some(id(2));
        assignment.backups.clear();
    });
    assert_eq!(cluster.reports.take().unwrap().len(), 1);
    let proxy = cluster.proxy(2, 9);
    cluster.select(proxy, 0, 1, 1);
    assert!(matches!(cluster.take(proxy)[..], [Got::Refused(1, Refusal::StaleMap { .. })]));
    // Accepting the loss makes it anew.
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(5);
        assignment.origin = Epoch(5);
    });
    cluster.select(proxy, 0, 2, 1);
    assert_eq!(cluster.take(proxy), [Got::Rows(2, vec![])]);
    let role = cluster.workers[2].view(PartitionId(0)).unwrap().role;
    assert_eq!(role, Role::Primary { serves: true, since: Epoch(5) });
}

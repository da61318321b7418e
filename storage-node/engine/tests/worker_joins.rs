//! Joining replicas and planned hand-overs, under load.

mod cluster;
mod fixture;

use cluster::metadata::id;
use cluster::{Cluster, Got, accounts, named};
use fixture::{Random, T, content};
use toroid_common::id::{CatalogVersion, Epoch, MapVersion, PartitionId};
use toroid_common::wire::Refusal;
use toroid_engine::worker::Role;

/// The backups have what the primary has.
fn assert_agree(cluster: &mut Cluster, partition: usize) {
    cluster.advance(100_000);
    let assignment = cluster.assignment(partition).clone();
    let of = |worker: toroid_common::id::WorkerId| {
        let (root, appended) =
            cluster.workers[worker.node.0 as usize - 1].replica(PartitionId(partition as u16)).unwrap();
        assert_eq!(root.lsn(), appended);
        root
    };
    let expected = of(assignment.primary.unwrap());
    for backup in assignment.backups {
        let found = of(backup);
        assert_eq!(
            (found.lsn(), found.catalog(), &found.answers),
            (expected.lsn(), expected.catalog(), &expected.answers)
        );
        let (one, other) = (found.table(T).unwrap(), expected.table(T).unwrap());
        assert_eq!(content(one), content(other));
        assert!(one.positions().all(|position| one.changed(position) == other.changed(position)));
        assert_eq!(one.next_position(), other.next_position());
    }
}

/// Rows that take several pieces of a root.
fn fill(cluster: &mut Cluster, proxy: usize, rows: u64) {
    for number in 1..=rows {
        cluster.insert(proxy, 0, number, number as i32, &format!("{number:0200}"));
        if number % 100 == 0 {
            cluster.run();
        }
    }
    cluster.run();
    let answered = cluster.take(proxy).iter().filter(|got| matches!(got, Got::Done(..))).count();
    assert_eq!(answered as u64, rows);
}

#[test]
fn a_replica_joins_by_root_while_writes_go_on() {
    let mut cluster = Cluster::new(3, 2);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 2_000);
    for number in 2_001..2_100 {
        cluster.delete(proxy, 0, number, (number as i32 - 2_000) * 13);
    }
    cluster.run();
    let before = cluster.workers[2].memory();
    cluster.join(0, 2);
    let mut number = 3_000;
    let mut turns = 0;
    while cluster.assignment(0).epoch == Epoch(1) {
        number += 1;
        cluster.insert(proxy, 0, number, number as i32, "while it joins");
        cluster.update(proxy, 0, number + 10_000, (number % 1_000) as i32, "changed");
        cluster.now = cluster.now.after(1_000);
        cluster.turn();
        turns += 1;
        assert!(turns < 1_000);
    }
    assert!(turns > 5, "a root goes out over several turns");
    cluster.run();
    assert_eq!(&cluster.assignment(0).backups[..], [id(1), id(2)]);
    assert!(cluster.workers[2].memory() > before + 400_000);
    assert_eq!(cluster.workers[0].counters().roots_sent, 1);
    assert!(cluster.workers[0].counters().root_bytes > 400_000);
    assert_eq!(cluster.workers[2].counters().roots_taken, 1);
    // It counts: without it nothing is acknowledged.
    cluster.take(proxy);
    cluster.freeze(0, 2);
    cluster.insert(proxy, 0, 50_000, -1, "waits");
    cluster.run();
    assert_eq!(cluster.take(proxy), []);
    cluster.thaw();
    assert_eq!(cluster.take(proxy), [Got::Done(50_000, 1)]);
    assert_agree(&mut cluster, 0);
    // It is as good a primary as any.
    cluster.kill(0);
    cluster.kill(1);
    cluster.expire(0, |_| 0);
    cluster.expire(1, |_| 0);
    cluster.advance(300_000);
    assert_eq!(cluster.primary(0), Some(2));
    let proxy = cluster.proxy(2, 9);
    cluster.insert(proxy, 0, 50_000, -1, "asked again");
    cluster.insert(proxy, 0, 50_001, -2, "new");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(50_000, 1), Got::Done(50_001, 1)]);
    let rows = cluster.workers[2].replica(PartitionId(0)).unwrap().0.table(T).unwrap().len();
    assert!(rows > 1_900, "{rows} rows");
}

#[test]
fn an_unfinished_join_begins_again_and_gives_its_memory_back() {
    let mut cluster = Cluster::new(2, 1);
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 2_000);
    let (before, here) = (cluster.workers[1].memory(), cluster.workers[0].memory());
    cluster.join(0, 1);
    while cluster.workers[1].memory() < before + 100_000 {
        cluster.turn();
    }
    assert_eq!(cluster.workers[1].view(PartitionId(0)), None);
    cluster.disconnect(0, 1);
    cluster.refuse(0, 1);
    cluster.advance(60_000);
    assert_eq!(cluster.workers[1].memory(), before);
    cluster.heal();
    cluster.advance(200_000);
    assert_eq!(cluster.workers[1].view(PartitionId(0)).map(|view| view.role), Some(Role::Joining));
    // It is not admitted, and dropped.
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(2);
        assignment.joining.clear();
    });
    cluster.run();
    assert_eq!((cluster.workers[1].memory(), cluster.workers[0].memory()), (before, here));
    assert_eq!(cluster.workers[1].view(PartitionId(0)), None);
}

#[test]
fn nobody_waits_for_a_replica_that_has_not_caught_up() {
    let mut cluster = Cluster::new(3, 1);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1_000);
    cluster.join(0, 1);
    for _ in 0..4 {
        cluster.turn();
    }
    cluster.freeze(1, 0);
    for number in 2_000..2_010 {
        cluster.insert(proxy, 0, number, number as i32, "at once");
        assert_eq!(cluster.take(proxy), [Got::Done(number, 1)]);
    }
    cluster.thaw();
    cluster.advance(100_000);
    assert_eq!(&cluster.assignment(0).backups[..], [id(1)]);
    assert_agree(&mut cluster, 0);
}

#[test]
fn a_worker_without_memory_refuses_to_join_and_lives() {
    let mut cluster = Cluster::new(2, 1);
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 2_000);
    cluster.reports = Some(Vec::new());
    cluster.decides = true;
    cluster.replace(1, 300_000);
    // Another partition has a replica there that fits, over the same connection.
    cluster.join(1, 1);
    cluster.advance(20_000);
    assert_eq!(cluster.assignment(1).backups, [id(1)]);
    cluster.join(0, 1);
    cluster.advance(2_200_000);
    assert_eq!((&cluster.assignment(0).joining[..], &cluster.assignment(1).backups[..]), (&[][..], &[id(1)][..]));
    let reports = cluster.reports.take().unwrap();
    assert!(reports.iter().all(|report| report.contains("out of memory; it cannot join")) && !reports.is_empty());
    assert!(cluster.workers[1].memory() < 100_000, "{}", cluster.workers[1].memory());
    cluster.insert(proxy, 0, 9_000, 9_000, "goes on");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(9_000, 1)]);
}

#[test]
fn a_catalog_that_comes_while_a_replica_joins_reaches_it() {
    let mut cluster = Cluster::new(2, 1);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1_000);
    cluster.join(0, 1);
    for _ in 0..4 {
        cluster.turn();
    }
    let mut table = accounts();
    table.version = CatalogVersion(3);
    table.indexes.push(fixture::index(20_002, "names", &[1], false));
    cluster.change_catalog(&table);
    cluster.advance(50_000);
    assert_eq!(&cluster.assignment(0).backups[..], [id(1)]);
    assert_agree(&mut cluster, 0);
    let table = cluster.workers[1].replica(PartitionId(0)).unwrap().0.table(T).unwrap();
    assert!(table.indexes().iter().all(|index| index.len() == 1_000));
}

#[test]
fn a_hand_over_loses_nothing_and_can_go_back() {
    let mut cluster = Cluster::new(3, 3);
    cluster.decides = true;
    cluster.low = 1;
    let proxies: Vec<usize> = (0..3).map(|worker| cluster.proxy(worker, 9)).collect();
    let mut random = Random(77);
    let mut unanswered: Vec<u64> = Vec::new();
    let mut next = 0;
    let mut turns_without_primary = 0;
    for round in 1..=20 {
        let from = cluster.primary(0).unwrap();
        let to = (from + 1 + random.below(2) as usize) % 3;
        cluster.name_successor(0, to);
        while cluster.primary(0) == Some(from) {
            for _ in 0..3 {
                next += 1;
                unanswered.push(next);
            }
            for number in &unanswered {
                cluster.insert(proxies[from], 0, *number, *number as i32, "once");
            }
            cluster.turn();
            turns_without_primary += 1;
        }
        for _ in 0..3 {
            let primary = cluster.primary(0).unwrap();
            for number in &unanswered {
                cluster.insert(proxies[primary], 0, *number, *number as i32, "once");
            }
            cluster.run();
            for proxy in &proxies {
                for got in cluster.take(*proxy) {
                    match got {
                        Got::Done(number, 1) => unanswered.retain(|waiting| *waiting != number),
                        Got::Refused(_, Refusal::StaleMap { .. } | Refusal::Deposed { .. }) => {}
                        other => panic!("round {round}: {other:?}"),
                    }
                }
            }
            cluster.now = cluster.now.after(10_000);
        }
        assert!(unanswered.is_empty(), "round {round}: {unanswered:?}");
    }
    assert_eq!(cluster.assignment(0).epoch, Epoch(21));
    assert!(turns_without_primary < 20 * 10, "{turns_without_primary} turns");
    assert_agree(&mut cluster, 0);
    let primary = cluster.primary(0).unwrap();
    assert_eq!(cluster.workers[primary].replica(PartitionId(0)).unwrap().0.table(T).unwrap().len(), next);
}

#[test]
fn what_comes_again_during_a_hand_over_is_left_to_the_next_primary() {
    let mut cluster = Cluster::new(2, 2);
    cluster.low = 1;
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "once");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    // The next one may have answered already, and the row may be another one by now.
    cluster.name_successor(0, 1);
    cluster.insert(proxy, 0, 1, 1, "once");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::Deposed { have: MapVersion(2) })]);
}

#[test]
fn a_hand_over_that_is_off_opens_the_gate_again() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 9);
    cluster.name_successor(0, 1);
    cluster.insert(proxy, 0, 1, 1, "refused");
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::StaleMap { have: MapVersion(2) })]);
    // The catalog waits, too.
    let mut table = accounts();
    table.version = CatalogVersion(3);
    cluster.catalogs_applied.clear();
    cluster.change_catalog(&table);
    assert!(cluster.catalogs_applied.iter().all(|(worker, ..)| *worker == 1));
    cluster.advance(210_000);
    assert!((2..=4).contains(&cluster.proposals.len()), "{:?}", cluster.proposals);
    cluster.change_assignment(0, |assignment| assignment.successor = None);
    cluster.run();
    assert!(cluster.catalogs_applied.iter().any(|(worker, ..)| *worker == 0));
    for (number, plan) in cluster::plans(CatalogVersion(3)) {
        cluster.register(proxy, 100 + number, &plan);
    }
    let bytes = cluster::row(&named(1, "taken"));
    let body = toroid_common::wire::RequestBody::Insert { rows: 1, bytes: &bytes };
    cluster.request(proxy, 0, 2, 100 + cluster::INSERT, body);
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(2, 1)]);
    assert_agree(&mut cluster, 0);
}

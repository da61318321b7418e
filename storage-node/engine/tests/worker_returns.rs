//! Replicas that the map gave up on while their process lived: what they held is worth keeping, and where it stops being so.

mod cluster;
mod fixture;

use cluster::metadata::id;
use cluster::{Cluster, Got};
use fixture::{T, content};
use toroid_common::id::{Epoch, PartitionId};
use toroid_engine::worker::Role;

const P: PartitionId = PartitionId(0);

/// Partition 0's replicas have the same rows, answers and positions.
fn assert_agree(cluster: &mut Cluster) {
    cluster.advance(100_000);
    let assignment = cluster.assignment(0).clone();
    let of = |worker: toroid_common::id::WorkerId| {
        let (root, appended) = cluster.workers[worker.node.0 as usize - 1].replica(P).unwrap();
        assert_eq!(root.lsn(), appended);
        root
    };
    let expected = of(assignment.primary.unwrap());
    assert!(!assignment.backups.is_empty());
    for backup in assignment.backups {
        let found = of(backup);
        assert_eq!((found.lsn(), &found.answers), (expected.lsn(), &expected.answers));
        let (one, other) = (found.table(T).unwrap(), expected.table(T).unwrap());
        assert_eq!(content(one), content(other));
        assert_eq!(one.next_position(), other.next_position());
    }
}

/// Acknowledged rows of 200 bytes.
fn fill(cluster: &mut Cluster, proxy: usize, rows: std::ops::Range<u64>) {
    let count = rows.end - rows.start;
    for number in rows {
        cluster.insert(proxy, 0, number, number as i32, &format!("{number:0200}"));
        if number % 100 == 0 {
            cluster.run();
        }
    }
    cluster.run();
    let answered = cluster.take(proxy).iter().filter(|got| matches!(got, Got::Done(..))).count();
    assert_eq!(answered as u64, count);
}

/// Two workers, two copies; partition 0's backup is silent for so long that it is dropped.
fn dropped(rows: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::new(2, 2);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1..rows + 1);
    cluster.split(0, 1);
    cluster.insert(proxy, 0, rows + 1, -1, "on its way");
    cluster.advance(500_000);
    assert_eq!((cluster.assignment(0).copies(), cluster.take(proxy)), (1, vec![Got::Done(rows + 1, 1)]));
    assert_eq!(cluster.workers[1].view(P), None, "what it keeps is no replica");
    (cluster, proxy)
}

/// Roots sent, and replicas that needed none.
fn joins(cluster: &Cluster, worker: usize) -> (u64, u64) {
    let counters = cluster.workers[worker].counters();
    (counters.roots_sent, counters.joined_by_tail)
}

#[test]
fn a_backup_that_was_silent_needs_the_end_of_the_log_only() {
    let (mut cluster, proxy) = dropped(2_000);
    fill(&mut cluster, proxy, 3_000..3_300);
    let (sent, bytes) = (cluster.workers[0].counters().append_entries, cluster.workers[0].counters().root_bytes);
    cluster.heal();
    cluster.join(0, 1);
    cluster.advance(100_000);
    assert_eq!(cluster.assignment(0).backups, [id(1)]);
    assert_eq!(joins(&cluster, 0), (0, 1));
    let counters = cluster.workers[0].counters();
    assert_eq!(counters.root_bytes, bytes);
    assert!((300..320).contains(&(counters.append_entries - sent)), "{counters:?}");
    assert_agree(&mut cluster);
    // Nothing is kept once all are there.
    fill(&mut cluster, proxy, 4_000..4_001);
    assert_agree(&mut cluster);
}

#[test]
fn the_end_of_the_log_is_there_sooner_than_a_root() {
    let took = |keeps: bool| {
        let (mut cluster, proxy) = dropped(20_000);
        fill(&mut cluster, proxy, 30_000..30_050);
        if !keeps {
            cluster.replace(1, 1 << 30);
        }
        cluster.heal();
        let at = cluster.now;
        cluster.join(0, 1);
        let mut turns = 0;
        while cluster.assignment(0).copies() < 2 {
            cluster.pass(1_000);
            turns += 1;
            assert!(turns < 2_000);
        }
        assert_eq!(joins(&cluster, 0), if keeps { (0, 1) } else { (1, 0) });
        let counters = cluster.workers[0].counters();
        (cluster.now.0 - at.0, counters.root_bytes)
    };
    let ((tail, tail_bytes), (root, root_bytes)) = (took(true), took(false));
    assert!(tail * 5 < root && tail_bytes == 0 && root_bytes > 4_000_000, "{tail} and {root} µs, {root_bytes} bytes");
}

/// Three workers; partition 0's primary hears of nobody.
fn paused_primary() -> (Cluster, usize) {
    let mut cluster = Cluster::new(3, 2);
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1..1_001);
    cluster.deaf.insert(0);
    (1..3).for_each(|other| cluster.split(0, other));
    (cluster, proxy)
}

/// The former primary joins the one after it, which has written in the meantime.
fn come_back(cluster: &mut Cluster) {
    let other = cluster.proxy(1, 9);
    fill(cluster, other, 2_000..2_100);
    cluster.heal();
    cluster.hear();
    cluster.join(0, 0);
    cluster.advance(200_000);
    assert_eq!(cluster.assignment(0).backups, [id(0)]);
}

#[test]
fn a_primary_that_was_paused_comes_back_with_what_was_acknowledged() {
    let (mut cluster, _) = paused_primary();
    cluster.expire(0, |_| 0);
    assert_eq!(cluster.primary(0), Some(1));
    come_back(&mut cluster);
    assert_eq!(joins(&cluster, 1), (0, 1));
    assert_agree(&mut cluster);
}

#[test]
fn a_primary_that_applied_what_was_not_acknowledged_needs_a_root() {
    let (mut cluster, proxy) = paused_primary();
    cluster.insert(proxy, 0, 5_000, 5_000, "nobody else has it");
    cluster.expire(0, |_| 0);
    come_back(&mut cluster);
    assert_eq!(joins(&cluster, 1), (1, 0));
    assert_agree(&mut cluster);
    let rows = cluster.workers[0].replica(P).unwrap().0.table(T).unwrap().len();
    assert_eq!(rows, 1_100, "the row that nobody was told of is gone");
}

#[test]
fn a_replica_that_joins_goes_on_when_the_epoch_or_the_primary_changes() {
    let mut cluster = Cluster::new(3, 2);
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1..1_001);
    cluster.join(0, 2);
    cluster.advance(50_000);
    assert_eq!(cluster.workers[2].view(P).map(|view| view.role), Some(Role::Joining));
    // First the connection is lost, then the epoch changes, then the primary.
    cluster.disconnect(0, 2);
    for number in 2_000..2_010 {
        cluster.insert(proxy, 0, number, number as i32, "while it is away");
    }
    cluster.change_assignment(0, |assignment| assignment.epoch = Epoch(2));
    cluster.insert(proxy, 0, 2_010, 2_010, "in another epoch");
    cluster.advance(100_000);
    assert_eq!(cluster.take(proxy).len(), 11);
    assert_eq!(joins(&cluster, 0), (1, 0));
    let proposed = cluster.proposals.len();
    cluster.advance(100_000);
    assert!(cluster.proposals.len() > proposed, "it has caught up again: {:?}", cluster.proposals);
    cluster.change_assignment(0, |assignment| {
        assignment.epoch = Epoch(3);
        assignment.backups = assignment.primary.replace(id(1)).into_iter().collect();
    });
    cluster.decides = true;
    cluster.advance(200_000);
    assert_eq!((cluster.primary(0), cluster.assignment(0).backups.len()), (Some(1), 2));
    assert_eq!((joins(&cluster, 0), joins(&cluster, 1)), ((1, 0), (0, 1)));
    assert_agree(&mut cluster);
}

#[test]
fn too_long_a_log_is_not_kept() {
    let (mut cluster, proxy) = dropped(10);
    let large = "x".repeat(1 << 20);
    for number in 100..120 {
        cluster.insert(proxy, 0, number, number as i32, &large);
    }
    cluster.run();
    assert_eq!(cluster.take(proxy).len(), 20);
    cluster.heal();
    cluster.join(0, 1);
    cluster.advance(500_000);
    assert_eq!(cluster.assignment(0).backups, [id(1)]);
    assert_eq!(joins(&cluster, 0), (1, 0));
    assert_agree(&mut cluster);
}

#[test]
fn who_stays_away_for_long_is_not_waited_for() {
    let (mut cluster, proxy) = dropped(1_000);
    let before = cluster.workers[1].memory();
    for _ in 0..40 {
        cluster.advance(1_000_000);
    }
    assert!(cluster.workers[1].memory() + 200_000 < before, "its memory is given back");
    cluster.heal();
    fill(&mut cluster, proxy, 3_000..3_001);
    cluster.join(0, 1);
    cluster.advance(100_000);
    assert_eq!(joins(&cluster, 0), (1, 0));
    assert_agree(&mut cluster);
}

#[test]
fn what_all_copies_are_there_of_without_it_is_not_kept() {
    let mut cluster = Cluster::new(3, 2);
    cluster.decides = true;
    let empty = cluster.workers[1].memory();
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1..1_001);
    cluster.split(0, 1);
    fill(&mut cluster, proxy, 0..0);
    cluster.insert(proxy, 0, 2_000, 2_000, "drops it");
    cluster.advance(500_000);
    assert_eq!(cluster.take(proxy).len(), 1);
    assert!(cluster.workers[1].memory() > empty + 200_000);
    cluster.join(0, 2);
    cluster.advance(200_000);
    assert_eq!(cluster.assignment(0).backups, [id(2)]);
    assert!(cluster.workers[1].memory() < empty + 10_000);
}

#[test]
fn what_is_kept_makes_room_when_the_memory_is_needed() {
    let mut cluster = Cluster::bare(2, 2, 4 << 20);
    cluster.change_catalog(&cluster::accounts());
    cluster.decides = true;
    let proxy = cluster.proxy(0, 9);
    fill(&mut cluster, proxy, 1..6_001);
    cluster.split(0, 1);
    cluster.insert(proxy, 0, 7_000, -1, "drops it");
    cluster.advance(500_000);
    let kept = cluster.workers[1].memory();
    assert!(kept > 1 << 20, "{kept}");
    cluster.expire(0, |_| 0);
    let other = cluster.proxy(1, 9);
    for number in 10_000..22_000u64 {
        cluster.insert(other, 1, number, number as i32, &format!("{number:0200}"));
        if number % 100 == 0 {
            cluster.run();
        }
    }
    cluster.run();
    let done = cluster.take(other).iter().filter(|got| matches!(got, Got::Done(..))).count();
    assert!(done > 9_000, "{done} rows of the partition that is here have room");
}

#[test]
fn what_began_anew_has_nothing_of_before() {
    let (mut cluster, _) = dropped(1_000);
    cluster.heal();
    cluster.change_assignment(0, |assignment| {
        *assignment = toroid_common::map::Assignment::fresh(Epoch(assignment.epoch.0 + 1), id(0), vec![]);
        assignment.joining.push(id(1));
    });
    cluster.advance(200_000);
    assert_eq!(cluster.assignment(0).backups, [id(1)]);
    assert_eq!(cluster.workers[1].replica(P).unwrap().0.table(T).unwrap().len(), 0);
    assert_agree(&mut cluster);
}

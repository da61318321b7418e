//! Primaries and backups: what is acknowledged, what is applied, and that replicas end with the same state.

mod cluster;
mod fixture;

use cluster::{Cluster, Got, INSERT, RENAME, UPDATE, accounts, named, plans, row};
use fixture::{Random, T, catalog, content, index};
use std::sync::Arc;
use toroid_common::catalog::{IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Incarnation, Lsn, PartitionId, RequestId};
use toroid_common::wire::{FragmentOutcome, Message, RequestBody};
use toroid_engine::worker::Event;

fn lsns(cluster: &Cluster, worker: usize, partition: u16) -> (Lsn, Lsn) {
    let (root, appended) = cluster.workers[worker].replica(PartitionId(partition)).unwrap();
    (root.lsn(), appended)
}

/// Every replica of every partition has the rows and answers of its primary.
fn assert_replicas_agree(cluster: &mut Cluster) {
    cluster.advance(100_000);
    for (partition, assignment) in cluster.map.partitions.iter().enumerate() {
        let partition = PartitionId(partition as u16);
        let primary = &cluster.workers[assignment.primary.unwrap().node.0 as usize - 1];
        let (expected, _) = primary.replica(partition).unwrap();
        for backup in &assignment.backups {
            let (root, appended) = cluster.workers[backup.node.0 as usize - 1].replica(partition).unwrap();
            assert_eq!((root.lsn(), appended), (expected.lsn(), expected.lsn()));
            assert_eq!(root.catalog(), expected.catalog());
            assert_eq!(content(root.table(T).unwrap()), content(expected.table(T).unwrap()));
            for sequence in 0..2_000 {
                let request = RequestId { proxy: Incarnation(1), sequence };
                assert_eq!(root.answers.get(request), expected.answers.get(request));
            }
        }
    }
}

#[test]
fn a_backup_applies_only_what_is_acknowledged() {
    let mut cluster = Cluster::new(3, 3);
    cluster.advance(50_000);
    let proxy = cluster.proxy(0, 1);
    let before = lsns(&cluster, 1, 0).0;
    cluster.freeze(0, 2);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.advance(50_000);
    assert_eq!(lsns(&cluster, 0, 0), (before.next(), before.next()), "the primary applies at once");
    assert_eq!(lsns(&cluster, 1, 0), (before, before.next()), "the backup holds the entry and does not apply it");
    assert_eq!(lsns(&cluster, 2, 0), (before, before));
    cluster.thaw();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    // No entry follows that could bring the news: it comes by itself.
    cluster.advance(50_000);
    for worker in 0..3 {
        assert_eq!(lsns(&cluster, worker, 0), (before.next(), before.next()));
    }
}

#[test]
fn entries_are_sent_again_over_a_new_connection_and_held_once() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    cluster.freeze(1, 0);
    for id in 0..10 {
        cluster.insert(proxy, 0, 1 + id as u64, id, "before");
        cluster.run();
    }
    assert_eq!(cluster.take(proxy), [], "the backup has the entries, its confirmations are under way");
    cluster.disconnect(0, 1);
    cluster.insert(proxy, 0, 11, 10, "while disconnected");
    cluster.run();
    cluster.thaw();
    cluster.advance(200_000);
    assert_eq!(cluster.take(proxy).len(), 11);
    assert_replicas_agree(&mut cluster);
}

#[test]
fn replicas_end_with_the_same_state_whatever_happens_to_connections() {
    for seed in 1..12 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut cluster = Cluster::new(3, 1 + (seed as usize % 3));
        let proxies: Vec<usize> = (0..3).map(|worker| cluster.proxy(worker, 1)).collect();
        let mut answered = 0;
        let mut sequence = 0;
        for _ in 0..400 {
            sequence += 1;
            let partition = random.below(3) as usize;
            let (proxy, id) = (proxies[partition], random.below(40) as i32);
            match random.below(9) {
                0..4 => cluster.insert(proxy, partition, sequence, id, &"i".repeat(id as usize)),
                4..6 => cluster.update(proxy, partition, sequence, id, "updated"),
                6 => cluster.delete(proxy, partition, sequence, id),
                7 => cluster.select(proxy, partition, sequence, id),
                _ => {
                    let params = row(&[Datum::Text("updated".to_owned()), Datum::Text(format!("n{sequence}"))]);
                    cluster.request(proxy, partition, sequence, RENAME, RequestBody::Point { params: &params });
                }
            }
            match random.below(20) {
                0 => {
                    let (a, b) = (random.below(3) as usize, random.below(3) as usize);
                    cluster.disconnect(a, b);
                }
                1 => cluster.freeze(random.below(3) as usize, random.below(3) as usize),
                2 => cluster.thaw(),
                3..8 => cluster.run(),
                8 => cluster.advance(30_000),
                _ => {}
            }
        }
        cluster.thaw();
        cluster.advance(500_000);
        for proxy in proxies {
            answered += cluster.take(proxy).len();
        }
        assert_eq!(answered, 400, "seed {seed}: every request is answered in the end");
        assert_replicas_agree(&mut cluster);
    }
}

#[test]
fn a_catalog_is_reported_when_all_partitions_have_it_acknowledged() {
    let mut cluster = Cluster::new(3, 2);
    assert_eq!(cluster.catalogs_applied.len(), 3);
    cluster.freeze(0, 1);
    let mut table = accounts();
    table.version = CatalogVersion(3);
    cluster.change_catalog(&table);
    let reported: Vec<_> = cluster.catalogs_applied.iter().filter(|(_, version, _)| version.0 == 3).collect();
    assert_eq!(reported, [&(2, CatalogVersion(3), Ok(())), &(1, CatalogVersion(3), Ok(()))]);
    cluster.thaw();
    assert_eq!(cluster.catalogs_applied.last(), Some(&(0, CatalogVersion(3), Ok(()))));
    assert_replicas_agree(&mut cluster);
}

#[test]
fn an_index_is_built_while_requests_are_answered() {
    const ROWS: i32 = 3_000;
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    let mut sequence = 0;
    let mut next = || {
        sequence += 1;
        sequence
    };
    for id in 0..ROWS {
        cluster.insert(proxy, 0, next(), id, &format!("name of {id}"));
    }
    cluster.run();
    cluster.take(proxy);
    let mut table = accounts();
    table.version = CatalogVersion(3);
    let mut names = index(20_002, "names", &[1], true);
    names.state = IndexState::Building;
    table.indexes.push(names);
    for worker in 0..2 {
        cluster.step(worker, Event::CatalogChanged(catalog(&table)));
    }
    let proxy = cluster.proxy(0, 2);
    for (id, plan) in plans(CatalogVersion(3)) {
        cluster.register(proxy, id + 10, &plan);
    }
    let mut turns = 0;
    while !cluster.catalogs_applied.iter().any(|(worker, version, _)| (*worker, version.0) == (0, 3)) {
        let (id, at) = (ROWS + turns, next());
        let values = row(&named(id, &format!("name of {id}")));
        cluster.request(proxy, 0, at, INSERT + 10, RequestBody::Insert { rows: 1, bytes: &values });
        let at = next();
        let params = row(&[Datum::Int4(turns * 200 % ROWS), Datum::Text(format!("changed {turns}"))]);
        cluster.request(proxy, 0, at, UPDATE + 10, RequestBody::Point { params: &params });
        cluster.turn();
        turns += 1;
        assert!(turns < 1_000, "the index is never there");
    }
    assert!(turns > 10, "it was built in {turns} turns");
    cluster.run();
    let answers = cluster.take(proxy);
    assert_eq!(answers.len(), 2 * turns as usize);
    assert!(answers.iter().all(|got| matches!(got, Got::Done(_, 1))), "{answers:?}");
    // From now on its keys are unique.
    let at = next();
    let values = row(&named(-1, "changed 0"));
    cluster.request(proxy, 0, at, INSERT + 10, RequestBody::Insert { rows: 1, bytes: &values });
    cluster.run();
    assert!(matches!(&cluster.take(proxy)[..], [Got::Error(_, error)] if error.state() == SqlState::UNIQUE_VIOLATION));
    assert_replicas_agree(&mut cluster);
    for worker in &cluster.workers {
        let rows = worker.replica(PartitionId(0)).unwrap().0.table(T).unwrap();
        assert_eq!(rows.indexes()[1].len() as u64, rows.len());
    }
}

#[test]
fn an_index_that_finds_no_memory_is_reported() {
    let mut cluster = Cluster::bare(1, 1, 400_000);
    cluster.change_catalog(&accounts());
    let proxy = cluster.proxy(0, 1);
    for id in 0..100_000 {
        cluster.insert(proxy, 0, 1 + id as u64, id, "n");
        if cluster.take(proxy).iter().any(|got| matches!(got, Got::Error(..))) {
            break;
        }
    }
    let mut table = accounts();
    table.version = CatalogVersion(3);
    let mut names = index(20_002, "names", &[1], false);
    names.state = IndexState::Building;
    table.indexes.push(names);
    cluster.change_catalog(&table);
    let (_, version, result) = cluster.catalogs_applied.last().unwrap();
    assert_eq!((version.0, result.clone().unwrap_err().state()), (3, SqlState::OUT_OF_MEMORY));
    cluster.change_catalog(&Table { version: CatalogVersion(4), ..accounts() });
    assert!(cluster.workers[0].is_idle());
}

#[test]
fn an_index_that_rows_violate_is_reported() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    for id in 0..5 {
        cluster.insert(proxy, 0, 1 + id as u64, id, if id == 3 { "three" } else { "same" });
    }
    cluster.run();
    let mut table = accounts();
    table.version = CatalogVersion(3);
    let mut names = index(20_002, "names", &[1], true);
    names.state = IndexState::Building;
    table.indexes.push(names);
    cluster.change_catalog(&table);
    let find = |worker| cluster.catalogs_applied.iter().find(|(w, v, _)| (*w, v.0) == (worker, 3)).unwrap();
    assert_eq!(find(1).2, Ok(()));
    let error = find(0).2.clone().unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.message(), "could not create unique index \"names\"");
    assert_eq!(error.detail(), Some("Key (name)=(same) is duplicated."));
    let mut table = accounts();
    table.version = CatalogVersion(4);
    cluster.change_catalog(&table);
    assert!(
        cluster.catalogs_applied.iter().filter(|(_, version, _)| version.0 == 4).all(|(_, _, result)| result.is_ok())
    );
    assert_replicas_agree(&mut cluster);
}

#[test]
fn a_fragments_batches_wait_for_what_its_roots_saw() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    cluster.freeze(0, 1);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.run();
    cluster.send(proxy, &fragment(2));
    let mut lent = cluster.fragments.pop().unwrap();
    assert_eq!((lent.roots.len(), lent.credit), (1, 3));
    assert_eq!(content(lent.roots[0].1.table(T).unwrap()).len(), 1, "the root has what is applied");
    cluster.batch(&lent, b"first");
    cluster.insert(proxy, 0, 3, 8, "eight");
    let roots = std::mem::take(&mut lent.roots);
    let outcome = FragmentOutcome::Done { rows: 1 };
    cluster.step(0, Event::FragmentFinished { ticket: lent.ticket, roots, outcome: outcome.clone() });
    assert_eq!(cluster.take(proxy), []);
    cluster.thaw();
    let got = cluster.take(proxy);
    assert!(got.contains(&Got::Done(1, 1)) && got.contains(&Got::Done(3, 1)));
    let end = got.iter().position(|got| *got == Got::End(2, outcome.clone())).unwrap();
    assert_eq!(got[end - 1], Got::Batch(2, b"first".to_vec()));
    assert_eq!(cluster.workers[0].outside(), 0);
}

#[test]
fn a_fragment_that_nobody_wants_is_cancelled_and_its_roots_come_back() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.send(proxy, &fragment(2));
    cluster.send(proxy, &Message::FragmentCredit { sequence: 2, batches: 1 });
    cluster.send(proxy, &Message::FragmentCancel { sequence: 2 });
    cluster.send(proxy, &fragment(3));
    cluster.close_proxy(proxy);
    assert_eq!(cluster.events, [(0, "credit"), (0, "cancel"), (0, "cancel")]);
    cluster.take(proxy);
    for lent in std::mem::take(&mut cluster.fragments) {
        cluster.batch(&lent, b"late");
        let outcome = FragmentOutcome::Done { rows: 0 };
        cluster.step(0, Event::FragmentFinished { ticket: lent.ticket, roots: lent.roots, outcome });
    }
    assert_eq!(cluster.take(proxy), []);
    assert_eq!(cluster.workers[0].outside(), 0);
}

fn fragment(sequence: u64) -> Message<'static> {
    Message::Fragment(toroid_common::wire::Fragment {
        sequence,
        credit: 3,
        cut: None,
        within: None,
        coordinator: toroid_common::id::Incarnation::default(),
        earlier: Vec::new(),
        partitions: vec![(PartitionId(0), toroid_common::id::Epoch(1))],
        tables: vec![(T, CatalogVersion(2))],
        env: &[],
        plan: b"plan",
    })
}

#[test]
fn a_tables_rows_survive_other_tables_changes() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.run();
    let mut catalog = (*fixture::catalog(&accounts())).clone();
    catalog.version = CatalogVersion(3);
    let mut other = accounts();
    other.id = toroid_common::id::TableId(30_000);
    other.version = CatalogVersion(3);
    catalog.tables.insert(other.id, Arc::new(other));
    cluster.change_catalog_to(&Arc::new(catalog));
    // The plan was made for version 2 of its table, which is what the table still has.
    cluster.select(proxy, 0, 2, 7);
    assert_eq!(cluster.take(proxy).last(), Some(&Got::Rows(2, vec![named(7, "seven")])));
    assert_replicas_agree(&mut cluster);
}

//! What proxies are answered, and when: the reply gate, identities, refusals, the lease.

mod cluster;
mod fixture;

use cluster::transactions::Session;
use cluster::{Cluster, DELETE, Got, INSERT, RENAME, SELECT, UPDATE, accounts, named, row};
use std::sync::Arc;
use toroid_common::calls::{Calls, Event as CallEvent};
use toroid_common::catalog::TableState;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{
    CatalogVersion, Epoch, Incarnation, MapVersion, NodeId, PartitionId, PlanId, TableId, WorkerId,
};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Message, Refusal, Request, RequestBody};
use toroid_engine::gate::Time;
use toroid_engine::worker::Event;

#[test]
fn answers_wait_until_all_backups_hold_what_they_saw() {
    let mut cluster = Cluster::new(3, 3);
    let proxy = cluster.proxy(0, 1);
    cluster.freeze(0, 2);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.select(proxy, 0, 2, 7);
    cluster.insert(proxy, 0, 3, 7, "again");
    cluster.select(proxy, 0, 4, 8);
    cluster.run();
    assert_eq!(cluster.take(proxy), [], "one of two backups is not enough");
    cluster.thaw();
    let got = cluster.take(proxy);
    assert_eq!(got[..2], [Got::Done(1, 1), Got::Rows(2, vec![named(7, "seven")])]);
    let Got::Error(3, error) = &got[2] else { panic!("{got:?}") };
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.message(), "duplicate key value violates unique constraint \"t_pkey\"");
    assert_eq!(error.detail(), Some("Key (id)=(7) already exists."));
    assert_eq!(got[3], Got::Rows(4, vec![]));
    // Nothing is pending: a read leaves at once.
    cluster.select(proxy, 0, 5, 7);
    assert_eq!(cluster.take(proxy), [Got::Rows(5, vec![named(7, "seven")])]);
}

#[test]
fn without_backups_answers_leave_at_once() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.update(proxy, 0, 2, 7, "eight");
    cluster.select(proxy, 0, 3, 7);
    cluster.delete(proxy, 0, 4, 7);
    cluster.delete(proxy, 0, 5, 7);
    let expected =
        [Got::Done(1, 1), Got::Done(2, 1), Got::Rows(3, vec![named(7, "eight")]), Got::Done(4, 1), Got::Done(5, 0)];
    assert_eq!(cluster.take(proxy), expected);
}

#[test]
fn a_request_that_is_sent_again_is_executed_once() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 7, "seven");
    // Again while the first still waits for its backup, then over a new connection, then beside an entry of another proxy.
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), Got::Done(1, 1)]);
    cluster.close_proxy(proxy);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 7, "seven");
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1)]);
    let other = cluster.proxy(0, 10);
    cluster.insert(other, 0, 1, 7, "another proxy's first request");
    cluster.run();
    assert!(matches!(cluster.take(other)[..], [Got::Error(1, _)]));
    cluster.insert(proxy, 0, 5, 8, "eight");
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::BelowMark), Got::Done(5, 1)]);
    // Both replicas know the answers.
    cluster.advance(100_000);
    for worker in &cluster.workers {
        let (root, _) = worker.replica(PartitionId(0)).unwrap();
        assert_eq!(root.answers.lowest(Incarnation(9)), 5);
    }
}

#[test]
fn another_epoch_and_another_workers_partition_are_refused() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    let stale = Refusal::StaleMap { have: MapVersion(1) };
    cluster.select(proxy, 1, 1, 7);
    assert_eq!(cluster.take(proxy), [Got::Refused(1, stale)]);
    cluster.select(proxy, 4_000, 2, 7);
    assert_eq!(cluster.take(proxy), [Got::Refused(2, stale)]);
    for epoch in [0, 2] {
        let params = row(&[Datum::Int4(1)]);
        let request = Request {
            sequence: 3,
            low: 3,
            partition: PartitionId(0),
            epoch: Epoch(epoch),
            plan: PlanId(SELECT),
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body: RequestBody::Point { params: &params },
        };
        cluster.send(proxy, &Message::Request(request));
        assert_eq!(cluster.take(proxy), [Got::Refused(3, stale)]);
    }
}

#[test]
fn plans_of_other_catalogs_are_refused() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    cluster.request(proxy, 0, 1, 99, RequestBody::Point { params: &[] });
    assert_eq!(cluster.take(proxy), [Got::Refused(1, Refusal::UnknownPlan)]);
    for (id, plan) in cluster::plans(CatalogVersion(3)) {
        cluster.register(proxy, id + 100, &plan);
    }
    let params = row(&[Datum::Int4(1)]);
    cluster.request(proxy, 0, 2, 100 + SELECT, RequestBody::Point { params: &params });
    assert_eq!(cluster.take(proxy), [Got::Refused(2, Refusal::BehindCatalog { have: CatalogVersion(2) })]);
    let mut table = accounts();
    table.version = CatalogVersion(3);
    table.state = TableState::Moving { to: TableId(30_000) };
    cluster.change_catalog(&table);
    cluster.select(proxy, 0, 3, 1);
    cluster.request(proxy, 0, 4, 100 + SELECT, RequestBody::Point { params: &params });
    cluster.request(proxy, 0, 5, 100 + DELETE, RequestBody::Point { params: &params });
    let expected = [
        Got::Refused(3, Refusal::StaleCatalog { have: CatalogVersion(3) }),
        Got::Rows(4, vec![]),
        Got::Refused(5, Refusal::Moving { have: CatalogVersion(3) }),
    ];
    assert_eq!(cluster.take(proxy), expected);
}

#[test]
fn without_a_lease_nothing_is_answered() {
    let mut cluster = Cluster::bare(1, 1, 1 << 30);
    cluster.change_catalog(&accounts());
    let proxy = cluster.proxy(0, 1);
    // A lease that never ends cannot be taken away: a worker of its own, whose lease is short.
    let map = Arc::clone(&cluster.map);
    let identity = toroid_engine::worker::Identity {
        cluster: cluster::CLUSTER,
        worker: map.nodes[0].id.into_worker(),
        incarnation: map.nodes[0].incarnation,
        memory: 1 << 30,
    };
    cluster.workers[0] = toroid_engine::worker::Worker::new(identity);
    cluster.step(0, Event::MapChanged(map));
    cluster.change_catalog(&accounts());
    assert_eq!(cluster.catalogs_applied.len(), 1, "the catalog's confirmation waits for the lease, too");
    cluster.close_proxy(proxy);
    let proxy = cluster.proxy(0, 1);
    cluster.insert(proxy, 0, 1, 7, "seven");
    cluster.select(proxy, 0, 2, 7);
    cluster.advance(10_000);
    assert_eq!(cluster.take(proxy), []);
    let until = cluster.now.after(5_000);
    cluster.step(0, Event::LeaseRenewed { until });
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), Got::Rows(2, vec![named(7, "seven")])]);
    assert_eq!(cluster.catalogs_applied.len(), 2);
    cluster.select(proxy, 0, 3, 7);
    assert_eq!(cluster.take(proxy), [Got::Rows(3, vec![named(7, "seven")])]);
    cluster.now = until;
    cluster.select(proxy, 0, 4, 7);
    assert_eq!(cluster.take(proxy), []);
    cluster.step(0, Event::LeaseRenewed { until: Time(3) });
    assert_eq!(cluster.take(proxy), [], "a renewal that was sent long ago renews nothing");
    let until = cluster.now.after(5_000);
    cluster.step(0, Event::LeaseRenewed { until });
    assert_eq!(cluster.take(proxy), [Got::Rows(4, vec![named(7, "seven")])]);
}

trait IntoWorker {
    fn into_worker(self) -> toroid_common::id::WorkerId;
}

impl IntoWorker for toroid_common::id::NodeId {
    fn into_worker(self) -> toroid_common::id::WorkerId {
        toroid_common::id::WorkerId { node: self, index: 0 }
    }
}

#[test]
fn a_write_without_a_key_judges_the_rows_as_they_are_now() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    for id in 0..4 {
        cluster.insert(proxy, 0, 1 + id as u64, id, "old");
    }
    cluster.run();
    cluster.take(proxy);
    cluster.hold_scans = true;
    let params = row(&[Datum::Text("old".to_owned()), Datum::Text("new".to_owned())]);
    cluster.request(proxy, 0, 10, RENAME, RequestBody::Point { params: &params });
    // While its rows are looked for, one of them is changed and one goes.
    let other = cluster.proxy(0, 2);
    cluster.update(other, 0, 1, 1, "other");
    cluster.delete(other, 0, 2, 2);
    cluster.run();
    assert_eq!(cluster.take(other), [Got::Done(1, 1), Got::Done(2, 1)]);
    cluster.hold_scans = false;
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Rows(10, vec![named(0, "new"), named(3, "new")])]);
    // Its answer is remembered like any other.
    cluster.request(proxy, 0, 10, RENAME, RequestBody::Point { params: &params });
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Rows(10, vec![named(0, "new"), named(3, "new")])]);
}

#[test]
fn a_batch_of_rows_is_inserted_whole_or_not_at_all() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    let batch = |ids: &[i32]| ids.iter().flat_map(|id| row(&named(*id, "x"))).collect::<Vec<u8>>();
    let insert = |cluster: &mut Cluster, sequence, ids: &[i32]| {
        let bytes = batch(ids);
        let body = RequestBody::Insert { rows: ids.len() as u32, bytes: &bytes };
        cluster.request(proxy, 0, sequence, INSERT, body);
        cluster.run();
    };
    insert(&mut cluster, 1, &[1, 2, 3]);
    insert(&mut cluster, 2, &[4, 5, 2, 6]);
    insert(&mut cluster, 3, &[7, 8, 7]);
    let got = cluster.take(proxy);
    assert!(matches!(got[..], [Got::Done(1, 3), Got::Error(2, _), Got::Error(3, _)]), "{got:?}");
    for (sequence, id) in [(4, 4), (5, 7)] {
        cluster.select(proxy, 0, sequence, id);
    }
    assert_eq!(cluster.take(proxy), [Got::Rows(4, vec![]), Got::Rows(5, vec![])]);
}

#[test]
fn at_the_memory_limit_reads_and_deletes_go_on() {
    let mut cluster = Cluster::bare(1, 1, 4 << 20);
    cluster.change_catalog(&accounts());
    let proxy = cluster.proxy(0, 1);
    let mut id = 0;
    let error = loop {
        cluster.insert(proxy, 0, 1 + id as u64, id, &format!("{id:10000}"));
        match cluster.take(proxy).pop() {
            Some(Got::Done(..)) => id += 1,
            Some(Got::Error(_, error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
    assert!((50..1_000).contains(&id), "{id} rows in {} bytes", cluster.workers[0].memory());
    cluster.select(proxy, 0, 10_000, 3);
    cluster.delete(proxy, 0, 10_001, 3);
    let got = cluster.take(proxy);
    assert!(matches!(&got[..], [Got::Rows(_, rows), Got::Done(_, 1)] if rows.len() == 1), "{:?}", got.last());
}

#[test]
fn peers_that_break_the_rules_are_cut_off() {
    let mut cluster = Cluster::new(2, 2);
    let stranger = cluster.stranger(0);
    cluster.select(stranger, 0, 1, 7);
    assert_eq!(cluster.closed.pop().as_deref(), Some("a request from a peer that is no proxy"));
    let proxy = cluster.proxy(0, 1);
    cluster.send(proxy, &Message::FragmentCancel { sequence: 1 });
    assert_eq!(cluster.closed.pop(), None);
    let bytes = row(&named(1, "x"));
    cluster.request(proxy, 0, 1, SELECT, RequestBody::Insert { rows: 1, bytes: &bytes });
    assert_eq!(cluster.closed.pop().as_deref(), Some("a request that does not fit its plan"));
    let proxy = cluster.proxy(0, 1);
    cluster.request(proxy, 0, 2, SELECT, RequestBody::Point { params: &[1, 2] });
    cluster.request(proxy, 0, 3, INSERT, RequestBody::Insert { rows: 2, bytes: &bytes });
    cluster.run();
    let got = cluster.take(proxy);
    assert!(matches!(got[..], [Got::Error(2, _), Got::Error(3, _)]), "{got:?}");
}

#[test]
fn what_is_withdrawn_is_not_executed_any_more() {
    let mut cluster = Cluster::new(3, 3);
    cluster.low = 1;
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "executed");
    cluster.run();
    cluster.request(proxy, 0, 1, INSERT, RequestBody::Withdraw);
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), Got::Done(1, 1)], "too late: it is answered as it was");
    // That it will not be executed is said when all replicas know it.
    cluster.freeze(0, 2);
    cluster.request(proxy, 0, 2, 99, RequestBody::Withdraw);
    cluster.run();
    cluster.insert(proxy, 0, 2, 2, "a copy that was under way");
    cluster.run();
    assert_eq!(cluster.take(proxy), []);
    cluster.thaw();
    let withdrawn = |sequence| Got::Refused(sequence, Refusal::Withdrawn);
    assert_eq!(cluster.take(proxy), [withdrawn(2), withdrawn(2)]);
    // Whoever is primary next knows it, too.
    cluster.advance(50_000);
    cluster.kill(0);
    cluster.expire(0, |_| 0);
    cluster.advance(100_000);
    let primary = cluster.primary(0).unwrap();
    let proxy = cluster.proxy(primary, 9);
    cluster.insert(proxy, 0, 2, 2, "a copy that was under way");
    cluster.select(proxy, 0, 3, 2);
    cluster.run();
    assert_eq!(cluster.take(proxy), [withdrawn(2), Got::Rows(3, vec![])]);
    assert_eq!(cluster.workers.iter().map(|worker| worker.counters().withdrawals).sum::<u64>(), 1);
}

#[test]
fn what_is_withdrawn_while_its_rows_are_looked_for_changes_none() {
    let mut cluster = Cluster::new(2, 2);
    cluster.low = 1;
    cluster.hold_scans = true;
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 1, 1, "before");
    let params = row(&[Datum::Text("before".to_owned()), Datum::Text("after".to_owned())]);
    cluster.request(proxy, 0, 2, RENAME, RequestBody::Point { params: &params });
    cluster.request(proxy, 0, 2, RENAME, RequestBody::Withdraw);
    cluster.run();
    cluster.run_scans();
    cluster.select(proxy, 0, 3, 1);
    cluster.run();
    let withdrawn = Got::Refused(2, Refusal::Withdrawn);
    let row = vec![vec![Datum::Int4(1), Datum::Text("before".to_owned())]];
    assert_eq!(cluster.take(proxy), [Got::Done(1, 1), withdrawn, Got::Rows(3, row)]);
}

#[test]
fn a_withdrawal_is_judged_by_epoch_mark_and_fence_like_any_request() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 9);
    cluster.insert(proxy, 0, 5, 1, "raises the mark");
    cluster.request(proxy, 0, 1, INSERT, RequestBody::Withdraw);
    cluster.request(proxy, 1, 6, INSERT, RequestBody::Withdraw);
    cluster.run();
    let stale = Refusal::StaleMap { have: MapVersion(1) };
    let got = cluster.take(proxy);
    assert_eq!(got, [Got::Refused(1, Refusal::BelowMark), Got::Refused(6, stale), Got::Done(5, 1)]);
    let alive = std::sync::Arc::from([]);
    cluster.step(0, Event::ProxiesChanged { below: toroid_common::id::Incarnation(10), alive });
    cluster.request(proxy, 0, 7, INSERT, RequestBody::Withdraw);
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Refused(7, Refusal::Fenced)]);
}

/// A proxy thread that keeps its requests in the table that proxies have.
struct Asking {
    cluster: Cluster,
    proxy: usize,
    calls: Calls<Got>,
}

impl Asking {
    fn ask(&mut self, session: &mut Session, what: (u32, i32, &str)) -> u64 {
        let sequence = self.begin();
        self.cluster.statement(session, 0, sequence, what);
        sequence
    }

    fn begin(&mut self) -> u64 {
        let sequence = self.calls.begin(PartitionId(0), PRIMARY);
        if let Some(answered) = self.calls.answered(PartitionId(0)) {
            self.cluster.send(self.proxy, &Message::Answered(answered));
        }
        self.cluster.low = self.calls.low(PartitionId(0), sequence);
        sequence
    }

    fn hear(&mut self) -> Vec<Got> {
        self.cluster.run();
        let got = self.cluster.take(self.proxy);
        for got in &got {
            let (Got::Done(sequence, _) | Got::Error(sequence, _)) = got else { panic!("{got:?}") };
            self.calls.deliver(*sequence, PRIMARY, CallEvent::Answer(got.clone()));
            self.calls.end(*sequence, true);
        }
        got
    }
}

const PRIMARY: WorkerId = WorkerId { node: NodeId(1), index: 0 };

#[test]
fn one_request_that_waits_keeps_no_other_answers() {
    let mut cluster = Cluster::new(2, 2);
    let holder = cluster.proxy(0, 8);
    cluster.insert(holder, 0, 1, 1, "one");
    cluster.insert(holder, 0, 2, 2, "two");
    let mut holds = Session::begin(holder, 1, Level::ReadCommitted);
    cluster.statement(&mut holds, 0, 3, (UPDATE, 1, "held"));
    cluster.run();
    let proxy = cluster.proxy(0, 9);
    let mut asking = Asking { cluster, proxy, calls: Calls::new() };
    let mut auto = Session::auto(proxy);
    let waits = asking.ask(&mut auto, (UPDATE, 1, "waited"));
    let mut most = 0;
    for number in 0..25_000 {
        // A transaction of two steps, and two statements that are none.
        let mut session = Session::begin(proxy, number, Level::ReadCommitted);
        asking.ask(&mut session, (UPDATE, 2, "other"));
        assert_eq!(asking.hear().len(), 1);
        let sequence = asking.begin();
        asking.cluster.step_of(&session, 0, sequence, Step::Commit { requests: 1 });
        asking.ask(&mut auto, (UPDATE, 2, "more"));
        let last = asking.ask(&mut auto, (UPDATE, 2, "most"));
        assert_eq!(asking.hear().len(), 3);
        let (root, _) = asking.cluster.workers[0].replica(PartitionId(0)).unwrap();
        most = most.max(root.answers.len());
        if number == 24_999 {
            assert!(root.answers.lowest(Incarnation(9)) + 1_000 > last);
        }
    }
    assert!((256..1_000).contains(&most), "{most} answers are kept");
    asking.cluster.advance(100_000);
    for worker in &asking.cluster.workers {
        let (root, _) = worker.replica(PartitionId(0)).unwrap();
        assert!(root.answers.len() < 1_000, "{} answers are kept", root.answers.len());
    }
    // A copy of what was answered long ago is refused, one of what waits is answered once it happened, by whoever is primary.
    asking.cluster.repeat(&auto, 0, waits + 4, (UPDATE, 2, "late"));
    let late = asking.cluster.take(proxy);
    assert_eq!(late, [Got::Refused(waits + 4, Refusal::BelowMark)]);
    asking.cluster.step_of(&holds, 0, 4, Step::Commit { requests: 1 });
    assert_eq!(asking.hear(), [Got::Done(waits, 1)]);
    asking.cluster.advance(100_000);
    asking.cluster.kill(0);
    asking.cluster.expire(0, |_| 0);
    asking.cluster.advance(100_000);
    let proxy = asking.cluster.proxy(1, 9);
    auto.proxy = proxy;
    asking.cluster.repeat(&auto, 0, waits, (UPDATE, 1, "again"));
    asking.cluster.repeat(&auto, 0, waits + 4, (UPDATE, 2, "late"));
    asking.cluster.run();
    let again = asking.cluster.take(proxy);
    assert_eq!(again, [Got::Done(waits, 1), Got::Refused(waits + 4, Refusal::BelowMark)]);
}

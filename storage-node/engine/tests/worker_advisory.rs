//! Advisory locks at one partition: who holds a key, who waits for it, and what survives the primary, the transaction, and the proxy.

mod cluster;
mod fixture;

use cluster::transactions::{LOCK, Said, Session, error, said};
use cluster::{Cluster, row};
use std::collections::BTreeSet;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, TableId, TransactionId};
use toroid_common::plan::{Act, AdvisoryKey, LockScope, PointPlan, Verb};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Message, RequestBody, Within};
use toroid_engine::worker::Event;

const OURS: u64 = 9;
const THEIRS: u64 = 10;

fn acts() -> Vec<(u32, Act)> {
    let (session, transaction) = (LockScope::Session, LockScope::Transaction);
    let lock = |shared, scope, wait| Act::Lock { shared, scope, wait };
    vec![
        (50, lock(false, session, true)),
        (51, lock(true, session, true)),
        (52, lock(false, session, false)),
        (53, lock(true, session, false)),
        (54, lock(false, transaction, true)),
        (55, lock(true, transaction, true)),
        (56, lock(false, transaction, false)),
        (57, Act::Unlock { shared: false }),
        (58, Act::Unlock { shared: true }),
        (59, Act::UnlockAll),
    ]
}

/// Two copies of partition 0; sessions are processes of one proxy, or of another one. Their transactions have their numbers.
struct Scene {
    cluster: Cluster,
    /// By worker: our proxy's connection, then theirs.
    proxies: Vec<(usize, usize)>,
    requests: std::collections::BTreeMap<u32, u32>,
    sequence: u64,
}

impl Scene {
    fn new() -> Scene {
        let mut cluster = Cluster::new(2, 2);
        cluster.low = 1;
        let mut proxies = Vec::new();
        for worker in 0..2 {
            let pair = (cluster.proxy(worker, OURS), cluster.proxy(worker, THEIRS));
            for (id, act) in acts() {
                let params = act.params().to_vec();
                let (table, table_version) = (TableId(0), CatalogVersion(0));
                let plan = PointPlan { table, table_version, params, verb: Verb::Act(act), needs_env: false };
                cluster.register(pair.0, id, &plan);
                cluster.register(pair.1, id, &plan);
            }
            proxies.push(pair);
        }
        cluster.insert(proxies[0].0, 0, 1, 1, "one");
        cluster.run();
        cluster.got.clear();
        Scene { cluster, proxies, requests: Default::default(), sequence: 10 }
    }

    /// Sessions from 50 on are of the other proxy.
    fn proxy(&self, session: u32) -> usize {
        let (ours, theirs) = self.proxies[self.cluster.primary(0).unwrap()];
        if session < 50 { ours } else { theirs }
    }

    /// What everybody is told after an act, by sequence.
    fn act(&mut self, session: u32, act: Act, key: i64) -> Vec<(u64, Said)> {
        self.sequence += 1;
        let plan = acts().into_iter().find(|(_, known)| *known == act).unwrap().0;
        let process = Datum::Int4(session as i32);
        let params = match act {
            Act::UnlockAll => row(&[process]),
            _ => row(&[process, Datum::Bool(false), Datum::Int8(key)]),
        };
        let within = matches!(act, Act::Lock { scope: LockScope::Transaction, .. }).then(|| {
            let earlier = self.requests.entry(session).or_default();
            *earlier += 1;
            let level = Level::ReadCommitted;
            Within {
                number: u64::from(session),
                earlier: *earlier - 1,
                level,
                cut: None,
                process: session,
                prepares: None,
            }
        });
        self.send(session, plan, within, &params, self.sequence);
        self.told()
    }

    fn send(&mut self, session: u32, plan: u32, within: Option<Within>, params: &[u8], sequence: u64) {
        let (proxy, body) = (self.proxy(session), RequestBody::Point { params });
        self.cluster.request_within(proxy, 0, sequence, (plan, within), body);
    }

    fn told(&mut self) -> Vec<(u64, Said)> {
        self.cluster.run();
        std::mem::take(&mut self.cluster.got).into_values().flatten().map(said).collect()
    }

    #[track_caller]
    fn says(&mut self, session: u32, act: Act, key: i64, count: u64) {
        let told = self.act(session, act, key);
        assert_eq!(told, [(self.sequence, Said::Count(count))], "{session} {act:?} {key}");
    }

    #[track_caller]
    fn waits(&mut self, session: u32, act: Act, key: i64) -> u64 {
        assert_eq!(self.act(session, act, key), [], "{session} {act:?} {key} waits");
        self.sequence
    }

    #[track_caller]
    fn frees(&mut self, session: u32, act: Act, key: i64, freed: &[u64]) {
        let told: BTreeSet<_> = self.act(session, act, key).into_iter().collect();
        let own = std::iter::once(&self.sequence);
        let expected: BTreeSet<_> = own.chain(freed).map(|sequence| (*sequence, Said::Count(1))).collect();
        assert_eq!(told, expected, "{session} {act:?} {key}");
    }

    fn ends(&mut self, session: u32, step: Step) -> Vec<(u64, Said)> {
        self.sequence += 1;
        let proxy = self.proxy(session);
        let of = Session { proxy, ..Session::begin(proxy, u64::from(session), Level::ReadCommitted) };
        self.cluster.step_of(&of, 0, self.sequence, step);
        self.told()
    }

    fn fails_over(&mut self) {
        let primary = self.cluster.primary(0).unwrap();
        self.cluster.kill(primary);
        self.cluster.expire(primary, |_| 0);
        self.cluster.run();
        self.cluster.got.clear();
    }
}

fn lock(shared: bool) -> Act {
    Act::Lock { shared, scope: LockScope::Session, wait: true }
}

fn try_lock(shared: bool) -> Act {
    Act::Lock { shared, scope: LockScope::Session, wait: false }
}

const XACT: Act = Act::Lock { shared: false, scope: LockScope::Transaction, wait: true };
const TRY_XACT: Act = Act::Lock { shared: false, scope: LockScope::Transaction, wait: false };
const UNLOCK: Act = Act::Unlock { shared: false };
const UNLOCK_SHARED: Act = Act::Unlock { shared: true };

#[test]
fn a_lock_that_is_asked_for_again_waits_once() {
    let mut scene = Scene::new();
    scene.says(1, lock(true), 7, 1);
    let exclusive = scene.waits(2, lock(false), 7);
    let shared = scene.waits(3, lock(true), 7);
    // Its answer would have been lost with its connection.
    let params = row(&[Datum::Int4(2), Datum::Bool(false), Datum::Int8(7)]);
    scene.send(2, 50, None, &params, exclusive);
    assert_eq!(scene.told(), [], "nobody waits in a circle");
    scene.frees(1, UNLOCK_SHARED, 7, &[exclusive]);
    scene.frees(2, UNLOCK, 7, &[shared]);
    scene.says(3, UNLOCK_SHARED, 7, 1);
    scene.says(1, try_lock(false), 7, 1);
}

#[test]
fn keys_are_counted_shared_and_waited_for_in_order() {
    let mut scene = Scene::new();
    scene.says(1, lock(false), 7, 1);
    scene.says(1, lock(false), 7, 1);
    scene.says(1, lock(true), 7, 1);
    scene.says(2, try_lock(false), 7, 0);
    scene.says(2, try_lock(true), 7, 0);
    scene.says(2, try_lock(false), -7, 1);
    scene.says(2, UNLOCK, 7, 0);
    let shared = scene.waits(2, lock(true), 7);
    let other = scene.waits(50, lock(true), 7);
    let exclusive = scene.waits(3, lock(false), 7);
    // Others wait for it, and it does not wait for them.
    scene.says(1, lock(false), 7, 1);
    for _ in 0..2 {
        scene.says(1, UNLOCK, 7, 1);
    }
    scene.frees(1, UNLOCK, 7, &[shared, other]);
    scene.says(1, UNLOCK, 7, 0);
    scene.says(1, UNLOCK_SHARED, 7, 1);
    // Who comes now comes behind who waits.
    let late = scene.waits(1, lock(true), 7);
    scene.says(2, UNLOCK_SHARED, 7, 1);
    scene.frees(50, Act::UnlockAll, 0, &[exclusive]);
    scene.frees(3, Act::UnlockAll, 0, &[late]);
    scene.says(1, Act::UnlockAll, 0, 1);
    scene.says(2, UNLOCK, -7, 1);
    assert_eq!(scene.cluster.workers[0].transacting(), 0);
}

#[test]
fn transactions_give_their_keys_back_and_sessions_keep_theirs() {
    let mut scene = Scene::new();
    scene.says(1, lock(false), 7, 1);
    scene.says(1, XACT, 7, 1);
    scene.says(1, XACT, 8, 1);
    let waits = scene.waits(2, lock(false), 8);
    let told = scene.ends(1, Step::RollBackTo { requests: 2, keep: 1 });
    assert_eq!(told, [(scene.sequence, Said::Count(0)), (waits, Said::Count(1))]);
    scene.says(1, UNLOCK, 7, 1);
    scene.says(2, try_lock(false), 7, 0);
    let waits = scene.waits(2, XACT, 7);
    let told = scene.ends(1, Step::Commit { requests: 2 });
    assert_eq!(told, [(scene.sequence, Said::Count(0)), (waits, Said::Count(1))]);
    scene.says(1, lock(false), 9, 1);
    scene.says(2, TRY_XACT, 9, 0);
    let told = scene.ends(2, Step::RollBack);
    assert_eq!(told.len(), 1);
    scene.says(1, try_lock(false), 7, 1);
    scene.says(1, try_lock(false), 8, 0);
    scene.says(2, Act::UnlockAll, 0, 1);
    scene.says(1, try_lock(false), 8, 1);
}

#[test]
fn who_only_tries_waits_for_what_may_be_given_back_already() {
    let mut scene = Scene::new();
    scene.says(2, XACT, 9, 1);
    scene.says(3, try_lock(false), 9, 0);
    // Its client may know that it is committed.
    assert_eq!(scene.ends(2, Step::Confirm { requests: 1 }), [(scene.sequence, Said::Count(0))]);
    let tries = scene.waits(3, try_lock(false), 9);
    let told = scene.ends(2, Step::RollBack);
    assert_eq!(told, [(scene.sequence, Said::Count(0)), (tries, Said::Count(1))]);
}

#[test]
fn circles_through_sessions_and_rows_are_found() {
    let mut scene = Scene::new();
    // Two sessions, two keys.
    scene.says(1, lock(false), 1, 1);
    scene.says(2, lock(false), 2, 1);
    let waits = scene.waits(1, lock(false), 2);
    let told = scene.act(2, lock(false), 1);
    assert_eq!(told, [(scene.sequence, error(SqlState::DEADLOCK_DETECTED))]);
    scene.frees(2, Act::UnlockAll, 0, &[waits]);
    // A session's key and a row of a transaction.
    let lock_row = |scene: &mut Scene, session: u32| {
        scene.sequence += 1;
        let within = Within {
            number: u64::from(session) + 100,
            earlier: 0,
            level: Level::ReadCommitted,
            cut: None,
            process: session,
            prepares: None,
        };
        let sequence = scene.sequence;
        scene.send(session, LOCK, Some(within), &row(&[Datum::Int4(1)]), sequence);
        scene.told()
    };
    assert_eq!(lock_row(&mut scene, 3).len(), 1);
    let waits = scene.waits(3, lock(false), 1);
    let told = lock_row(&mut scene, 1);
    assert_eq!(told, [(scene.sequence, error(SqlState::DEADLOCK_DETECTED))]);
    scene.frees(1, UNLOCK, 1, &[waits]);
}

#[test]
fn waits_that_last_are_reported_and_end_as_they_should() {
    let mut scene = Scene::new();
    scene.says(1, lock(false), 7, 1);
    let cancelled = scene.waits(2, lock(false), 7);
    let victim = scene.waits(3, lock(false), 7);
    scene.cluster.send(scene.proxies[0].0, &Message::Cancel { sequence: cancelled });
    assert_eq!(scene.told(), [(cancelled, error(SqlState::QUERY_CANCELED))]);
    scene.cluster.advance(60_000);
    let (_, reported) = scene.cluster.waits.last().unwrap().clone();
    let of = |process| TransactionId::of_session(Incarnation(OURS), process);
    assert_eq!((reported.len(), reported[0].transaction, reported[0].process), (1, of(3), 3));
    assert_eq!(reported[0].holders, [(of(1), 1)]);
    let (transaction, wait) = (of(3), reported[0].wait);
    scene.cluster.step(0, Event::Deadlock { transaction, wait, detail: String::new() });
    assert_eq!(scene.told(), [(victim, error(SqlState::DEADLOCK_DETECTED))]);
}

#[test]
fn sessions_keep_their_keys_when_the_primary_dies_and_transactions_do_not_commit() {
    let mut scene = Scene::new();
    scene.says(1, lock(false), 7, 1);
    let taken = scene.sequence;
    scene.says(1, lock(true), 8, 1);
    scene.says(2, XACT, 9, 1);
    scene.fails_over();
    // The same request again takes nothing more.
    let params = row(&[Datum::Int4(1), Datum::Bool(false), Datum::Int8(7)]);
    scene.send(1, 50, None, &params, taken);
    assert_eq!(scene.told(), [(taken, Said::Count(1))]);
    scene.says(3, try_lock(false), 7, 0);
    scene.says(3, try_lock(false), 8, 0);
    scene.says(3, lock(true), 8, 1);
    scene.says(3, try_lock(false), 9, 1);
    let told = scene.ends(2, Step::Commit { requests: 1 });
    assert_eq!(told, [(scene.sequence, error(SqlState::SERIALIZATION_FAILURE))]);
    let waits = scene.waits(3, lock(false), 7);
    scene.frees(1, UNLOCK, 7, &[waits]);
}

#[test]
fn a_dead_proxy_holds_nothing() {
    let mut scene = Scene::new();
    scene.says(1, lock(false), 7, 1);
    scene.says(50, lock(false), 8, 1);
    let ours = scene.waits(50, lock(false), 7);
    scene.waits(2, lock(false), 8);
    // Who is dead does not even stand in line.
    scene.says(52, lock(true), 9, 1);
    scene.waits(1, lock(false), 9);
    let behind = scene.waits(51, lock(true), 9);
    let fence = |below, alive: &[u64]| Event::ProxiesChanged {
        below: Incarnation(below),
        alive: alive.iter().copied().map(Incarnation).collect(),
    };
    scene.cluster.step(0, fence(11, &[THEIRS]));
    let told = scene.told();
    assert!(told.contains(&(ours, Said::Count(1))) && told.contains(&(behind, Said::Count(1))), "{told:?}");
    assert_eq!(scene.cluster.workers[0].replica(PartitionId(0)).unwrap().0.advisory().all().count(), 4);
    scene.fails_over();
    assert_eq!(scene.cluster.workers[1].replica(PartitionId(0)).unwrap().0.advisory().all().count(), 4);
    scene.says(51, try_lock(false), 7, 0);
    scene.cluster.step(1, fence(11, &[]));
    scene.told();
    let root = scene.cluster.workers[1].replica(PartitionId(0)).unwrap().0;
    assert!(root.advisory().is_empty());
    assert_eq!(AdvisoryKey::of_pair(-1, -1).partition(1), PartitionId(0));
}

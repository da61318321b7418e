//! What is too long for a frame is refused, whoever asks for it and however.

mod cluster;
mod fixture;

use cluster::transactions::Session;
use cluster::{Cluster, Got, UPDATE, param, row, slot};
use fixture::{T, text};
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::expr::Expr;
use toroid_common::func::resolve::resolve_function;
use toroid_common::id::{CatalogVersion, IndexId, PartitionId};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::plan::{Access, PointPlan, Verb};
use toroid_common::row::read_owned;
use toroid_common::transaction::{Level, Step};
use toroid_common::types::SqlType;
use toroid_common::wire::{RequestBody, Within};

const TWICE: u32 = 50;
const FILL: u32 = 51;
const FILL_PREFIX: u32 = 52;

/// `repeat(name, $2)`.
fn repeated() -> Expr {
    let func = resolve_function("repeat", &[SqlType::Text, SqlType::Int4]).unwrap().func;
    Expr::Call { func, args: vec![slot(1), param(1, SqlType::Int4)], ty: SqlType::Text }
}

fn plan(verb: Verb) -> PointPlan {
    let params = vec![SqlType::Int4, SqlType::Int4];
    PointPlan { table: T, table_version: CatalogVersion(2), params, verb, needs_env: false }
}

/// A proxy with statements that make much of the little that is stored.
fn proxy(cluster: &mut Cluster) -> usize {
    let proxy = cluster.proxy(0, 9);
    let by_key =
        |exact| Access::Index { index: IndexId(20_001), key: vec![param(0, SqlType::Int4); usize::from(exact)], exact };
    let output = vec![repeated(), repeated()];
    cluster.register(proxy, TWICE, &plan(Verb::Select { access: by_key(true), filter: None, output, lock: None }));
    let set = || vec![(1, repeated())];
    let fill = Verb::Update { access: by_key(true), filter: None, set: set(), returning: vec![slot(1)] };
    cluster.register(proxy, FILL, &plan(fill));
    let fill = Verb::Update { access: by_key(false), filter: None, set: set(), returning: vec![] };
    cluster.register(proxy, FILL_PREFIX, &plan(fill));
    proxy
}

#[track_caller]
fn assert_too_large(got: &[Got]) {
    let [Got::Error(_, error)] = got else { panic!("{} answers, no error", got.len()) };
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED, "{error:?}");
}

/// Sends a statement, and what it is answered.
fn run(
    cluster: &mut Cluster,
    proxy: usize,
    (plan, within): (u32, Option<Within>),
    sequence: u64,
    times: i32,
) -> Vec<Got> {
    let params = row(&[Datum::Int4(1), Datum::Int4(times)]);
    cluster.request_within(proxy, 0, sequence, (plan, within), RequestBody::Point { params: &params });
    cluster.run();
    cluster.take(proxy)
}

fn within(earlier: u32) -> Option<Within> {
    Some(Within { number: 1, earlier, level: Level::ReadCommitted, cut: None, process: 1, prepares: None })
}

#[test]
fn rows_that_fit_no_frame_are_refused_in_a_transaction_as_outside() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = proxy(&mut cluster);
    cluster.insert(proxy, 0, 1, 1, "0123456789");
    cluster.run();
    cluster.take(proxy);
    assert_too_large(&run(&mut cluster, proxy, (TWICE, None), 2, 18_000_000));
    let params = row(&[Datum::Int4(1), text("abcdefghij")]);
    cluster.request_within(proxy, 0, 3, (UPDATE, within(0)), RequestBody::Point { params: &params });
    assert_eq!(cluster.take(proxy), [Got::Done(3, 1)]);
    // It takes no state that is laid over to read it.
    assert_too_large(&run(&mut cluster, proxy, (TWICE, within(1)), 4, 18_000_000));
}

#[test]
fn a_statement_that_fits_no_entry_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = proxy(&mut cluster);
    for id in 1..=3 {
        cluster.insert(proxy, 0, id, id as i32, "0123456789");
    }
    cluster.run();
    cluster.take(proxy);
    // Value and answer each fit.
    let times = (MAX_ENTRY_BYTES / 20 + 1) as i32;
    assert_too_large(&run(&mut cluster, proxy, (FILL, None), 4, times));
    // Three values each fit.
    assert_too_large(&run(&mut cluster, proxy, (FILL_PREFIX, None), 5, 9_000_000));
    assert_too_large(&run(&mut cluster, proxy, (FILL_PREFIX, within(0)), 6, 9_000_000));
    cluster.select(proxy, 0, 7, 1);
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Rows(7, vec![cluster::named(1, "0123456789")])]);
    cluster.advance(100_000);
    let lsn = |worker: usize| cluster.workers[worker].replica(PartitionId(0)).unwrap().0.lsn();
    assert_eq!(lsn(0), lsn(1));
}

#[test]
fn what_a_statement_writes_in_a_transaction_goes_in_bounded_chunks() {
    let mut cluster = Cluster::new(2, 2);
    cluster.low = 1;
    let proxy = proxy(&mut cluster);
    for id in 1..=50 {
        cluster.insert(proxy, 0, id, id as i32, "0123456789");
    }
    cluster.run();
    cluster.take(proxy);
    cluster.workers[0].chunk_above(1_000);
    let before = cluster.workers[0].replica(PartitionId(0)).unwrap().0.lsn();
    assert_eq!(run(&mut cluster, proxy, (FILL_PREFIX, within(0)), 100, 10), [Got::Done(100, 50)]);
    let after = cluster.workers[0].replica(PartitionId(0)).unwrap().0.lsn();
    assert_eq!(after.0 - before.0, 5, "50 rows of about 120 bytes, 1,000 and a row at a time, the rest waits");
    let mut session = Session::begin(proxy, 1, Level::ReadCommitted);
    session.requests[0] = 1;
    cluster.step_of(&session, 0, 101, Step::Commit { requests: 1 });
    cluster.run();
    assert_eq!(cluster.take(proxy), [Got::Done(101, 0)]);
    cluster.advance(100_000);
    for worker in 0..2 {
        let root = cluster.workers[worker].replica(PartitionId(0)).unwrap().0;
        let changed = fixture::content(root.table(T).unwrap());
        assert!(changed.iter().all(|(_, row)| row[1] == text(&"0123456789".repeat(10))));
    }
}

#[test]
fn a_row_that_is_longer_than_a_piece_of_a_root_comes_to_a_replica_that_joins() {
    let mut cluster = Cluster::new(2, 1);
    cluster.decides = true;
    let proxy = proxy(&mut cluster);
    cluster.insert(proxy, 0, 1, 1, "0123456789");
    cluster.run();
    cluster.take(proxy);
    assert!(matches!(run(&mut cluster, proxy, (FILL_PREFIX, None), 2, 1_000_000)[..], [Got::Done(2, 1)]));
    cluster.join(0, 1);
    cluster.advance(200_000);
    assert_eq!(cluster.assignment(0).backups.len(), 1);
    let root = cluster.workers[1].replica(PartitionId(0)).unwrap().0;
    let (_, joined) = fixture::content(root.table(T).unwrap()).remove(0);
    assert_eq!(joined, read_owned(&row(&joined), &cluster::TYPES).unwrap());
    assert!(joined[1] == text(&"0123456789".repeat(1_000_000)));
}

//! INSERT … ON CONFLICT in one partition: what each row of a request comes to, also beside others of the same request.

mod cluster;
mod fixture;

use cluster::{Cluster, Got, accounts, named, plans, row, slot};
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::expr::{Expr, Slot};
use toroid_common::id::IndexId;
use toroid_common::plan::{Conflict, ConflictUpdate, PointPlan, Verb};
use toroid_common::types::SqlType;
use toroid_common::wire::RequestBody;

const UPSERT: u32 = 50;
const INSERT_NEW: u32 = 51;

fn plan(table: &Table, update: Option<ConflictUpdate>) -> PointPlan {
    let conflict = Some(Conflict { arbiters: vec![IndexId(20_001)], update });
    let mut plan = plans(table.version).remove(0).1;
    plan.verb = Verb::Insert { conflict, returning: vec![] };
    plan
}

/// DO UPDATE SET name = EXCLUDED.name WHERE t.id < $1, and DO NOTHING.
fn registered(cluster: &mut Cluster, proxy: usize) {
    let excluded = Expr::Leaf(Slot { index: 3, ty: SqlType::Text });
    let less = toroid_common::func::less_of(SqlType::Int4).unwrap();
    let limit = Expr::Param { index: 0, ty: SqlType::Int4 };
    let filter = Expr::Call { func: less, args: vec![slot(0), limit], ty: SqlType::Bool };
    let mut upsert = plan(&accounts(), Some(ConflictUpdate { filter: Some(filter), set: vec![(1, excluded)] }));
    upsert.params = vec![SqlType::Int4];
    cluster.register(proxy, UPSERT, &upsert);
    cluster.register(proxy, INSERT_NEW, &plan(&accounts(), None));
}

fn upsert(cluster: &mut Cluster, proxy: usize, sequence: u64, limit: i32, rows: &[(i32, &str)]) {
    let mut bytes = row(&[Datum::Int4(limit)]);
    rows.iter().for_each(|(id, name)| bytes.extend(row(&named(*id, name))));
    cluster.request(proxy, 0, sequence, UPSERT, RequestBody::Insert { rows: rows.len() as u32, bytes: &bytes });
}

fn insert_new(cluster: &mut Cluster, proxy: usize, sequence: u64, rows: &[(i32, &str)]) {
    let bytes: Vec<u8> = rows.iter().flat_map(|(id, name)| row(&named(*id, name))).collect();
    cluster.request(proxy, 0, sequence, INSERT_NEW, RequestBody::Insert { rows: rows.len() as u32, bytes: &bytes });
}

#[test]
fn rows_are_inserted_or_update_the_one_that_has_their_key() {
    let mut cluster = Cluster::new(2, 2);
    let proxy = cluster.proxy(0, 1);
    registered(&mut cluster, proxy);
    upsert(&mut cluster, proxy, 1, 100, &[(1, "a"), (2, "b"), (3, "c")]);
    upsert(&mut cluster, proxy, 2, 2, &[(4, "d"), (1, "A"), (2, "B"), (5, "e"), (6, "f")]);
    // The same identity again: nothing is executed.
    upsert(&mut cluster, proxy, 2, 2, &[(4, "d"), (1, "A"), (2, "B"), (5, "e"), (6, "f")]);
    insert_new(&mut cluster, proxy, 3, &[(1, "no"), (7, "g"), (7, "no"), (8, "h")]);
    for (sequence, id) in (4..).zip(1..=8) {
        cluster.select(proxy, 0, sequence, id);
    }
    cluster.run();
    let got = cluster.take(proxy);
    assert_eq!(got[..4], [Got::Done(1, 3), Got::Done(2, 4), Got::Done(2, 4), Got::Done(3, 2)]);
    for (got, (id, name)) in got[4..].iter().zip((1..).zip(["A", "b", "c", "d", "e", "f", "g", "h"])) {
        assert_eq!(*got, Got::Rows(3 + id as u64, vec![named(id, name)]));
    }
}

#[test]
fn no_row_is_updated_twice_by_one_request() {
    let mut cluster = Cluster::new(1, 1);
    let proxy = cluster.proxy(0, 1);
    registered(&mut cluster, proxy);
    upsert(&mut cluster, proxy, 1, 100, &[(1, "a")]);
    upsert(&mut cluster, proxy, 2, 100, &[(1, "b"), (1, "c")]);
    upsert(&mut cluster, proxy, 3, 100, &[(2, "b"), (2, "c")]);
    // Rows that its condition leaves alone may be met again.
    upsert(&mut cluster, proxy, 4, 0, &[(1, "b"), (1, "c"), (3, "d")]);
    cluster.select(proxy, 0, 5, 1);
    cluster.select(proxy, 0, 6, 2);
    let got = cluster.take(proxy);
    for error in &got[1..3] {
        let Got::Error(_, error) = error else { panic!("{got:?}") };
        assert_eq!(error.state(), SqlState::CARDINALITY_VIOLATION);
        assert_eq!(error.message(), "ON CONFLICT DO UPDATE command cannot affect row a second time");
    }
    assert_eq!(got[3..], [Got::Done(4, 1), Got::Rows(5, vec![named(1, "a")]), Got::Rows(6, vec![])]);
}

#[test]
fn a_row_is_looked_at_before_its_conflict() {
    let mut cluster = Cluster::bare(1, 1, 1 << 30);
    let mut table = accounts();
    table.columns[1].not_null = true;
    cluster.change_catalog(&table);
    let proxy = cluster.proxy(0, 1);
    registered(&mut cluster, proxy);
    insert_new(&mut cluster, proxy, 1, &[(1, "a")]);
    let bytes = row(&[Datum::Int4(1), Datum::Null]);
    cluster.request(proxy, 0, 2, INSERT_NEW, RequestBody::Insert { rows: 1, bytes: &bytes });
    let got = cluster.take(proxy);
    let [Got::Done(1, 1), Got::Error(2, error)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(error.state(), SqlState::NOT_NULL_VIOLATION);
}

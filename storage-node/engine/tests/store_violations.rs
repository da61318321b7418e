//! What may not be applied, judged row by row as PostgreSQL does, with its words; one scenario a test.

mod fixture;

use fixture::{T, catalog, column, content, delete, encode, index, insert, lent, table, text, update};
use std::sync::Arc;
use toroid_common::catalog::{Check, IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::FuncId;
use toroid_common::id::{IndexId, Lsn};
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::Change;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;

fn definition() -> Table {
    let mut columns = vec![column(1, "a", SqlType::Int4), column(2, "b", SqlType::Int4), column(3, "c", SqlType::Text)];
    columns[0].not_null = true;
    table(columns, vec![index(1, "t_pkey", &[0], true), index(2, "t_b_c_key", &[1, 2], true)])
}

fn row(a: i32, b: Option<i32>, c: Option<&str>) -> Vec<Datum> {
    vec![Datum::Int4(a), b.map_or(Datum::Null, Datum::Int4), c.map_or(Datum::Null, text)]
}

struct Store {
    account: Account,
    root: Root,
}

impl Store {
    fn with(rows: &[Vec<Datum>]) -> Store {
        let mut account = Account::new(usize::MAX);
        let root = Root::new(catalog(&definition()), &mut account);
        let mut store = Store { account, root };
        store.submit(&[insert(rows.len(), &encode(rows))]).unwrap();
        store
    }

    fn submit(&mut self, changes: &[Change<'_>]) -> Result<(), SqlError> {
        self.root.check(changes, &self.account)?;
        self.root.apply(changes, self.root.lsn().next(), &mut self.account);
        Ok(())
    }

    fn rows(&self) -> Vec<Vec<Datum>> {
        let table = self.root.table(T).unwrap();
        assert!(content(table) == lent(table));
        content(table).into_iter().map(|(_, row)| row).collect()
    }

    fn follow(&mut self, change: impl FnOnce(&mut Table)) -> Result<(), SqlError> {
        let mut changed = Table::clone(self.root.table(T).unwrap().definition());
        change(&mut changed);
        self.submit(&[Change::Catalog(catalog(&changed))])
    }
}

#[track_caller]
fn expect(error: Result<(), SqlError>, state: SqlState, message: &str, detail: &str) -> SqlError {
    let error = error.unwrap_err();
    assert_eq!((error.state(), error.message(), error.detail()), (state, message, Some(detail)));
    error
}

#[test]
fn a_key_that_exists() {
    let mut store = Store::with(&[row(1, Some(2), Some("x"))]);
    let message = "duplicate key value violates unique constraint \"t_pkey\"";
    let error = store.submit(&[insert(1, &encode(&[row(1, None, None)]))]);
    let error = expect(error, SqlState::UNIQUE_VIOLATION, message, "Key (a)=(1) already exists.");
    assert_eq!((error.table(), error.constraint()), (Some("t"), Some("t_pkey")));
    let message = "duplicate key value violates unique constraint \"t_b_c_key\"";
    let error = store.submit(&[insert(1, &encode(&[row(3, Some(2), Some("x"))]))]);
    expect(error, SqlState::UNIQUE_VIOLATION, message, "Key (b, c)=(2, x) already exists.");
    assert_eq!(store.rows(), [row(1, Some(2), Some("x"))]);
}

#[test]
fn a_key_twice_in_one_insert() {
    let mut store = Store::with(&[]);
    let message = "duplicate key value violates unique constraint \"t_pkey\"";
    let rows = encode(&[row(1, None, None), row(2, None, None), row(1, None, None)]);
    let error = store.submit(&[insert(3, &rows)]);
    expect(error, SqlState::UNIQUE_VIOLATION, message, "Key (a)=(1) already exists.");
    assert!(store.rows().is_empty(), "all or nothing");
}

#[test]
fn nulls_in_a_unique_key_are_distinct() {
    let mut store = Store::with(&[row(1, None, Some("x")), row(2, None, Some("x")), row(3, Some(1), None)]);
    store.submit(&[insert(1, &encode(&[row(4, Some(1), None)]))]).unwrap();
    store.submit(&[delete(Position(0)), delete(Position(3))]).unwrap();
    let index = store.root.table(T).unwrap().index(IndexId(2)).unwrap();
    assert_eq!((index.len(), store.rows().len()), (2, 2));
}

#[test]
fn a_null_where_none_may_be() {
    let mut store = Store::with(&[row(1, None, None)]);
    let message = "null value in column \"a\" of relation \"t\" violates not-null constraint";
    let rows = encode(&[vec![Datum::Null, Datum::Int4(7), text(&"long ".repeat(20))]]);
    let long = "long ".repeat(12) + "long";
    let detail = format!("Failing row contains (null, 7, {long}...).");
    let error = expect(store.submit(&[insert(1, &rows)]), SqlState::NOT_NULL_VIOLATION, message, &detail);
    assert_eq!((error.table(), error.column()), (Some("t"), Some("a")));
    let values = encode(&[vec![Datum::Null]]);
    let error = store.submit(&[update(Position(0), &[0], &values)]);
    expect(error, SqlState::NOT_NULL_VIOLATION, message, "Failing row contains (null, null, null).");
}

#[test]
fn keys_that_change_places_are_judged_row_by_row() {
    let mut store = Store::with(&[row(1, None, None), row(2, None, None), row(3, None, None)]);
    let to = |a: i32| encode(&[vec![Datum::Int4(a)]]);
    let (one, two, three, four) = (to(1), to(2), to(3), to(4));
    // UPDATE t SET a = a + 1, and SET a = CASE a WHEN 1 THEN 2 ELSE 1 END, both fail in PostgreSQL at the first row.
    let up = [update(Position(0), &[0], &two), update(Position(1), &[0], &three), update(Position(2), &[0], &four)];
    let message = "duplicate key value violates unique constraint \"t_pkey\"";
    expect(store.submit(&up), SqlState::UNIQUE_VIOLATION, message, "Key (a)=(2) already exists.");
    let swap = [update(Position(0), &[0], &two), update(Position(1), &[0], &one)];
    expect(store.submit(&swap), SqlState::UNIQUE_VIOLATION, message, "Key (a)=(2) already exists.");
    // In this order every key is free when it is taken.
    store
        .submit(&[update(Position(2), &[0], &four), update(Position(1), &[0], &three), update(Position(0), &[0], &two)])
        .unwrap();
    assert_eq!(store.rows(), [row(2, None, None), row(3, None, None), row(4, None, None)]);
    // What was deleted before is free.
    store.submit(&[delete(Position(1)), update(Position(0), &[0], &three)]).unwrap();
    assert_eq!(store.rows(), [row(3, None, None), row(4, None, None)]);
}

#[test]
fn a_key_that_is_too_long() {
    let mut store = Store::with(&[]);
    let error = store.submit(&[insert(1, &encode(&[row(1, Some(1), Some(&"x".repeat(3000)))]))]).unwrap_err();
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert!(error.message().starts_with("index row size 30"), "{error}");
    store.submit(&[insert(1, &encode(&[row(1, Some(1), Some(&"x".repeat(2600)))]))]).unwrap();
}

#[test]
fn memory_that_is_used_up() {
    let mut store = Store::with(&[row(1, Some(1), Some("x"))]);
    let rows = encode(&(10..2000).map(|a| row(a, None, Some("some text that takes memory"))).collect::<Vec<_>>());
    let mut definition = definition();
    definition.indexes.truncate(1);
    store.account = Account::new(100_000);
    store.root = Root::new(catalog(&definition), &mut store.account);
    store.submit(&[insert(1, &encode(&[row(1, Some(1), Some("x"))]))]).unwrap();
    let error = store.submit(&[insert(1990, &rows)]).unwrap_err();
    assert_eq!((error.state(), error.message()), (SqlState::OUT_OF_MEMORY, "out of memory"));
    let long = encode(&[vec![text(&"x".repeat(200_000))]]);
    let error = store.submit(&[update(Position(0), &[2], &long)]).unwrap_err();
    assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
    store.submit(&[delete(Position(0))]).unwrap();
    assert!(store.account.used() < 100_000);
}

#[test]
fn a_unique_index_over_equal_rows() {
    let mut store = Store::with(&[row(1, Some(5), None), row(2, None, None), row(3, Some(5), None)]);
    let error = store.follow(|t| t.indexes.push(index(7, "t_b", &[1], true)));
    let message = "could not create unique index \"t_b\"";
    let error = expect(error, SqlState::UNIQUE_VIOLATION, message, "Key (b)=(5) is duplicated.");
    assert_eq!((error.table(), error.constraint()), (Some("t"), Some("t_b")));
    // While it is being built, it may be there and says what is wrong with it.
    let building = |t: &mut Table| {
        t.indexes.push(index(7, "t_b", &[1], true));
        t.indexes[2].state = IndexState::Building;
    };
    store.follow(building).unwrap();
    assert_eq!(store.root.index_fault(T, IndexId(7)), Some(error.clone()));
    store.submit(&[insert(1, &encode(&[row(4, Some(5), None)])), delete(Position(0))]).unwrap();
    assert_eq!(store.follow(|t| t.indexes[2].state = IndexState::Ready).unwrap_err(), error);
    store.follow(|t| t.indexes.truncate(2)).unwrap();
    assert_eq!(store.rows().len(), 3);
}

#[test]
fn a_unique_index_that_is_being_built_is_kept() {
    let mut store = Store::with(&[row(1, Some(5), None), row(2, Some(6), None)]);
    let building = |t: &mut Table| {
        t.indexes.push(index(7, "t_b", &[1], true));
        t.indexes[2].state = IndexState::Building;
    };
    store.follow(building).unwrap();
    assert_eq!(store.root.index_fault(T, IndexId(7)), None);
    let error = store.submit(&[insert(1, &encode(&[row(3, Some(6), None)]))]).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    store.follow(|t| t.indexes[2].state = IndexState::Ready).unwrap();
}

#[test]
fn not_null_over_nulls() {
    let mut store = Store::with(&[row(1, None, Some("x"))]);
    let error = store.follow(|t| t.columns[1].not_null = true).unwrap_err();
    assert_eq!(error.message(), "column \"b\" of relation \"t\" contains null values");
    store.follow(|t| t.columns[2].not_null = true).unwrap();
    let error = store.follow(|t| {
        t.columns.push(column(4, "d", SqlType::Bool));
        t.columns[3].not_null = true;
    });
    assert_eq!(error.unwrap_err().message(), "column \"d\" of relation \"t\" contains null values");
    store
        .follow(|t| {
            t.columns.push(column(4, "d", SqlType::Bool));
            t.columns[3].not_null = true;
            t.columns[3].missing = Some(Datum::Bool(true));
        })
        .unwrap();
    assert_eq!(store.rows()[0][3], Datum::Bool(true));
}

#[test]
fn changes_that_do_not_fit_are_errors() {
    let store = Store::with(&[row(1, None, None)]);
    let good = encode(&[row(2, Some(3), Some("text"))]);
    let fits = |change: Change<'_>| store.root.check(&[change], &store.account).is_ok();
    assert!(fits(insert(1, &good)));
    for len in 0..good.len() {
        assert!(!fits(insert(1, &good[..len])));
    }
    assert!(!fits(insert(2, &good)) && !fits(insert(0, &good)));
    assert!(!fits(update(Position(1), &[1], &[1])) && !fits(update(Position(0), &[9], &[1])));
    assert!(!fits(delete(Position(u32::MAX))));
    assert!(!fits(Change::Truncate { table: toroid_common::id::TableId(1) }));
}

#[test]
fn a_truncated_table_takes_its_old_keys_again() {
    let mut store = Store::with(&[row(1, None, None), row(2, None, None)]);
    let held = store.root.clone();
    let rows = encode(&[row(2, None, None)]);
    store.submit(&[Change::Truncate { table: T }, insert(1, &rows)]).unwrap();
    assert_eq!((store.rows().len(), held.table(T).unwrap().len()), (1, 2));
    held.finish(&mut store.account);
    while !store.account.is_clean() {
        store.account.drop_some(1);
    }
    assert_eq!(store.account.used(), store.root.bytes());
}

#[test]
fn every_type_is_lent_as_it_was_put_in() {
    use toroid_common::types::interval::Interval;
    use toroid_common::types::numeric::Numeric;
    let samples: Vec<(SqlType, Datum, Datum)> = vec![
        (SqlType::Bool, Datum::Bool(true), Datum::Bool(false)),
        (SqlType::Int2, Datum::Int2(-7), Datum::Int2(i16::MAX)),
        (SqlType::Int4, Datum::Int4(-7), Datum::Int4(i32::MIN)),
        (SqlType::Int8, Datum::Int8(-7), Datum::Int8(i64::MAX)),
        (SqlType::Float4, Datum::Float4(0.0), Datum::Float4(-0.0)),
        (SqlType::Float8, Datum::Float8(0.0), Datum::Float8(-0.0)),
        (SqlType::Numeric, Datum::Numeric(Numeric::from_parts(15, 1)), Datum::Numeric(Numeric::nan())),
        (SqlType::Text, text("short"), text("longer than twelve bytes")),
        (SqlType::Varchar, text(""), text("exactly twel")),
        (SqlType::Bpchar, text("é"), text("ééééééé")),
        (SqlType::Bytea, Datum::Bytea(vec![0, 255].into()), Datum::Bytea(vec![255; 40].into())),
        (SqlType::Date, Datum::Date(1), Datum::Date(i32::MAX)),
        (SqlType::Time, Datum::Time(1), Datum::Time(86_400_000_000)),
        (SqlType::Timestamp, Datum::Timestamp(1), Datum::Timestamp(i64::MIN)),
        (SqlType::Timestamptz, Datum::Timestamptz(1), Datum::Timestamptz(i64::MAX)),
        (
            SqlType::Interval,
            Datum::Interval(Interval { months: 1, days: -2, micros: 3 }),
            Datum::Interval(Interval::default()),
        ),
        (SqlType::Uuid, Datum::Uuid([1; 16]), Datum::Uuid([255; 16])),
        (SqlType::Json, text("{}"), text("{\"a\": [1, 2, 3, 4]}")),
        (SqlType::Jsonb, text("{}"), text("{\"a\": [1, 2, 3, 4]}")),
    ];
    let columns = (1..).zip(&samples).map(|(number, (ty, ..))| column(number, &format!("c{number}"), *ty));
    let definition = table(columns.collect(), Vec::new());
    let mut account = Account::new(usize::MAX);
    let mut root = Root::new(Arc::clone(&catalog(&definition)), &mut account);
    let one: Vec<Datum> = samples.iter().map(|sample| sample.1.clone()).collect();
    let two: Vec<Datum> = samples.iter().map(|sample| sample.2.clone()).collect();
    let null = vec![Datum::Null; samples.len()];
    let mut expected: Vec<Vec<Datum>> = Vec::new();
    // First one value throughout, then a second one, then NULL.
    for next in [&one, &one, &two, &null, &two] {
        root.apply(&[insert(1, &encode(std::slice::from_ref(next)))], root.lsn().next(), &mut account);
        expected.push(next.clone());
        let rows = lent(root.table(T).unwrap());
        // Debug form, because -0 equals 0.
        let rows: Vec<Vec<Datum>> = rows.into_iter().map(|(_, row)| row).collect();
        assert_eq!(format!("{rows:?}"), format!("{expected:?}"));
        assert!(content(root.table(T).unwrap()).into_iter().map(|(_, row)| row).eq(expected.iter().cloned()));
    }
    assert_eq!(root.table(T).unwrap().changed(Position(3)), Lsn(4));
}

#[test]
fn lent_columns_share_the_stores_memory() {
    let mut store = Store::with(&[row(1, Some(2), None), row(2, Some(3), None)]);
    let address =
        |root: &Root| root.table(T).unwrap().batch(0, &[1]).unwrap().column(0).to_data().buffers()[0].as_ptr();
    assert_eq!(address(&store.root), address(&store.root));
    let held = store.root.clone();
    let values = encode(&[vec![Datum::Int4(9)]]);
    store.submit(&[update(Position(0), &[1], &values)]).unwrap();
    assert_ne!(address(&store.root), address(&held), "the column was copied, because a root holds it");
    assert_eq!(
        held.table(T).unwrap().batch(0, &[0]).unwrap().column(0).to_data().buffers()[0].as_ptr(),
        store.root.table(T).unwrap().batch(0, &[0]).unwrap().column(0).to_data().buffers()[0].as_ptr(),
        "and no other column"
    );
}

#[test]
fn a_row_that_a_check_forbids() {
    let below = |name: &str, column: u16, bound: i32| Check {
        id: 0,
        name: name.to_owned(),
        expr: Expr::Call {
            func: FuncId::by_signature("<(int4, int4)").unwrap(),
            args: vec![
                Expr::Leaf(Slot { index: column, ty: SqlType::Int4 }),
                Expr::Const { value: Datum::Int4(bound), ty: SqlType::Int4 },
            ],
            ty: SqlType::Bool,
        },
        text: format!("(< {bound})"),
    };
    let mut store = Store::with(&[row(1, Some(2), None)]);
    store.follow(|table| table.checks = vec![below("a_small", 0, 10), below("b_small", 1, 5)]).unwrap();
    let message = "new row for relation \"t\" violates check constraint \"a_small\"";
    let both = store.submit(&[insert(1, &encode(&[row(10, Some(5), Some("x"))]))]);
    let error = expect(both, SqlState::CHECK_VIOLATION, message, "Failing row contains (10, 5, x).");
    assert_eq!((error.table(), error.constraint()), (Some("t"), Some("a_small")));
    let five = encode(&[vec![Datum::Int4(5)]]);
    let error = store.submit(&[update(Position(0), &[1], &five)]).unwrap_err();
    assert_eq!(error.constraint(), Some("b_small"));
    // NULL is not false.
    store.submit(&[insert(1, &encode(&[row(9, None, None)]))]).unwrap();
    assert_eq!(store.rows(), [row(1, Some(2), None), row(9, None, None)]);
}

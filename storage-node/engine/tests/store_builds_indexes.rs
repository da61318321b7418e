//! Indexes that are built step by step, while rows change under them, end up as if they had been built at once.

mod fixture;

use fixture::{Random, T, catalog, column, content, delete, encode, index, insert, table, text, update};
use std::collections::BTreeMap;
use toroid_common::catalog::{Index, IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::IndexId;
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::Change;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;

const KEY: IndexId = IndexId(7);

/// One replica: the same changes come to all, each builds at its own pace.
struct Replica {
    account: Account,
    root: Root,
}

impl Replica {
    fn new() -> Replica {
        let mut account = Account::new(usize::MAX);
        Replica { root: Root::new(catalog(&definition()), &mut account), account }
    }

    fn apply(&mut self, changes: &[Change<'_>]) {
        self.root.apply(changes, self.root.lsn().next(), &mut self.account);
    }

    fn follow(&mut self, change: impl FnOnce(&mut Table)) {
        let mut changed = Table::clone(self.root.table(T).unwrap().definition());
        change(&mut changed);
        self.apply(&[Change::Catalog(catalog(&changed))]);
    }

    /// The index's rows with their keys, and nothing else is in it.
    fn entries(&self) -> Vec<(Vec<u8>, Position)> {
        let table = self.root.table(T).unwrap();
        let index = table.index(KEY).unwrap();
        let mut entries: Vec<_> = table
            .find(index, &[])
            .map(|position| {
                let mut key = Vec::new();
                index.write_entry(&mut key, position, |column| table.value(position, column));
                (key, position)
            })
            .collect();
        assert!(entries.is_sorted_by_key(|(key, _)| key.clone()));
        entries.sort();
        entries
    }

    /// Everything is counted once, and given back in the end.
    fn drop_all(mut self) {
        while !self.account.is_clean() {
            self.account.drop_some(100);
        }
        assert_eq!(self.account.used(), self.root.bytes());
        self.root.finish(&mut self.account);
        while !self.account.is_clean() {
            self.account.drop_some(100);
        }
        assert_eq!(self.account.used(), 0);
    }
}

fn definition() -> Table {
    let columns = vec![column(1, "a", SqlType::Int4), column(2, "b", SqlType::Int4), column(3, "c", SqlType::Text)];
    table(columns, vec![index(1, "t_pkey", &[0], true)])
}

fn row(a: i32, b: Option<i32>) -> Vec<Datum> {
    vec![Datum::Int4(a), b.map_or(Datum::Null, Datum::Int4), text("some text that is long")]
}

fn building(unique: bool) -> impl Fn(&mut Table) {
    move |table| table.indexes.push(Index { state: IndexState::Building, ..index(KEY.0, "t_b", &[1], unique) })
}

#[test]
fn whatever_happens_meanwhile() {
    for seed in 1..30 {
        let mut random = Random(seed * 0x9e37_79b9);
        let unique = seed % 3 > 0;
        // Few values: equal keys come and go.
        let values = if seed % 2 == 0 { 3_000 } else { 50_000 };
        let mut replicas = [Replica::new(), Replica::new()];
        let rows: Vec<_> = (0..2_000).map(|a| row(a, (a % 7 > 0).then_some(a * 3))).collect();
        replicas.iter_mut().for_each(|replica| replica.apply(&[insert(rows.len(), &encode(&rows))]));
        replicas.iter_mut().for_each(|replica| replica.follow(building(unique)));
        assert!(replicas[0].root.is_building() && replicas[0].entries().is_empty());
        let mut next = 2_000;
        let mut held = Vec::new();
        for _ in 0..600 {
            let table = replicas[0].root.table(T).unwrap();
            let at = loop {
                let at = Position(random.below(2_000) as u32);
                if table.is_live(at) {
                    break at;
                }
            };
            let value = (random.below(5) > 0).then(|| random.below(values) as i32);
            next += 1;
            let bytes = encode(&[row(next, value)]);
            let set = encode(&[vec![value.map_or(Datum::Null, Datum::Int4)]]);
            let change = match random.below(4) {
                0 => insert(1, &bytes),
                1 => delete(at),
                _ => update(at, &[1], &set),
            };
            replicas.iter_mut().for_each(|replica| replica.apply(std::slice::from_ref(&change)));
            for replica in &mut replicas {
                let rows = random.below(12) as usize;
                replica.root.build_some(rows, &mut replica.account);
            }
            if random.below(40) == 0 {
                held.push((replicas[0].root.clone(), replicas[0].entries()));
            }
        }
        for replica in &mut replicas {
            while replica.root.build_some(100, &mut replica.account) == 0 {}
            assert!(!replica.root.is_building());
        }
        let mut fresh = Replica::new();
        let rows: Vec<_> = content(replicas[0].root.table(T).unwrap());
        let count = rows.iter().fold(BTreeMap::new(), |mut count: BTreeMap<String, u32>, (_, row)| {
            *count.entry(format!("{:?}", row[1])).or_default() += u32::from(row[1] != Datum::Null);
            count
        });
        let equal = unique && count.values().any(|times| *times > 1);
        for replica in &mut replicas {
            assert_eq!(replica.entries().len(), rows.len(), "seed {seed}");
            let fault = replica.root.index_fault(T, KEY).map(|error| error.state());
            assert_eq!(fault, equal.then_some(SqlState::UNIQUE_VIOLATION), "seed {seed}");
        }
        assert_eq!(replicas[0].entries(), replicas[1].entries(), "seed {seed}");
        for (root, entries) in held {
            let account = std::mem::replace(&mut fresh.account, Account::new(usize::MAX));
            let then = Replica { root, account };
            assert_eq!(then.entries(), entries, "a held root does not change");
            then.root.finish(&mut replicas[0].account);
            fresh.account = then.account;
        }
        for mut replica in replicas {
            match equal {
                true => replica.follow(|table| table.indexes.truncate(1)),
                false => replica.follow(|table| table.indexes[1].state = IndexState::Ready),
            }
            replica.drop_all();
        }
        fresh.drop_all();
    }
}

#[test]
fn a_replica_that_is_behind_has_all_rows_when_the_index_is_ready() {
    let mut replica = Replica::new();
    let rows: Vec<_> = (0..1_000).map(|a| row(a, Some(a))).collect();
    replica.apply(&[insert(rows.len(), &encode(&rows))]);
    replica.follow(building(true));
    replica.root.build_some(10, &mut replica.account);
    assert_eq!(replica.entries().len(), 10);
    replica.follow(|table| table.indexes[1].state = IndexState::Ready);
    assert_eq!((replica.entries().len(), replica.root.is_building()), (1_000, false));
    let bytes = encode(&[row(5_000, Some(999))]);
    let error = replica.root.check(&[insert(1, &bytes)], &replica.account).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    replica.drop_all();
}

#[test]
fn equal_keys_are_allowed_until_the_index_has_all_rows() {
    let mut replica = Replica::new();
    let rows: Vec<_> = (0..1_000).map(|a| row(a, Some(a))).collect();
    replica.apply(&[insert(rows.len(), &encode(&rows))]);
    replica.follow(building(true));
    replica.root.build_some(500, &mut replica.account);
    let twice = encode(&[row(2_000, Some(3))]);
    replica.root.check(&[insert(1, &twice)], &replica.account).unwrap();
    replica.apply(&[insert(1, &twice)]);
    replica.root.finish_building(&mut replica.account);
    let error = replica.root.index_fault(T, KEY).unwrap();
    assert_eq!(error.detail(), Some("Key (b)=(3) is duplicated."));
    // The first of them goes: the other one is found.
    replica.apply(&[delete(Position(3))]);
    assert_eq!(replica.root.index_fault(T, KEY), None);
    let table = replica.root.table(T).unwrap();
    let index = table.index(KEY).unwrap();
    let key = index.key([Datum::Int4(3).borrow()]).unwrap();
    let found = table.get(index, &key).map(|position| table.value(position, 0).to_owned());
    assert_eq!(found, Some(Datum::Int4(2_000)));
    let error = replica.root.check(&[insert(1, &twice)], &replica.account).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    replica.drop_all();
}

#[test]
fn a_key_that_is_too_long_is_told() {
    let mut replica = Replica::new();
    let mut rows: Vec<_> = (0..100).map(|a| row(a, Some(a))).collect();
    rows[50][2] = text(&"x".repeat(4_000));
    replica.apply(&[insert(rows.len(), &encode(&rows))]);
    replica.follow(|table| {
        table.indexes.push(Index { state: IndexState::Building, ..index(KEY.0, "t_c", &[2], false) });
    });
    replica.root.finish_building(&mut replica.account);
    let error = replica.root.index_fault(T, KEY).unwrap();
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert!(error.message().starts_with("index row size 40"), "{error}");
    replica.apply(&[delete(Position(50))]);
    assert_eq!(replica.root.index_fault(T, KEY), None);
    replica.drop_all();
}

//! What the store takes for a million rows of pgbench_accounts: bytes per row, and nanoseconds per insert, get, update and clone.
//!
//! `cargo bench -p toroid-tests --bench store`. Times are of the processor, so that other load on the machine counts less.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "../../storage-node/engine/tests/fixture/mod.rs"]
mod fixture;

use fixture::{Random, T, catalog, column, encode, index, insert, table, text, update};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::id::Lsn;
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;

const ROWS: usize = 1_000_000;

fn measure(what: &str, times: usize, mut run: impl FnMut()) {
    let start = on_cpu();
    run();
    println!("{what:<44} {:>9.1} ns", (on_cpu() - start) as f64 / times as f64);
}

/// Nanoseconds that this process was on a processor.
fn on_cpu() -> u64 {
    let schedule = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedule.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Bytes that the process holds.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let names =
        [("aid", SqlType::Int4), ("bid", SqlType::Int4), ("abalance", SqlType::Int4), ("filler", SqlType::Bpchar)];
    let mut columns: Vec<_> = (1..).zip(names).map(|(number, (name, ty))| column(number, name, ty)).collect();
    columns[0].not_null = true;
    let mut account = Account::new(usize::MAX);
    let mut root =
        Root::new(catalog(&table(columns, vec![index(1, "pgbench_accounts_pkey", &[0], true)])), &mut account);
    let row = |aid: usize| vec![Datum::Int4(aid as i32), Datum::Int4((aid / 100_000) as i32), Datum::Int4(0), text("")];
    let encoded: Vec<Vec<u8>> = (0..ROWS).map(|aid| encode(&[row(aid)])).collect();
    let before = resident();
    let mut lsn = 0;
    measure("insert, one row a statement, keys ascend", ROWS, || {
        for row in &encoded {
            let changes = [insert(1, row)];
            root.check(&changes, &account).unwrap();
            lsn += 1;
            root.apply(&changes, Lsn(lsn), &mut account);
        }
    });
    println!("{:<44} {:>9.1} bytes", "row with index, as accounted", account.used() as f64 / ROWS as f64);
    println!("{:<44} {:>9.1} bytes", "row with index, resident", (resident() - before) as f64 / ROWS as f64);
    let mut random = Random(42);
    let keys: Vec<i32> = (0..ROWS).map(|_| random.below(ROWS as u64) as i32).collect();
    let mut sum = 0_i64;
    measure("get by key and read a value", ROWS, || {
        let accounts = root.table(T).unwrap();
        let index = &accounts.indexes()[0];
        for key in &keys {
            let key = index.key([DatumRef::Int4(*key)]).unwrap();
            let position = accounts.get(index, &key).unwrap();
            if let DatumRef::Int4(balance) = accounts.value(position, 2) {
                sum += i64::from(balance) + i64::from(position.0);
            }
        }
    });
    let mut step = |root: &mut Root, account: &mut Account, key: i32| {
        let values = encode(&[vec![Datum::Int4(key % 1000)]]);
        let changes = [update(Position(key as u32), &[2], &values)];
        root.check(&changes, account).unwrap();
        lsn += 1;
        root.apply(&changes, Lsn(lsn), account);
    };
    keys.iter().step_by(7).for_each(|key| step(&mut root, &mut account, *key));
    measure("update of a value", ROWS, || keys.iter().for_each(|key| step(&mut root, &mut account, *key)));
    println!("{:<44} {:>9.1} bytes", "row with index after updates", account.used() as f64 / ROWS as f64);
    measure("clone of the root", ROWS, || (0..ROWS).for_each(|_| drop(std::hint::black_box(root.clone()))));
    measure("update, a clone held and renewed every 100", 100_000, || {
        let mut held = root.clone();
        for (number, key) in keys.iter().take(100_000).enumerate() {
            step(&mut root, &mut account, *key);
            if number % 100 == 99 {
                std::mem::replace(&mut held, root.clone()).finish(&mut account);
                while !account.is_clean() {
                    account.drop_some(100);
                }
            }
        }
    });
    let accounts = root.table(T).unwrap();
    let mut total = 0;
    for (name, columns) in [("aid and abalance", [0, 2].as_slice()), ("filler", &[3]), ("no column", &[])] {
        measure(&format!("lend {name}, per chunk"), 100 * accounts.chunks(), || {
            let schema = accounts.projection(columns);
            for chunk in (0..accounts.chunks()).cycle().take(100 * accounts.chunks()) {
                total += accounts.batch_as(chunk, columns, &schema).map_or(0, |batch| batch.num_rows());
            }
        });
    }
    let mut scattered = Root::new(root.catalog().clone(), &mut account);
    measure("insert, keys scattered", ROWS, || {
        for number in 0..ROWS as u64 {
            let aid = (number * 0x9e37_79b1) % (1 << 31);
            let row = &encode(&[row(aid as usize)]);
            let changes = [insert(1, row)];
            scattered.check(&changes, &account).unwrap();
            scattered.apply(&changes, Lsn(number + 1), &mut account);
        }
    });
    println!("{:<44} {:>9.1} bytes", "row with index, keys scattered", scattered.bytes() as f64 / ROWS as f64);
    println!("({sum} {total})");
}

//! Queries over several partitions see one moment: what a client wrote after something else is never seen without it, and what was answered before a
//! query is seen by it. On sockets, and while nodes are killed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use toroid_tests::chaos::deployment::{Deployment, Shape, folder};
use toroid_tests::chaos::network::Network;
use toroid_tests::client::{Address, Client};
use toroid_tests::server::Toroid;

const WRITERS: u64 = 8;
const READERS: usize = 4;

/// How a query asks for the values of all rows at one moment.
const WAYS: [&str; 3] = [
    "SELECT string_agg(id || ':' || v, ' ') FROM pairs",
    // Two fragments at every worker, and two that run one after the other.
    "SELECT string_agg(a.id || ':' || a.v || ' ' || b.id || ':' || b.v, ' ') FROM pairs a JOIN pairs b ON b.id = a.other WHERE a.other > 0",
    "SELECT (SELECT string_agg(id || ':' || v, ' ') FROM pairs WHERE other > 0) || ' ' || (SELECT string_agg(id || ':' || v, ' ') FROM pairs WHERE other = 0)",
];

/// What writers and readers share.
struct Load {
    addresses: Vec<Address>,
    /// The last value of each writer's rows that it was told is written.
    written: Vec<(AtomicU64, AtomicU64)>,
    ended: AtomicBool,
    writes: AtomicU64,
    reads: AtomicU64,
    /// Queries that failed with something else than what the loss of a node explains.
    failed: AtomicU64,
}

fn prepare(address: &Address) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    client.run("CREATE TABLE pairs (id int PRIMARY KEY, v bigint, other int)")?;
    for writer in 1..=WRITERS {
        let (x, y) = rows(writer);
        client.run(&format!("INSERT INTO pairs VALUES ({x}, 0, {y}), ({y}, 0, 0)"))?;
    }
    Ok(())
}

fn rows(writer: u64) -> (u64, u64) {
    (writer, writer + 1_000)
}

/// Writes until it is written: a node may be lost meanwhile.
fn put(client: &mut Option<Client>, load: &Load, address: &Address, row: u64, value: u64) -> bool {
    let sql = format!("UPDATE pairs SET v = {value} WHERE id = {row}");
    while !load.ended.load(Ordering::SeqCst) {
        let connected = client.take().map_or_else(|| Client::connect(address), Ok);
        if let Ok(mut connection) = connected
            && connection.run(&sql).is_ok()
        {
            *client = Some(connection);
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// x, then y: whoever sees y's value must see x's, or a later one.
fn write(load: &Load, writer: u64) {
    let (x, y) = rows(writer);
    let address = &load.addresses[writer as usize % load.addresses.len()];
    let mut client = None;
    let (written_x, written_y) = &load.written[writer as usize - 1];
    for value in 1.. {
        if !put(&mut client, load, address, x, value) {
            return;
        }
        written_x.store(value, Ordering::SeqCst);
        if !put(&mut client, load, address, y, value) {
            return;
        }
        written_y.store(value, Ordering::SeqCst);
        load.writes.fetch_add(2, Ordering::SeqCst);
    }
}

fn read(load: &Load, reader: usize) -> Result<(), String> {
    let address = &load.addresses[reader % load.addresses.len()];
    let mut client = None;
    let mut before = vec![(0, 0); WRITERS as usize];
    for way in WAYS.iter().cycle().skip(reader) {
        if load.ended.load(Ordering::SeqCst) {
            break;
        }
        let told = load.written.iter().map(|(x, y)| (x.load(Ordering::SeqCst), y.load(Ordering::SeqCst)));
        let told: Vec<(u64, u64)> = told.collect();
        let Ok(mut connection) = client.take().map_or_else(|| Client::connect(address), Ok) else { continue };
        let answer = match connection.value(way) {
            Ok(answer) => answer.ok_or("no rows")?,
            Err(error) => {
                // Only where rows had been sent may a moved partition be told to the client.
                let text = error.to_string();
                if !["40001", "57P03", "08006"].iter().any(|code| text.contains(code)) {
                    return Err(text);
                }
                load.failed.fetch_add(1, Ordering::SeqCst);
                continue;
            }
        };
        client = Some(connection);
        let seen = parse(&answer)?;
        for (writer, (seen, (told, before))) in seen.iter().zip(told.iter().zip(&before)).enumerate() {
            let what = format!("writer {}: saw {seen:?}, told before {told:?}, seen before {before:?}", writer + 1);
            if seen.1 > seen.0 {
                return Err(format!("the second write without the first: {what}"));
            }
            if seen.0 < told.0 || seen.1 < told.1 {
                return Err(format!("less than what was answered before: {what}"));
            }
            if seen.0 < before.0 || seen.1 < before.1 {
                return Err(format!("back in time: {what}"));
            }
        }
        before = seen;
        load.reads.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Each writer's values of x and y.
fn parse(answer: &str) -> Result<Vec<(u64, u64)>, String> {
    let mut seen = vec![(u64::MAX, u64::MAX); WRITERS as usize];
    for part in answer.split(' ') {
        let (id, v) = part.split_once(':').ok_or_else(|| answer.to_owned())?;
        let (id, v): (usize, u64) = (id.parse().map_err(|_| answer)?, v.parse().map_err(|_| answer)?);
        match id > 1_000 {
            true => seen[id - 1_001].1 = v,
            false => seen[id - 1].0 = v,
        }
    }
    match seen.iter().any(|(x, y)| *x == u64::MAX || *y == u64::MAX) {
        true => Err(format!("rows are missing: {answer}")),
        false => Ok(seen),
    }
}

/// Runs the load while `disturb` does something; how many writes and reads there were, and how many reads failed.
fn run(addresses: Vec<Address>, disturb: impl FnOnce() -> io::Result<()>) -> (u64, u64, u64) {
    let load = Arc::new(Load {
        addresses,
        written: (0..WRITERS).map(|_| Default::default()).collect(),
        ended: AtomicBool::new(false),
        writes: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let mut threads = Vec::new();
    for writer in 1..=WRITERS {
        let load = load.clone();
        threads.push(thread::spawn(move || {
            write(&load, writer);
            Ok(())
        }));
    }
    for reader in 0..READERS {
        let load = load.clone();
        threads.push(thread::spawn(move || read(&load, reader)));
    }
    let disturbed = disturb();
    load.ended.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().expect("a client's thread").expect("every query sees one moment");
    }
    disturbed.expect("the disturbance");
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    (count(&load.writes), count(&load.reads), count(&load.failed))
}

#[test]
fn queries_see_one_moment() {
    let toroid = Toroid::start(&["--nodes", "3", "--copies", "2", "--partitions", "32"]);
    prepare(&toroid.address).expect("a table");
    let (writes, reads, failed) = run(vec![toroid.address.clone()], || {
        thread::sleep(Duration::from_secs(6));
        Ok(())
    });
    assert!(writes > 100 && reads > 20 && failed == 0, "{writes} writes, {reads} reads, {failed} failed");
}

#[test]
fn queries_see_one_moment_while_nodes_are_killed() {
    let shape = Shape { nodes: 3, proxies: 2, copies: 2, partitions: 16, workers: 1 };
    let folder = folder("cuts").expect("a folder");
    let mut deployment = Deployment::start(shape, Network::Loopback, &folder).expect("a cluster");
    deployment.wait_healed().expect("all copies");
    prepare(&deployment.addresses[0]).expect("a table");
    let addresses = deployment.addresses.clone();
    let (writes, reads, _) = run(addresses, || {
        thread::sleep(Duration::from_secs(1));
        for node in [1, 0, 2] {
            deployment.nodes[node].kill()?;
            thread::sleep(Duration::from_millis(1_500));
            deployment.start_node(node)?;
            deployment.wait_healed()?;
        }
        // One that stops for a while, shorter and longer than it takes to be given up.
        for pause in [150, 1_200] {
            deployment.nodes[1].signal("STOP")?;
            thread::sleep(Duration::from_millis(pause));
            deployment.nodes[1].signal("CONT")?;
            thread::sleep(Duration::from_millis(500));
            deployment.wait_healed()?;
        }
        Ok(())
    });
    drop(deployment);
    // Logs are of use only when something went wrong.
    let _ = std::fs::remove_dir_all(folder);
    assert!(writes > 100 && reads > 20, "{writes} writes, {reads} reads");
}

const ACCOUNTS: u64 = 40;
const BALANCE: i64 = 1_000;

/// Moves money between rows of any partitions until the end; how often it was done.
fn transfer(address: &Address, seed: u64, ended: &AtomicBool) -> Result<u64, String> {
    let mut client = Client::connect(address).map_err(|error| error.to_string())?;
    let (mut random, mut done) = (toroid_tests::random::Random::new(seed), 0);
    while !ended.load(Ordering::SeqCst) {
        let (from, to) = (1 + random.below(ACCOUNTS), 1 + random.below(ACCOUNTS));
        let amount = random.below(50);
        let statements = format!(
            "BEGIN; UPDATE account SET balance = balance - {amount} WHERE id = {from}; \
             UPDATE account SET balance = balance + {amount} WHERE id = {to}; COMMIT"
        );
        match client.run(&statements) {
            Ok(()) => done += 1,
            Err(error) => {
                let text = error.to_string();
                if !["40P01", "40001"].iter().any(|code| text.contains(code)) {
                    return Err(text);
                }
                client.run("ROLLBACK").map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(done)
}

/// Adds everything up until the end, in the ways that read one state; how often it was done.
fn audit(address: &Address, way: usize, ended: &AtomicBool) -> Result<u64, String> {
    let mut client = Client::connect(address).map_err(|error| error.to_string())?;
    let total = (ACCOUNTS as i64 * BALANCE).to_string();
    let mut done = 0;
    while !ended.load(Ordering::SeqCst) {
        let mut sum = || client.value("SELECT sum(balance) FROM account").map_err(|error| error.to_string());
        let found = match way {
            0 => sum()?,
            1 => {
                client.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map_err(|error| error.to_string())?;
                let first = client.value("SELECT string_agg(balance::text, ',' ORDER BY id) FROM account");
                let first = first.map_err(|error| error.to_string())?.unwrap_or_default();
                for id in [1, ACCOUNTS / 2, ACCOUNTS] {
                    let one = client.value(&format!("SELECT balance FROM account WHERE id = {id}"));
                    let one = one.map_err(|error| error.to_string())?;
                    if first.split(',').nth(id as usize - 1) != one.as_deref() {
                        return Err(format!("row {id} is {one:?} in the same transaction as {first}"));
                    }
                }
                client.run("COMMIT").map_err(|error| error.to_string())?;
                let values: i64 = first.split(',').filter_map(|value| value.parse::<i64>().ok()).sum();
                Some(values.to_string())
            }
            _ => {
                let halves = "SELECT (SELECT sum(balance) FROM account WHERE id % 2 = 0) + (SELECT sum(balance) FROM account WHERE id % 2 = 1)";
                client.value(halves).map_err(|error| error.to_string())?
            }
        };
        if found.as_deref() != Some(&total) {
            return Err(format!("way {way}: {found:?} of {total}"));
        }
        done += 1;
    }
    Ok(done)
}

#[test]
fn money_that_is_on_its_way_is_seen_once() {
    let toroid = Toroid::start(&["--nodes", "3", "--copies", "2", "--partitions", "32"]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE account (id int PRIMARY KEY, balance bigint)").expect("a table");
    let fill = format!("INSERT INTO account SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i");
    client.run(&fill).expect("accounts");
    let ended = Arc::new(AtomicBool::new(false));
    let start = |work: fn(&Address, u64, &AtomicBool) -> Result<u64, String>, number| {
        let (address, ended) = (toroid.address.clone(), ended.clone());
        thread::spawn(move || work(&address, number, &ended))
    };
    let transfers: Vec<_> = (1..=WRITERS).map(|seed| start(transfer, seed)).collect();
    let audits: Vec<_> =
        (0..3).map(|way| start(|address, way, ended| audit(address, way as usize, ended), way)).collect();
    thread::sleep(Duration::from_secs(6));
    ended.store(true, Ordering::SeqCst);
    let all = |threads: Vec<thread::JoinHandle<Result<u64, String>>>| -> Vec<u64> {
        let results = threads.into_iter().map(|thread| thread.join().expect("a client's thread"));
        results.map(|result| result.expect("everything adds up")).collect()
    };
    let transfers = all(transfers);
    assert_eq!(
        client.value("SELECT sum(balance) FROM account").expect("a sum"),
        Some((ACCOUNTS as i64 * BALANCE).to_string())
    );
    let audits = all(audits);
    assert!(transfers.iter().sum::<u64>() > 50 && audits.iter().all(|audits| *audits > 3));
}

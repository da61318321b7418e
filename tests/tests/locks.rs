//! Locks that queries and LOCK TABLE take, under many sessions at once: each row of a queue is taken once, nobody is kept for ever.

use std::thread;
use toroid_tests::message::Incoming;
use toroid_tests::must::{run, state, value};
use toroid_tests::server::Toroid;

const JOBS: usize = 120;
const WORKERS: usize = 6;

fn queue() -> Toroid {
    let toroid = Toroid::start(&["--partitions", "16"]);
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE jobs (id int PRIMARY KEY, state text)");
    run(&mut client, "CREATE TABLE taken (id int, worker int)");
    run(&mut client, &format!("INSERT INTO jobs SELECT i, 'new' FROM generate_series(1, {JOBS}) i"));
    toroid
}

fn each_once(toroid: &Toroid) {
    let mut client = toroid.connect();
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || count(DISTINCT id) FROM taken"), format!("{JOBS} {JOBS}"));
    assert_eq!(value(&mut client, "SELECT count(*) FROM jobs WHERE state = 'new'"), "0");
}

#[test]
fn workers_take_each_job_once() {
    let toroid = queue();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let toroid = &toroid;
            scope.spawn(move || {
                let mut client = toroid.connect();
                let take = "INSERT INTO taken SELECT id, {} FROM jobs WHERE state = 'new' ORDER BY id LIMIT 4 FOR UPDATE SKIP LOCKED";
                let done = "UPDATE jobs SET state = 'done' WHERE state = 'new' AND id IN (SELECT id FROM taken WHERE worker = {})";
                let with = |sql: &str| sql.replace("{}", &worker.to_string());
                loop {
                    run(&mut client, "BEGIN");
                    run(&mut client, &with(take));
                    run(&mut client, &with(done));
                    run(&mut client, "COMMIT");
                    if value(&mut client, "SELECT count(*) FROM jobs WHERE state = 'new'") == "0" {
                        break;
                    }
                }
            });
        }
    });
    each_once(&toroid);
}

#[test]
fn a_single_statement_takes_jobs_of_its_own() {
    let toroid = queue();
    let taken = "UPDATE jobs SET state = 'w' WHERE id IN (SELECT id FROM jobs WHERE state = 'new' ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED) RETURNING id";
    let mut ids: Vec<i32> = thread::scope(|scope| {
        let workers = (0..WORKERS).map(|_| {
            scope.spawn(|| {
                let mut client = toroid.connect();
                let mut ids: Vec<i32> = Vec::new();
                loop {
                    let messages = client.query(taken).expect("an answer");
                    let rows = messages.iter().filter_map(|message| match message {
                        Incoming::DataRow(values) => values.first()?.as_deref().map(<[u8]>::to_vec),
                        Incoming::Error(report) => panic!("{report:?}"),
                        _ => None,
                    });
                    ids.extend(rows.map(|text| String::from_utf8_lossy(&text).parse::<i32>().expect("an id")));
                    if value(&mut client, "SELECT count(*) FROM jobs WHERE state = 'new'") == "0" {
                        return ids;
                    }
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    ids.sort_unstable();
    assert_eq!(ids, (1..=JOBS as i32).collect::<Vec<_>>());
}

#[test]
fn who_locks_a_table_gets_it_beside_those_who_write_everywhere() {
    let toroid = queue();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let toroid = &toroid;
                scope.spawn(move || {
                    let mut client = toroid.connect();
                    for round in 0..25 {
                        run(&mut client, &format!("UPDATE jobs SET state = '{writer} {round}'"));
                    }
                })
            })
            .collect();
        let mut client = toroid.connect();
        let mut locked = 0;
        while !writers.iter().all(|writer| writer.is_finished()) {
            run(&mut client, "BEGIN");
            if state(&mut client, "LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE").is_none() {
                locked += 1;
                let all = "SELECT min(state) = max(state) FROM jobs";
                assert_eq!(value(&mut client, all), "t", "nobody else writes");
                let before = value(&mut client, "SELECT min(state) FROM jobs");
                assert_eq!(value(&mut client, "SELECT min(state) FROM jobs"), before);
            }
            run(&mut client, "ROLLBACK");
        }
        assert!(locked > 0, "never locked");
    });
}

#[test]
fn a_timeout_ends_the_wait_for_a_table() {
    let toroid = queue();
    let (mut holder, mut other) = (toroid.connect(), toroid.connect());
    run(&mut holder, "BEGIN");
    run(&mut holder, "UPDATE jobs SET state = 'held' WHERE id = 7");
    run(&mut other, "SET lock_timeout = '200ms'");
    run(&mut other, "BEGIN");
    assert_eq!(state(&mut other, "LOCK TABLE jobs IN SHARE MODE").as_deref(), Some("55P03"));
    run(&mut other, "ROLLBACK");
    run(&mut other, "SET statement_timeout = '200ms'; SET lock_timeout = 0");
    run(&mut other, "BEGIN");
    assert_eq!(state(&mut other, "LOCK TABLE jobs").as_deref(), Some("57014"));
    run(&mut other, "ROLLBACK");
    assert_eq!(state(&mut other, "LOCK TABLE jobs").as_deref(), Some("25P01"));
    run(&mut holder, "UPDATE jobs SET state = 'held' WHERE id > 7");
    run(&mut holder, "COMMIT");
    run(&mut other, "BEGIN");
    run(&mut other, "LOCK TABLE jobs");
    run(&mut other, "COMMIT");
}

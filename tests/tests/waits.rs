//! Who waits for whom, and who is told what, where several sessions meet over a real server.

use std::thread;
use std::time::{Duration, Instant};
use toroid_tests::message::{Format, Incoming, Outgoing};
use toroid_tests::must::{run, state, value};
use toroid_tests::server::Toroid;

fn start() -> Toroid {
    Toroid::start(&["--partitions", "16"])
}

/// One statement of the extended protocol, up to its Execute.
fn execute(sql: &str, rows: u32) -> Outgoing {
    Outgoing::new().parse("", sql, &[]).bind("", "", Format::Text, &[], Format::Text).execute("", rows)
}

fn errors(messages: &[Incoming]) -> Vec<String> {
    let error = |message: &Incoming| match message {
        Incoming::Error(report) => Some(report.state().to_owned()),
        _ => None,
    };
    messages.iter().filter_map(error).collect()
}

#[test]
fn a_session_with_a_lock_copies_and_changes_the_schema_as_any() {
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    run(&mut client, "SELECT pg_advisory_lock(7)");
    let rows = Outgoing::new().query("COPY t FROM STDIN").copy_data(b"1\t1\n2\t2\n").copy_done();
    client.send(&rows).expect("rows");
    assert_eq!(errors(&client.until_ready().expect("an end")), [""; 0]);
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "2");
    run(&mut client, "CREATE INDEX CONCURRENTLY v ON t (v)");
    run(&mut client, "VACUUM t");
    run(&mut client, "ALTER TABLE t ADD COLUMN w int DEFAULT 3");
    assert_eq!(value(&mut client, "SELECT sum(w) FROM t"), "6");
    assert_eq!(value(&mut client, "SELECT pg_advisory_unlock(7)"), "t");
    // Who has given up a wait holds nothing, and knows it.
    run(&mut client, "SELECT pg_advisory_lock(8)");
    let mut other = toroid.connect();
    run(&mut other, "SET lock_timeout = 50");
    assert_eq!(state(&mut other, "SELECT pg_advisory_lock(8)").as_deref(), Some("55P03"));
    other.send(&Outgoing::new().query("COPY t (id) FROM STDIN").copy_data(b"9\n").copy_done()).expect("rows");
    assert_eq!(errors(&other.until_ready().expect("an end")), [""; 0]);
}

#[test]
fn transactions_have_numbers_of_their_own() {
    let toroid = start();
    let (mut a, mut b) = (toroid.connect(), toroid.connect());
    run(&mut a, "BEGIN");
    let (first, again) = (value(&mut a, "SELECT txid_current()"), value(&mut a, "SELECT pg_current_xact_id()"));
    run(&mut a, "COMMIT");
    assert_eq!(first, again);
    let mut all = vec![first, value(&mut a, "SELECT txid_current()"), value(&mut b, "SELECT txid_current()")];
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn what_stands_alone_does_so_however_it_arrives() {
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
    for sql in ["CREATE INDEX CONCURRENTLY v ON t (v)", "VACUUM"] {
        client.send(&execute(sql, 0)).expect("sent");
        thread::sleep(Duration::from_millis(100));
        client.send(&Outgoing::new().sync()).expect("sent");
        assert_eq!(errors(&client.until_ready().expect("an end")), [""; 0], "{sql}");
    }
    let mut both = execute("INSERT INTO t VALUES (2, 2)", 0);
    both.bytes.extend(execute("CREATE INDEX CONCURRENTLY w ON t (v)", 0).sync().bytes);
    client.send(&both).expect("sent");
    assert_eq!(errors(&client.until_ready().expect("an end")), ["25001"]);
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "1");
}

#[test]
fn execute_belongs_to_its_pipeline() {
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY); PREPARE put(int) AS INSERT INTO t VALUES ($1)");
    let mut both = execute("EXECUTE put(1)", 0);
    both.bytes.extend(execute("SELECT 1 / 0", 0).sync().bytes);
    client.send(&both).expect("sent");
    assert_eq!(errors(&client.until_ready().expect("an end")), ["22012"]);
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    assert_eq!(state(&mut client, "EXECUTE put(1); SELECT 1 / 0").as_deref(), Some("22012"));
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    run(&mut client, "EXECUTE put(1); EXECUTE put(2)");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "2");
}

#[test]
fn each_portion_of_a_portal_has_its_time() {
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT i FROM generate_series(1, 60000) i");
    run(&mut client, "SET statement_timeout = '700ms'; BEGIN");
    let first = execute("SELECT id FROM t", 10).flush();
    client.send(&first).expect("sent");
    while client.receive().expect("rows") != Incoming::PortalSuspended {}
    thread::sleep(Duration::from_secs(1));
    client.send(&Outgoing::new().execute("", 50_000).execute("", 0).sync()).expect("sent");
    let messages = client.until_ready().expect("an end");
    assert_eq!(errors(&messages), [""; 0]);
    let rows = messages.iter().filter(|message| matches!(message, Incoming::DataRow(_))).count();
    assert_eq!(rows, 59_990);
}

#[test]
fn statements_over_all_rows_do_not_fail_for_each_other() {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 20;
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE counters (id int PRIMARY KEY, n int)");
    run(&mut client, "INSERT INTO counters SELECT i, 0 FROM generate_series(1, 100) i");
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut client = toroid.connect();
                for _ in 0..ROUNDS {
                    run(&mut client, "UPDATE counters SET n = n + 1");
                }
            });
        }
    });
    let all = "SELECT min(n) || ' ' || max(n) FROM counters";
    assert_eq!(value(&mut client, all), format!("{0} {0}", WRITERS * ROUNDS));
}

#[test]
fn who_locks_a_table_is_in_no_circle_with_those_who_write_in_it() {
    const WRITERS: usize = 3;
    let toroid = start();
    let mut client = toroid.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE other (id int PRIMARY KEY, v int)");
    run(&mut client, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 300) i; INSERT INTO other VALUES (1, 0)");
    thread::scope(|scope| {
        let toroid = &toroid;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let mut client = toroid.connect();
                    for round in 0..15 {
                        run(&mut client, "BEGIN");
                        // Rows of its own, in many partitions, one after the other.
                        for row in 0..8 {
                            let id = 1 + writer * 100 + (round + row * 7) % 100;
                            run(&mut client, &format!("UPDATE t SET v = v + 1 WHERE id = {id}"));
                        }
                        run(&mut client, "COMMIT");
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            run(&mut client, "BEGIN; LOCK TABLE t IN SHARE MODE");
            let sum = value(&mut client, "SELECT sum(v) FROM t");
            assert_eq!(sum.parse::<usize>().expect("a number") % 8, 0, "nobody is in the middle of anything");
            run(&mut client, "COMMIT");
        }
    });
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), (WRITERS * 15 * 8).to_string());
    // A true one is found.
    let mut holder = toroid.connect();
    run(&mut holder, "BEGIN; UPDATE t SET v = 0 WHERE id = 7");
    run(&mut client, "BEGIN; UPDATE other SET v = 1 WHERE id = 1");
    client.send(&Outgoing::new().query("LOCK TABLE t")).expect("it waits");
    thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    let failed = state(&mut holder, "UPDATE other SET v = 2 WHERE id = 1");
    run(&mut holder, "ROLLBACK");
    let other = errors(&client.until_ready().expect("an end"));
    assert!((failed.as_deref() == Some("40P01")) != (other == ["40P01"]), "{failed:?} {other:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    run(&mut client, "ROLLBACK");
}

//! Transactions over sockets: whole or not at all, isolated as their level says, gone without a trace when their client is.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use toroid_tests::client::Client;
use toroid_tests::message::{Format, Incoming, Outgoing};
use toroid_tests::must::value;
use toroid_tests::random::Random;
use toroid_tests::server::Toroid;

const ROWS: i32 = 40;

fn scene() -> (Toroid, Client) {
    let toroid = Toroid::start(&["--partitions", "16"]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v < 1000))").expect("a table");
    client.run(&format!("INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g")).expect("rows");
    (toroid, client)
}

/// The SQLSTATE with which a statement fails.
fn state(client: &mut Client, sql: &str) -> String {
    let messages = client.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    states(&messages).pop().unwrap_or_else(|| panic!("{sql} has no error"))
}

fn states(messages: &[Incoming]) -> Vec<String> {
    let state = |message: &Incoming| match message {
        Incoming::Error(report) => Some(report.state().to_owned()),
        _ => None,
    };
    messages.iter().filter_map(state).collect()
}

fn sent(client: &mut Client, messages: &Outgoing) -> Vec<String> {
    client.send(messages).expect("it is sent");
    states(&client.until_ready().expect("an answer"))
}

#[test]
fn a_statement_of_several_partitions_happens_whole_or_not_at_all() {
    let (_toroid, mut client) = scene();
    let all = "SELECT count(*) || ' ' || coalesce(sum(v), 0) FROM t";
    for (sql, expected) in [
        ("INSERT INTO t VALUES (101, 1), (102, 1), (103, 1), (7, 1)", "23505"),
        ("INSERT INTO t SELECT g, 1 FROM generate_series(200, 160, -1) g UNION ALL SELECT 3, 1", "23505"),
        ("INSERT INTO t VALUES (101, 1), (102, 1), (103, 5000)", "23514"),
        ("UPDATE t SET v = 1 / (id - 17)", "22012"),
        ("UPDATE t SET v = id * 30", "23514"),
        ("DELETE FROM t WHERE 1 / (id - 17) < 5", "22012"),
        ("INSERT INTO t VALUES (101, 1); INSERT INTO t VALUES (102, 2); INSERT INTO t VALUES (1, 1)", "23505"),
        ("UPDATE t SET v = 5; SELECT 1 / 0", "22012"),
    ] {
        assert_eq!(state(&mut client, sql), expected, "{sql}");
        assert_eq!(value(&mut client, all), format!("{ROWS} 0"), "{sql}");
    }
    let lines: Vec<u8> = (100..5_000).flat_map(|id| format!("{id}\t1\n").into_bytes()).collect();
    for (last, expected) in
        [(Outgoing::new().copy_data(b"9\t1\n").copy_done(), "23505"), (Outgoing::new().copy_fail("no"), "57014")]
    {
        let copy = Outgoing::new().query("COPY t FROM STDIN").copy_data(&lines);
        let copy = Outgoing { bytes: [copy.bytes, last.bytes].concat() };
        assert_eq!(sent(&mut client, &copy), [expected]);
        assert_eq!(value(&mut client, all), format!("{ROWS} 0"), "after a COPY");
    }
    let insert = |messages: Outgoing, id: i32| {
        let messages = messages.parse("", &format!("INSERT INTO t VALUES ({id}, 1)"), &[]);
        messages.bind("", "", Format::Text, &[], Format::Text).execute("", 0)
    };
    let pipeline = insert(insert(insert(Outgoing::new(), 101), 102), 1).sync();
    assert_eq!(sent(&mut client, &pipeline), ["23505"]);
    assert_eq!(value(&mut client, all), format!("{ROWS} 0"), "after a pipeline");
    let pipeline = insert(insert(Outgoing::new(), 101).sync(), 1).sync();
    client.send(&pipeline).expect("it is sent");
    client.until_ready().expect("an answer");
    client.until_ready().expect("another answer");
    assert_eq!(value(&mut client, all), format!("{} 1", ROWS + 1), "what stands before a Sync is by itself");
}

#[test]
fn what_is_sent_together_with_its_commit_happens_whole_or_not_at_all() {
    let (toroid, mut client) = scene();
    let mut other = toroid.connect();
    let one = |messages: Outgoing, text: &str| {
        messages.parse("", text, &[]).bind("", "", Format::Text, &[], Format::Text).execute("", 0)
    };
    let all = |texts: &[&str]| texts.iter().fold(Outgoing::new(), |messages, text| one(messages, text)).sync();
    let add = |id: i32| format!("UPDATE t SET v = v + 1 WHERE id = {id}");
    let seen = "SELECT count(*) || ' ' || sum(v) FROM t";
    let mut sum = 0;
    for id in 1..20 {
        let texts = ["BEGIN", &add(id), &add(id + 20), "COMMIT"];
        assert_eq!(sent(&mut client, &all(&texts)), Vec::<String>::new());
        assert_eq!(sent(&mut client, &all(&texts[1..3])), Vec::<String>::new(), "nobody began it");
        client.run(&texts[1..3].join(";")).expect("as one text");
        sum += 6;
        assert_eq!(value(&mut other, seen), format!("{ROWS} {sum}"), "after {id}");
    }
    // The last one changes nothing, or fails.
    for nothing in [&add(-1), "UPDATE t SET v = v WHERE id = 5", "INSERT INTO t VALUES (5, 1) ON CONFLICT DO NOTHING"] {
        assert_eq!(sent(&mut client, &all(&["BEGIN", &add(1), nothing, "end;"])), Vec::<String>::new());
        sum += 1;
    }
    assert_eq!(value(&mut other, seen), format!("{ROWS} {sum}"));
    assert_eq!(sent(&mut client, &all(&["BEGIN", &add(1), "INSERT INTO t VALUES (2, 1)", "COMMIT"])), ["23505"]);
    client.run("ROLLBACK").expect("a rollback");
    // It was not the last.
    let prepared = Outgoing::new().parse("c", "COMMIT", &[]).sync();
    assert_eq!(sent(&mut client, &prepared), Vec::<String>::new());
    let messages = one(one(one(Outgoing::new(), "BEGIN"), &add(1)), &add(2));
    let messages = messages.bind("p", "c", Format::Text, &[], Format::Text);
    assert_eq!(sent(&mut client, &one(messages, &add(2)).execute("p", 0).sync()), Vec::<String>::new());
    assert_eq!(value(&mut other, seen), format!("{ROWS} {}", sum + 3));
    let messages = one(one(one(Outgoing::new(), "BEGIN"), &add(1)), &add(2)).parse("d", "COMMIT", &[]);
    assert_eq!(sent(&mut client, &one(one(messages, &add(2)), "ROLLBACK").sync()), Vec::<String>::new());
    assert_eq!(value(&mut other, seen), format!("{ROWS} {}", sum + 3));
}

#[test]
fn a_transaction_sees_its_writes_and_others_do_not() {
    let (toroid, mut client) = scene();
    let mut other = toroid.connect();
    client
        .run("BEGIN; INSERT INTO t VALUES (101, 7), (102, 7); UPDATE t SET v = v + 1 WHERE id <= 10 OR id > 100")
        .expect("writes");
    client.run("DELETE FROM t WHERE id IN (1, 2)").expect("a delete");
    let seen = "SELECT count(*) || ' ' || sum(v) || ' ' || coalesce(max(id) FILTER (WHERE v = 8), 0) FROM t";
    assert_eq!(value(&mut client, seen), format!("{ROWS} 24 102"));
    assert_eq!(value(&mut client, "SELECT count(*) FROM t a JOIN t b ON a.v = b.v AND a.id < b.id WHERE a.v = 8"), "1");
    assert_eq!(value(&mut client, "SELECT v FROM t WHERE id = 101"), "8");
    assert_eq!(value(&mut other, seen), format!("{ROWS} 0 0"));
    assert_eq!(value(&mut other, "SELECT count(*) FROM t WHERE id = 101"), "0");
    client.run("COMMIT").expect("a commit");
    assert_eq!(value(&mut other, seen), format!("{ROWS} 24 102"));
}

#[test]
fn savepoints_take_back_what_came_after_them() {
    let (toroid, mut client) = scene();
    client
        .run("BEGIN; UPDATE t SET v = 1; SAVEPOINT a; INSERT INTO t SELECT g, 1 FROM generate_series(50, 70) g")
        .expect("writes");
    assert_eq!(state(&mut client, "UPDATE t SET v = v + 2 * id * id"), "23514");
    assert_eq!(state(&mut client, "SELECT 1"), "25P02");
    client.run("ROLLBACK TO a").expect("a way back");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) FROM t"), format!("{ROWS} {ROWS}"));
    client
        .run("INSERT INTO t VALUES (51, 5); SAVEPOINT b; DELETE FROM t; SAVEPOINT a; INSERT INTO t VALUES (52, 5)")
        .expect("writes");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "1");
    client.run("RELEASE a; ROLLBACK TO b").expect("a way back");
    let mut other = toroid.connect();
    client.run("COMMIT").expect("a commit");
    assert_eq!(value(&mut other, "SELECT count(*) || ' ' || sum(v) FROM t"), format!("{} {}", ROWS + 1, ROWS + 5));
}

#[test]
fn a_copy_that_fails_is_taken_back_to_the_savepoint() {
    let (_toroid, mut client) = scene();
    let many: Vec<u8> = (1_000..60_000).flat_map(|id| format!("{id}\t1\n").into_bytes()).collect();
    let failing = [
        (Outgoing::new().copy_data(b"9\t1\n").copy_data(&many).copy_done(), "23505"),
        (Outgoing::new().copy_data(&many).copy_data(b"no number\t1\n").copy_done(), "22P02"),
        (Outgoing::new().copy_data(&many).copy_fail("no"), "57014"),
    ];
    for (rest, expected) in failing {
        client.run("BEGIN; UPDATE t SET v = 1; SAVEPOINT a").expect("a savepoint");
        let copy = Outgoing::new().query("COPY t FROM STDIN");
        let copy = Outgoing { bytes: [copy.bytes, rest.bytes].concat() };
        assert_eq!(sent(&mut client, &copy), [expected]);
        assert_eq!(state(&mut client, "SELECT 1"), "25P02", "{expected}");
        client.run("ROLLBACK TO a").unwrap_or_else(|error| panic!("after {expected}: {error}"));
        let all = "SELECT count(*) || ' ' || sum(v) FROM t";
        assert_eq!(value(&mut client, all), format!("{ROWS} {ROWS}"), "{expected}");
        client.run("COMMIT").expect("a commit");
        assert_eq!(value(&mut client, all), format!("{ROWS} {ROWS}"), "{expected}");
    }
}

#[test]
fn a_table_that_is_newer_than_the_snapshot_is_empty_but_for_own_rows() {
    let (toroid, mut client) = scene();
    let mut other = toroid.connect();
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("a transaction");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ROWS.to_string());
    other.run("CREATE TABLE n (id int PRIMARY KEY, v int)").expect("a table");
    other.run("INSERT INTO n SELECT g, g FROM generate_series(1, 50) g").expect("rows");
    let begun = Instant::now();
    assert_eq!(value(&mut client, "SELECT count(*) FROM n"), "0");
    assert_eq!(value(&mut client, "SELECT coalesce(max(v), -1) FROM n WHERE id = 7"), "-1");
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM t LEFT JOIN n USING (id) WHERE n.id IS NULL"),
        ROWS.to_string()
    );
    client.run("UPDATE n SET v = 0 WHERE id = 7; UPDATE n SET v = 0; DELETE FROM n").expect("nothing to change");
    client
        .run("INSERT INTO n SELECT g, g FROM generate_series(101, 110) g; UPDATE n SET v = 1 WHERE id = 101")
        .expect("rows");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) FROM n"), "10 955");
    assert_eq!(value(&mut client, "SELECT v FROM n WHERE id = 101"), "1");
    client.run("COMMIT").expect("a commit");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) FROM n"), "60 2230");
    // What took another table's place is no new one.
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("a transaction");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ROWS.to_string());
    other.run("BEGIN; ALTER TABLE n ADD COLUMN w int; ALTER TABLE n RENAME TO m; COMMIT").expect("another table");
    assert_eq!(state(&mut client, "SELECT count(*) FROM m"), "40001");
    client.run("ROLLBACK").expect("a rollback");
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("a transaction");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ROWS.to_string());
    other.run("ALTER TABLE m ADD COLUMN x int").expect("a column");
    assert_eq!(state(&mut client, "SELECT v FROM m WHERE id = 7"), "40001");
    client.run("ROLLBACK").expect("a rollback");
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("a transaction");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ROWS.to_string());
    other.run("ALTER TABLE m ADD COLUMN y int").expect("a column");
    assert_eq!(state(&mut client, "SELECT count(*) FROM m"), "40001");
    client.run("ROLLBACK").expect("a rollback");
    assert!(begun.elapsed() < Duration::from_secs(20), "nothing is waited for");
}

#[test]
fn levels_isolate_as_they_say() {
    let (toroid, mut client) = scene();
    let mut other = toroid.connect();
    let sum = "SELECT sum(v) FROM t";
    client.run("BEGIN; SELECT 1").expect("a block");
    other.run("UPDATE t SET v = 1").expect("a write");
    assert_eq!(value(&mut client, sum), ROWS.to_string(), "READ COMMITTED sees what was committed");
    client.run("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("a block");
    other.run("UPDATE t SET v = 2; INSERT INTO t VALUES (99, 0)").expect("a write");
    assert_eq!(value(&mut client, sum), ROWS.to_string(), "REPEATABLE READ sees its cut");
    assert_eq!(value(&mut client, "SELECT v FROM t WHERE id = 5"), "1");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t WHERE id = 99"), "0");
    assert_eq!(state(&mut client, "UPDATE t SET v = v + 1 WHERE id = 5"), "40001");
    client.run("ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY").expect("a block");
    assert_eq!(value(&mut client, sum), (2 * ROWS).to_string());
    other.run("UPDATE t SET v = 3").expect("nobody is in the way");
    assert_eq!(value(&mut client, sum), (2 * ROWS).to_string());
    assert_eq!(state(&mut client, "DELETE FROM t"), "25006");
    client.run("ROLLBACK").expect("an end");
    // Write skew: each reads what the other is about to change.
    for c in [&mut client, &mut other] {
        c.run("BEGIN ISOLATION LEVEL SERIALIZABLE").expect("a block");
        assert_eq!(value(c, "SELECT v FROM t WHERE id = 1"), "3");
        assert_eq!(value(c, "SELECT v FROM t WHERE id = 2"), "3");
    }
    let first = thread::spawn(move || client.run("UPDATE t SET v = 0 WHERE id = 1; COMMIT").map(|()| client));
    let second = other.run("UPDATE t SET v = 0 WHERE id = 2; COMMIT").map_err(|error| error.to_string());
    if second.is_err() {
        other.run("ROLLBACK").expect("an end");
    }
    let first = first.join().expect("no panic").map(drop).map_err(|error| error.to_string());
    let lost = [&first, &second].into_iter().filter_map(|result| result.as_ref().err()).collect::<Vec<_>>();
    assert!(matches!(lost.as_slice(), [one] if one.contains("40P01") || one.contains("40001")), "{first:?} {second:?}");
}

#[test]
fn waits_end_when_they_should() {
    let (toroid, mut client) = scene();
    let mut holder = toroid.connect();
    holder.run("BEGIN; UPDATE t SET v = 1 WHERE id <= 5").expect("locks");
    assert_eq!(state(&mut client, "SET lock_timeout = 100; UPDATE t SET v = 2 WHERE id = 1"), "55P03");
    assert_eq!(state(&mut client, "SELECT v FROM t WHERE id = 1 FOR UPDATE NOWAIT"), "55P03");
    client.run("SET lock_timeout = 0").expect("a setting");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t WHERE id = 1"), "1", "readers wait for nobody");
    client.run("SET statement_timeout = 200").expect("a setting");
    for sql in ["UPDATE t SET v = 2 WHERE id = 1", "UPDATE t SET v = 2", "SELECT v FROM t WHERE id = 2 FOR SHARE"] {
        assert_eq!(state(&mut client, sql), "57014", "{sql}");
    }
    client.run("BEGIN; SAVEPOINT a").expect("a block");
    assert_eq!(state(&mut client, "UPDATE t SET v = 3"), "57014");
    client
        .run("ROLLBACK TO a; UPDATE t SET v = 3 WHERE id = 9; COMMIT; SET statement_timeout = 0")
        .expect("it goes on");
    let (process, secret) = client.key.clone().expect("a key");
    let address = toroid.address.clone();
    let cancel = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let mut client = Client::open(&address).expect("a connection");
        client.send(&Outgoing::cancel_request(process, &secret)).expect("it is sent");
    });
    assert_eq!(state(&mut client, "DELETE FROM t"), "57014");
    cancel.join().expect("no panic");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) FROM t"), format!("{ROWS} 3"));
    holder.run("SET idle_in_transaction_session_timeout = 200").expect("a setting");
    let begun = Instant::now();
    assert_eq!(value(&mut client, "UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v"), "1", "the holder was sent away");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let said = holder.until_closed().expect("its end");
    assert_eq!(states(&said), ["25P03"]);
}

#[test]
fn a_client_that_goes_leaves_nothing() {
    let (toroid, mut client) = scene();
    for part in
        ["UPDATE t SET v = 9", "INSERT INTO t VALUES (200, 1), (201, 1), (202, 1)", "DELETE FROM t WHERE id < 20"]
    {
        let mut gone = toroid.connect();
        gone.run(&format!("BEGIN; {part}")).expect("writes");
        drop(gone);
    }
    let mut copying = toroid.connect();
    copying.send(&Outgoing::new().query("COPY t FROM STDIN").copy_data(b"300\t1\n301\t1\n")).expect("it is sent");
    drop(copying);
    client.set_patience(Duration::from_secs(20)).expect("a timeout");
    client.run("UPDATE t SET v = v + 1").expect("nobody is in the way");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) FROM t"), format!("{ROWS} {ROWS}"));
    client.run("INSERT INTO t VALUES (300, 1), (200, 1)").expect("nobody holds a key");
}

#[test]
fn transfers_keep_the_total() {
    let (toroid, mut client) = scene();
    client.run("UPDATE t SET v = 100").expect("money");
    let (toroid, over) = (&toroid, &AtomicBool::new(false));
    let moved: u64 = thread::scope(|scope| {
        let mover = |seed: u64| {
            scope.spawn(move || {
                let (mut client, mut random, mut moved) = (toroid.connect(), Random::new(seed), 0);
                while !over.load(Ordering::Relaxed) {
                    moved += u64::from(transfer(&mut client, &mut random).expect("the connection holds"));
                }
                moved
            })
        };
        let movers: Vec<_> = (1..=4).map(mover).collect();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), (100 * ROWS).to_string());
        }
        over.store(true, Ordering::Relaxed);
        movers.into_iter().map(|mover| mover.join().expect("no panic")).sum()
    });
    assert!(moved > 20, "{moved} transfers");
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), (100 * ROWS).to_string());
}

/// Moves money between two rows; false where it was not to be.
fn transfer(client: &mut Client, random: &mut Random) -> io::Result<bool> {
    let id = |random: &mut Random| 1 + random.below(ROWS as u64);
    let (from, to, amount) = (id(random), id(random), random.below(20));
    client.run(
        ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"]
            [random.below(3) as usize],
    )?;
    for sql in [
        format!("UPDATE t SET v = v - {amount} WHERE id = {from}"),
        format!("UPDATE t SET v = v + {amount} WHERE id = {to}"),
        if random.below(8) == 0 { "SELECT 1 / 0".to_owned() } else { "COMMIT".to_owned() },
    ] {
        let messages = client.query(&sql)?;
        if let Some(state) = states(&messages).pop() {
            assert!(["40001", "40P01", "22012", "23514"].contains(&state.as_str()), "{state}");
            client.run("ROLLBACK")?;
            return Ok(false);
        }
    }
    Ok(true)
}

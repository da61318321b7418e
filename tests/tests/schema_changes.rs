//! Schema changes in transactions, over sockets: seen by their own session, then by all at once, or by nobody.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use toroid_tests::chaos::deployment::{Deployment, Shape, folder};
use toroid_tests::chaos::network::Network;
use toroid_tests::client::Client;
use toroid_tests::message::{Format, Incoming, Outgoing};
use toroid_tests::must::{failure, run, value};
use toroid_tests::server::Toroid;

const ROWS: i32 = 30;
/// The public tables and indexes.
const NAMES: &str = "SELECT string_agg(relname::text, ' ' ORDER BY relname::text) FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'";

fn scene() -> (Toroid, Client, Client) {
    let toroid = Toroid::start(&["--partitions", "16"]);
    let (mut client, other) = (toroid.connect(), toroid.connect());
    client.run("CREATE TABLE t (id int PRIMARY KEY, v int)").expect("a table");
    client.run(&format!("INSERT INTO t SELECT g, g FROM generate_series(1, {ROWS}) g")).expect("rows");
    (toroid, client, other)
}

/// A transaction that changes whatever it can.
const MIGRATION: [&str; 9] = [
    "BEGIN",
    "UPDATE t SET v = v + 100 WHERE id <= 3",
    "ALTER TABLE t ADD COLUMN w int NOT NULL DEFAULT 7",
    "UPDATE t SET w = 8 WHERE id = 5",
    "CREATE TABLE n (id int PRIMARY KEY, name text)",
    "INSERT INTO n SELECT g, 'n' || g FROM generate_series(1, 40) g",
    "CREATE INDEX n_name ON n (name)",
    "DELETE FROM n WHERE id > 20",
    "ALTER TABLE n RENAME TO m",
];
const AFTER: &str = "SELECT count(*) || ' ' || sum(v) || ' ' || sum(w) || ' ' || (SELECT count(*) FROM m) FROM t";

fn before(client: &mut Client) {
    assert_eq!(value(client, NAMES), "t t_pkey");
    assert_eq!(value(client, "SELECT count(*) || ' ' || sum(v) FROM t"), "30 465");
    assert_eq!(failure(client, "SELECT w FROM t"), "42703");
    assert_eq!(failure(client, "SELECT * FROM m"), "42P01");
}

#[test]
fn a_migration_is_seen_by_its_session_until_it_commits() {
    let (_toroid, mut client, mut other) = scene();
    for statement in MIGRATION {
        run(&mut client, statement);
        before(&mut other);
    }
    assert_eq!(value(&mut client, AFTER), "30 765 211 20");
    assert_eq!(value(&mut client, NAMES), "m n_name n_pkey t t_pkey");
    assert_eq!(value(&mut client, "SELECT 'm'::regclass::text || to_regclass('n') IS NULL"), "t");
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 't'";
    assert_eq!((value(&mut client, columns), value(&mut other, columns)), ("3".to_owned(), "2".to_owned()));
    run(&mut client, "COMMIT");
    for client in [&mut client, &mut other] {
        assert_eq!(value(client, AFTER), "30 765 211 20");
        assert_eq!(value(client, NAMES), "m n_name n_pkey t t_pkey");
        run(client, "UPDATE t SET w = w WHERE id = 1");
    }
}

#[test]
fn nothing_is_left_of_a_migration_that_ends_otherwise() {
    let (toroid, mut client, mut other) = scene();
    for end in ["ROLLBACK", "SELECT 1/0; COMMIT", "disconnect"] {
        for length in [3, MIGRATION.len()] {
            MIGRATION[..length].iter().for_each(|statement| run(&mut client, statement));
            match end {
                "disconnect" => client = toroid.connect(),
                _ => drop(client.query(end).expect("an end")),
            }
            let _ = client.query("ROLLBACK");
            let until = Instant::now() + Duration::from_secs(10);
            while client.query("ALTER TABLE t ALTER COLUMN v SET DEFAULT 1").is_err() && Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
            }
            before(&mut client);
            before(&mut other);
            run(&mut other, "UPDATE t SET v = v");
            run(&mut other, "CREATE TABLE m (a int)");
            run(&mut other, "DROP TABLE m");
        }
    }
}

#[test]
fn savepoints_take_schema_changes_back() {
    let (_toroid, mut client, mut other) = scene();
    run(&mut client, "BEGIN; CREATE TABLE n (a int PRIMARY KEY); INSERT INTO n VALUES (1); SAVEPOINT s");
    run(
        &mut client,
        "ALTER TABLE n ADD COLUMN b int; INSERT INTO n VALUES (2, 2); DROP TABLE t; CREATE TABLE t (x int)",
    );
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || count(b) || (SELECT count(*) FROM t) FROM n"), "2 10");
    run(&mut client, "ROLLBACK TO s");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || (SELECT count(*) FROM t) FROM n"), "1 30");
    run(&mut client, "INSERT INTO n VALUES (5)");
    assert_eq!(failure(&mut client, "ALTER TABLE t ADD CHECK (v < 10)"), "23514");
    assert_eq!(failure(&mut client, "SELECT 1"), "25P02");
    run(&mut client, "ROLLBACK TO s; TRUNCATE t; INSERT INTO t VALUES (1, 1); RELEASE s; COMMIT");
    assert_eq!(value(&mut other, "SELECT count(*) || ' ' || (SELECT count(*) FROM t) FROM n"), "1 1");
    assert_eq!(value(&mut other, NAMES), "n n_pkey t t_pkey");
}

#[test]
fn statements_sent_together_change_the_schema_together() {
    let (_toroid, mut client, mut other) = scene();
    assert_eq!(
        failure(&mut client, "CREATE TABLE a (x int); INSERT INTO a VALUES (1); DROP TABLE t; SELECT 1/0"),
        "22012"
    );
    before(&mut other);
    run(
        &mut client,
        "CREATE TABLE a (x int); INSERT INTO a VALUES (1), (2); ALTER TABLE a ADD PRIMARY KEY (x); DROP TABLE t",
    );
    assert_eq!(value(&mut other, NAMES), "a a_pkey");
    assert_eq!(value(&mut other, "SELECT sum(x) FROM a"), "3");
    assert_eq!(failure(&mut client, "CREATE TABLE b AS SELECT 1 / (x - 2) FROM a"), "22012");
    assert_eq!(value(&mut other, NAMES), "a a_pkey");
}

#[test]
fn what_was_prepared_is_about_the_table_as_it_is_when_it_runs() {
    let (_toroid, mut client, mut other) = scene();
    let parse = |name, sql| Outgoing::new().parse(name, sql, &[]).sync();
    let execute = |name| Outgoing::new().bind("", name, Format::Text, &[], Format::Text).execute("", 0).sync();
    for (name, sql) in [
        ("late", "ALTER TABLE late ADD CONSTRAINT late_v UNIQUE (id, v)"),
        ("column", "ALTER TABLE t ADD COLUMN w int DEFAULT 7"),
        ("constraint", "ALTER TABLE t ADD CONSTRAINT t_v UNIQUE (id, v)"),
    ] {
        client.send(&parse(name, sql)).expect("a message");
        client.until_ready().expect("answers");
    }
    run(&mut other, "CREATE TABLE late (v int, id int PRIMARY KEY)");
    run(&mut client, "BEGIN");
    for name in ["late", "column", "constraint"] {
        client.send(&execute(name)).expect("a message");
        let answers = client.until_ready().expect("answers");
        let is_tag = |answer: &Incoming| matches!(answer, Incoming::CommandComplete(tag) if tag == "ALTER TABLE");
        assert!(answers.iter().any(is_tag), "{name}: {answers:?}");
    }
    run(&mut client, "COMMIT");
    let constraints = "SELECT string_agg(conname || ' ' || contype::text, ' ' ORDER BY conname) FROM pg_constraint";
    assert_eq!(value(&mut other, constraints), "late_pkey p late_v u t_pkey p t_v u");
    assert_eq!(value(&mut other, "SELECT sum(w) FROM t"), "210");
}

#[test]
fn unique_constraints_that_cannot_be_are_refused() {
    let (_toroid, mut client, _) = scene();
    for refused in [
        "ALTER TABLE t ADD CONSTRAINT x UNIQUE (v)",
        "ALTER TABLE t ADD UNIQUE (id), ADD UNIQUE (id, v)",
        "ALTER TABLE t ADD COLUMN w int, ADD UNIQUE (id, w)",
    ] {
        assert_eq!(failure(&mut client, refused), "0A000", "{refused}");
    }
    assert_eq!(failure(&mut client, "CREATE TABLE n (a int); ALTER TABLE n ADD PRIMARY KEY (a, a)"), "42701");
    before(&mut client);
}

#[test]
fn others_wait_for_the_end() {
    let (_toroid, mut client, mut other) = scene();
    for (end, left) in [("COMMIT", "30 31"), ("ROLLBACK", "30 32")] {
        run(&mut client, "BEGIN; CREATE TABLE n (a int)");
        run(&mut client, &format!("ALTER TABLE t ADD COLUMN w{} int", end.len()));
        run(&mut other, "SET lock_timeout = 200");
        for blocked in
            ["UPDATE t SET v = 1", "DROP TABLE t", "CREATE TABLE n (b int)", "BEGIN; ALTER TABLE t DROP COLUMN v"]
        {
            assert_eq!(failure(&mut other, blocked), "55P03", "{blocked}");
            let _ = other.query("ROLLBACK");
        }
        run(&mut other, "SET lock_timeout = 0");
        let count = if end == "COMMIT" { "23" } else { "24" };
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let inserted = other.run(&format!("INSERT INTO t (id, v) VALUES (1{count}, 0)"));
                (inserted, other.query("CREATE TABLE n (b int)").expect("an answer"))
            });
            thread::sleep(Duration::from_millis(300));
            assert!(!waits.is_finished());
            run(&mut client, end);
            let (inserted, created) = waits.join().expect("it ends");
            assert!(inserted.is_ok(), "after {end}: {inserted:?}");
            let exists = created.iter().any(|m| matches!(m, Incoming::Error(report) if report.state() == "42P07"));
            assert_eq!(exists, end == "COMMIT");
        });
        assert_eq!(value(&mut client, &format!("SELECT '{ROWS} ' || count(*) FROM t")), left);
        run(&mut client, "DROP TABLE n");
    }
}

/// Nobody waits for who has written, but it is told why it cannot be committed.
#[test]
fn who_wrote_to_a_table_that_changes_is_told_so() {
    let (_toroid, mut client, mut other) = scene();
    let text = "could not serialize access due to a concurrent change of a table's definition";
    for (change, next) in [
        ("ALTER TABLE t ADD COLUMN w int", "COMMIT"),
        ("BEGIN; ALTER TABLE t DROP COLUMN w; ROLLBACK", "UPDATE t SET v = 2 WHERE id = 1"),
        ("BEGIN; TRUNCATE t; ROLLBACK", "COMMIT"),
    ] {
        run(&mut other, "BEGIN");
        run(&mut other, "UPDATE t SET v = 1 WHERE id = 1");
        run(&mut client, change);
        let answer = other.query(next).expect("an answer");
        let told = answer.iter().find_map(|m| match m {
            Incoming::Error(report) => Some((report.state(), report.message())),
            _ => None,
        });
        assert_eq!(told, Some(("40001", text)), "{change}; {next}: {answer:?}");
        run(&mut other, "ROLLBACK");
    }
}

#[test]
fn what_cannot_be_in_a_block_says_so() {
    let (_toroid, mut client, _other) = scene();
    for (sql, expected) in [
        ("BEGIN; CREATE INDEX CONCURRENTLY i ON t (v)", "25001"),
        ("BEGIN; DROP INDEX CONCURRENTLY t_pkey", "25001"),
        ("BEGIN; VACUUM", "25001"),
        ("BEGIN READ ONLY; DROP TABLE t", "25006"),
        ("BEGIN; CREATE UNIQUE INDEX i ON t (id, v); INSERT INTO t VALUES (1, 1)", "23505"),
        ("BEGIN; CREATE TABLE t (a int)", "42P07"),
        ("BEGIN; DROP TABLE t; DROP TABLE t", "42P01"),
    ] {
        assert_eq!(failure(&mut client, sql), expected, "{sql}");
        run(&mut client, "ROLLBACK");
        before(&mut client);
    }
}

#[test]
fn a_migration_goes_on_in_the_snapshot_of_its_transaction() {
    let (_toroid, mut client, mut other) = scene();
    let sum = "SELECT count(*) || ' ' || sum(v) FROM t";
    run(&mut client, "CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1), (2, 2)");
    run(&mut client, "CREATE TABLE f (id int PRIMARY KEY, v float8); INSERT INTO f VALUES (1, 'NaN'), (2, 2)");
    run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(value(&mut client, sum), "30 465");
    run(&mut other, "UPDATE u SET v = 0; INSERT INTO u VALUES (3, 3)");
    run(
        &mut client,
        "UPDATE t SET v = v + 100 WHERE id <= 3; DELETE FROM t WHERE id = 30; INSERT INTO t VALUES (31, 1)",
    );
    run(&mut client, "ALTER TABLE t ADD COLUMN w int NOT NULL DEFAULT 7");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) || ' ' || sum(w) FROM t"), "30 736 210");
    assert_eq!(value(&mut client, "SELECT v || ' ' || w FROM t WHERE id = 2"), "102 7");
    run(
        &mut client,
        "UPDATE t SET w = 8 WHERE id = 2; UPDATE t SET w = w + 1 WHERE v > 100; DELETE FROM t WHERE id = 4",
    );
    run(&mut client, "SAVEPOINT s; CREATE INDEX t_w ON t (w); INSERT INTO t VALUES (32, 0, 9)");
    assert_eq!(
        value(&mut client, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE w BETWEEN 8 AND 9"),
        "1 2 3 32"
    );
    run(&mut client, "ROLLBACK TO s; CREATE UNIQUE INDEX t_v ON t (id, v)");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(v) || ' ' || sum(w) FROM t"), "29 732 207");
    assert_eq!(value(&mut client, "SELECT count(*) || ' ' || sum(u.v) FROM u JOIN t USING (id)"), "2 3");
    run(&mut client, "ALTER TABLE f ADD COLUMN w int; UPDATE f SET w = 1; DELETE FROM f WHERE id = 2");
    assert_eq!(value(&mut client, "SELECT v || ' ' || w FROM f"), "NaN 1");
    run(&mut client, "ALTER TABLE t ALTER COLUMN v TYPE text");
    assert_eq!(value(&mut client, "SELECT v || ' ' || w FROM t WHERE id = 2"), "102 9");
    assert_eq!(value(&mut other, sum), "30 465");
    run(&mut client, "COMMIT");
    for client in [&mut client, &mut other] {
        assert_eq!(value(client, "SELECT count(*) || ' ' || sum(v::int) || ' ' || sum(w) FROM t"), "29 732 207");
        assert_eq!(value(client, "SELECT count(*) || ' ' || sum(v) FROM u"), "3 3");
    }
}

#[test]
fn what_came_after_the_snapshot_is_not_lost_in_a_migration() {
    let (_toroid, mut client, mut other) = scene();
    let changes = ["UPDATE t SET v = v + 1 WHERE id = 7", "DELETE FROM t WHERE id = 8", "INSERT INTO t VALUES (99, 9)"];
    for change in changes {
        for migration in ["ALTER TABLE t ADD COLUMN w int", "CREATE INDEX t_v ON t (v)"] {
            run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t");
            run(&mut other, change);
            assert_eq!(failure(&mut client, migration), "40001", "{change}; {migration}");
            run(&mut client, "ROLLBACK");
            run(&mut other, "DELETE FROM t WHERE id = 99; INSERT INTO t VALUES (8, 8) ON CONFLICT DO NOTHING");
        }
    }
    // Taken back, the table is others' again, and the snapshot stays what it was.
    run(
        &mut client,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t; SAVEPOINT s; ALTER TABLE t ADD COLUMN w int",
    );
    run(&mut client, "ROLLBACK TO s");
    let sum = "SELECT count(*) || ' ' || sum(v) FROM t";
    let before = value(&mut client, sum);
    run(&mut other, "UPDATE t SET v = 0 WHERE id = 7");
    assert_eq!(value(&mut client, sum), before);
    assert_eq!(failure(&mut client, "ALTER TABLE t ADD COLUMN w int"), "40001");
    run(&mut client, "ROLLBACK");
}

#[test]
fn a_table_made_late_in_a_snapshot_takes_many_rows() {
    let (_toroid, mut client, mut other) = scene();
    run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t");
    run(&mut client, "INSERT INTO t SELECT g, 1 FROM generate_series(1001, 5000) g");
    run(&mut client, "UPDATE t SET v = 2 WHERE id > 1000");
    run(&mut client, "CREATE TABLE p (id int PRIMARY KEY, v int); INSERT INTO p SELECT id, v FROM t WHERE id > 1000");
    run(&mut client, "UPDATE p SET v = v + 1; UPDATE p SET v = 0 WHERE id = 1001; DELETE FROM p WHERE id = 1002");
    let sums = "SELECT (SELECT sum(v) FROM t WHERE id > 1000) || ' ' || (SELECT count(*) || ' ' || sum(v) FROM p)";
    assert_eq!(value(&mut client, sums), "8000 3999 11994");
    assert_eq!(value(&mut client, "SELECT v FROM p WHERE id = 1003"), "3");
    run(&mut client, "ALTER TABLE p ADD COLUMN w int DEFAULT 1; UPDATE p SET w = 2 WHERE id = 1003; COMMIT");
    assert_eq!(value(&mut other, sums), "8000 3999 11994");
    assert_eq!(value(&mut other, "SELECT sum(w) FROM p"), "4000");
}

/// Makes tables and says so, each in one transaction, until the proxy is gone; how many commitments were acknowledged.
fn make_tables(client: &mut Client, who: u32) -> u32 {
    for number in 0.. {
        let name = format!("made_{who}_{number}");
        let sql = format!(
            "BEGIN; CREATE TABLE {name} (a int PRIMARY KEY); INSERT INTO {name} SELECT generate_series(1, 20); \
             INSERT INTO made VALUES ('{name}'); COMMIT"
        );
        if client.run(&sql).is_err() {
            return number;
        }
    }
    0
}

#[test]
fn nothing_is_left_of_a_proxy_that_is_killed() {
    let folder = folder("schema-changes").expect("a folder");
    let shape = Shape { nodes: 2, proxies: 2, copies: 2, partitions: 16, workers: 1 };
    let mut deployment = Deployment::start(shape, Network::Loopback, &folder).expect("a cluster");
    let connect = |deployment: &Deployment, at: usize| Client::connect(&deployment.addresses[at]).expect("a session");
    let (mut client, mut other) = (connect(&deployment, 0), connect(&deployment, 1));
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    run(&mut client, &format!("INSERT INTO t SELECT g, g FROM generate_series(1, {ROWS}) g"));
    run(&mut client, "CREATE TABLE made (name text PRIMARY KEY)");
    let committing: Vec<_> = (0..4)
        .map(|who| {
            let mut client = connect(&deployment, 0);
            thread::spawn(move || make_tables(&mut client, who))
        })
        .collect();
    thread::sleep(Duration::from_millis(1_500));
    run(&mut client, "BEGIN; DROP TABLE t; CREATE TABLE n (id int)");
    deployment.proxies[0].kill().expect("it is killed");
    let acknowledged: u32 = committing.into_iter().map(|made| made.join().expect("it ends")).sum();
    assert!(acknowledged > 0);
    // As soon as the proxy is known to be dead.
    run(&mut other, "UPDATE t SET v = v");
    run(&mut other, "ALTER TABLE t ALTER COLUMN v SET DEFAULT 1");
    run(&mut other, "CREATE TABLE n (a int)");
    run(&mut other, "DROP TABLE n");
    run(&mut other, "DELETE FROM made WHERE name = 'none'");
    assert_eq!(value(&mut other, "SELECT count(*) || ' ' || sum(v) FROM t"), "30 465");
    // Each of the others happened whole, or not at all.
    let tables = "SELECT coalesce(string_agg(relname::text, ' ' ORDER BY relname::text), '') FROM pg_class WHERE relname LIKE 'made\\__\\_%' AND relkind = 'r'";
    let names = value(&mut other, tables);
    assert_eq!(value(&mut other, "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM made"), names);
    assert!(names.split(' ').count() >= acknowledged as usize);
    for name in names.split(' ') {
        assert_eq!(value(&mut other, &format!("SELECT count(*) FROM {name}")), "20", "{name}");
        run(&mut other, &format!("DROP TABLE {name}"));
    }
    drop(deployment);
    let _ = fs::remove_dir_all(folder);
}

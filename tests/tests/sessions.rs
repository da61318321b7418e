//! What sessions hold and hear beside tables, through two proxies: advisory locks and notifications, also when nodes and proxies are killed.

use std::io;
use std::time::{Duration, Instant};
use toroid_tests::chaos::deployment::{Deployment, Shape, folder};
use toroid_tests::chaos::network::Network;
use toroid_tests::client::Client;
use toroid_tests::message::{Incoming, Outgoing};
use toroid_tests::must::{failure, value};
use toroid_tests::server::Toroid;

fn deployment(name: &str) -> Deployment {
    let shape = Shape { nodes: 3, proxies: 2, copies: 2, partitions: 16, workers: 1 };
    Deployment::start(shape, Network::Loopback, &folder(name).expect("a folder")).expect("a cluster")
}

fn connect(cluster: &Deployment, proxy: usize) -> Client {
    Client::connect(&cluster.addresses[proxy]).expect("a session")
}

/// The notifications that came with a statement's answer.
fn heard_with(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    messages.iter().filter_map(notification).collect()
}

fn notification(message: &Incoming) -> Option<String> {
    match message {
        Incoming::Notification { channel, payload, .. } => Some(format!("{channel}:{payload}")),
        _ => None,
    }
}

/// The next notification, which comes by itself.
fn hears(client: &mut Client) -> String {
    let message = client.receive().expect("a notification");
    notification(&message).unwrap_or_else(|| panic!("{message:?} is no notification"))
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn advisory_locks_hold_across_proxies_and_go_with_their_session() {
    let mut cluster = deployment("advisory");
    let (mut a, mut b) = (connect(&cluster, 0), connect(&cluster, 1));
    a.run("SELECT pg_advisory_lock(7), pg_advisory_lock(1, 2), pg_advisory_lock_shared(8)").expect("locks");
    let tries = "SELECT concat_ws(' ', pg_try_advisory_lock(7), pg_try_advisory_lock(1, 2), pg_try_advisory_lock_shared(8), pg_try_advisory_lock(8))";
    assert_eq!(value(&mut b, tries), "f f t f");
    assert_eq!(value(&mut b, "SELECT pg_advisory_unlock_shared(8)"), "t");
    b.run("SET lock_timeout = 100").expect("a setting");
    assert_eq!(failure(&mut b, "SELECT pg_advisory_lock(7)"), "55P03");
    b.run("RESET lock_timeout; SET statement_timeout = 100").expect("a setting");
    assert_eq!(failure(&mut b, "SELECT pg_advisory_xact_lock(7)"), "57014");
    b.run("RESET statement_timeout").expect("a setting");
    // A circle of locks and rows.
    a.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").expect("a table");
    b.run("BEGIN; UPDATE t SET v = 2 WHERE id = 1").expect("a row");
    b.send(&Outgoing::new().query("SELECT pg_advisory_lock(7)")).expect("it waits");
    std::thread::sleep(Duration::from_millis(200));
    a.send(&Outgoing::new().query("UPDATE t SET v = 3 WHERE id = 1")).expect("it waits");
    let deadlock = |messages: Vec<Incoming>| {
        let report = messages.iter().find_map(|message| match message {
            Incoming::Error(report) => Some(report.state().to_owned()),
            _ => None,
        });
        report.as_deref() == Some("40P01")
    };
    // Whoever gives way, the other one goes on: the session that holds the key gives it back when it has had its row.
    let stuck = Instant::now();
    a.set_patience(Duration::from_secs(10)).expect("patience");
    b.set_patience(Duration::from_secs(10)).expect("patience");
    let mut failed = 0;
    match a.until_ready() {
        Ok(messages) => failed += usize::from(deadlock(messages)),
        Err(_) => failed += usize::from(deadlock(b.until_ready().expect("one of both is answered"))),
    }
    a.run("SELECT pg_advisory_unlock(7)").ok();
    if failed == 0 {
        failed += usize::from(deadlock(b.until_ready().expect("the other one")));
    } else {
        b.until_ready().ok();
    }
    assert_eq!(failed, 1, "one gives way");
    assert!(stuck.elapsed() < Duration::from_secs(5), "{:?}", stuck.elapsed());
    b.run("ROLLBACK").expect("an end");
    b.run("SELECT pg_advisory_unlock_all()").expect("an end");
    // The session ends without a word.
    drop(a);
    wait_until("its locks go with a session", || value(&mut b, "SELECT pg_try_advisory_lock(1, 2)") == "t");
    b.run("SELECT pg_advisory_unlock_all()").expect("unlocked");
    // Its proxy is killed.
    let mut a = connect(&cluster, 0);
    a.run("SELECT pg_advisory_lock(7)").expect("a lock");
    assert_eq!(value(&mut b, "SELECT pg_try_advisory_lock(7)"), "f");
    cluster.proxies[0].kill().expect("a signal");
    b.set_patience(Duration::from_secs(30)).expect("patience");
    let started = Instant::now();
    b.run("SELECT pg_advisory_lock(7)").expect("the lock of a dead proxy");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn a_circle_through_a_sessions_lock_is_broken_at_once_whoever_gives_way() {
    let cluster = deployment("circle");
    connect(&cluster, 0)
        .run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
        .expect("a table");
    let mut gave_way = Vec::new();
    for (of_a, of_b) in [(0, 1), (1, 0)] {
        let (mut a, mut b) = (connect(&cluster, of_a), connect(&cluster, of_b));
        a.run("SELECT pg_advisory_lock(7)").expect("a lock");
        b.run("BEGIN; UPDATE t SET v = 2 WHERE id = 1").expect("a row");
        b.send(&Outgoing::new().query("SELECT pg_advisory_lock(7)")).expect("it waits");
        std::thread::sleep(Duration::from_millis(200));
        let started = Instant::now();
        let updated = a.query("UPDATE t SET v = 3 WHERE id = 1").expect("an answer");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        gave_way.push(updated.iter().any(|message| matches!(message, Incoming::Error(_))));
        a.run("SELECT pg_advisory_unlock(7)").expect("unlocked");
        b.until_ready().expect("an answer");
        b.run("ROLLBACK; SELECT pg_advisory_unlock_all()").expect("an end");
    }
    // The one whose proxy is older stays.
    assert_ne!(gave_way[0], gave_way[1]);
}

#[test]
fn locks_and_listeners_survive_the_loss_of_nodes() {
    let mut cluster = deployment("survive");
    let (mut a, mut b) = (connect(&cluster, 0), connect(&cluster, 1));
    for key in 0..24 {
        a.run(&format!("SELECT pg_advisory_lock({key}); LISTEN c{key}")).expect("a lock and a channel");
    }
    cluster.nodes[2].kill().expect("a signal");
    for key in 0..24 {
        let got = value(&mut b, &format!("SELECT pg_try_advisory_lock({key})"));
        assert_eq!(got, "f", "key {key}");
        b.run(&format!("NOTIFY c{key}, 'after'")).expect("a notification");
    }
    a.set_patience(Duration::from_secs(20)).expect("patience");
    let mut heard: Vec<String> = (0..24).map(|_| hears(&mut a)).collect();
    heard.sort();
    let mut expected: Vec<String> = (0..24).map(|key| format!("c{key}:after")).collect();
    expected.sort();
    assert_eq!(heard, expected);
    for key in 0..24 {
        assert_eq!(value(&mut a, &format!("SELECT pg_advisory_unlock({key})")), "t", "key {key}");
        assert_eq!(value(&mut b, &format!("SELECT pg_try_advisory_lock({key})")), "t", "key {key}");
    }
}

#[test]
fn notifications_reach_other_proxies_when_they_are_committed() {
    let cluster = deployment("notify");
    let (mut a, mut b) = (connect(&cluster, 0), connect(&cluster, 1));
    a.run("LISTEN c").expect("LISTEN");
    let process = value(&mut b, "SELECT pg_backend_pid()");
    b.run("NOTIFY c, 'one'").expect("NOTIFY");
    match a.receive().expect("a notification") {
        Incoming::Notification { process: of, channel, payload } => {
            assert_eq!((of.to_string(), channel.as_str(), payload.as_str()), (process, "c", "one"));
        }
        other => panic!("{other:?}"),
    }
    // In a transaction block they wait for its end, and come before ReadyForQuery.
    a.run("BEGIN").expect("BEGIN");
    b.run("BEGIN; NOTIFY c, 'two'; NOTIFY c, 'two'; SAVEPOINT s; NOTIFY c, 'gone'; ROLLBACK TO s; NOTIFY c, 'three'")
        .expect("a transaction");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(heard_with(&mut a, "SELECT 1"), [""; 0]);
    b.run("COMMIT").expect("COMMIT");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(heard_with(&mut a, "SELECT 1"), [""; 0]);
    assert_eq!(heard_with(&mut a, "COMMIT"), ["c:two", "c:three"]);
    b.run("BEGIN; NOTIFY c, 'gone'; ROLLBACK").expect("nothing");
    // Its own ones, too; LISTEN comes into force with its transaction.
    assert_eq!(heard_with(&mut a, "NOTIFY c, 'own'"), ["c:own"]);
    b.run("BEGIN; LISTEN d").expect("LISTEN");
    a.run("NOTIFY d, 'early'").expect("NOTIFY");
    b.run("ROLLBACK; BEGIN; LISTEN d; COMMIT").expect("LISTEN");
    a.run("NOTIFY d, 'late'").expect("NOTIFY");
    assert_eq!(hears(&mut b), "d:late");
    assert_eq!(value(&mut b, "SELECT string_agg(c, ',') FROM pg_listening_channels() c"), "d");
    assert_eq!(value(&mut b, "SELECT pg_notification_queue_usage()"), "0");
    // In order, from many transactions.
    for number in 0..200 {
        b.run(&format!("NOTIFY c, '{number}'")).expect("NOTIFY");
    }
    for number in 0..200 {
        assert_eq!(hears(&mut a), format!("c:{number}"));
    }
    b.run("DISCARD ALL").expect("DISCARD");
    a.run("UNLISTEN *").expect("UNLISTEN");
    b.run("NOTIFY c; NOTIFY d").expect("NOTIFY");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(heard_with(&mut a, "SELECT pg_listening_channels()"), [""; 0]);
    assert_eq!(failure(&mut a, "SELECT pg_notify('', 'x')"), "22023");
    assert_eq!(failure(&mut a, "SELECT pg_notify('c', repeat('x', 8000))"), "22023");
    a.run("SELECT pg_notify('c', repeat('x', 7999))").expect("just short enough");
}

#[test]
fn a_client_that_does_not_read_is_sent_away() -> io::Result<()> {
    let toroid = Toroid::start(&["--partitions", "16"]);
    let (mut slow, mut other) = (toroid.connect(), toroid.connect());
    slow.run("LISTEN c")?;
    slow.run("BEGIN")?;
    for number in 0..1_500 {
        other.run(&format!("SELECT pg_notify('c', repeat('x', 7000) || {number})"))?;
    }
    // What waited for the end of its transaction was more than is kept.
    let messages = slow.query("COMMIT")?;
    let fatal =
        messages.iter().any(|message| matches!(message, Incoming::Error(report) if report.severity() == "FATAL"));
    assert!(fatal, "it is told that notifications were lost");
    assert_eq!(value(&mut toroid.connect(), "SELECT 1"), "1");
    Ok(())
}

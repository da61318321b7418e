//! What an operator sees: metrics for Prometheus, and plans by EXPLAIN.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use toroid_tests::client::Client;
use toroid_tests::message::Incoming;
use toroid_tests::server::Toroid;

fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// The sum of a metric over all its labels that contain `label`.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn plan(client: &mut Client, sql: &str) -> String {
    let mut lines = Vec::new();
    for message in client.query(&format!("EXPLAIN {sql}")).expect("a plan") {
        match message {
            Incoming::DataRow(row) => {
                lines.push(String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned())
            }
            Incoming::RowDescription(fields) => assert_eq!(fields[0].name, "QUERY PLAN"),
            Incoming::Error(report) => panic!("EXPLAIN {sql}: {report}"),
            _ => {}
        }
    }
    lines.join("\n")
}

#[test]
fn statements_are_counted_and_timed() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").to_string();
    let toroid = Toroid::start(&["--metrics", &free]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE m (id int PRIMARY KEY, v int)").expect("a table");
    let before = metrics(&free);
    for id in 0..10 {
        client.run(&format!("INSERT INTO m VALUES ({id}, 0)")).expect("a row");
    }
    for _ in 0..5 {
        client.run("SELECT count(*) FROM m").expect("a count");
        assert!(client.run("SELECT nope FROM m").is_err());
    }
    // Workers publish their counts from time to time.
    let published = |text: &str| sum(text, "toroid_replication_entries_total", "") >= 10.0;
    let after = (0..50)
        .map(|_| thread::sleep(Duration::from_millis(100)))
        .map(|()| metrics(&free))
        .find(|text| published(text));
    let after = after.expect("ten entries are replicated");
    let more = |name: &str, label: &str| sum(&after, name, label) - sum(&before, name, label);
    assert_eq!(more("toroid_statements_total", "outcome=\"ok\""), 15.0, "{after}");
    assert_eq!(more("toroid_statements_total", "outcome=\"error\""), 5.0, "{after}");
    assert!(more("toroid_statement_seconds_count", "") >= 15.0, "{after}");
    assert!(sum(&after, "toroid_worker_memory_bytes", "") > 0.0, "{after}");
    assert!(sum(&after, "toroid_sessions", "") >= 1.0, "{after}");
}

#[test]
fn plans_are_explained() {
    let toroid = Toroid::start(&["--partitions", "8"]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE e (id int PRIMARY KEY, v int)").expect("a table");
    let point = plan(&mut client, "SELECT v FROM e WHERE id = 1");
    assert!(point.starts_with("Point select") && point.contains("1 of 8"), "{point}");
    let write = plan(&mut client, "UPDATE e SET v = 2 WHERE id = 1");
    assert!(write.starts_with("Point update") && write.contains("1 of 8"), "{write}");
    let spread = plan(&mut client, "SELECT v, count(*) FROM e GROUP BY v");
    assert!(spread.contains("Remote: workers=3, partitions=8") && spread.contains("Scan: e"), "{spread}");
    let count = client.value("SELECT count(*) FROM e").expect("a count");
    assert_eq!(count.as_deref(), Some("0"), "EXPLAIN runs nothing");
}

#[test]
fn the_cluster_is_shown_in_sql_as_its_leader_sees_it() {
    let toroid = Toroid::start(&["--partitions", "8"]);
    let mut client = toroid.connect();
    let mut value = |sql: &str| client.value(sql).expect("a value").unwrap_or_default();
    assert_eq!(value("SELECT count(*) FROM toroid.nodes WHERE life = 'up' AND heard_ms < 10000"), "3");
    // A lease is renewed four times in its life.
    let leased = (0..50)
        .map(|_| value("SELECT count(*) FROM toroid.nodes WHERE lease_ms BETWEEN 1 AND 400"))
        .any(|leased| leased == "3");
    assert!(leased, "all nodes have leases");
    assert_eq!(value("SELECT sum(primaries) + sum(backups) + sum(joining) FROM toroid.nodes"), "16");
    assert_eq!(value("SELECT copies || ' ' || min_copies || ' ' || ready FROM toroid.cluster"), "2 1 true");
    assert_eq!(value("SELECT under_replicated || lost FROM toroid.cluster"), "{}");
    assert_eq!(value("SELECT count(*) FROM toroid.partitions WHERE life = 'up' AND arrived IS NULL"), "16");
    assert_eq!(value("SELECT count(*) FROM toroid.moves"), "0");
}

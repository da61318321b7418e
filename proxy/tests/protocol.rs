//! The front end over a socket, against what PostgreSQL answers to the same messages.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::client::{Client, frame};
use support::fake::Fake;
use toroid_proxy::server::threads::Threads;
use toroid_proxy::server::{Config, Server};

fn server(config: &Config) -> Server {
    server_on(1, config)
}

fn server_on(threads: usize, config: &Config) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::start(listener, config, Threads::start("proxy", threads).unwrap(), |_| async { Fake::default() }).unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Runs every group and writes messages and answers.
fn record(address: SocketAddr, script: &str) -> String {
    let mut client = Client::connect(address, "postgres");
    let (mut out, mut group) = (String::new(), Vec::new());
    for line in script.lines().filter(|line| !line.starts_with("< ")) {
        out.push_str(line);
        out.push('\n');
        match line {
            "." => {
                for answer in client.exchange(&std::mem::take(&mut group)) {
                    out.push_str(&format!("< {answer}\n"));
                }
            }
            line if line.starts_with('#') => {}
            line => group.push(line),
        }
    }
    out
}

/// Plays a script and compares, or makes it anew where a PostgreSQL is named.
fn play(name: &str) {
    let script = std::fs::read_to_string(golden(name)).unwrap();
    if let Ok(address) = std::env::var("TOROID_POSTGRES") {
        let recorded = record(address.parse().unwrap(), &script);
        std::fs::write(golden(name), recorded).unwrap();
        return;
    }
    let server = server(&Config::default());
    let recorded = record(server.address(), &script);
    if recorded != script {
        let found = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&found, recorded).unwrap();
        panic!("answers differ: diff {} {}", golden(name).display(), found.display());
    }
    server.stop();
}

#[test]
fn messages_are_answered_as_postgresql_does() {
    play("messages.txt");
}

#[test]
fn transactions_are_answered_as_postgresql_does() {
    play("transactions.txt");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let server = server(&Config::default());
    let mut client = Client::connect(server.address(), "me");
    let mut lines = vec!["P s|SELECT $1::int4 AS a, $2::text AS b|"];
    for _ in 0..500 {
        lines.extend(["B |s||7,x|", "E |0"]);
    }
    lines.push("S");
    let answers = client.exchange(&lines);
    assert_eq!(answers.iter().filter(|a| a.starts_with("C SELECT 1")).count(), 500);
    assert_eq!(answers.last().unwrap(), "Z I");
    server.stop();
}

#[test]
fn long_answers_wait_for_the_client() {
    let server = server(&Config::default());
    let mut client = Client::connect(server.address(), "me");
    let answers = client.exchange(&["Q SELECT g FROM generate_series(1, 1000000) g"]);
    assert_eq!(answers.len(), 1_000_003);
    assert_eq!(answers[1_000_000], "D %00%01%00%00%00%071000000");
    server.stop();
}

#[test]
fn a_statement_can_be_canceled_from_another_connection() {
    let server = server_on(2, &Config::default());
    let mut client = Client::connect(server.address(), "me");
    let (address, process, key) = (server.address(), client.process, client.key.clone());
    let cancel = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let mut bytes = vec![0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];
        bytes.extend_from_slice(&process.to_be_bytes());
        bytes.extend_from_slice(&key);
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
    });
    let started = Instant::now();
    let answers = client.exchange(&["Q SELECT pg_sleep(10)"]);
    assert_eq!(answers, ["E SERROR | C57014 | Mcanceling statement due to user request", "Z I"]);
    assert!(started.elapsed() < Duration::from_secs(5));
    cancel.join().unwrap();
    client.exchange(&["Q SET statement_timeout = 50"]);
    let answers = client.exchange(&["Q SELECT pg_sleep(10)"]);
    assert_eq!(answers[0], "E SERROR | C57014 | Mcanceling statement due to statement timeout");
    server.stop();
}

#[test]
fn broken_messages_end_their_connection_only() {
    let server = server(&Config::default());
    let mut other = Client::connect(server.address(), "me");
    for (bytes, message) in [
        (frame(b'@', b""), "Minvalid frontend message type 64"),
        (vec![b'Q', 0, 0, 0, 1], "Minvalid message length"),
        (vec![b'Q', 0x7f, 0xff, 0xff, 0xff], "Minvalid message length"),
        (frame(b'B', b"\0\0\0\0\0\x01"), "Minsufficient data left in message"),
        (frame(b'D', b"S"), "Minvalid string in message"),
        (frame(b'S', b"x"), "Minvalid message format"),
        (frame(b'p', b"x\0"), "Minvalid frontend message type 112"),
    ] {
        let mut client = Client::connect(server.address(), "me");
        client.send(&bytes);
        let (letter, body) = client.read().unwrap();
        let shown = support::client::show(letter, &body);
        assert_eq!(shown, format!("E SFATAL | C08P01 | {message}"));
        assert!(client.read().is_none());
    }
    assert_eq!(other.exchange(&["Q SELECT 1 AS a"]).len(), 4);
    server.stop();
}

#[test]
fn connections_are_limited_and_end_at_shutdown() {
    let server = server(&Config { max_connections: 2, ..Config::default() });
    let mut first = Client::connect(server.address(), "me");
    let second = Client::connect(server.address(), "me");
    let third = Client::with_options(server.address(), &[("user", "me")]);
    assert_eq!(third.err().unwrap(), "E SFATAL | C53300 | Msorry, too many clients already");
    drop(second);
    while server.sessions() > 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let bad = Client::with_options(server.address(), &[("user", "me"), ("nope", "1")]);
    assert_eq!(bad.err().unwrap(), "E SFATAL | C42704 | Munrecognized configuration parameter \"nope\"");
    assert!(Client::with_options(server.address(), &[("user", "me"), ("options", "-c work_mem=1MB")]).is_ok());
    server.stop();
    let (letter, body) = first.read().unwrap();
    let expected = "E SFATAL | C57P01 | Mterminating connection due to administrator command";
    assert_eq!(support::client::show(letter, &body), expected);
    assert!(first.read().is_none());
}

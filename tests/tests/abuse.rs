//! Messages that break the protocol end their own connection at most; the server and its other sessions live on.

use std::io;
use std::time::Duration;
use toroid_common::limits::MAX_PLANS_PER_CONNECTION;
use toroid_tests::client::Client;
use toroid_tests::message::{Format, Incoming, Outgoing, Target};
use toroid_tests::server::Toroid;

/// How long the server may take to answer an abuse or to end its connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with one session that must outlive everything that the others do.
struct Scene {
    toroid: Toroid,
    witness: Client,
}

impl Scene {
    fn new() -> Scene {
        let toroid = Toroid::start(&["--partitions", "4"]);
        let mut witness = toroid.connect();
        witness.run("CREATE TABLE witness (id int PRIMARY KEY, v int)").expect("a table");
        witness.run("INSERT INTO witness VALUES (1, 0)").expect("a row");
        Scene { toroid, witness }
    }

    fn open(&self) -> Client {
        let client = Client::open(&self.toroid.address).expect("a connection");
        client.set_patience(PATIENCE).expect("a timeout");
        client
    }

    fn session(&self) -> Client {
        let client = self.toroid.connect();
        client.set_patience(PATIENCE).expect("a timeout");
        client
    }

    /// The old session works, and a new one can be had.
    fn lives(&mut self, after: &str) {
        let old = self.witness.value("UPDATE witness SET v = v + 1 WHERE id = 1 RETURNING v");
        assert!(old.is_ok(), "after {after}: {old:?}");
        let new = self.session().value("SELECT v >= 0 FROM witness WHERE id = 1").expect("a new session");
        assert_eq!(new.as_deref(), Some("t"), "after {after}");
        assert!(self.toroid.is_alive(), "after {after}");
    }
}

/// Sends bytes on an open connection and expects its end; gives what the server said before. Writing may fail: it may be closed already.
fn ends(mut client: Client, bytes: &[u8], what: &str) -> Vec<Incoming> {
    let sent = client.send_bytes(bytes);
    match client.until_closed() {
        Ok(messages) => messages,
        Err(error) => panic!("{what}: the connection did not end: {error} (sent: {sent:?})"),
    }
}

fn states(messages: &[Incoming]) -> Vec<&str> {
    let state = |message: &'_ Incoming| matches!(message, Incoming::Error(_));
    messages
        .iter()
        .filter(|m| state(m))
        .map(|m| if let Incoming::Error(report) = m { report.state() } else { "" })
        .collect()
}

fn framed(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn bad_startups_end_the_connection() {
    let mut scene = Scene::new();
    let garbage: Vec<u8> = (0..64u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
    let cases: [(&str, Vec<u8>); 9] = [
        ("garbage", garbage),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("length zero", vec![0, 0, 0, 0]),
        ("length three", vec![0, 0, 0, 3, 0, 3, 0, 0]),
        ("negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("a gigabyte", vec![0x40, 0, 0, 0, 0, 3, 0, 0]),
        ("protocol 1.0", [&8_u32.to_be_bytes()[..], &0x0001_0000_u32.to_be_bytes()].concat()),
        ("no terminator", [&14_u32.to_be_bytes()[..], &0x0003_0000_u32.to_be_bytes(), b"user\0u"].concat()),
        ("not UTF-8", Outgoing::startup(&[]).bytes.into_iter().chain([0xff, 0xfe]).collect()),
    ];
    for (what, bytes) in cases {
        let mut client = scene.open();
        let sent = client.send_bytes(&bytes);
        // A short message may leave the server waiting for the rest: the client goes then.
        client.set_patience(Duration::from_millis(500)).expect("a timeout");
        let reply = client.until_closed();
        drop((client, sent, reply));
        scene.lives(what);
    }
}

#[test]
fn connections_cut_short_do_no_harm() {
    let mut scene = Scene::new();
    let startup = Outgoing::startup(&[("user", "postgres"), ("database", "toroid")]).bytes;
    for cut in [0, 1, 4, 7, 8, 12, startup.len() - 1] {
        let mut client = scene.open();
        client.send_bytes(&startup[..cut]).expect("it is sent");
    }
    scene.lives("cut startups");
    let messages = Outgoing::new().query("SELECT 1").parse("s", "SELECT $1::int4", &[]).sync().bytes;
    for cut in 1..messages.len() {
        let mut client = scene.session();
        client.send_bytes(&messages[..cut]).expect("it is sent");
    }
    scene.lives("cut messages");
    for _ in 0..20 {
        let mut client = scene.session();
        client
            .send(&Outgoing::new().query("SELECT x, repeat('y', 100) FROM generate_series(1, 100000) x"))
            .expect("it is sent");
        client.receive().expect("a first reply");
    }
    scene.lives("results that nobody reads");
}

#[test]
fn encryption_and_cancelling_are_answered() {
    let mut scene = Scene::new();
    let mut client = scene.open();
    client.send(&Outgoing::ssl_request()).expect("it is sent");
    assert_eq!(client.receive_byte().expect("an answer"), b'N');
    client.send(&Outgoing::startup(&[("user", "postgres"), ("database", "toroid")])).expect("it is sent");
    let replies = client.until_ready().expect("a session without encryption");
    assert!(matches!(replies.last(), Some(Incoming::Ready('I'))), "{replies:?}");
    for (process, secret) in [(0, vec![0; 4]), (i32::MAX, vec![0xff; 4]), (1, Vec::new()), (1, vec![1_u8; 300])] {
        let client = scene.open();
        let replies = ends(client, &Outgoing::cancel_request(process, &secret).bytes, "a cancel request");
        let told = !replies.is_empty();
        assert!(!told || secret.len() != 4, "a cancel request is never answered: {replies:?}");
    }
    scene.lives("cancel requests");
}

#[test]
fn malformed_messages_end_the_session() {
    let mut scene = Scene::new();
    let bind = |body: &[u8]| framed(b'B', body.len() as u32 + 4, body);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown type", framed(b'!', 4, &[])),
        ("a server's type", framed(b'T', 6, &[0, 0])),
        ("length zero", framed(b'Q', 0, &[])),
        ("length three", framed(b'Q', 3, &[])),
        ("negative length", framed(b'Q', u32::MAX, b"SELECT 1\0")),
        ("two gigabytes", framed(b'Q', 0x7fff_ffff, b"SELECT 1\0")),
        ("a query without end", framed(b'Q', 12, b"SELECT 1")),
        ("a query with bytes after its end", framed(b'Q', 14, b"SELECT 1\0x")),
        ("a Parse cut in its name", framed(b'P', 6, b"ab")),
        (
            "a Parse with fewer types than it says",
            framed(b'P', 15, b"\0SELECT 1\0\0\x05".get(..11).unwrap_or_default()),
        ),
        ("a Bind with too many formats", bind(b"\0\0\xff\xff\0\0")),
        ("a Bind with too many values", bind(b"\0\0\0\0\x7f\xff")),
        ("a Bind with a value of negative length", bind(b"\0\0\0\0\0\x01\xff\xff\xff\xf0\0\0")),
        ("a Bind with a value past its end", bind(b"\0\0\0\0\0\x01\0\0\x10\0abc\0\0")),
        ("a Describe of nothing", framed(b'D', 4, &[])),
        ("a Describe of what is not", framed(b'D', 6, b"Z\0")),
        ("an Execute without count", framed(b'E', 5, b"\0")),
        ("a Close without name", framed(b'C', 5, b"S")),
        ("a Sync with a body", framed(b'S', 8, b"abcd")),
    ];
    for (what, bytes) in cases {
        let mut client = scene.session();
        // The session may end, or answer an error: then it must still work. It must not hang or answer wrongly.
        let sent = client.send_bytes(&[bytes, Outgoing::new().sync().query("SELECT 'still here'").bytes].concat());
        client.set_patience(Duration::from_millis(300)).expect("a timeout");
        while let Ok(message) = client.receive() {
            assert!(!matches!(message, Incoming::Unknown(..)), "{what}: {message:?}");
        }
        drop((client, sent));
        scene.lives(what);
    }
}

#[test]
fn the_fatal_error_is_told() {
    let mut scene = Scene::new();
    let replies = ends(scene.session(), &framed(b'!', 4, &[]), "an unknown type");
    assert_eq!(states(&replies), ["08P01"], "{replies:?}");
    let replies = ends(scene.session(), &framed(b'Q', 3, &[]), "a bad length");
    // PostgreSQL ends it without a word: after a bad length nothing can be in step any more.
    assert!(matches!(states(&replies).as_slice(), [] | ["08P01"]), "{replies:?}");
    scene.lives("fatal errors");
}

#[test]
fn messages_out_of_order_are_errors() {
    let mut scene = Scene::new();
    let cases: Vec<(&str, Outgoing)> = vec![
        ("copy data outside of COPY", Outgoing::new().copy_data(b"x").copy_done().copy_fail("no").sync()),
        ("Execute before Bind", Outgoing::new().execute("", 0).sync()),
        ("Bind before Parse", Outgoing::new().bind("", "x", Format::Text, &[], Format::Text).sync()),
        ("Describe before all", Outgoing::new().describe(Target::Portal, "x").describe(Target::Statement, "y").sync()),
        ("Close of nothing", Outgoing::new().close(Target::Portal, "x").close(Target::Statement, "y").sync()),
        ("Flush and Sync alone", Outgoing::new().flush().flush().sync()),
    ];
    for (what, messages) in cases {
        let mut client = scene.session();
        client.send(&messages).expect("it is sent");
        let replies = client.until_ready().expect("the session goes on");
        assert!(matches!(replies.last(), Some(Incoming::Ready('I'))), "{what}: {replies:?}");
        assert_eq!(client.value("SELECT 1").expect("the session works").as_deref(), Some("1"), "{what}");
    }
    let query_in_copy = Outgoing::new().query("COPY witness FROM STDIN").query("SELECT 1");
    let mut client = scene.session();
    client.send(&query_in_copy).expect("it is sent");
    client.set_patience(Duration::from_secs(2)).expect("a timeout");
    let replies = client.until_closed().unwrap_or_default();
    drop((client, replies));
    scene.lives("messages out of order");
}

#[test]
fn a_session_that_leaves_in_the_middle_leaves_nothing() {
    let mut scene = Scene::new();
    scene.witness.run("CREATE TABLE filled (id int PRIMARY KEY)").expect("a table");
    for _ in 0..5 {
        let mut client = scene.session();
        client.send(&Outgoing::new().query("COPY filled FROM STDIN").copy_data(b"1\n2\n3")).expect("it is sent");
        assert!(matches!(client.receive(), Ok(Incoming::CopyIn { .. })));
    }
    for _ in 0..5 {
        let mut client = scene.session();
        client.send(&Outgoing::new().query("SELECT 1").terminate()).expect("it is sent");
        assert_eq!(client.until_closed().expect("it is closed").len(), 4);
    }
    scene.lives("sessions that left");
    assert_eq!(scene.witness.value("SELECT count(*) FROM filled").expect("a count").as_deref(), Some("0"));
}

#[test]
fn large_things_are_answered_or_refused() {
    let mut scene = Scene::new();
    let long = "x".repeat(4 << 20);
    let mut client = scene.session();
    let length = client.value(&format!("SELECT length('{long}')")).expect("a long literal");
    assert_eq!(length, Some(long.len().to_string()));
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let wide = format!("SELECT {}", vec!["1"; 5_000].join(", "));
    let chain = format!("SELECT {}", vec!["1"; 20_000].join(" + "));
    let list = format!("SELECT 1 WHERE 1 IN ({})", vec!["2"; 50_000].join(", "));
    for (what, sql) in
        [("deep parentheses", deep), ("many columns", wide), ("a long sum", chain), ("a long list", list)]
    {
        let replies = client.query(&sql).unwrap_or_else(|error: io::Error| panic!("{what}: {error}"));
        assert!(matches!(replies.last(), Some(Incoming::Ready('I'))), "{what}");
        scene.lives(what);
    }
    let values = vec![Some(b"1".to_vec()); 40_000];
    let many =
        Outgoing::new().parse("", "SELECT $1::int4", &[]).bind("", "", Format::Text, &values, Format::Text).sync();
    client.send(&many).expect("it is sent");
    assert_eq!(states(&client.until_ready().expect("an error")), ["08P01"]);
    scene.lives("many parameters");
}

#[test]
fn many_sessions_come_and_go() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        let clients: Vec<Client> = (0..64).map(|_| scene.session()).collect();
        drop(clients);
    }
    let mut clients: Vec<Client> = (0..64).map(|_| scene.session()).collect();
    for client in &mut clients {
        assert_eq!(client.value("SELECT count(*) FROM witness").expect("a count").as_deref(), Some("1"));
    }
    scene.lives("many sessions");
}

#[test]
fn a_session_of_more_statements_than_a_worker_keeps_goes_on() {
    let toroid = Toroid::start(&["--nodes", "1", "--copies", "1", "--partitions", "1", "--proxy-threads", "1"]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE many (id int PRIMARY KEY, v int)").expect("a table");
    client.run("INSERT INTO many VALUES (1, 42)").expect("a row");
    // Each has a plan of its own; the worker would end a connection with more of them than the limit.
    let statement = |number: usize| format!("SELECT v AS c{number} FROM many WHERE id = 1");
    let numbers: Vec<usize> = (0..MAX_PLANS_PER_CONNECTION + 500).collect();
    for numbers in numbers.chunks(500) {
        let together = numbers.iter().copied().map(statement).collect::<Vec<_>>().join(";");
        let answers = client.query(&together).expect("answers");
        let rows = answers
            .iter()
            .filter(|answer| matches!(answer, Incoming::DataRow(row) if row[0].as_deref() == Some(b"42")));
        assert_eq!(rows.count(), numbers.len());
    }
    // The first ones are long forgotten, and come back.
    assert_eq!(client.value(&statement(0)).expect("an answer").as_deref(), Some("42"));
    assert!(!toroid.log().contains("too many plans"), "{}", toroid.log());
}

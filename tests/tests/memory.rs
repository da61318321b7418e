//! No client takes more of the proxy's memory than its share: what is too large is written in parts or refused with 53200, and others go on.

use toroid_tests::client::Client;
use toroid_tests::server::Toroid;

/// With 16 MiB at the proxy one statement may hold 8 MiB.
const SMALL: [&str; 8] = ["--nodes", "2", "--copies", "1", "--partitions", "8", "--merge-memory", "16"];

fn count(client: &mut Client) -> Option<String> {
    client.value("SELECT count(*) FROM wide").expect("a count")
}

fn refused(client: &mut Client, sql: &str) {
    let error = client.run(sql).expect_err(sql).to_string();
    assert!(error.contains("53200") && error.contains("out of memory"), "{sql}: {error}");
}

#[test]
fn an_insert_of_more_than_fits_goes_in_parts_or_not_at_all() {
    let toroid = Toroid::start(&SMALL);
    let mut client = toroid.connect();
    client.run("CREATE TABLE wide (id int PRIMARY KEY, v text)").expect("a table");
    let rows = "SELECT i, repeat('x', 20000) FROM generate_series(1, 1500) i";
    client.run(&format!("INSERT INTO wide {rows}")).expect("30 MB in parts");
    assert_eq!(count(&mut client).as_deref(), Some("1500"));
    client.run("DELETE FROM wide WHERE id > 750").expect("half of them go");

    // Here a part could be seen by the rest of the statement, or would come back out of order.
    refused(&mut client, "INSERT INTO wide SELECT id + 10000, v FROM wide");
    refused(
        &mut client,
        "INSERT INTO wide SELECT i, repeat('x', 20000) FROM generate_series(2001, 3500) i RETURNING id",
    );
    assert_eq!(count(&mut client).as_deref(), Some("750"));
    client.run("INSERT INTO wide SELECT id + 10000, v FROM wide WHERE id <= 300").expect("what fits");
    assert_eq!(count(&mut client).as_deref(), Some("1050"));
}

#[test]
fn results_of_subqueries_and_sorts_are_bounded() {
    let toroid = Toroid::start(&SMALL);
    let (mut client, mut other) = (toroid.connect(), toroid.connect());
    client.run("CREATE TABLE wide (id int PRIMARY KEY, v text)").expect("a table");
    client.run("INSERT INTO wide SELECT i, repeat('x', 20000) FROM generate_series(1, 1500) i").expect("30 MB");
    refused(&mut client, "SELECT count(*) FROM wide WHERE v <> ALL (SELECT v FROM wide)");
    refused(&mut client, "SELECT array_length(ARRAY(SELECT v FROM wide), 1)");
    refused(&mut client, "DELETE FROM wide WHERE v NOT IN (SELECT v || id FROM wide)");
    refused(&mut client, "SELECT * FROM wide ORDER BY v || id");
    refused(&mut client, "SELECT repeat('x', 100000000 + i) FROM generate_series(1, 100) i");
    assert_eq!(
        other.value("SELECT id FROM wide ORDER BY v || id LIMIT 1").expect("others go on").as_deref(),
        Some("1")
    );
    assert_eq!(count(&mut client).as_deref(), Some("1500"));
}

#[test]
fn what_fits_no_frame_is_refused_and_nobody_ends() {
    let toroid = Toroid::start(&["--nodes", "2", "--copies", "2", "--partitions", "4"]);
    let mut client = toroid.connect();
    client.run("CREATE TABLE t (id int PRIMARY KEY, n int, v text, w text)").expect("a table");
    client.run("INSERT INTO t VALUES (1, 0, 'x', 'x')").expect("a row");
    let long = "repeat('x', 200000000)";
    for sql in [
        "SELECT repeat(v, 200000000), repeat(w, 200000000) FROM t WHERE id = 1".to_owned(),
        format!("UPDATE t SET v = {long}, w = {long} WHERE id = 1"),
        format!("INSERT INTO t VALUES (2, 0, {long}, {long})"),
    ] {
        for begin in ["", "BEGIN; UPDATE t SET n = n + 1 WHERE id = 1"] {
            client.run(begin).expect("a beginning");
            let error = client.run(&sql).expect_err(&sql).to_string();
            assert!(error.contains("54000"), "{begin} {sql}: {error}");
            client.run("ROLLBACK").expect("an end");
        }
    }
    assert_eq!(client.value("SELECT n || v || w FROM t WHERE id = 1").expect("a row").as_deref(), Some("0xx"));
}

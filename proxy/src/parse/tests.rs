//! Statements split, parsed and refused as PostgreSQL does.

use super::normalize::Literal;
use super::*;

fn error(text: &str) -> String {
    let error = statements(text).expect_err("must not parse");
    format!("{} {} @{}", error.state(), error.message(), error.position().unwrap_or(0))
}

#[test]
fn syntax_errors_say_what_and_where() {
    assert_eq!(error("SELECT 'é', 1 +"), "42601 syntax error at end of input @16");
    assert_eq!(error("SELECT 'abc"), "42601 unterminated quoted string at or near \"'abc\" @8");
    assert_eq!(error("SELECT \"abc"), "42601 unterminated quoted identifier at or near \"\"abc\" @8");
    assert_eq!(error("SELECT 1; SELEC 2"), "42601 syntax error at or near \"SELEC\" @11");
    assert_eq!(error("SELECT 1 /* x"), "42601 unterminated /* comment at or near \"/* x\" @10");
    assert_eq!(error("INSERT INTO t VALUES (1, 2"), "42601 syntax error at end of input @27");
    assert_eq!(error("SELECT 1 +; SELECT 2"), "42601 syntax error at or near \";\" @11");
}

#[test]
fn texts_split_into_statements() {
    let all = statements(" ;; SELECT 1 ; /* x */ SELECT ';' -- y\n;").expect("parses");
    let sources: Vec<&str> = all.iter().map(Parsed::source).collect();
    assert_eq!(sources, ["SELECT 1", "SELECT ';'"]);
}

#[test]
fn own_parsers() {
    for text in [
        "SET LOCAL TIME ZONE 'UTC'",
        "set search_path to a, \"B\"",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SHOW ALL",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "START TRANSACTION",
        "END",
        "ROLLBACK WORK",
        "DISCARD ALL",
        "VACUUM (ANALYZE, VERBOSE) t",
        "vacuum analyze pgbench_branches",
        "ANALYZE t (a, b)",
        "PREPARE p (int, text) AS SELECT $1, $2",
        "EXECUTE p(1, 'x')",
        "DEALLOCATE ALL",
        "COPY t FROM STDIN WITH (FREEZE ON)",
        "COPY t (a, b) FROM stdin CSV HEADER DELIMITER AS ';' NULL 'x'",
        "COPY (SELECT 1, (2)) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (a))",
        "COPY t TO STDOUT (FORMAT binary)",
        "COPY pgbench_accounts FROM STDIN BINARY",
        "CREATE TABLE t (a int, b int) WITH (distribute_by = 'a,b')",
        "CREATE TABLE t (a int) WITH (replicated)",
        "CREATE TABLE t (a int PRIMARY KEY) WITH (fillfactor=100)",
        "ALTER TABLE t ADD PRIMARY KEY (a)",
        "ALTER TABLE t SET (fillfactor = 90)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t USING btree (a DESC NULLS LAST)",
        "TRUNCATE TABLE a, b RESTART IDENTITY CASCADE",
        "DROP TABLE IF EXISTS a, b CASCADE",
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT 1",
    ] {
        if let Err(e) = statements(text) {
            panic!("{text}: {e}");
        }
    }
}

#[test]
fn constants_are_lifted_where_meaning_stays() {
    let shown = |text: &str| match normalize(text) {
        None => "-".to_owned(),
        Some(n) => {
            let literals: Vec<String> = n
                .literals
                .iter()
                .map(|l| match l {
                    Literal::Int4(v) => format!("{v}"),
                    Literal::Int8(v) => format!("{v}L"),
                    Literal::Text(v) => format!("'{v}'"),
                })
                .collect();
            format!("{} <- {}", n.text, literals.join(" "))
        }
    };
    for (text, expected) in [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1; <- 12345",
        ),
        (
            "UPDATE pgbench_accounts SET abalance = abalance + -5 WHERE aid = 7",
            "UPDATE pgbench_accounts SET abalance = abalance + -5 WHERE aid = $1 <- 7",
        ),
        (
            "INSERT INTO h (tid, bid, delta, mtime) VALUES (-1, 2, 3000000000, 'it''s', CURRENT_TIMESTAMP), (4,f('x', 3),5.5,'')",
            "INSERT INTO h (tid, bid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP), ($5,f('x', 3),5.5,$6) <- -1 2 3000000000L 'it's' 4 ''",
        ),
        (
            "SELECT 1, a FROM t WHERE b IN (1, 'x') AND c BETWEEN 2 AND 3 AND d = 'q'::text AND f(1) > a - 1 ORDER BY 1 LIMIT 5",
            "SELECT 1, a FROM t WHERE b IN ($1, $2) AND c BETWEEN $3 AND $4 AND d = 'q'::text AND f(1) > a - $5 ORDER BY 1 LIMIT 5 <- 1 'x' 2 3 1",
        ),
        ("SELECT a FROM t WHERE b = interval '1 day' AND e LIKE 'x' AND g = E'y'", "-"),
        (
            "SELECT a FROM t WHERE b = -5::int AND c = -2 ^ 2 AND d=-6",
            "SELECT a FROM t WHERE b = -5::int AND c = -2 ^ 2 AND d=$1 <- -6",
        ),
        ("SELECT a FROM t WHERE b = (SELECT max(b) FROM t WHERE c = 5)", "-"),
        ("SELECT a FROM t WHERE b = $1 AND c = 5", "-"),
        ("SELECT a FROM t WHERE b = 1; SELECT 2", "-"),
        ("SELECT a FROM t -- x\n WHERE b = 1", "-"),
        (
            "SELECT count(*) FROM t WHERE a > 5 GROUP BY 1 HAVING 3 > 2",
            "SELECT count(*) FROM t WHERE a > $1 GROUP BY 1 HAVING 3 > 2 <- 5",
        ),
        ("CREATE TABLE t (a varchar(3))", "-"),
        (
            "UPDATE t SET a = 'x', b = 'y' || c WHERE d = b::numeric(10,2)",
            "UPDATE t SET a = $1, b = 'y' || c WHERE d = b::numeric(10,2) <- 'x'",
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn normalizing_is_fast_enough_to_be_worth_it() {
    let text = "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;";
    assert!(normalize(text).is_some_and(|n| n.text.len() < text.len()));
}

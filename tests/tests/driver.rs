//! A real driver works: tokio-postgres, with parameters and results in binary, pipelines, row streams and COPY.

use std::pin::pin;
use std::time::{Duration, SystemTime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use toroid_tests::server::Toroid;

async fn connect(toroid: &Toroid) -> Client {
    let config = format!("host=127.0.0.1 port={} user=postgres dbname=toroid", toroid.address.port);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("a session");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn types_travel_in_binary() {
    let toroid = Toroid::start(&[]);
    let client = connect(&toroid).await;
    client
        .batch_execute("CREATE TABLE d (id bigint PRIMARY KEY, s smallint, i int, f real, g double precision, t text, b bytea, o boolean, ts timestamptz)")
        .await
        .expect("a table");
    let insert =
        client.prepare("INSERT INTO d VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)").await.expect("a statement");
    let types = [
        Type::INT8,
        Type::INT2,
        Type::INT4,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::TEXT,
        Type::BYTEA,
        Type::BOOL,
        Type::TIMESTAMPTZ,
    ];
    assert_eq!(insert.params(), types);
    let when = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    let bytes: &[u8] = &[0, 1, 255];
    let count =
        client.execute(&insert, &[&1_i64, &-2_i16, &3_i32, &1.5_f32, &-2.25_f64, &"é", &bytes, &true, &when]).await;
    assert_eq!(count.expect("a row"), 1);
    let nothing = (
        None::<i16>,
        None::<i32>,
        None::<f32>,
        None::<f64>,
        None::<String>,
        None::<Vec<u8>>,
        None::<bool>,
        None::<SystemTime>,
    );
    let (s, i, f, g, t, b, o, ts) = &nothing;
    client.execute(&insert, &[&2_i64, s, i, f, g, t, b, o, ts]).await.expect("a row of NULLs");
    let row = client.query_one("SELECT * FROM d WHERE id = $1", &[&1_i64]).await.expect("the row");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i16>(1), row.get::<_, i32>(2)), (1, -2, 3));
    assert_eq!((row.get::<_, f32>(3), row.get::<_, f64>(4), row.get::<_, &str>(5)), (1.5, -2.25, "é"));
    assert_eq!((row.get::<_, &[u8]>(6), row.get::<_, bool>(7), row.get::<_, SystemTime>(8)), (bytes, true, when));
    let row = client.query_one("SELECT * FROM d WHERE id = $1", &[&2_i64]).await.expect("the row");
    assert!(
        (1..9)
            .all(|column| row.try_get::<_, Option<&str>>(column).is_err()
                || row.get::<_, Option<&str>>(column).is_none())
    );
}

#[tokio::test]
async fn statements_run_in_pipelines() {
    let toroid = Toroid::start(&[]);
    let client = connect(&toroid).await;
    client.batch_execute("CREATE TABLE p (id int PRIMARY KEY, v int)").await.expect("a table");
    let insert = client.prepare("INSERT INTO p VALUES ($1, $2)").await.expect("a statement");
    let select = client.prepare("SELECT v FROM p WHERE id = $1").await.expect("a statement");
    let ids: Vec<i32> = (0..100).collect();
    for id in &ids {
        client.execute(&insert, &[id, &(id * 2)]).await.expect("a row");
    }
    let (a, b, c) = tokio::join!(
        client.query_one(&select, &[&1]),
        client.query_one(&select, &[&2]),
        client.query_opt(&select, &[&1000])
    );
    assert_eq!((a.expect("a row").get::<_, i32>(0), b.expect("a row").get::<_, i32>(0)), (2, 4));
    assert!(c.expect("an answer").is_none());
    let failed = client.execute(&insert, &[&1, &1]).await.expect_err("a duplicate key");
    assert_eq!(failed.code().map(|code| code.code().to_owned()), Some("23505".to_owned()));
    let sum: i64 = client.query_one("SELECT sum(v) FROM p", &[]).await.expect("a sum").get(0);
    assert_eq!(sum, ids.iter().map(|id| i64::from(id * 2)).sum::<i64>());
    let rows = client.query("SELECT id FROM p WHERE v > $1 ORDER BY id LIMIT $2", &[&100, &3_i64]).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [51, 52, 53]);
}

#[tokio::test]
async fn simple_queries_and_copies_work() {
    use tokio_postgres::binary_copy::BinaryCopyInWriter;
    let toroid = Toroid::start(&[]);
    let client = connect(&toroid).await;
    let messages = client.simple_query("SELECT 1 AS a; SELECT 'x' AS b").await.expect("two results");
    assert_eq!(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count(), 2);
    client.batch_execute("CREATE TABLE c (id int PRIMARY KEY, t text)").await.expect("a table");
    let sink = client.copy_in("COPY c FROM STDIN BINARY").await.expect("a copy");
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for id in 0..1000_i32 {
        writer.as_mut().write(&[&id, &format!("row {id}")]).await.expect("a row");
    }
    assert_eq!(writer.finish().await.expect("its end"), 1000);
    let row = client.query_one("SELECT count(*), max(t) FROM c", &[]).await.expect("a row");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (1000, "row 999"));
}

#[tokio::test]
async fn a_query_can_be_cancelled() {
    let toroid = Toroid::start(&[]);
    let client = connect(&toroid).await;
    let token = client.cancel_token();
    let query =
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a % 7 = b % 11";
    let (result, cancelled) = tokio::join!(client.simple_query(query), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    });
    cancelled.expect("the request is taken");
    let error = result.expect_err("the query is cancelled");
    assert_eq!(error.code().map(|code| code.code().to_owned()), Some("57014".to_owned()));
    client.simple_query("SELECT 1").await.expect("the session goes on");
}

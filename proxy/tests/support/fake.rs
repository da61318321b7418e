//! An executor that knows a few statements by heart.

use arrow::array::{ArrayRef, Int32Array};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use toroid_common::catalog::{Column as TableColumn, Distribution, Table, TableState};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::expr::Expr;
use toroid_common::id::{CatalogVersion, ColumnId, TableId};
use toroid_common::row::{read_owned, write_row};
use toroid_common::types::SqlType;
use toroid_proxy::bound::{CopyFormat, CopyOptions, Session};
use toroid_proxy::parse;
use toroid_proxy::statement::{
    Answer, Column, CopyBatch, CopyIn, CopyOut, CopySink, Encoded, Executor, Fill, Kind, Prepared, Ready, RowSource,
    State, Tag, show_columns,
};

#[derive(Default)]
pub struct Fake {
    /// Rows that COPY brought into `t`.
    rows: Rc<RefCell<Vec<Vec<Datum>>>>,
}

type Plan = String;

fn syntax(text: &str) -> SqlError {
    let word = text.split_whitespace().next().unwrap_or_default();
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{word}\"")).at(1)
}

fn column(name: &str, ty: SqlType) -> Column {
    Column { name: name.to_owned(), ty: ty.into(), origin: None }
}

pub fn options(format: CopyFormat) -> CopyOptions {
    let csv = format == CopyFormat::Csv;
    CopyOptions {
        format,
        delimiter: if csv { b',' } else { b'\t' },
        null: if csv { "" } else { "\\N" }.to_owned(),
        header: false,
        quote: b'"',
        escape: b'"',
        force_quote: None,
        force_null: Vec::new(),
        force_not_null: Vec::new(),
    }
}

fn format_of(text: &str) -> CopyFormat {
    match text {
        text if text.contains("csv") => CopyFormat::Csv,
        text if text.contains("binary") => CopyFormat::Binary,
        _ => CopyFormat::Text,
    }
}

/// `t (a int4 not null, b text)`.
pub fn table() -> Arc<Table> {
    let column = |id: u16, name: &str, ty: SqlType, not_null: bool| TableColumn {
        id: ColumnId(id),
        name: name.to_owned(),
        ty: ty.into(),
        not_null,
        default: None,
        missing: None,
        hidden: false,
    };
    Arc::new(Table {
        id: TableId(16_384),
        schema: "public".to_owned(),
        name: "t".to_owned(),
        version: CatalogVersion(1),
        columns: vec![column(1, "a", SqlType::Int4, true), column(2, "b", SqlType::Text, false)],
        indexes: Vec::new(),
        distribution: Distribution::Hash(vec![0]),
        state: TableState::Open,
        next_column: 3,
        generation: 0,
        checks: Vec::new(),
        options: Vec::new(),
    })
}

fn session_command(text: &str) -> Option<Session> {
    match parse::statement(text).ok()??.command {
        parse::Command::Session(session) => Some(session),
        parse::Command::Prepare { name, text, .. } => Some(Session::Prepare { name, types: Vec::new(), text }),
        parse::Command::Sql(_) | parse::Command::Copy(_) | parse::Command::Nothing { .. } => {
            let name = text.strip_prefix("EXECUTE ")?.to_owned();
            Some(Session::Execute { name, args: Vec::new() })
        }
    }
}

impl Fake {
    fn plan(&self, text: &str) -> Result<Arc<Prepared<Plan>>, SqlError> {
        let text = text.trim();
        let int = |name: &str| Some(Arc::from([column(name, SqlType::Int4)]));
        let (params, columns, kind, tag, writes) = match text {
            "" => (vec![], None, Kind::Empty, Tag::Plain(""), false),
            "SELECT 1 AS a" | "SELECT 1/0 AS a" => (vec![], int("a"), Kind::Select, Tag::Counted("SELECT"), false),
            "SELECT g FROM generate_series(1, 5) g" => (vec![], int("g"), Kind::Select, Tag::Counted("SELECT"), false),
            "SELECT g FROM generate_series(1, 1000000) g" => {
                (vec![], int("g"), Kind::Select, Tag::Counted("SELECT"), false)
            }
            "SELECT $1::int4 AS a, $2::text AS b" => {
                let columns = Arc::from([column("a", SqlType::Int4), column("b", SqlType::Text)]);
                (vec![SqlType::Int4, SqlType::Text], Some(columns), Kind::Select, Tag::Counted("SELECT"), false)
            }
            "SELECT pg_sleep(10)" => {
                let columns = Arc::from([column("pg_sleep", SqlType::Void)]);
                (vec![], Some(columns), Kind::Select, Tag::Counted("SELECT"), false)
            }
            "SELECT a FROM nope" => {
                return Err(SqlError::new(SqlState::UNDEFINED_TABLE, "relation \"nope\" does not exist").at(15));
            }
            "INSERT INTO t VALUES (1, 'x')" => (vec![], None, Kind::Insert, Tag::Counted("INSERT 0"), true),
            "DELETE FROM t" => (vec![], None, Kind::Delete, Tag::Counted("DELETE"), true),
            "INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING a" => {
                (vec![], int("a"), Kind::Insert, Tag::Counted("INSERT 0"), true)
            }
            text if text.starts_with("COPY") => (vec![], None, Kind::Copy, Tag::Counted("COPY"), text.contains("FROM")),
            text => match session_command(text) {
                Some(Session::Show { name }) => {
                    let columns = show_columns(name.as_deref());
                    (vec![], Some(columns), Kind::Session, Tag::Plain("SHOW"), false)
                }
                Some(_) => (vec![], None, Kind::Session, Tag::Plain("DISCARD ALL"), false),
                None => return Err(syntax(text)),
            },
        };
        let ends_transaction = self.ends_transaction(&text.to_owned());
        Ok(Arc::new(Prepared {
            params,
            columns,
            kind,
            tag,
            writes,
            acts: false,
            executes: None,
            joins: kind != Kind::Session && kind != Kind::Empty,
            ends_transaction,
            plan: text.to_owned(),
        }))
    }
}

fn encoded(rows: &[Vec<Datum>]) -> Answer {
    let mut bytes = Vec::new();
    for row in rows {
        write_row(&mut bytes, row.iter().map(Datum::borrow));
    }
    Answer::Rows(RowSource::Encoded(Encoded { bytes: Bytes::from(bytes), count: rows.len() as u64 }))
}

fn series(end: i32) -> RowSource {
    let batch = |start: i32, end: i32| {
        let array: ArrayRef = Arc::new(Int32Array::from_iter_values(start..=end));
        RecordBatch::try_from_iter([("g", array)]).map_err(SqlError::internal)
    };
    let starts = (1..=end).step_by(if end > 10 { 8192 } else { 2 });
    let step = if end > 10 { 8191 } else { 1 };
    RowSource::Stream(
        futures::stream::iter(starts)
            .then(move |start| async move {
                tokio::task::yield_now().await;
                batch(start, (start + step).min(end))
            })
            .boxed_local(),
    )
}

struct Sink {
    rows: Rc<RefCell<Vec<Vec<Datum>>>>,
}

impl CopySink for Sink {
    fn fill(&mut self, _: u16) -> Result<Datum, SqlError> {
        Ok(Datum::Null)
    }

    fn send(&mut self, batch: CopyBatch) -> LocalBoxFuture<'_, Result<(), SqlError>> {
        async move {
            let types = [SqlType::Int4, SqlType::Text];
            let mut reader = toroid_common::row::RowReader::new(&batch.rows);
            while !reader.is_empty() {
                let row = reader.skip(&types)?;
                self.rows.borrow_mut().push(read_owned(row, &types)?);
            }
            Ok(())
        }
        .boxed_local()
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SqlError>> {
        async { Ok(()) }.boxed_local()
    }

    fn give_up(&mut self) -> LocalBoxFuture<'_, ()> {
        async {}.boxed_local()
    }
}

impl Executor for Fake {
    type Plan = Plan;
    type Piece = String;

    fn split(&self, text: &str) -> Result<SmallVec<[String; 1]>, SqlError> {
        if text.contains("SELEC 1") {
            return Err(syntax("SELEC").at(text.find("SELEC 1").map_or(1, |at| at as u32 + 1)));
        }
        Ok(text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }

    fn ends_transaction(&self, piece: &String) -> bool {
        let command = session_command(piece);
        matches!(command, Some(Session::Commit { .. } | Session::Rollback { .. } | Session::RollbackTo { .. }))
    }

    async fn prepare_piece(&self, _: &State, piece: String) -> Result<Ready<Plan>, SqlError> {
        Ok(Ready { prepared: self.plan(&piece)?, params: Vec::new() })
    }

    async fn prepare(&self, _: &State, text: &str, _: &[SqlType]) -> Result<Arc<Prepared<Plan>>, SqlError> {
        if self.split(text)?.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        self.plan(text)
    }

    async fn refresh(&self, _: &State, prepared: &Arc<Prepared<Plan>>) -> Result<Arc<Prepared<Plan>>, SqlError> {
        Ok(prepared.clone())
    }

    async fn execute(&self, _: &State, prepared: &Arc<Prepared<Plan>>, params: &[Datum]) -> Result<Answer, SqlError> {
        let text = prepared.plan.as_str();
        if let Some(command) = session_command(text) {
            return Ok(Answer::Session(command));
        }
        tokio::task::yield_now().await;
        Ok(match text {
            "SELECT 1 AS a" => encoded(&[vec![Datum::Int4(1)]]),
            "SELECT 1/0 AS a" => return Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
            "SELECT g FROM generate_series(1, 5) g" => Answer::Rows(series(5)),
            "SELECT g FROM generate_series(1, 1000000) g" => Answer::Rows(series(1_000_000)),
            "SELECT $1::int4 AS a, $2::text AS b" => encoded(&[params.to_vec()]),
            "SELECT pg_sleep(10)" => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                encoded(&[vec![Datum::Null]])
            }
            "INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING a" => {
                encoded(&[vec![Datum::Int4(1)], vec![Datum::Int4(2)]])
            }
            "DELETE FROM t" => {
                self.rows.borrow_mut().clear();
                // What the scripted INSERTs leave in a real table.
                Answer::Done { count: 3 }
            }
            text if text.starts_with("COPY t FROM") => Answer::CopyIn(CopyIn {
                table: table(),
                targets: vec![0, 1],
                fills: vec![Fill::Value(Datum::Null); 2],
                options: options(format_of(text)),
                partitions: 64,
                sink: Box::new(Sink { rows: self.rows.clone() }),
            }),
            text if text.starts_with("COPY (SELECT * FROM t ORDER BY a)") => {
                self.rows.borrow_mut().sort_by_key(|row| match row.first() {
                    Some(Datum::Int4(v)) => *v,
                    _ => 0,
                });
                let Answer::Rows(rows) = encoded(&self.rows.borrow()) else { return Err(syntax("COPY")) };
                let columns = Arc::from([column("a", SqlType::Int4), column("b", SqlType::Text)]);
                Answer::CopyOut(CopyOut { columns, options: options(format_of(text)), rows })
            }
            _ => Answer::Done { count: 1 },
        })
    }

    fn arguments(&self, _: &State, _: &[Expr], _: &[SqlType]) -> Result<Vec<Datum>, SqlError> {
        Ok(Vec::new())
    }
}

//! Golden tests: statements and what they are bound to, or the error. `TOROID_GOLDEN=write` writes the answers anew.

use super::{Point, Route, point};
use crate::bind::print::{print, row_expr};
use crate::bind::{Context, VirtualSchemas, VirtualTable, bind};
use crate::bound::{Bound, Ddl, NewTable, Statement};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, IndexState, PUBLIC_SCHEMA, Table, TableState};
use toroid_common::env::Env;
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, IndexId, TableId};
use toroid_common::plan::{Access, Verb};
use toroid_common::types::SqlType;

/// The virtual tables as the running proxy has them.
pub(super) struct Virtuals;

impl VirtualSchemas for Virtuals {
    fn find(&self, schema: Option<&str>, name: &str) -> Option<VirtualTable> {
        let found = crate::virtual_table::find(schema, name)?;
        Some(VirtualTable { oid: found.oid, schema: found.schema, name: found.name, columns: &found.columns })
    }

    fn functions(&self) -> Vec<(u32, &'static str)> {
        crate::virtual_table::functions().collect()
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int DEFAULT 0, filler char(84), PRIMARY KEY (aid))",
    "CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(10,2) DEFAULT 1.5, d timestamptz DEFAULT now(), e bigint NOT NULL)",
    "CREATE TABLE u (x int, y varchar(10), z boolean)",
    "CREATE TABLE o (id bigint, line int, item text DEFAULT 'none', PRIMARY KEY (id, line)) WITH (distribute_by = 'id')",
    "CREATE TABLE r (code char(2) PRIMARY KEY, name text) WITH (replicated)",
];

pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog::empty();
    for text in TABLES {
        match run(&catalog, text, &[]).map(|b| b.statement) {
            Ok(Statement::Ddl(Ddl::CreateTable { table, .. })) => add(&mut catalog, table),
            other => panic!("{text}: {other:?}"),
        }
    }
    catalog
}

pub(super) fn add(catalog: &mut Catalog, new: NewTable) {
    let id = TableId(catalog.next_object);
    let mut indexes = new.indexes;
    for (index, n) in indexes.iter_mut().zip(1..) {
        index.id = IndexId(id.0 + n);
        index.state = IndexState::Ready;
    }
    catalog.next_object += 1 + indexes.len() as u32;
    let table = Table {
        id,
        schema: PUBLIC_SCHEMA.to_owned(),
        name: new.name.name,
        version: CatalogVersion(1),
        next_column: new.columns.len() as u16 + 1,
        columns: new.columns,
        indexes,
        distribution: new.distribution,
        state: TableState::Open,
        generation: 0,
        checks: new.checks,
        options: new.options,
    };
    catalog.tables.insert(id, Arc::new(table));
}

pub(crate) fn run(catalog: &Catalog, text: &str, params: &[SqlType]) -> Result<Bound, SqlError> {
    let env = Env::default();
    let context = Context { catalog, env: &env, virtuals: &Virtuals, params };
    let parsed = crate::parse::statement(text)?.ok_or_else(|| SqlError::internal("empty"))?;
    bind(&context, &parsed)
}

fn shown(catalog: &Catalog, text: &str) -> String {
    match run(catalog, text, &[]) {
        Ok(bound) => {
            let mut out = print(&bound);
            if let Some(point) = point(&bound) {
                out.push_str(&point_line(&point));
            }
            out
        }
        Err(error) => {
            let place = error.position().map_or(String::new(), |p| format!(" @{p}"));
            let hint = error.hint().map_or(String::new(), |h| format!("\nhint {h}"));
            let detail = error.detail().map_or(String::new(), |d| format!("\ndetail {d}"));
            format!("{} {}{place}{detail}{hint}\n", error.state(), error.message())
        }
    }
}

fn point_line(point: &Point) -> String {
    let list = |exprs: &[toroid_common::expr::Expr]| exprs.iter().map(row_expr).collect::<Vec<_>>().join(", ");
    let route = match &point.route {
        Route::Key(key) => format!("key ({})", list(key)),
        Route::Rows { rows, carried } => {
            let rows = rows.iter().map(|r| format!("row ({})", list(r))).collect::<Vec<_>>().join(" ");
            if carried.is_empty() { rows } else { format!("{rows} with {carried:?}") }
        }
        Route::All => "all".to_owned(),
        Route::Reference => "reference".to_owned(),
    };
    let found = |access: &Access, filter: &Option<toroid_common::expr::Expr>| {
        let access = match access {
            Access::Index { key, exact, .. } => format!("index ({}){}", list(key), if *exact { " exact" } else { "" }),
            Access::Scan => "scan".to_owned(),
            Access::Keys { index } => format!("keys of {index:?}"),
            Access::Table { mode } => format!("{mode:?}"),
        };
        format!("{access} filter {}", filter.as_ref().map_or("-".to_owned(), row_expr))
    };
    let verb = match &point.plan.verb {
        Verb::Select { access, filter, output, lock } => {
            let lock = lock.map_or(String::new(), |lock| format!(" {} {:?}", lock.strength.clause(), lock.wait));
            format!("select ({}) {}{lock}", list(output), found(access, filter))
        }
        Verb::Insert { conflict, returning } => {
            let conflict = conflict.as_ref().map_or(String::new(), |conflict| match &conflict.update {
                None => " or nothing".to_owned(),
                Some(update) => {
                    let set: Vec<String> = update.set.iter().map(|(c, e)| format!("@{c} = {}", row_expr(e))).collect();
                    let filter = update.filter.as_ref().map_or("-".to_owned(), row_expr);
                    format!(" or update {} filter {filter}", set.join(", "))
                }
            });
            format!("insert{conflict} returning ({})", list(returning))
        }
        Verb::Update { access, filter, set, returning } => {
            let set: Vec<String> = set.iter().map(|(c, e)| format!("@{c} = {}", row_expr(e))).collect();
            format!("update {} {} returning ({})", set.join(", "), found(access, filter), list(returning))
        }
        Verb::Act(act) => format!("{act:?}"),
        Verb::Delete { access, filter, returning } => {
            format!("delete {} returning ({})", found(access, filter), list(returning))
        }
    };
    let env = if point.plan.needs_env { " env" } else { "" };
    format!("point {route}: {verb}{env}\n")
}

/// Runs a golden script: statements behind `> `, answers below them.
fn golden(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/point/golden").join(name);
    let script = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let catalog = catalog();
    let mut out = String::new();
    for text in script.lines().filter_map(|l| l.strip_prefix("> ")) {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "> {text}\n{}", shown(&catalog, text));
    }
    if std::env::var("TOROID_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    for (want, got) in script.split("\n\n").zip(out.split("\n\n")) {
        assert_eq!(want.trim_end(), got.trim_end(), "in {name}");
    }
    assert_eq!(script.trim_end(), out.trim_end(), "in {name}");
}

#[test]
fn point_statements() {
    golden("point.golden");
}

#[test]
fn queries() {
    golden("queries.golden");
}

#[test]
fn expressions() {
    golden("expressions.golden");
}

#[test]
fn writes() {
    golden("writes.golden");
}

#[test]
fn definitions() {
    golden("definitions.golden");
}

#[test]
fn errors() {
    golden("errors.golden");
}

#[test]
fn locks() {
    golden("locks.golden");
}

#[test]
fn psql_describes() {
    golden("psql.golden");
}

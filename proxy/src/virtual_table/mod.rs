//! Virtual tables: pg_catalog, information_schema and toroid, made from the catalog and the cluster map when a plan reads them.

mod cluster;
mod columns;
pub mod definition;
mod index_rows;
mod information_schema;
mod pg_catalog;
mod type_functions;
mod type_rows;

pub use type_functions::functions;

use std::sync::{Arc, LazyLock};
use toroid_common::catalog::Catalog;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::map::ClusterMap;
use toroid_common::types::SqlType;
use toroid_common::wire::Status;

/// One virtual table: its place and its columns.
#[derive(Debug)]
pub struct Definition {
    pub schema: &'static str,
    pub name: &'static str,
    pub columns: Vec<(&'static str, SqlType)>,
    /// Its `oid` in pg_class.
    pub oid: u32,
}

/// What the rows are made from.
pub struct Source {
    pub catalog: Arc<Catalog>,
    pub map: Arc<ClusterMap>,
    /// What the metadata leader says, where it was asked and does: for the schema `toroid`.
    pub status: Option<Box<Status>>,
    pub env: Env,
    /// Name, value and description of every setting of the session; only pg_settings reads them.
    pub settings: Vec<[String; 3]>,
}

/// Virtual tables have oids below those of users' tables.
const FIRST_OID: u32 = 11_000;

static TABLES: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    columns::DEFINITIONS
        .iter()
        .zip(FIRST_OID..)
        .map(|((schema, name, columns), oid)| {
            let columns = columns.split(',').filter_map(column).collect();
            Definition { schema, name, columns, oid }
        })
        .collect()
});

fn column(text: &'static str) -> Option<(&'static str, SqlType)> {
    let (name, ty) = text.trim().split_once(' ')?;
    let (base, array) = match ty.strip_suffix("[]") {
        Some(base) => (base, true),
        None => (ty, false),
    };
    let base = type_rows::by_short_name(base)?;
    Some((name, if array { base.array()? } else { base }))
}

/// The virtual table with this name; without a schema only pg_catalog is searched, as PostgreSQL's default search path does.
pub fn find(schema: Option<&str>, name: &str) -> Option<&'static Definition> {
    let schema = schema.unwrap_or("pg_catalog");
    TABLES.iter().find(|table| table.name == name && table.schema == schema)
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    TABLES.iter()
}

/// Whether PostgreSQL has it as a view: all but pg_catalog's tables.
fn is_view(table: &Definition) -> bool {
    const VIEWS: [&str; 23] = [
        "pg_available_extension_versions",
        "pg_available_extensions",
        "pg_cursors",
        "pg_group",
        "pg_indexes",
        "pg_locks",
        "pg_matviews",
        "pg_prepared_statements",
        "pg_prepared_xacts",
        "pg_publication_tables",
        "pg_replication_slots",
        "pg_roles",
        "pg_rules",
        "pg_sequences",
        "pg_settings",
        "pg_shadow",
        "pg_stats",
        "pg_tables",
        "pg_timezone_abbrevs",
        "pg_timezone_names",
        "pg_user",
        "pg_user_mappings",
        "pg_views",
    ];
    let statistics = ["pg_stat_", "pg_statio_"].iter().any(|start| table.name.starts_with(start));
    table.schema != "pg_catalog" || statistics || VIEWS.contains(&table.name)
}

/// The rows of a virtual table, in the order of its columns.
pub fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.schema {
        "pg_catalog" => pg_catalog::rows(table, source),
        "information_schema" => information_schema::rows(table, source),
        _ => cluster::rows(table, source),
    }
}

/// What a column can be set to.
trait Cell {
    fn datum(self) -> Datum;
}

impl Cell for Datum {
    fn datum(self) -> Datum {
        self
    }
}

impl Cell for &str {
    fn datum(self) -> Datum {
        Datum::Text(self.to_owned())
    }
}

/// A row under construction: columns by name, the others as their catalog leaves them.
struct Row<'a> {
    table: &'a Definition,
    values: Vec<Datum>,
}

impl<'a> Row<'a> {
    /// PostgreSQL's catalogs hold zero, false and empty names where nothing is set, NULL in texts and arrays.
    fn catalog(table: &'a Definition) -> Row<'a> {
        let values = table.columns.iter().map(|(_, ty)| zero(*ty)).collect();
        Row { table, values }
    }

    /// The information schema says NULL for what does not apply.
    fn nulls(table: &'a Definition) -> Row<'a> {
        Row { table, values: vec![Datum::Null; table.columns.len()] }
    }

    fn set(mut self, column: &str, value: impl Cell) -> Row<'a> {
        let place = self.table.columns.iter().position(|(name, _)| *name == column);
        debug_assert!(place.is_some(), "{} has no column {column}", self.table.name);
        if let Some(slot) = place.and_then(|place| self.values.get_mut(place)) {
            *slot = value.datum();
        }
        self
    }

    fn done(self) -> Vec<Datum> {
        self.values
    }
}

fn zero(ty: SqlType) -> Datum {
    match ty {
        SqlType::Bool => Datum::Bool(false),
        SqlType::Int2 => Datum::Int2(0),
        SqlType::Int4 => Datum::Int4(0),
        SqlType::Int8 => Datum::Int8(0),
        SqlType::Float4 => Datum::Float4(0.0),
        SqlType::Float8 => Datum::Float8(0.0),
        SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Datum::Oid(0),
        SqlType::Name | SqlType::Char => Datum::Text(String::new()),
        SqlType::Numeric
        | SqlType::Text
        | SqlType::Varchar
        | SqlType::Bpchar
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Uuid
        | SqlType::Json
        | SqlType::Jsonb
        | SqlType::Unknown
        | SqlType::Void
        | SqlType::Array(_) => Datum::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_names_known_types() {
        for (schema, name, columns) in columns::DEFINITIONS {
            let table = find(Some(schema), name).expect("defined");
            assert_eq!(table.columns.len(), columns.split(',').count(), "{schema}.{name}");
        }
    }

    #[test]
    fn rows_have_one_value_per_column_and_of_its_type() {
        let source = tests_source();
        for table in all() {
            for row in rows(table, &source) {
                assert_eq!(row.len(), table.columns.len(), "{}", table.name);
            }
        }
    }

    fn tests_source() -> Source {
        Source {
            catalog: Arc::new(Catalog::empty()),
            map: Arc::new(ClusterMap {
                cluster: toroid_common::id::ClusterId(1),
                version: toroid_common::id::MapVersion(1),
                copies: 1,
                min_copies: 1,
                nodes: Vec::new(),
                partitions: Vec::new(),
            }),
            status: None,
            env: Env::default(),
            settings: vec![["TimeZone", "UTC", ""].map(str::to_owned)],
        }
    }
}

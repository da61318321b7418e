//! The rows of pg_catalog.

use super::definition::index_definition;
use super::{Definition, Row, Source, index_rows, type_functions, type_rows};
use toroid_common::catalog::{Column, Table};
use toroid_common::datum::Datum;
use toroid_common::types::SqlType;

/// Everything belongs to the bootstrap superuser (PostgreSQL: `BOOTSTRAP_SUPERUSERID`).
pub(super) const OWNER: u32 = 10;
/// PostgreSQL's fixed oids of the three namespaces that always exist, and of ours.
pub(super) const PG_CATALOG: u32 = 11;
const PUBLIC: u32 = 2200;
const INFORMATION_SCHEMA: u32 = 13_000;
const TOROID: u32 = 13_001;
const DATABASE: u32 = 5;
/// Access methods: `heap` and `btree`.
const HEAP: u32 = 2;
pub(super) const BTREE: u32 = 403;
const TABLESPACE: u32 = 1663;
const DEFAULT_COLLATION: u32 = 100;
const C_COLLATION: u32 = 950;

pub(super) fn rows(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    match table.name {
        "pg_namespace" => namespaces(table),
        "pg_class" => classes(table, source),
        "pg_attribute" => attributes(table, source),
        "pg_attrdef" => defaults(table, source),
        "pg_type" => type_rows::rows(table, PG_CATALOG),
        "pg_proc" => type_functions::rows(table, PG_CATALOG, OWNER),
        "pg_opclass" => index_rows::operator_classes(table),
        "pg_index" => index_rows::indexes(table, source),
        "pg_constraint" => constraints(table, source),
        "pg_database" => databases(table, source),
        "pg_roles" | "pg_user" => roles(table, source),
        "pg_am" => access_methods(table),
        "pg_collation" => collations(table),
        "pg_settings" => settings(table, source),
        "pg_tables" => tables(table, source),
        "pg_indexes" => index_texts(table, source),
        "pg_tablespace" => {
            let row = Row::catalog(table).set("oid", Datum::Oid(TABLESPACE)).set("spcname", "pg_default");
            vec![row.set("spcowner", Datum::Oid(OWNER)).done()]
        }
        "pg_language" => vec![Row::catalog(table).set("oid", Datum::Oid(14)).set("lanname", "sql").done()],
        _ => Vec::new(),
    }
}

/// The collation that a column of this type has: text types have the default one, names C.
pub(super) fn collation_of(ty: SqlType) -> u32 {
    match ty {
        SqlType::Text | SqlType::Varchar | SqlType::Bpchar => DEFAULT_COLLATION,
        SqlType::Name => C_COLLATION,
        _ => 0,
    }
}

fn namespace_of(schema: &str) -> u32 {
    match schema {
        "pg_catalog" => PG_CATALOG,
        "information_schema" => INFORMATION_SCHEMA,
        "toroid" => TOROID,
        _ => PUBLIC,
    }
}

/// Users' tables; the destination of a move has no name yet.
pub(super) fn open_tables(source: &Source) -> impl Iterator<Item = &Table> {
    source.catalog.tables.values().map(|t| &**t).filter(|t| t.state.is_public())
}

fn namespaces(table: &Definition) -> Vec<Vec<Datum>> {
    [(PG_CATALOG, "pg_catalog"), (PUBLIC, "public"), (INFORMATION_SCHEMA, "information_schema"), (TOROID, "toroid")]
        .into_iter()
        .map(|(oid, name)| {
            let row = Row::catalog(table).set("oid", Datum::Oid(oid)).set("nspname", name);
            row.set("nspowner", Datum::Oid(OWNER)).done()
        })
        .collect()
}

fn classes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let base = |oid: u32, name: &str, namespace: u32, kind: &str| {
        Row::catalog(table)
            .set("oid", Datum::Oid(oid))
            .set("relname", name)
            .set("relnamespace", Datum::Oid(namespace))
            .set("relowner", Datum::Oid(OWNER))
            .set("relkind", kind)
            .set("relpersistence", "p")
            .set("relreplident", "d")
            .set("relispopulated", Datum::Bool(true))
            .set("reltuples", Datum::Float4(-1.0))
    };
    let virtuals = super::all().map(|t| {
        let row = base(t.oid, t.name, namespace_of(t.schema), if super::is_view(t) { "v" } else { "r" });
        row.set("relnatts", Datum::Int2(t.columns.len() as i16)).done()
    });
    let users = open_tables(source).flat_map(|t| {
        let own = base(t.id.0, &t.name, namespace_of(&t.schema), "r")
            .set("relam", Datum::Oid(HEAP))
            .set("relfilenode", Datum::Oid(t.id.0))
            .set("relhasindex", Datum::Bool(!t.indexes.is_empty()))
            .set("relchecks", Datum::Int2(t.checks.len() as i16))
            .set("relnatts", Datum::Int2(t.visible().count() as i16))
            .set("reloptions", texts(&t.options))
            .done();
        let indexes = t.indexes.iter().map(|i| {
            base(i.id.0, &i.name, namespace_of(&t.schema), "i")
                .set("relam", Datum::Oid(BTREE))
                .set("relfilenode", Datum::Oid(i.id.0))
                .set("relnatts", Datum::Int2(i.columns.len() as i16))
                .done()
        });
        std::iter::once(own).chain(indexes).collect::<Vec<_>>()
    });
    virtuals.chain(users).collect()
}

fn texts(list: &[String]) -> Datum {
    match list {
        [] => Datum::Null,
        some => Datum::Array(some.iter().map(|s| Datum::Text(s.clone())).collect()),
    }
}

fn attributes(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let base = |relation: u32, name: &str, number: u16, ty: SqlType, modifier: i32| {
        Row::catalog(table)
            .set("attrelid", Datum::Oid(relation))
            .set("attname", name)
            .set("atttypid", Datum::Oid(ty.oid()))
            .set("attlen", Datum::Int2(ty.length()))
            .set("attnum", Datum::Int2(number as i16))
            .set("attndims", Datum::Int4(i32::from(ty.element().is_some())))
            .set("atttypmod", Datum::Int4(modifier))
            .set("attstattarget", Datum::Int4(-1))
            .set("attislocal", Datum::Bool(true))
            .set("attcollation", Datum::Oid(collation_of(ty)))
            .set("attstorage", type_rows::storage(ty))
            .set("attalign", type_rows::align(ty))
            .set("attbyval", Datum::Bool((1..=8).contains(&ty.length())))
    };
    let virtuals = super::all()
        .flat_map(|t| t.columns.iter().zip(1u16..).map(|((name, ty), n)| base(t.oid, name, n, *ty, -1).done()));
    let user = |relation: u32, column: &Column, number: u16| {
        base(relation, &column.name, number, column.ty.ty, column.ty.modifier)
    };
    let users = open_tables(source).flat_map(|t| {
        let own = t.visible().map(|(_, c)| {
            user(t.id.0, c, number_of(t, c))
                .set("attnotnull", Datum::Bool(c.not_null))
                .set("atthasdef", Datum::Bool(c.default.is_some()))
                .done()
        });
        let indexed = t.indexes.iter().flat_map(|i| {
            let column = |c: &toroid_common::catalog::IndexColumn| t.columns.get(usize::from(c.column));
            let columns = i.columns.iter().filter_map(column).zip(1u16..);
            columns.map(|(c, n)| user(i.id.0, c, n).done()).collect::<Vec<_>>()
        });
        own.chain(indexed).collect::<Vec<_>>()
    });
    virtuals.chain(users).collect()
}

/// `attnum` as users count: the hidden row identity has none, so the columns behind it move up.
pub(super) fn number_of(table: &Table, column: &Column) -> u16 {
    let hidden = table.columns.iter().filter(|c| c.hidden).count() as u16;
    column.id.0.saturating_sub(hidden)
}

fn defaults(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    open_tables(source)
        .flat_map(|t| t.visible().filter_map(move |(_, c)| c.default.as_ref().map(|d| (t, c, d))))
        .map(|(t, column, default)| {
            Row::catalog(table)
                .set("oid", Datum::Oid(t.id.0))
                .set("adrelid", Datum::Oid(t.id.0))
                .set("adnum", Datum::Int2(number_of(t, column) as i16))
                .set("adbin", default.text.as_str())
                .done()
        })
        .collect()
}

fn constraints(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = |t: &Table, oid: u32, name: &str, kind: &str| {
        Row::catalog(table)
            .set("oid", Datum::Oid(oid))
            .set("conname", name)
            .set("connamespace", Datum::Oid(namespace_of(&t.schema)))
            .set("contype", kind)
            .set("convalidated", Datum::Bool(true))
            .set("conrelid", Datum::Oid(t.id.0))
            .set("conislocal", Datum::Bool(true))
            .set("confupdtype", " ")
            .set("confdeltype", " ")
            .set("confmatchtype", " ")
    };
    let of_table = |t: &Table| {
        let keys = t.indexes.iter().filter(|i| i.constraint).map(|i| {
            row(t, i.id.0, &i.name, if i.primary { "p" } else { "u" })
                .set("conindid", Datum::Oid(i.id.0))
                .set("connoinherit", Datum::Bool(true))
                .set("conkey", index_rows::key_numbers(t, i))
                .done()
        });
        let checks =
            t.checks.iter().map(|c| row(t, c.id, &c.name, "c").set("conkey", index_rows::checked_numbers(t, c)).done());
        keys.chain(checks).collect::<Vec<_>>()
    };
    open_tables(source).flat_map(of_table).collect()
}

fn databases(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = Row::catalog(table)
        .set("oid", Datum::Oid(DATABASE))
        .set("datname", source.env.database.as_str())
        .set("datdba", Datum::Oid(OWNER))
        .set("encoding", Datum::Int4(6))
        .set("datlocprovider", "c")
        .set("datallowconn", Datum::Bool(true))
        .set("datconnlimit", Datum::Int4(-1))
        .set("dattablespace", Datum::Oid(TABLESPACE))
        .set("datcollate", "C.UTF-8")
        .set("datctype", "C.UTF-8");
    vec![row.done()]
}

fn roles(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = Row::catalog(table);
    let row = match table.name {
        "pg_roles" => row
            .set("rolname", source.env.user.as_str())
            .set("rolsuper", Datum::Bool(true))
            .set("rolinherit", Datum::Bool(true))
            .set("rolcreaterole", Datum::Bool(true))
            .set("rolcreatedb", Datum::Bool(true))
            .set("rolcanlogin", Datum::Bool(true))
            .set("rolconnlimit", Datum::Int4(-1))
            .set("rolpassword", "********")
            .set("oid", Datum::Oid(OWNER)),
        _ => row
            .set("usename", source.env.user.as_str())
            .set("usesysid", Datum::Oid(OWNER))
            .set("usecreatedb", Datum::Bool(true))
            .set("usesuper", Datum::Bool(true))
            .set("passwd", "********"),
    };
    vec![row.done()]
}

fn access_methods(table: &Definition) -> Vec<Vec<Datum>> {
    [(HEAP, "heap", "t"), (BTREE, "btree", "i")]
        .into_iter()
        .map(|(oid, name, kind)| {
            Row::catalog(table).set("oid", Datum::Oid(oid)).set("amname", name).set("amtype", kind).done()
        })
        .collect()
}

fn collations(table: &Definition) -> Vec<Vec<Datum>> {
    [(DEFAULT_COLLATION, "default", "d"), (C_COLLATION, "C", "c"), (951, "POSIX", "c")]
        .into_iter()
        .map(|(oid, name, provider)| {
            Row::catalog(table)
                .set("oid", Datum::Oid(oid))
                .set("collname", name)
                .set("collnamespace", Datum::Oid(PG_CATALOG))
                .set("collowner", Datum::Oid(OWNER))
                .set("collprovider", provider)
                .set("collisdeterministic", Datum::Bool(true))
                .set("collencoding", Datum::Int4(-1))
                .done()
        })
        .collect()
}

fn settings(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let row = |[name, value, text]: &[String; 3]| {
        let row = Row::nulls(table).set("name", name.as_str()).set("setting", value.as_str());
        row.set("short_desc", text.as_str()).set("context", "user").set("source", "default").done()
    };
    source.settings.iter().map(row).collect()
}

fn tables(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    open_tables(source)
        .map(|t| {
            Row::catalog(table)
                .set("schemaname", t.schema.as_str())
                .set("tablename", t.name.as_str())
                .set("tableowner", source.env.user.as_str())
                .set("tablespace", Datum::Null)
                .set("hasindexes", Datum::Bool(!t.indexes.is_empty()))
                .done()
        })
        .collect()
}

fn index_texts(table: &Definition, source: &Source) -> Vec<Vec<Datum>> {
    let pairs = open_tables(source).flat_map(|t| t.indexes.iter().map(move |i| (t, i)));
    pairs
        .map(|(t, i)| {
            Row::catalog(table)
                .set("schemaname", t.schema.as_str())
                .set("tablename", t.name.as_str())
                .set("indexname", i.name.as_str())
                .set("tablespace", Datum::Null)
                .set("indexdef", index_definition(t, i, &[]).as_str())
                .done()
        })
        .collect()
}

//! The catalog as regclass and the functions of pg_catalog look things up in it.

use crate::cluster::Cluster;
use crate::settings::Settings;
use crate::virtual_table::definition::{constraint_definition, index_column, index_definition};
use crate::virtual_table::{all, find};
use std::sync::{Arc, LazyLock};
use toroid_common::catalog::{Catalog, Index, PUBLIC_SCHEMA, Table};
use toroid_common::env::{Lookup, Relations};
use toroid_common::func::quote_ident;
use toroid_common::id::{TableId, TransactionId};

/// Looks into the newest catalog that the proxy knows, as this transaction sees it.
struct Newest(Arc<Cluster>, Option<TransactionId>);

/// The names in a cluster's catalog.
pub fn relations(cluster: Arc<Cluster>) -> Relations {
    Relations::new(Arc::new(Newest(cluster, None)))
}

/// The names that a transaction sees that has changed them.
pub fn seen_by(cluster: Arc<Cluster>, transaction: TransactionId) -> Relations {
    Relations::new(Arc::new(Newest(cluster, Some(transaction))))
}

impl Newest {
    fn catalog(&self) -> Option<Arc<Catalog>> {
        let catalog = self.0.view().ok()?.catalog.clone();
        Some(match self.1 {
            Some(transaction) => Arc::new(catalog.seen_by(transaction)),
            None => catalog,
        })
    }

    /// Schema and name.
    fn named(&self, oid: u32) -> Option<(String, String)> {
        if let Some(found) = all().find(|t| t.oid == oid) {
            return Some((found.schema.to_owned(), found.name.to_owned()));
        }
        let catalog = self.catalog()?;
        match table(&catalog, oid) {
            Some(found) => Some((found.schema.clone(), found.name.clone())),
            None => index(&catalog, oid).map(|(t, i)| (t.schema.clone(), i.name.clone())),
        }
    }
}

fn is_searched(schema: &str, search_path: &[String]) -> bool {
    schema == "pg_catalog" || search_path.iter().any(|s| s == schema)
}

fn index(catalog: &Catalog, oid: u32) -> Option<(&Arc<Table>, &Index)> {
    catalog.tables.values().find_map(|t| t.indexes.iter().find(|i| i.id.0 == oid).map(|i| (t, i)))
}

/// A user's table; the destination of a move has no name yet.
fn table(catalog: &Catalog, oid: u32) -> Option<&Arc<Table>> {
    catalog.tables.get(&TableId(oid)).filter(|t| t.state.is_public())
}

impl Lookup for Newest {
    fn shown(&self, oid: u32, search_path: &[String]) -> Option<String> {
        let (schema, name) = self.named(oid)?;
        let searched = is_searched(&schema, search_path);
        Some(if searched { quote_ident(&name) } else { format!("{}.{}", quote_ident(&schema), quote_ident(&name)) })
    }

    fn is_visible(&self, oid: u32, search_path: &[String]) -> Option<bool> {
        self.named(oid).map(|(schema, _)| is_searched(&schema, search_path))
    }

    fn relation_oid(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<u32> {
        let catalog = self.catalog()?;
        let schemas: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => std::iter::once("pg_catalog").chain(search_path.iter().map(String::as_str)).collect(),
        };
        schemas.iter().find_map(|schema| {
            let own = find(Some(schema), name).map(|t| t.oid);
            let stored = || catalog.find(schema, name).map(|t| t.id.0);
            own.or_else(stored).or_else(|| catalog.find_index(schema, name).map(|(_, i)| i.id.0))
        })
    }

    fn is_user_table(&self, oid: u32) -> bool {
        self.catalog().is_some_and(|catalog| table(&catalog, oid).is_some_and(|t| t.schema == PUBLIC_SCHEMA))
    }

    fn index_definition(&self, oid: u32, position: i32, hidden: &[String]) -> Option<String> {
        let catalog = self.catalog()?;
        let (table, index) = index(&catalog, oid)?;
        Some(match usize::try_from(position) {
            Ok(0) => index_definition(table, index, hidden),
            Ok(n) => index.columns.get(n - 1).map_or_else(String::new, |c| index_column(table, c)),
            Err(_) => String::new(),
        })
    }

    fn default_setting(&self, name: &str) -> Option<String> {
        static DEFAULTS: LazyLock<Settings> = LazyLock::new(Settings::default);
        DEFAULTS.show(name).ok().map(|(_, value)| value)
    }

    fn constraint_definition(&self, oid: u32) -> Option<String> {
        let catalog = self.catalog()?;
        let check = catalog.tables.values().flat_map(|table| &table.checks).find(|check| check.id == oid);
        if let Some(check) = check {
            return Some(format!("CHECK {}", check.text));
        }
        let (table, index) = index(&catalog, oid).filter(|(_, index)| index.constraint)?;
        Some(constraint_definition(table, index))
    }
}

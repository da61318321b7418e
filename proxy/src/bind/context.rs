//! What a statement is bound against: catalog, session, virtual tables, declared parameter types.

use toroid_common::catalog::Catalog;
use toroid_common::env::Env;
use toroid_common::types::SqlType;

#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    pub env: &'a Env,
    pub virtuals: &'a dyn VirtualSchemas,
    /// Parameter types as the client declared them; `Unknown`, or none at all, is to be inferred.
    pub params: &'a [SqlType],
}

/// The virtual tables: pg_catalog, information_schema, toroid.
pub trait VirtualSchemas {
    /// The table with this name; without schema, only pg_catalog is searched.
    fn find(&self, schema: Option<&str>, name: &str) -> Option<VirtualTable>;
    /// Oids and names of all functions in pg_proc.
    fn functions(&self) -> Vec<(u32, &'static str)> {
        Vec::new()
    }
    /// Whether there is such a schema.
    fn has_schema(&self, schema: &str) -> bool {
        matches!(schema, "pg_catalog" | "information_schema" | "toroid")
    }
}

#[derive(Clone, Copy, Debug)]
pub struct VirtualTable {
    /// Its row in pg_class.
    pub oid: u32,
    pub schema: &'static str,
    pub name: &'static str,
    pub columns: &'static [(&'static str, SqlType)],
}

/// No virtual tables: for tests.
pub struct NoVirtualSchemas;

impl VirtualSchemas for NoVirtualSchemas {
    fn find(&self, _schema: Option<&str>, _name: &str) -> Option<VirtualTable> {
        None
    }
}

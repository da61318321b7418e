//! What PRIMARY KEY, UNIQUE and CHECK say: the columns of keys, and terms that would change their meaning, which are refused.

use super::binder::name_of;
use super::ddl::plain_index_column;
use sqlparser::ast::{self, ConstraintCharacteristics, DeferrableInitial, NullsDistinctOption};
use toroid_common::error::{SqlError, SqlResult};

/// PRIMARY KEY or UNIQUE over named columns.
pub(super) struct Constraint {
    pub(super) name: Option<String>,
    pub(super) columns: Vec<(String, u32)>,
}

impl Constraint {
    pub(super) fn primary(key: &ast::PrimaryKeyConstraint) -> SqlResult<Constraint> {
        primary_terms(key)?;
        Constraint::of(key.name.as_ref(), &key.columns)
    }

    pub(super) fn unique(key: &ast::UniqueConstraint) -> SqlResult<Constraint> {
        unique_terms(key)?;
        Constraint::of(key.name.as_ref(), &key.columns)
    }

    fn of(name: Option<&ast::Ident>, columns: &[ast::IndexColumn]) -> SqlResult<Constraint> {
        let columns = columns.iter().map(plain_index_column).collect::<SqlResult<Vec<_>>>()?;
        Ok(Constraint { name: name.map(name_of), columns })
    }
}

pub(super) fn primary_terms(key: &ast::PrimaryKeyConstraint) -> SqlResult<()> {
    index_terms(key.index_name.is_none() && key.index_type.is_none() && key.index_options.is_empty(), &key.include)?;
    at_once(key.characteristics.as_ref())
}

pub(super) fn unique_terms(key: &ast::UniqueConstraint) -> SqlResult<()> {
    let plain = key.index_name.is_none() && key.index_type.is_none() && key.index_options.is_empty();
    index_terms(plain && key.index_type_display.is_none(), &key.include)?;
    if key.nulls_distinct == NullsDistinctOption::NotDistinct {
        return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
    }
    at_once(key.characteristics.as_ref())
}

pub(super) fn check_terms(check: &ast::CheckConstraint) -> SqlResult<()> {
    enforced(check.enforced)
}

fn enforced(enforced: Option<bool>) -> SqlResult<()> {
    match enforced {
        Some(false) => Err(SqlError::unsupported("a constraint that is NOT ENFORCED")),
        Some(true) | None => Ok(()),
    }
}

fn index_terms(plain: bool, include: &[ast::Ident]) -> SqlResult<()> {
    if !plain {
        return Err(SqlError::unsupported("a constraint that describes its index"));
    }
    match include.is_empty() {
        true => Ok(()),
        false => Err(SqlError::unsupported("INCLUDE in a constraint")),
    }
}

/// Keys are checked with each statement, in every transaction.
fn at_once(characteristics: Option<&ConstraintCharacteristics>) -> SqlResult<()> {
    let Some(terms) = characteristics else { return Ok(()) };
    if terms.deferrable == Some(true) || terms.initially == Some(DeferrableInitial::Deferred) {
        return Err(SqlError::unsupported("a DEFERRABLE constraint"));
    }
    enforced(terms.enforced)
}

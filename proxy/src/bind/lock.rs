//! FOR UPDATE and its kin: which tables of FROM a query locks, and where locking has no meaning.

use super::binder::{Binder, at, error_at, name_of};
use super::scope::{Relation, RelationKind};
use crate::bound::{ColId, JoinKind, LockedTable, Query, Rel};
use crate::parse::lock::{Locking, locking};
use sqlparser::ast::{LockClause, NonBlock, SetExpr};
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::plan::{LockWait, RowLock, Strength};

impl Binder<'_> {
    /// A SELECT, whose level is still there, with the locks on its rows.
    pub(super) fn locked(&mut self, query: Query, clauses: &[LockClause]) -> SqlResult<Query> {
        let mut tables: Vec<LockedTable> = Vec::new();
        for clause in clauses {
            let locking = read(clause)?;
            refuse_rel(&query.rel, locking.strength)?;
            self.lock_relations(&query.rel, &locking, &mut tables)?;
        }
        if tables.is_empty() {
            return Ok(query);
        }
        for (id, _) in tables.iter().flat_map(|locked| &locked.key) {
            self.use_column(*id);
        }
        Ok(Query { rel: Rel::Lock { input: Box::new(query.rel), tables }, output: query.output })
    }

    fn lock_relations(&mut self, rel: &Rel, locking: &Locking<'_>, tables: &mut Vec<LockedTable>) -> SqlResult<()> {
        let relations = self.level().scope.relations.clone();
        if locking.of.is_empty() {
            return relations.iter().try_for_each(|relation| match &relation.kind {
                RelationKind::Stored(table) => lock(rel, relation, table, locking, tables),
                RelationKind::Subquery => refuse_subquery(rel, relation, locking.strength),
                RelationKind::Virtual(_) | RelationKind::CommonTable | RelationKind::Function | RelationKind::Rows => {
                    Ok(())
                }
            });
        }
        for ident in &locking.of {
            let (name, place) = (name_of(ident), at(ident.span));
            let clause = locking.strength.clause();
            let Some(relation) = relations.iter().find(|relation| relation.alias == name) else {
                let message = format!("relation \"{name}\" in {clause} clause not found in FROM clause");
                return Err(error_at(SqlState::UNDEFINED_TABLE, message, place));
            };
            let refused = |what: &str| {
                let message = format!("{clause} cannot be applied to {what}");
                Err(error_at(SqlState::FEATURE_NOT_SUPPORTED, message, place))
            };
            match &relation.kind {
                RelationKind::Stored(table) => lock(rel, relation, table, locking, tables)?,
                RelationKind::Virtual(_) => {}
                RelationKind::Subquery => refuse_subquery(rel, relation, locking.strength)?,
                RelationKind::CommonTable => return refused("a WITH query"),
                RelationKind::Function => return refused("a function"),
                RelationKind::Rows => return refused("VALUES"),
            }
        }
        Ok(())
    }
}

fn read(clause: &LockClause) -> SqlResult<Locking<'_>> {
    locking(clause).ok_or_else(|| {
        let message = format!("FOR {} must specify unqualified relation names", clause.lock_type);
        let place = clause.of.as_ref().and_then(|name| name.0.first()?.as_ident()).map_or(0, |part| at(part.span));
        error_at(SqlState::SYNTAX_ERROR, message, place)
    })
}

/// Locks make sense where a row of the result is made of rows of tables, one of each.
pub(super) fn refuse_locks(body: &SetExpr, clauses: &[LockClause]) -> SqlResult<()> {
    let Some(clause) = clauses.first() else { return Ok(()) };
    let strength = read(clause)?.strength;
    match body {
        SetExpr::Select(_) => Ok(()),
        SetExpr::SetOperation { .. } => Err(not_allowed(strength, "UNION/INTERSECT/EXCEPT")),
        SetExpr::Values(_) => {
            let message = format!("{} cannot be applied to VALUES", strength.clause());
            Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
        }
        _ => Err(SqlError::unsupported(format!("{} behind this query", strength.clause()))),
    }
}

/// A side of a set operation with a locking clause of its own.
pub(super) fn refuse_locks_of_side(side: &SetExpr) -> SqlResult<()> {
    match side {
        SetExpr::Query(query) => match query.locks.first() {
            Some(clause) => Err(not_allowed(read(clause)?.strength, "UNION/INTERSECT/EXCEPT")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn not_allowed(strength: Strength, what: &str) -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{} is not allowed with {what}", strength.clause()))
}

/// Refuses locks over operators that make new rows.
fn refuse_rel(rel: &Rel, strength: Strength) -> SqlResult<()> {
    let refused = |what| Err(not_allowed(strength, what));
    match rel {
        Rel::SetOp { .. } => refused("UNION/INTERSECT/EXCEPT"),
        Rel::Distinct { .. } | Rel::DistinctOn { .. } => refused("DISTINCT clause"),
        Rel::Window { .. } => refused("window functions"),
        Rel::Aggregate { groups, aggregates, .. } => refused(match (groups.is_empty(), aggregates.is_empty()) {
            (false, _) => "GROUP BY clause",
            (true, false) => "aggregate functions",
            (true, true) => "HAVING clause",
        }),
        Rel::Unnest { input, .. } if **input != Rel::Unit => refused("set-returning functions in the target list"),
        Rel::Project { input, .. }
        | Rel::Filter { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Limit { input, .. }
        | Rel::Lock { input, .. } => refuse_rel(input, strength),
        Rel::Unit
        | Rel::Scan { .. }
        | Rel::Virtual { .. }
        | Rel::Values { .. }
        | Rel::Series { .. }
        | Rel::Unnest { .. }
        | Rel::Join { .. }
        | Rel::Derived { .. } => Ok(()),
    }
}

fn refuse_subquery(rel: &Rel, relation: &Relation, strength: Strength) -> SqlResult<()> {
    let ids: Vec<ColId> = relation.columns.iter().map(|column| column.id).collect();
    let Some((Rel::Derived { query, .. }, _)) = find(rel, &ids, false) else { return Ok(()) };
    refuse_rel(&query.rel, strength)?;
    match reads_table(&query.rel) {
        true => Err(SqlError::unsupported(format!("{} of a subquery in FROM", strength.clause()))),
        false => Ok(()),
    }
}

fn reads_table(rel: &Rel) -> bool {
    match rel {
        Rel::Scan { .. } => true,
        Rel::Derived { query, .. } => reads_table(&query.rel),
        other => super::print::inputs(other).into_iter().any(reads_table),
    }
}

/// Adds a table to those that are locked; of two clauses for one the stronger strength holds.
fn lock(
    rel: &Rel,
    relation: &Relation,
    table: &Arc<Table>,
    locking: &Locking<'_>,
    tables: &mut Vec<LockedTable>,
) -> SqlResult<()> {
    let ids: Vec<ColId> = relation.columns.iter().map(|column| column.id).collect();
    let Some((Rel::Scan { columns, .. }, nullable)) = find(rel, &ids, false) else {
        return Err(SqlError::internal("a locked table is not in its query"));
    };
    let strength = locking.strength;
    if nullable {
        let message = format!("{} cannot be applied to the nullable side of an outer join", strength.clause());
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    let wait = match locking.nonblock {
        None => LockWait::Wait,
        Some(NonBlock::SkipLocked) => LockWait::Skip,
        Some(NonBlock::Nowait) => LockWait::Fail,
    };
    let of = identity(table);
    let key: Vec<(ColId, u16)> = columns.iter().filter(|(_, position)| of.contains(position)).copied().collect();
    match tables.iter_mut().find(|known| known.key == key) {
        Some(LockedTable { lock, .. }) => {
            lock.strength = lock.strength.max(strength);
            lock.wait = firmer(lock.wait, wait);
        }
        None => tables.push(LockedTable { table: Arc::clone(table), key, lock: RowLock { strength, wait } }),
    }
    Ok(())
}

/// What holds where two clauses want different things.
fn firmer(a: LockWait, b: LockWait) -> LockWait {
    match (a, b) {
        (LockWait::Fail, _) | (_, LockWait::Fail) => LockWait::Fail,
        (LockWait::Skip, _) | (_, LockWait::Skip) => LockWait::Skip,
        (LockWait::Wait, LockWait::Wait) => LockWait::Wait,
    }
}

/// The columns by which a table's rows differ.
fn identity(table: &Table) -> Vec<u16> {
    match table.indexes.iter().find(|index| index.primary) {
        Some(index) => index.columns.iter().map(|column| column.column).collect(),
        None => (0..).zip(&table.columns).filter(|(_, column)| column.hidden).map(|(position, _)| position).collect(),
    }
}

/// The operator of FROM that makes these columns, and whether an outer join may put NULLs in their place.
fn find<'r>(rel: &'r Rel, ids: &[ColId], nullable: bool) -> Option<(&'r Rel, bool)> {
    match rel {
        Rel::Scan { columns, .. } => columns.iter().any(|(id, _)| ids.contains(id)).then_some((rel, nullable)),
        Rel::Derived { columns, .. } => columns.iter().any(|id| ids.contains(id)).then_some((rel, nullable)),
        Rel::Join { kind, left, right, .. } => {
            let (left_too, right_too) = match kind {
                JoinKind::Inner | JoinKind::Cross => (false, false),
                JoinKind::Left => (false, true),
                JoinKind::Right => (true, false),
                JoinKind::Full => (true, true),
            };
            find(left, ids, nullable || left_too).or_else(|| find(right, ids, nullable || right_too))
        }
        other => super::print::inputs(other).into_iter().find_map(|input| find(input, ids, nullable)),
    }
}

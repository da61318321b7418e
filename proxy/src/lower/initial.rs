//! Subqueries that depend on nothing outside: they run first, and their results stand as parameters in the query.

use crate::bind::walk;
use crate::bound::{AggregateCall, BoundExpr, BoundLeaf, Query, Rel, SortKey, Subquery, SubqueryKind, WindowCall};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::expr::Expr;
use toroid_common::id::{CatalogVersion, TableId};
use toroid_common::types::SqlType;

/// A subquery that runs first; its result is the parameter after the statement's own and those before it.
#[derive(Clone, Debug)]
pub struct Initial {
    pub kind: InitialKind,
    pub query: Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialKind {
    /// A boolean: whether there is a row.
    Exists { negated: bool },
    /// The only row's column, or NULL.
    Scalar,
    /// All rows' column as an array.
    Array,
}

/// Takes uncorrelated subqueries out of a query's expressions; `params` counts the parameters that there are.
pub fn lift(query: &Query, params: usize) -> (Query, Vec<Initial>) {
    let mut lift = Lift { params, initial: Vec::new() };
    let query = lift.query(query.clone());
    (query, lift.initial)
}

struct Lift {
    params: usize,
    initial: Vec<Initial>,
}

impl Lift {
    fn query(&mut self, query: Query) -> Query {
        Query { rel: self.rel(query.rel), output: query.output }
    }

    fn rel(&mut self, rel: Rel) -> Rel {
        match rel {
            rel @ (Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. }) => rel,
            Rel::Values { columns, rows } => Rel::Values {
                columns,
                rows: rows.into_iter().map(|row| row.into_iter().map(|e| self.expr(e)).collect()).collect(),
            },
            Rel::Series { function, args, column, ordinality } => {
                Rel::Series { function, args: self.exprs(args), column, ordinality }
            }
            Rel::Filter { input, predicate } => {
                Rel::Filter { input: Box::new(self.rel(*input)), predicate: self.condition(predicate) }
            }
            Rel::Unnest { input, arrays, keeps } => Rel::Unnest {
                input: Box::new(self.rel(*input)),
                arrays: arrays.into_iter().map(|(id, e)| (id, self.expr(e))).collect(),
                keeps,
            },
            Rel::Project { input, columns } => Rel::Project {
                input: Box::new(self.rel(*input)),
                columns: columns.into_iter().map(|(id, e)| (id, self.expr(e))).collect(),
            },
            Rel::Aggregate { input, groups, sets, aggregates } => Rel::Aggregate {
                input: Box::new(self.rel(*input)),
                groups: groups.into_iter().map(|(id, e)| (id, self.expr(e))).collect(),
                sets,
                aggregates: aggregates.into_iter().map(|(id, call)| (id, self.aggregate(call))).collect(),
            },
            Rel::Window { input, columns } => Rel::Window {
                input: Box::new(self.rel(*input)),
                columns: columns.into_iter().map(|(id, call)| (id, self.window(call))).collect(),
            },
            Rel::Join { kind, left, right, on, lateral } => Rel::Join {
                kind,
                left: Box::new(self.rel(*left)),
                right: Box::new(self.rel(*right)),
                on: on.map(|on| self.expr(on)),
                lateral,
            },
            Rel::SetOp { op, all, left, right, columns } => {
                Rel::SetOp { op, all, left: Box::new(self.query(*left)), right: Box::new(self.query(*right)), columns }
            }
            Rel::Distinct { input, columns } => Rel::Distinct { input: Box::new(self.rel(*input)), columns },
            Rel::DistinctOn { input, on, keys } => {
                Rel::DistinctOn { input: Box::new(self.rel(*input)), on: self.exprs(on), keys: self.keys(keys) }
            }
            Rel::Sort { input, keys } => Rel::Sort { input: Box::new(self.rel(*input)), keys: self.keys(keys) },
            Rel::Limit { input, limit, offset } => Rel::Limit {
                input: Box::new(self.rel(*input)),
                limit: limit.map(|e| self.expr(e)),
                offset: offset.map(|e| self.expr(e)),
            },
            Rel::Lock { input, tables } => Rel::Lock { input: Box::new(self.rel(*input)), tables },
            Rel::Derived { query, columns } => Rel::Derived { query: Box::new(self.query(*query)), columns },
        }
    }

    fn exprs(&mut self, list: Vec<BoundExpr>) -> Vec<BoundExpr> {
        list.into_iter().map(|e| self.expr(e)).collect()
    }

    fn keys(&mut self, keys: Vec<SortKey>) -> Vec<SortKey> {
        keys.into_iter().map(|key| SortKey { expr: self.expr(key.expr), ..key }).collect()
    }

    fn aggregate(&mut self, call: AggregateCall) -> AggregateCall {
        AggregateCall {
            args: self.exprs(call.args),
            filter: call.filter.map(|e| self.expr(e)),
            order: self.keys(call.order),
            ..call
        }
    }

    fn window(&mut self, call: WindowCall) -> WindowCall {
        WindowCall {
            args: self.exprs(call.args),
            partition: self.exprs(call.partition),
            order: self.keys(call.order),
            ..call
        }
    }

    /// WHERE's conjuncts keep `= ANY (subquery)`: that becomes a semi join, however many rows the subquery has.
    fn condition(&mut self, expr: BoundExpr) -> BoundExpr {
        match expr {
            Expr::And(args) => Expr::And(args.into_iter().map(|e| self.condition(e)).collect()),
            Expr::Leaf(BoundLeaf::Subquery(subquery)) => match *subquery {
                Subquery { kind: SubqueryKind::Quantified { arg, op, all: false }, query }
                    if op.function().name == "=" =>
                {
                    let kind = SubqueryKind::Quantified { arg: Box::new(self.expr(*arg)), op, all: false };
                    Expr::Leaf(BoundLeaf::Subquery(Box::new(Subquery { kind, query: self.query(query) })))
                }
                other => self.expr(Expr::Leaf(BoundLeaf::Subquery(Box::new(other)))),
            },
            other => self.expr(other),
        }
    }

    fn expr(&mut self, expr: BoundExpr) -> BoundExpr {
        let Expr::Leaf(BoundLeaf::Subquery(subquery)) = expr else {
            return expr.map_children(&mut |child| self.expr(child));
        };
        let Subquery { kind, query } = *subquery;
        if is_correlated(&query) {
            let kind = match kind {
                SubqueryKind::Quantified { arg, op, all } => {
                    SubqueryKind::Quantified { arg: Box::new(self.expr(*arg)), op, all }
                }
                other => other,
            };
            return Expr::Leaf(BoundLeaf::Subquery(Box::new(Subquery { kind, query: self.query(query) })));
        }
        let column = query.output.first().map_or(SqlType::Unknown, |c| c.ty.ty);
        let array = column.array().unwrap_or(SqlType::Unknown);
        match kind {
            SubqueryKind::Exists { negated } => self.param(InitialKind::Exists { negated }, query, SqlType::Bool),
            SubqueryKind::Scalar => self.param(InitialKind::Scalar, query, column),
            SubqueryKind::Array => self.param(InitialKind::Array, query, array),
            SubqueryKind::Quantified { arg, op, all } => {
                let left = Box::new(self.expr(*arg));
                let array = Box::new(self.param(InitialKind::Array, query, array));
                Expr::Quantified { op, left, array, all }
            }
        }
    }

    fn param(&mut self, kind: InitialKind, query: Query, ty: SqlType) -> BoundExpr {
        let index = (self.params + self.initial.len()) as u16;
        self.initial.push(Initial { kind, query });
        Expr::Param { index, ty }
    }
}

/// Whether a subquery reads columns of a query around it.
pub fn is_correlated(query: &Query) -> bool {
    let mut walk = Walk::default();
    walk.query(query, 0);
    walk.outer
}

/// Whether a relation reads columns from beside or around it.
pub(super) fn reads_outside(rel: &Rel) -> bool {
    let mut walk = Walk::default();
    walk.rel(rel, 0);
    walk.outer
}

/// Whether a query has a subquery that reads columns from around it.
pub fn has_correlated(query: &Query) -> bool {
    let mut query = query.clone();
    let mut found = false;
    walk::relations(&mut query, &mut |rel| {
        // Nothing fails in this walk.
        let _ = walk::exprs(rel, 0, &mut |expr, _| {
            expr.each_leaf(&mut |leaf| found |= matches!(leaf, BoundLeaf::Outer { .. } | BoundLeaf::Subquery(_)));
            Ok(())
        });
    });
    found
}

/// What a query reads, subqueries included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Stored tables with the versions that it was bound against.
    pub tables: BTreeMap<TableId, CatalogVersion>,
    /// Virtual tables: schema and name.
    pub virtuals: BTreeSet<(&'static str, &'static str)>,
    /// Whether it locks rows of them.
    pub locks: bool,
}

/// All tables that a query reads.
pub fn reads(query: &Query) -> Reads {
    let mut walk = Walk::default();
    walk.query(query, 0);
    walk.reads
}

#[derive(Default)]
struct Walk {
    /// Something refers to a query further out than the one where the walk began.
    outer: bool,
    reads: Reads,
}

impl Walk {
    fn query(&mut self, query: &Query, level: u16) {
        self.rel(&query.rel, level);
    }

    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a BoundExpr>, level: u16) {
        for expr in exprs {
            expr.each_leaf(&mut |leaf| match leaf {
                BoundLeaf::Column { .. } => {}
                BoundLeaf::Outer { depth, .. } => self.outer |= *depth > level,
                BoundLeaf::Subquery(subquery) => {
                    if let SubqueryKind::Quantified { arg, .. } = &subquery.kind {
                        self.exprs([&**arg], level);
                    }
                    self.query(&subquery.query, level + 1);
                }
            });
        }
    }

    fn keys(&mut self, keys: &[SortKey], level: u16) {
        self.exprs(keys.iter().map(|key| &key.expr), level);
    }

    fn rel(&mut self, rel: &Rel, level: u16) {
        match rel {
            Rel::Unit => {}
            Rel::Virtual { schema, name, .. } => {
                self.reads.virtuals.insert((schema, name));
            }
            Rel::Scan { table, .. } => {
                self.reads.tables.insert(table.id, table.version);
            }
            Rel::Values { rows, .. } => self.exprs(rows.iter().flatten(), level),
            Rel::Series { args, .. } => self.exprs(args, level),
            Rel::Filter { input, predicate } => {
                self.rel(input, level);
                self.exprs([predicate], level);
            }
            Rel::Project { input, columns } | Rel::Unnest { input, arrays: columns, .. } => {
                self.rel(input, level);
                self.exprs(columns.iter().map(|(_, e)| e), level);
            }
            Rel::Aggregate { input, groups, aggregates, .. } => {
                self.rel(input, level);
                self.exprs(groups.iter().map(|(_, e)| e), level);
                for (_, call) in aggregates {
                    self.exprs(call.args.iter().chain(&call.filter), level);
                    self.keys(&call.order, level);
                }
            }
            Rel::Window { input, columns } => {
                self.rel(input, level);
                for (_, call) in columns {
                    self.exprs(call.args.iter().chain(&call.partition), level);
                    self.keys(&call.order, level);
                }
            }
            Rel::Join { left, right, on, lateral, .. } => {
                self.rel(left, level);
                // What stands to the right of LATERAL sees its left neighbours one level out.
                self.rel(right, level + u16::from(*lateral));
                self.exprs(on, level);
            }
            Rel::SetOp { left, right, .. } => {
                self.query(left, level);
                self.query(right, level);
            }
            Rel::Lock { input, .. } => {
                self.reads.locks = true;
                self.rel(input, level);
            }
            Rel::Distinct { input, .. } => self.rel(input, level),
            Rel::DistinctOn { input, on, keys } => {
                self.rel(input, level);
                self.exprs(on, level);
                self.keys(keys, level);
            }
            Rel::Sort { input, keys } => {
                self.rel(input, level);
                self.keys(keys, level);
            }
            Rel::Limit { input, limit, offset } => {
                self.rel(input, level);
                self.exprs(limit.iter().chain(offset), level);
            }
            Rel::Derived { query, .. } => self.query(query, level),
        }
    }
}

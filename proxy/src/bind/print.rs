//! Bound statements as compact text: for EXPLAIN and for golden tests.

use crate::bound::{
    AggregateCall, Bound, BoundExpr, BoundLeaf, ColId, Insert, OnConflict, OutputColumn, Query, Rel, Returning,
    SortKey, Statement, Subquery, SubqueryKind, WindowCall,
};
use std::fmt::{Display, Write};
use toroid_common::datum::Datum;
use toroid_common::expr::{Expr, Leaf, Slot};
use toroid_common::id::IndexId;

/// A bound statement, one operator a line.
pub fn print(bound: &Bound) -> String {
    let mut out = String::new();
    if !bound.params.is_empty() {
        line(&mut out, 0, format_args!("params {}", join(&bound.params, |ty| ty.to_string())));
    }
    statement(&mut out, &bound.statement);
    out
}

/// A relation, one operator a line.
pub fn print_rel(rel: &Rel) -> String {
    let mut out = String::new();
    relation(&mut out, 0, rel);
    out
}

fn line(out: &mut String, depth: usize, text: impl Display) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{:indent$}{text}", "", indent = depth * 2);
}

fn join<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn statement(out: &mut String, statement: &Statement) {
    match statement {
        Statement::Query(query) => print_query(out, 0, query),
        Statement::Insert(insert) => {
            let names = join(&insert.targets, |t| column_name(&insert.table, *t));
            line(out, 0, format_args!("insert {} ({names}){}", insert.table.name, returning(&insert.returning)));
            if let Some(conflict) = &insert.conflict {
                line(out, 1, format_args!("on conflict {}", conflict_action(insert, conflict)));
            }
            print_query(out, 1, &insert.source);
        }
        Statement::Update(update) => {
            let set = join(&update.set, |(c, e)| format!("{} = {}", column_name(&update.table, *c), expr(e)));
            line(out, 0, format_args!("update {} set {set}{}", update.table.name, returning(&update.returning)));
            line(out, 1, format_args!("where {}", update.filter.as_ref().map_or("-".to_owned(), expr)));
        }
        Statement::Delete(delete) => {
            line(out, 0, format_args!("delete {}{}", delete.table.name, returning(&delete.returning)));
            line(out, 1, format_args!("where {}", delete.filter.as_ref().map_or("-".to_owned(), expr)));
        }
        Statement::Explain { analyze, verbose, inner } => {
            line(out, 0, format_args!("explain analyze={analyze} verbose={verbose}"));
            self::statement(out, inner);
        }
        Statement::CopyIn(copy) => {
            let names = join(&copy.targets, |t| column_name(&copy.table, *t));
            line(out, 0, format_args!("copy in {} ({names}) {:?}", copy.table.name, copy.options));
        }
        Statement::CopyOut { query, options } => {
            line(out, 0, format_args!("copy out {options:?}"));
            print_query(out, 1, query);
        }
        Statement::Ddl(ddl) => line(out, 0, format_args!("{ddl:?}")),
        Statement::CreateAs(create) => {
            line(out, 0, format_args!("create {} as, data={}", create.table.name.name, create.with_data));
            print_query(out, 1, &create.source);
        }
        Statement::SetConfig { query, names } => {
            line(out, 0, format_args!("set config {}", names.join(", ")));
            print_query(out, 1, query);
        }
        Statement::Acts(acts) => line(out, 0, format_args!("{acts:?}")),
        Statement::Session(session) => line(out, 0, format_args!("{session:?}")),
    }
}

fn conflict_action(insert: &Insert, conflict: &OnConflict) -> String {
    let name = |id: &IndexId| {
        insert.table.indexes.iter().find(|index| index.id == *id).map_or("?", |index| index.name.as_str()).to_owned()
    };
    let arbiters = join(&conflict.arbiters, name);
    match &conflict.update {
        None => format!("[{arbiters}] nothing"),
        Some(update) => {
            let set = join(&update.set, |(c, e)| format!("{} = {}", column_name(&insert.table, *c), expr(e)));
            format!("[{arbiters}] set {set} where {}", update.filter.as_ref().map_or("-".to_owned(), expr))
        }
    }
}

fn column_name(table: &toroid_common::catalog::Table, position: u16) -> String {
    table.columns.get(usize::from(position)).map_or_else(|| position.to_string(), |c| c.name.clone())
}

fn returning(list: &[Returning]) -> String {
    match list.is_empty() {
        true => String::new(),
        false => format!(" returning {}", join(list, |r| format!("{} as {}", expr(&r.expr), r.name))),
    }
}

fn print_query(out: &mut String, depth: usize, query: &Query) {
    line(out, depth, format_args!("output {}", join(&query.output, output)));
    relation(out, depth + 1, &query.rel);
}

fn output(column: &OutputColumn) -> String {
    let modifier = if column.ty.modifier == -1 { String::new() } else { format!("({})", column.ty.modifier) };
    format!("{} {}{modifier} {}", column.name, column.ty.ty, id(column.id))
}

fn id(id: ColId) -> String {
    format!("#{}", id.0)
}

fn relation(out: &mut String, depth: usize, rel: &Rel) {
    match rel {
        Rel::Values { columns, rows } => {
            line(out, depth, format_args!("values {}", join(columns, |(i, ty)| format!("{} {}", id(*i), ty.ty))));
            for row in rows {
                line(out, depth + 1, format_args!("({})", join(row, expr)));
            }
        }
        Rel::SetOp { op, all, left, right, columns } => {
            let list = join(columns, |(i, ty)| format!("{} {ty}", id(*i)));
            line(out, depth, format_args!("{op:?}{} {list}", if *all { " all" } else { "" }));
            print_query(out, depth + 1, left);
            print_query(out, depth + 1, right);
        }
        Rel::Derived { query, columns } => {
            line(out, depth, format_args!("derived {}", join(columns, |c| id(*c))));
            print_query(out, depth + 1, query);
        }
        other => {
            line(out, depth, operator(other));
            for input in inputs(other) {
                relation(out, depth + 1, input);
            }
        }
    }
}

pub(super) fn inputs(rel: &Rel) -> Vec<&Rel> {
    match rel {
        Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } | Rel::Values { .. } | Rel::Series { .. } => Vec::new(),
        Rel::SetOp { .. } | Rel::Derived { .. } => Vec::new(),
        Rel::Filter { input, .. }
        | Rel::Project { input, .. }
        | Rel::Unnest { input, .. }
        | Rel::Aggregate { input, .. }
        | Rel::Window { input, .. }
        | Rel::Distinct { input, .. }
        | Rel::DistinctOn { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Lock { input, .. }
        | Rel::Limit { input, .. } => vec![input],
        Rel::Join { left, right, .. } => vec![left, right],
    }
}

/// One operator without what is below it.
fn operator(rel: &Rel) -> String {
    match rel {
        Rel::Unit => "unit".to_owned(),
        Rel::Values { .. } => "values".to_owned(),
        Rel::SetOp { op, .. } => format!("{op:?}"),
        Rel::Derived { .. } => "derived".to_owned(),
        Rel::Scan { table, columns } => {
            let list = join(columns, |(i, p)| format!("{} {}", id(*i), column_name(table, *p)));
            format!("scan {} [{list}]", table.name)
        }
        Rel::Virtual { schema, name, columns } => {
            format!("virtual {schema}.{name} [{}]", join(columns, |(i, _, _)| id(*i)))
        }
        Rel::Series { function, args, column, ordinality } => {
            let counted = ordinality.map_or(String::new(), |o| format!(", ordinality {}", id(o)));
            format!("{} {} = {function:?}({}){counted}", id(column.0), column.1, join(args, expr))
        }
        Rel::Unnest { arrays, keeps, .. } => {
            let arrays = join(arrays, |(i, e)| format!("{} = {}", id(*i), expr(e)));
            format!("unnest {arrays}{}", if *keeps { " or none" } else { "" })
        }
        Rel::Filter { predicate, .. } => format!("filter {}", expr(predicate)),
        Rel::Project { columns, .. } => format!("project {}", assigned(columns)),
        Rel::Aggregate { groups, sets, aggregates, .. } => {
            let calls = join(aggregates, |(i, c)| format!("{} = {}", id(*i), aggregate(c)));
            let sets = sets.as_ref().map_or(String::new(), |s| format!(" sets {s:?}"));
            format!("aggregate by [{}]{sets} [{calls}]", assigned(groups))
        }
        Rel::Window { columns, .. } => {
            format!("window {}", join(columns, |(i, c)| format!("{} = {}", id(*i), window(c))))
        }
        Rel::Join { kind, on, lateral, .. } => {
            let on = on.as_ref().map_or(String::new(), |on| format!(" on {}", expr(on)));
            format!("{kind:?} join{}{on}", if *lateral { " lateral" } else { "" })
        }
        Rel::Distinct { columns, .. } => format!("distinct {}", join(columns, |(i, _)| id(*i))),
        Rel::DistinctOn { on, keys, .. } => format!("distinct on ({}) by {}", join(on, expr), sort(keys)),
        Rel::Sort { keys, .. } => format!("sort {}", sort(keys)),
        Rel::Lock { tables, .. } => {
            let of = join(tables, |locked| {
                format!(
                    "{} {} [{}] {:?}",
                    locked.lock.strength.clause(),
                    locked.table.name,
                    join(&locked.key, |(i, _)| id(*i)),
                    locked.lock.wait
                )
            });
            format!("lock {of}")
        }
        Rel::Limit { limit, offset, .. } => {
            let show = |e: &Option<BoundExpr>| e.as_ref().map_or("-".to_owned(), expr);
            format!("limit {} offset {}", show(limit), show(offset))
        }
    }
}

fn assigned(columns: &[(ColId, BoundExpr)]) -> String {
    join(columns, |(i, e)| format!("{} = {}", id(*i), expr(e)))
}

fn sort(keys: &[SortKey]) -> String {
    join(keys, |key| {
        let direction = if key.descending { " desc" } else { "" };
        let nulls = if key.nulls_first == key.descending {
            ""
        } else if key.nulls_first {
            " nulls first"
        } else {
            " nulls last"
        };
        format!("{}{direction}{nulls}", expr(&key.expr))
    })
}

fn aggregate(call: &AggregateCall) -> String {
    let distinct = if call.distinct { "distinct " } else { "" };
    let filter = call.filter.as_ref().map_or(String::new(), |f| format!(" filter {}", expr(f)));
    let order = if call.order.is_empty() { String::new() } else { format!(" order {}", sort(&call.order)) };
    format!("{:?}({distinct}{}):{}{order}{filter}", call.aggregate, join(&call.args, expr), call.ty)
}

fn window(call: &WindowCall) -> String {
    let frame = call.frame.as_ref().map_or(String::new(), |f| format!(" {:?} {:?} {:?}", f.units, f.start, f.end));
    let by = join(&call.partition, expr);
    format!(
        "{:?}({}):{} over (by {by} order {}{frame})",
        call.function,
        join(&call.args, expr),
        call.ty,
        sort(&call.order)
    )
}

/// An expression of a bound statement.
pub fn expr(expr: &BoundExpr) -> String {
    tree(expr, &|leaf| match leaf {
        BoundLeaf::Column { id: column, .. } => id(*column),
        BoundLeaf::Outer { id: column, depth, .. } => format!("{}{}", "^".repeat(usize::from(*depth)), id(*column)),
        BoundLeaf::Subquery(subquery) => print_subquery(subquery),
    })
}

/// An expression over a row.
pub fn row_expr(expr: &Expr) -> String {
    tree(expr, &|slot: &Slot| format!("@{}", slot.index))
}

fn print_subquery(subquery: &Subquery) -> String {
    let kind = match &subquery.kind {
        SubqueryKind::Exists { negated: false } => "exists".to_owned(),
        SubqueryKind::Exists { negated: true } => "not exists".to_owned(),
        SubqueryKind::Scalar => "scalar".to_owned(),
        SubqueryKind::Quantified { arg, op, all } => {
            format!("{} {} {}", expr(arg), op.function().name, if *all { "all" } else { "any" })
        }
        SubqueryKind::Array => "array".to_owned(),
    };
    let mut inner = String::new();
    print_query(&mut inner, 0, &subquery.query);
    let inner: Vec<&str> = inner.lines().map(str::trim).collect();
    format!("{{{kind}: {}}}", inner.join("; "))
}

fn tree<L: Leaf>(expr: &Expr<L>, leaf: &dyn Fn(&L) -> String) -> String {
    let show = |e: &Expr<L>| tree(e, leaf);
    let list = |items: &[Expr<L>], between: &str| items.iter().map(show).collect::<Vec<_>>().join(between);
    match expr {
        Expr::Const { value, ty } => format!("{}:{ty}", constant(value)),
        Expr::Param { index, ty } => format!("${}:{ty}", index + 1),
        Expr::Leaf(one) => leaf(one),
        Expr::Call { func, args, .. } => {
            let name = func.function().name;
            let symbol = !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            match args.as_slice() {
                [a, b] if symbol => format!("({} {name} {})", show(a), show(b)),
                _ => format!("{name}({})", list(args, ", ")),
            }
        }
        Expr::Cast { arg, ty, modifier, context } => {
            let modifier = if *modifier == -1 { String::new() } else { format!("({modifier})") };
            let mark = match context {
                toroid_common::expr::CastContext::Implicit => "~",
                toroid_common::expr::CastContext::Assignment => "=",
                toroid_common::expr::CastContext::Explicit => "",
            };
            format!("{}::{mark}{ty}{modifier}", show(arg))
        }
        Expr::And(args) => format!("({})", list(args, " and ")),
        Expr::Or(args) => format!("({})", list(args, " or ")),
        Expr::Not(arg) => format!("not {}", show(arg)),
        Expr::IsNull { arg, negated } => format!("{} is {}null", show(arg), if *negated { "not " } else { "" }),
        Expr::BoolTest { arg, test } => format!("{} is {test:?}", show(arg)),
        Expr::Distinct { left, right, negated, .. } => {
            format!("({} is {}distinct from {})", show(left), if *negated { "not " } else { "" }, show(right))
        }
        Expr::Case { whens, otherwise, ty } => {
            let arms: Vec<String> = whens.iter().map(|(w, t)| format!("when {} then {}", show(w), show(t))).collect();
            let last = otherwise.as_ref().map_or(String::new(), |e| format!(" else {}", show(e)));
            format!("case {}{last} end:{ty}", arms.join(" "))
        }
        Expr::Coalesce { args, .. } => format!("coalesce({})", list(args, ", ")),
        Expr::Extreme { greatest, args, .. } => {
            format!("{}({})", if *greatest { "greatest" } else { "least" }, list(args, ", "))
        }
        Expr::NullIf { left, right, .. } => format!("nullif({}, {})", show(left), show(right)),
        Expr::InList { arg, list: items, negated, .. } => {
            format!("{} {}in ({})", show(arg), if *negated { "not " } else { "" }, list(items, ", "))
        }
        Expr::Quantified { op, left, array, all } => {
            format!("({} {} {} {})", show(left), op.function().name, if *all { "all" } else { "any" }, show(array))
        }
        Expr::Array { elements, ty } => format!("array[{}]:{ty}", list(elements, ", ")),
    }
}

fn constant(value: &Datum) -> String {
    match value {
        Datum::Null => "null".to_owned(),
        Datum::Bool(v) => v.to_string(),
        Datum::Int2(v) => v.to_string(),
        Datum::Int4(v) => v.to_string(),
        Datum::Int8(v) => v.to_string(),
        Datum::Text(v) => format!("'{v}'"),
        Datum::Oid(v) => v.to_string(),
        Datum::Array(v) => format!("{{{}}}", join(v, constant)),
        other => format!("{other:?}"),
    }
}

//! Function calls: plain ones by overload, aggregates, window functions, set-returning functions of the SELECT list.

use super::binder::{Binder, Typed, error_at, located, object_name, unsupported_at};
use super::json_aggregate::JsonAggregate;
use super::scope::{Clause, Series};
use crate::bound::{AggregateCall, BoundExpr, BoundLeaf, SortKey, WindowCall, WindowFunction};
use sqlparser::ast::{
    self, DuplicateTreatment, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    WindowType,
};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func::{self, aggregate::Aggregate};
use toroid_common::types::{ColumnType, SqlType};

/// The arguments of a call, taken apart.
struct Arguments<'a> {
    list: Vec<&'a Ast>,
    star: bool,
    distinct: bool,
    order: &'a [ast::OrderByExpr],
    /// Written without parentheses: CURRENT_DATE.
    bare: bool,
}

impl Binder<'_> {
    pub(super) fn call(&mut self, function: &ast::Function) -> SqlResult<Typed> {
        let (schema, name, place) = object_name(&function.name)?;
        if let Some(schema) = schema.as_deref().filter(|s| *s != "pg_catalog")
            && !self.cx.virtuals.has_schema(schema)
            && !self.cx.env.search_path.iter().any(|s| s == schema)
        {
            let message = format!("schema \"{schema}\" does not exist");
            return Err(error_at(SqlState::INVALID_SCHEMA_NAME, message, place));
        }
        if let FunctionArguments::Subquery(query) = &function.args {
            return match name.as_str() {
                "array" => self.array_subquery(query, place),
                _ => Err(unsupported_at("a subquery as the argument list", place)),
            };
        }
        if let Some(function) = super::named::positional(function, &name, place)? {
            return self.call(&function);
        }
        let args = arguments(function, place)?;
        if !function.within_group.is_empty() {
            return Err(unsupported_at(format!("the ordered-set aggregate {name}"), place));
        }
        if let Some(over) = &function.over {
            return self.window_call(&name, &args, over, function.filter.as_deref(), place);
        }
        if let Some(kind) = JsonAggregate::by_name(&name)
            && !args.star
        {
            let elements = self.aggregate_call(&name, &args, function.filter.as_deref(), place)?;
            return self.json_whole(kind, elements, place);
        }
        if args.star || Aggregate::by_name(&name).is_some() {
            return self.aggregate_call(&name, &args, function.filter.as_deref(), place);
        }
        if args.distinct || !args.order.is_empty() || function.filter.is_some() {
            let what = if args.distinct {
                "DISTINCT"
            } else if args.order.is_empty() {
                "FILTER"
            } else {
                "ORDER BY"
            };
            let message = format!("{what} specified, but {name} is not an aggregate function");
            return Err(error_at(SqlState::WRONG_OBJECT_TYPE, message, place));
        }
        if is_window_only(&name) {
            let message = format!("window function {name} requires an OVER clause");
            return Err(error_at(SqlState::WINDOWING_ERROR, message, place));
        }
        if name == "row" && schema.is_none() {
            return Err(unsupported_at("a row as a value", place));
        }
        self.plain_call(&name, &args, place)
    }

    fn plain_call(&mut self, name: &str, args: &Arguments<'_>, place: u32) -> SqlResult<Typed> {
        if let Some(value) = self.keyword_function(name, args, place)? {
            return Ok(value);
        }
        let owned: Vec<Ast> = args.list.iter().map(|a| (*a).clone()).collect();
        if let Some(value) = self.conditional(name, &owned, place)? {
            return Ok(value);
        }
        if let Some(function) = super::from::set_function(name) {
            return self.series_in_select(function, name, &args.list, place);
        }
        let values = args.list.iter().map(|a| self.expr(a)).collect::<SqlResult<Vec<_>>>()?;
        match (name, values.as_slice()) {
            ("pg_typeof", [Typed { expr: Expr::Const { ty: SqlType::Unknown, .. }, .. }]) => {
                let value = Datum::Oid(SqlType::Unknown.oid());
                Ok(Typed::new(Expr::Const { value, ty: SqlType::Regtype }, place))
            }
            ("octet_length", [only]) if only.ty() == SqlType::Bpchar && only.modifier > 4 => {
                self.padded_length(only.clone(), place)
            }
            _ => self.apply_function(name, values, place),
        }
    }

    /// `char(n)` is kept without the blanks at its end, but they count as bytes.
    fn padded_length(&mut self, value: Typed, place: u32) -> SqlResult<Typed> {
        let declared = Datum::Int4(value.modifier - 4);
        let declared = Typed::new(Expr::Const { value: declared, ty: SqlType::Int4 }, place);
        let characters = self.apply_function("length", vec![value.clone()], place)?;
        let bytes = self.apply_function("octet_length", vec![value], place)?;
        let blanks = self.apply_operator("-", Some(declared), characters, place)?;
        self.apply_operator("+", Some(bytes), blanks, place)
    }

    /// Calls a function by name on bound arguments; a type's name with one argument is a cast.
    pub(super) fn apply_function(&mut self, name: &str, values: Vec<Typed>, place: u32) -> SqlResult<Typed> {
        let types: Vec<SqlType> = values.iter().map(Typed::ty).collect();
        let resolved = match func::resolve_function(name, &types) {
            Ok(resolved) => resolved,
            Err(error) => {
                return match (<[Typed; 1]>::try_from(values), type_called(name)) {
                    (Ok([value]), Some(to)) => self.explicit(value, ColumnType::from(to), place),
                    _ => located(Err(error), place),
                };
            }
        };
        let mut args = Vec::with_capacity(values.len());
        for (value, ty) in values.into_iter().zip(&resolved.args) {
            args.push(self.implicit(value, *ty)?);
        }
        Ok(Typed::new(Expr::Call { func: resolved.func, args, ty: resolved.result }, place))
    }

    /// CURRENT_TIMESTAMP and the other functions that SQL writes without parentheses.
    fn keyword_function(&mut self, name: &str, args: &Arguments<'_>, place: u32) -> SqlResult<Option<Typed>> {
        let precision = match args.list.as_slice() {
            [Ast::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. })] => digits.parse::<i32>().ok(),
            _ => None,
        };
        let cast = match name {
            "current_timestamp" => SqlType::Timestamptz,
            "localtimestamp" => SqlType::Timestamp,
            "current_date" => SqlType::Date,
            "localtime" => SqlType::Time,
            "current_time" => return Err(unsupported_at("type time with time zone", place)),
            "current_user" | "session_user" | "user" | "current_role" | "current_catalog" | "current_schema"
                if args.bare =>
            {
                let function = match name {
                    "user" | "current_role" => "current_user",
                    "current_catalog" => "current_database",
                    other => other,
                };
                return Ok(Some(self.apply_function(function, Vec::new(), place)?));
            }
            _ => return Ok(None),
        };
        let now = self.apply_function("now", Vec::new(), place)?;
        let to = ColumnType { ty: cast, modifier: precision.unwrap_or(-1) };
        Ok(Some(self.explicit(now, to, place)?))
    }

    /// CURRENT_SCHEMA and the like where they were read as a column's name.
    pub(super) fn keyword_column(&mut self, name: &str, place: u32) -> SqlResult<Typed> {
        let args = Arguments { list: Vec::new(), star: false, distinct: false, order: &[], bare: true };
        match self.keyword_function(name, &args, place)? {
            Some(value) => Ok(value),
            None => Err(error_at(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"), place)),
        }
    }

    fn aggregate_call(
        &mut self,
        name: &str,
        args: &Arguments<'_>,
        filter: Option<&Ast>,
        place: u32,
    ) -> SqlResult<Typed> {
        let level = self.level();
        let (clause, inside) = (level.clause, level.in_aggregate);
        if inside {
            return Err(error_at(SqlState::GROUPING_ERROR, "aggregate function calls cannot be nested", place));
        }
        if !clause.takes_aggregates() {
            let message = format!("aggregate functions are not allowed in {}", clause.name());
            return Err(error_at(SqlState::GROUPING_ERROR, message, place));
        }
        self.level().in_aggregate = true;
        let bound = self.bind_aggregate(name, args, filter, place);
        self.level().in_aggregate = false;
        let call = bound?;
        if reads_outer_only(&call) {
            return Err(unsupported_at("an aggregate of an outer query's columns", place));
        }
        let ty = call.ty;
        let known = self.level().aggregates.iter().find(|(_, other)| *other == call).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.fresh();
                self.level().aggregates.push((id, call));
                id
            }
        };
        self.use_column(id);
        Ok(Typed::new(Expr::Leaf(BoundLeaf::Column { id, ty }), place))
    }

    fn bind_aggregate(
        &mut self,
        name: &str,
        args: &Arguments<'_>,
        filter: Option<&Ast>,
        place: u32,
    ) -> SqlResult<AggregateCall> {
        let values = args.list.iter().map(|a| self.expr(a)).collect::<SqlResult<Vec<_>>>()?;
        let (name, values) = match JsonAggregate::by_name(name) {
            Some(kind) => ("string_agg", self.json_parts(name, kind, values, args.distinct, place)?),
            None => (name, values),
        };
        let types: Vec<SqlType> = values.iter().map(Typed::ty).collect();
        let (aggregate, targets, ty) = if args.star {
            if name != "count" {
                let message = format!("{name}(*) specified, but {name} is not an aggregate function");
                return Err(error_at(SqlState::WRONG_OBJECT_TYPE, message, place));
            }
            (Aggregate::CountStar, Vec::new(), SqlType::Int8)
        } else {
            let undefined = || SqlError::internal(format!("aggregate {name} is not known"));
            located(Aggregate::resolve(name, &types), place)?.ok_or_else(undefined)?
        };
        let mut bound = Vec::with_capacity(values.len());
        for (value, ty) in values.into_iter().zip(targets) {
            bound.push(self.implicit(value, ty)?);
        }
        let filter = match filter {
            None => None,
            Some(filter) => {
                let value = self.expr(filter)?;
                Some(self.boolean(value, "FILTER")?)
            }
        };
        let order = args.order.iter().map(|o| self.plain_sort_key(o)).collect::<SqlResult<Vec<_>>>()?;
        if args.distinct && order.iter().any(|key| !bound.contains(&key.expr)) {
            let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
            return Err(error_at(SqlState::INVALID_COLUMN_REFERENCE, message, place));
        }
        Ok(AggregateCall { aggregate, args: bound, ty, distinct: args.distinct, filter, order })
    }

    /// A sort key that means an expression, not an output column.
    pub(super) fn plain_sort_key(&mut self, key: &ast::OrderByExpr) -> SqlResult<SortKey> {
        let value = self.expr(&key.expr)?;
        let value = self.text_if_unknown(value)?;
        super::select::sort_key(value, &key.options)
    }

    fn window_call(
        &mut self,
        name: &str,
        args: &Arguments<'_>,
        over: &WindowType,
        filter: Option<&Ast>,
        place: u32,
    ) -> SqlResult<Typed> {
        let level = self.level();
        if level.in_window {
            return Err(error_at(SqlState::WINDOWING_ERROR, "window function calls cannot be nested", place));
        }
        if !level.clause.takes_windows() {
            let message = format!("window functions are not allowed in {}", level.clause.name());
            return Err(error_at(SqlState::WINDOWING_ERROR, message, place));
        }
        if filter.is_some() || args.distinct || !args.order.is_empty() {
            return Err(unsupported_at("DISTINCT, FILTER or ORDER BY in a window function", place));
        }
        let spec = self.window_spec(over, place)?;
        self.level().in_window = true;
        let bound = self.bind_window(name, args, &spec, place);
        self.level().in_window = false;
        let call = bound?;
        let ty = call.ty;
        let id = self.fresh();
        self.use_column(id);
        self.level().windows.push((id, call));
        Ok(Typed::new(Expr::Leaf(BoundLeaf::Column { id, ty }), place))
    }

    fn window_spec(&mut self, over: &WindowType, place: u32) -> SqlResult<ast::WindowSpec> {
        let (name, mut spec) = match over {
            WindowType::NamedWindow(ident) => (Some(ident), None),
            WindowType::WindowSpec(spec) => (spec.window_name.as_ref(), Some(spec.clone())),
        };
        let Some(name) = name.map(super::binder::name_of) else {
            return spec.ok_or_else(|| unsupported_at("this window", place));
        };
        let named = self.level().named_windows.iter().find(|(n, _)| *n == name).map(|(_, s)| s.clone());
        let mut base = named
            .ok_or_else(|| error_at(SqlState::UNDEFINED_OBJECT, format!("window \"{name}\" does not exist"), place))?;
        if let Some(own) = spec.take() {
            if !own.order_by.is_empty() {
                base.order_by = own.order_by;
            }
            base.window_frame = own.window_frame.or(base.window_frame);
        }
        Ok(base)
    }

    fn bind_window(
        &mut self,
        name: &str,
        args: &Arguments<'_>,
        spec: &ast::WindowSpec,
        place: u32,
    ) -> SqlResult<WindowCall> {
        let values = args.list.iter().map(|a| self.expr(a)).collect::<SqlResult<Vec<_>>>()?;
        let (function, targets, ty) = located(window_function(name, args.star, &values), place)?;
        let mut bound = Vec::with_capacity(values.len());
        for (value, ty) in values.into_iter().zip(targets) {
            bound.push(self.implicit(value, ty)?);
        }
        let mut partition = Vec::with_capacity(spec.partition_by.len());
        for by in &spec.partition_by {
            let value = self.expr(by)?;
            partition.push(self.text_if_unknown(value)?.expr);
        }
        let order = spec.order_by.iter().map(|o| self.plain_sort_key(o)).collect::<SqlResult<Vec<_>>>()?;
        let frame = spec.window_frame.as_ref().map(|frame| super::frame::frame(frame, !order.is_empty(), place));
        Ok(WindowCall { function, args: bound, ty, partition, order, frame: frame.transpose()? })
    }

    fn series_in_select(
        &mut self,
        function: crate::bound::SetFunction,
        name: &str,
        args: &[&Ast],
        place: u32,
    ) -> SqlResult<Typed> {
        let level = self.level();
        if level.clause != Clause::Select || level.in_aggregate {
            let message = format!("set-returning functions are not allowed in {}", level.clause.name());
            return Err(error_at(SqlState::FEATURE_NOT_SUPPORTED, message, place));
        }
        let values = args.iter().map(|a| self.expr(a)).collect::<SqlResult<Vec<_>>>()?;
        let (args, ty) = self.series_arguments(function, name, values, place)?;
        let id = self.fresh();
        self.use_column(id);
        self.level().series.push(Series { id, function, args, ty });
        Ok(Typed::new(Expr::Leaf(BoundLeaf::Column { id, ty }), place))
    }
}

fn arguments(function: &ast::Function, place: u32) -> SqlResult<Arguments<'_>> {
    let mut out = Arguments { list: Vec::new(), star: false, distinct: false, order: &[], bare: false };
    let list = match &function.args {
        FunctionArguments::List(list) => list,
        FunctionArguments::None | FunctionArguments::Subquery(_) => {
            out.bare = true;
            return Ok(out);
        }
    };
    out.distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => out.list.push(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_)) => {
                out.star = true
            }
            _ => return Err(unsupported_at("an argument by name", place)),
        }
    }
    if out.star && list.args.len() > 1 {
        return Err(error_at(SqlState::SYNTAX_ERROR, "syntax error at or near \",\"", place));
    }
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::OrderBy(order) => out.order = order,
            other => return Err(unsupported_at(format!("{other} in a call"), place)),
        }
    }
    Ok(out)
}

fn is_window_only(name: &str) -> bool {
    matches!(
        name,
        "row_number"
            | "rank"
            | "dense_rank"
            | "percent_rank"
            | "cume_dist"
            | "ntile"
            | "lag"
            | "lead"
            | "first_value"
            | "last_value"
            | "nth_value"
    )
}

/// The function, the types to cast its arguments to, and its own type.
fn window_function(name: &str, star: bool, values: &[Typed]) -> SqlResult<(WindowFunction, Vec<SqlType>, SqlType)> {
    let types: Vec<SqlType> = values.iter().map(Typed::ty).collect();
    let value = match types.first() {
        Some(SqlType::Unknown) | None => SqlType::Text,
        Some(ty) => *ty,
    };
    let undefined = || {
        let list: Vec<String> = types.iter().map(SqlType::to_string).collect();
        SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", list.join(", ")))
            .with_hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            )
    };
    if star && name == "count" {
        return Ok((WindowFunction::Aggregate(Aggregate::CountStar), Vec::new(), SqlType::Int8));
    }
    if let Some((aggregate, targets, ty)) = Aggregate::resolve(name, &types)? {
        return Ok((WindowFunction::Aggregate(aggregate), targets, ty));
    }
    Ok(match (name, types.len()) {
        ("row_number", 0) => (WindowFunction::RowNumber, Vec::new(), SqlType::Int8),
        ("rank", 0) => (WindowFunction::Rank, Vec::new(), SqlType::Int8),
        ("dense_rank", 0) => (WindowFunction::DenseRank, Vec::new(), SqlType::Int8),
        ("lag", 1..=3) => (WindowFunction::Lag, vec![value, SqlType::Int4, value], value),
        ("lead", 1..=3) => (WindowFunction::Lead, vec![value, SqlType::Int4, value], value),
        ("first_value", 1) => (WindowFunction::FirstValue, vec![value], value),
        ("last_value", 1) => (WindowFunction::LastValue, vec![value], value),
        _ if is_window_only(name) => return Err(SqlError::unsupported(format!("the window function {name}"))),
        _ if !func::overloads(name).is_empty() => {
            let message = format!("OVER specified, but {name} is not a window function nor an aggregate function");
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        _ => return Err(undefined()),
    })
}

/// A type whose name may be called like a function.
fn type_called(name: &str) -> Option<SqlType> {
    Some(match name {
        "bool" => SqlType::Bool,
        "int2" => SqlType::Int2,
        "int4" => SqlType::Int4,
        "int8" => SqlType::Int8,
        "float4" => SqlType::Float4,
        "float8" => SqlType::Float8,
        "numeric" => SqlType::Numeric,
        "text" => SqlType::Text,
        "varchar" => SqlType::Varchar,
        "date" => SqlType::Date,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        "interval" => SqlType::Interval,
        "uuid" => SqlType::Uuid,
        "json" => SqlType::Json,
        "jsonb" => SqlType::Jsonb,
        "name" => SqlType::Name,
        "oid" => SqlType::Oid,
        "regclass" => SqlType::Regclass,
        _ => return None,
    })
}

/// Whether a call reads columns of outer queries and none of its own: then it belongs to an outer one.
fn reads_outer_only(call: &AggregateCall) -> bool {
    let (mut own, mut outer) = (false, false);
    let exprs = call.args.iter().chain(&call.filter).chain(call.order.iter().map(|key: &SortKey| &key.expr));
    for expr in exprs {
        let expr: &BoundExpr = expr;
        expr.each_leaf(&mut |leaf| match leaf {
            BoundLeaf::Column { .. } | BoundLeaf::Subquery(_) => own = true,
            BoundLeaf::Outer { .. } => outer = true,
        });
    }
    outer && !own
}

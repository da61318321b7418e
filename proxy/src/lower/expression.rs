//! Expressions: what Arrow's kernels do exactly goes to DataFusion's operators, all else to one function per expression.

use super::{Lowering, Result, built};
use crate::bound::{BoundExpr, BoundLeaf};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Case, InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr as Df, Operator};
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::eval::{NO_ROW, constant_fold, eval};
use toroid_common::expr::{BoolTest, Expr, Slot};
use toroid_common::func::{FuncId, Native};
use toroid_common::types::SqlType;
use toroid_query::column::scalar_of;
use toroid_query::scalar::arithmetic::{Arithmetic, Operation};
use toroid_query::scalar::order::{Comparison, OrderKey};
use toroid_query::scalar::row::Definition;
use toroid_query::scalar::{ScalarKind, scalar};

/// The operator for a comparison by name.
fn comparison(name: &str) -> Option<Operator> {
    Some(match name {
        "=" => Operator::Eq,
        "<>" => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        _ => return None,
    })
}

fn operation(native: Native) -> Option<Operation> {
    Some(match native {
        Native::Add => Operation::Add,
        Native::Subtract => Operation::Subtract,
        Native::Multiply => Operation::Multiply,
        Native::Divide => Operation::Divide,
        Native::Modulo => Operation::Modulo,
        Native::Negate => Operation::Negate,
        Native::Equal
        | Native::NotEqual
        | Native::Less
        | Native::LessOrEqual
        | Native::Greater
        | Native::GreaterOrEqual => return None,
    })
}

/// The type in which two different types are compared by Arrow without loss.
fn common_arrow(left: SqlType, right: SqlType) -> Option<SqlType> {
    use SqlType as T;
    match (left, right) {
        (a, b) if a == b => Some(a),
        (T::Int2 | T::Int4, T::Int2 | T::Int4) => Some(T::Int4),
        (T::Int2 | T::Int4 | T::Int8, T::Int2 | T::Int4 | T::Int8) => Some(T::Int8),
        (T::Float4 | T::Float8, T::Float4 | T::Float8) => Some(T::Float8),
        (a, b) if a.arrow() == DataType::Utf8View && b.arrow() == DataType::Utf8View => Some(T::Text),
        _ => None,
    }
}

pub(super) fn literal(value: &Datum, ty: SqlType) -> Result<Df> {
    Ok(Df::Literal(built(scalar_of(value.borrow(), ty))?, None))
}

pub(super) fn truth(value: Option<bool>) -> Df {
    Df::Literal(ScalarValue::Boolean(value), None)
}

pub(super) fn binary(left: Df, op: Operator, right: Df) -> Df {
    Df::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

pub(super) fn arrow_cast(expr: Df, from: SqlType, to: SqlType) -> Df {
    match from.arrow() == to.arrow() {
        true => expr,
        false => Df::Cast(Cast::new(Box::new(expr), to.arrow())),
    }
}

impl Lowering<'_> {
    pub(super) fn call(&self, kind: ScalarKind, args: Vec<Df>) -> Df {
        Df::ScalarFunction(ScalarFunction::new_udf(Arc::new(scalar(kind, &self.env)), args))
    }

    /// A value as something that Arrow compares as PostgreSQL does.
    pub(super) fn comparable(&self, expr: Df, ty: SqlType) -> Result<Df> {
        match Comparison::of(ty) {
            Comparison::Native => Ok(expr),
            Comparison::Key => Ok(self.call(ScalarKind::Order(OrderKey { ty }), vec![expr])),
            Comparison::None => Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("could not identify an equality operator for type {ty}"),
            )),
        }
    }

    /// A value by which rows are sorted.
    pub(super) fn sortable(&self, expr: Df, ty: SqlType) -> Result<Df> {
        match Comparison::of(ty) {
            Comparison::None => Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("could not identify an ordering operator for type {ty}"),
            )
            .with_hint("Use an explicit ordering operator or modify the query.")),
            Comparison::Native | Comparison::Key => self.comparable(expr, ty),
        }
    }

    /// Replaces parameters by their values and computes what is constant.
    fn prepare(&self, expr: &BoundExpr) -> BoundExpr {
        fn bind(expr: BoundExpr, params: &[Datum]) -> BoundExpr {
            match expr {
                Expr::Param { index, ty } => {
                    Expr::Const { value: params.get(usize::from(index)).cloned().unwrap_or(Datum::Null), ty }
                }
                other => other.map_children(&mut |child| bind(child, params)),
            }
        }
        constant_fold(bind(expr.clone(), self.params), &self.env)
    }

    /// Lowers an expression over the columns that are visible.
    pub(super) fn expr(&mut self, expr: &BoundExpr) -> Result<Df> {
        let prepared = self.prepare(expr);
        self.lower(&prepared)
    }

    /// The value of an expression that reads no columns, now.
    pub(super) fn value(&self, expr: &BoundExpr, what: &str) -> Result<Datum> {
        let slots = expr.clone().map_leaves(&mut |_| Err(SqlError::unsupported(what)))?;
        eval(&slots, &NO_ROW, &self.params, &self.env)
    }

    fn lower_all(&mut self, exprs: &[BoundExpr]) -> Result<Vec<Df>> {
        exprs.iter().map(|e| self.lower(e)).collect()
    }

    fn lower_box(&mut self, expr: &BoundExpr) -> Result<Box<Df>> {
        Ok(Box::new(self.lower(expr)?))
    }

    fn lower(&mut self, expr: &BoundExpr) -> Result<Df> {
        match expr {
            Expr::Const { value, ty } => literal(value, *ty),
            Expr::Param { index, .. } => Err(SqlError::internal(format_args!("parameter {index} has no value"))),
            Expr::Leaf(leaf) => self.leaf(leaf),
            Expr::Call { func, args, ty } => self.function(expr, *func, args, *ty),
            Expr::Cast { arg, ty, modifier, .. } => match is_lossless(arg.ty(), *ty, *modifier) {
                true => Ok(arrow_cast(self.lower(arg)?, arg.ty(), *ty)),
                false => self.row(expr),
            },
            Expr::And(args) => self.connect(expr, args, true),
            Expr::Or(args) => self.connect(expr, args, false),
            Expr::Not(arg) => Ok(Df::Not(self.lower_box(arg)?)),
            Expr::IsNull { arg, negated: false } => Ok(Df::IsNull(self.lower_box(arg)?)),
            Expr::IsNull { arg, negated: true } => Ok(Df::IsNotNull(self.lower_box(arg)?)),
            Expr::BoolTest { arg, test } => {
                let arg = self.lower_box(arg)?;
                Ok(match test {
                    BoolTest::True => Df::IsTrue(arg),
                    BoolTest::NotTrue => Df::IsNotTrue(arg),
                    BoolTest::False => Df::IsFalse(arg),
                    BoolTest::NotFalse => Df::IsNotFalse(arg),
                    BoolTest::Unknown => Df::IsUnknown(arg),
                    BoolTest::NotUnknown => Df::IsNotUnknown(arg),
                })
            }
            Expr::Distinct { left, right, negated, .. } => {
                let op = if *negated { Operator::IsNotDistinctFrom } else { Operator::IsDistinctFrom };
                match self.compared(left, right)? {
                    Some((left, right)) => Ok(binary(left, op, right)),
                    None => self.row(expr),
                }
            }
            Expr::Case { whens, otherwise, .. } => self.case(expr, whens, otherwise.as_deref()),
            Expr::Coalesce { args, .. } => self.coalesce(expr, args),
            Expr::InList { equal, arg, list, negated } => self.in_list(expr, *equal, arg, list, *negated),
            Expr::Quantified { op, left, array, all } => self.quantified(expr, *op, left, array, *all),
            Expr::Extreme { .. } | Expr::NullIf { .. } | Expr::Array { .. } => self.row(expr),
        }
    }

    fn leaf(&mut self, leaf: &BoundLeaf) -> Result<Df> {
        match leaf {
            BoundLeaf::Column { id, .. } => self.column_expr(*id),
            BoundLeaf::Outer { id, depth: 1, ty } => {
                let column = self.column(*id)?;
                Ok(Df::OuterReferenceColumn(Arc::new(Field::new(column.name(), ty.arrow(), true)), column))
            }
            BoundLeaf::Outer { .. } => {
                Err(SqlError::unsupported("a subquery that refers to a query further out than the one around it"))
            }
            BoundLeaf::Subquery(subquery) => self.subquery_value(subquery),
        }
    }

    /// Both sides of a comparison as columns that Arrow compares, if there is such a form.
    fn compared(&mut self, left: &BoundExpr, right: &BoundExpr) -> Result<Option<(Df, Df)>> {
        let Some(ty) = common_arrow(left.ty(), right.ty()) else { return Ok(None) };
        if Comparison::of(ty) == Comparison::None {
            return Ok(None);
        }
        let (a, b) = (self.lower(left)?, self.lower(right)?);
        let (a, b) = (arrow_cast(a, left.ty(), ty), arrow_cast(b, right.ty(), ty));
        Ok(Some((self.comparable(a, ty)?, self.comparable(b, ty)?)))
    }

    fn function(&mut self, whole: &BoundExpr, func: FuncId, args: &[BoundExpr], ty: SqlType) -> Result<Df> {
        let function = func.function();
        if let ([left, right], Some(op)) = (args, comparison(function.name)) {
            // Keys are made only where they pay: a join needs them, a filter against a constant does not.
            let keyed =
                Comparison::of(left.ty()) == Comparison::Key && !matches!(left.ty(), SqlType::Float4 | SqlType::Float8);
            let constant = matches!(left, Expr::Const { .. }) || matches!(right, Expr::Const { .. });
            let equality = matches!(op, Operator::Eq);
            if (!keyed || (equality && !constant))
                && let Some((left, right)) = self.compared(left, right)?
            {
                return Ok(binary(left, op, right));
            }
            return self.row(whole);
        }
        if let Some(operation) = function.native.and_then(operation)
            && args.iter().all(|arg| arg.ty() == ty)
            && Arithmetic::supports(operation, ty)
        {
            let args = self.lower_all(args)?;
            return Ok(self.call(ScalarKind::Arithmetic(Arithmetic { operation, ty }), args));
        }
        self.row(whole)
    }

    /// AND and OR; an operand that may fail must not be reached when those before it decide.
    fn connect(&mut self, whole: &BoundExpr, args: &[BoundExpr], and: bool) -> Result<Df> {
        let op = if and { Operator::And } else { Operator::Or };
        if args.iter().skip(1).any(may_fail) {
            if !has_subquery(whole) {
                return self.row(whole);
            }
            return self.connect_lazily(args, op);
        }
        let parts = self.lower_all(args)?;
        Ok(parts.into_iter().reduce(|a, b| binary(a, op, b)).unwrap_or_else(|| truth(Some(and))))
    }

    fn connect_lazily(&mut self, args: &[BoundExpr], op: Operator) -> Result<Df> {
        let mut parts = self.lower_all(args)?.into_iter().rev();
        let Some(mut rest) = parts.next() else { return Ok(truth(Some(op == Operator::And))) };
        for part in parts {
            let decided = match op {
                Operator::And => Df::IsFalse(Box::new(part.clone())),
                _ => Df::IsTrue(Box::new(part.clone())),
            };
            let short = truth(Some(op != Operator::And));
            rest = case_of(vec![(decided, short)], Some(binary(part, op, rest)));
        }
        Ok(rest)
    }

    fn case(
        &mut self,
        whole: &BoundExpr,
        whens: &[(BoundExpr, BoundExpr)],
        otherwise: Option<&BoundExpr>,
    ) -> Result<Df> {
        if !self.is_vectorised(whole) && !has_subquery(whole) {
            return self.row(whole);
        }
        let whens =
            whens.iter().map(|(when, then)| Ok((self.lower(when)?, self.lower(then)?))).collect::<Result<Vec<_>>>()?;
        let otherwise = otherwise.map(|e| self.lower(e)).transpose()?;
        Ok(case_of(whens, otherwise))
    }

    fn coalesce(&mut self, whole: &BoundExpr, args: &[BoundExpr]) -> Result<Df> {
        if !self.is_vectorised(whole) && !has_subquery(whole) {
            return self.row(whole);
        }
        let mut args = self.lower_all(args)?;
        let Some(last) = args.pop() else { return self.row(whole) };
        let whens = args.into_iter().map(|arg| (Df::IsNotNull(Box::new(arg.clone())), arg)).collect();
        Ok(case_of(whens, Some(last)))
    }

    fn in_list(
        &mut self,
        whole: &BoundExpr,
        equal: FuncId,
        arg: &BoundExpr,
        list: &[BoundExpr],
        negated: bool,
    ) -> Result<Df> {
        let values: Option<Vec<&Datum>> = list
            .iter()
            .map(|e| match e {
                Expr::Const { value, ty } if *ty == arg.ty() => Some(value),
                _ => None,
            })
            .collect();
        match values {
            Some(values) if equal.function().name == "=" && !values.is_empty() => {
                self.in_values(whole, arg, &values, negated)
            }
            _ if has_subquery(whole) => Err(SqlError::unsupported("a subquery in a list of IN")),
            _ => self.row(whole),
        }
    }

    /// `arg [NOT] IN (values)` by a hash table.
    fn in_values(&mut self, whole: &BoundExpr, arg: &BoundExpr, values: &[&Datum], negated: bool) -> Result<Df> {
        let ty = arg.ty();
        if Comparison::of(ty) == Comparison::None {
            return self.row(whole);
        }
        let lowered = self.lower(arg)?;
        let lowered = self.comparable(lowered, ty)?;
        let list = values
            .iter()
            .map(|value| match Comparison::of(ty) {
                Comparison::Native | Comparison::None => literal(value, ty),
                Comparison::Key => {
                    let array = built(toroid_query::column::array_of(value.borrow(), ty))?;
                    let key = built(OrderKey { ty }.keys(&array))?;
                    Ok(Df::Literal(built(ScalarValue::try_from_array(&key, 0))?, None))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Df::InList(InList::new(Box::new(lowered), list, negated)))
    }

    fn quantified(
        &mut self,
        whole: &BoundExpr,
        op: FuncId,
        left: &BoundExpr,
        array: &BoundExpr,
        all: bool,
    ) -> Result<Df> {
        let (name, ty) = (op.function().name, left.ty());
        if let Expr::Const { value: Datum::Array(values), ty: array } = array
            && array.element() == Some(ty)
            && ((name == "=" && !all) || (name == "<>" && all))
        {
            if values.is_empty() {
                return Ok(truth(Some(all)));
            }
            return self.in_values(whole, left, &values.iter().collect::<Vec<_>>(), all);
        }
        self.row(whole)
    }

    /// The whole expression as one function, evaluated row by row.
    fn row(&mut self, expr: &BoundExpr) -> Result<Df> {
        let mut leaves: Vec<BoundLeaf> = Vec::new();
        let slots = expr.clone().map_leaves(&mut |leaf| -> Result<Expr> {
            let ty = toroid_common::expr::Leaf::ty(&leaf);
            let known = leaves.iter().position(|other| *other == leaf);
            let index = known.unwrap_or_else(|| {
                leaves.push(leaf);
                leaves.len() - 1
            });
            Ok(Expr::Leaf(Slot { index: index as u16, ty }))
        })?;
        let args = leaves.iter().map(toroid_common::expr::Leaf::ty).collect();
        let columns = leaves.iter().map(|leaf| self.leaf(leaf)).collect::<Result<Vec<_>>>()?;
        let definition = Definition { name: label(expr), expr: slots, args };
        Ok(self.call(ScalarKind::Row(definition), columns))
    }

    /// Whether no part of the expression has to be evaluated row by row.
    fn is_vectorised(&self, expr: &BoundExpr) -> bool {
        let own = match expr {
            Expr::Const { .. }
            | Expr::Param { .. }
            | Expr::Leaf(_)
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::BoolTest { .. }
            | Expr::Case { .. }
            | Expr::Coalesce { .. } => true,
            Expr::Call { func, args, ty } => match (comparison(func.function().name), args.as_slice()) {
                (Some(_), [left, right]) => {
                    common_arrow(left.ty(), right.ty()).is_some_and(|ty| Comparison::of(ty) == Comparison::Native)
                }
                _ => func.function().native.and_then(operation).is_some_and(|operation| {
                    args.iter().all(|arg| arg.ty() == *ty) && Arithmetic::supports(operation, *ty)
                }),
            },
            Expr::Cast { arg, ty, modifier, .. } => is_lossless(arg.ty(), *ty, *modifier),
            Expr::InList { arg, list, .. } => {
                Comparison::of(arg.ty()) == Comparison::Native
                    && list.iter().all(|e| matches!(e, Expr::Const { ty, .. } if *ty == arg.ty()))
            }
            Expr::Distinct { left, right, .. } => {
                common_arrow(left.ty(), right.ty()).is_some_and(|ty| Comparison::of(ty) == Comparison::Native)
            }
            Expr::Extreme { .. } | Expr::NullIf { .. } | Expr::Quantified { .. } | Expr::Array { .. } => false,
        };
        own && expr.children().into_iter().all(|child| self.is_vectorised(child))
    }
}

fn case_of(whens: Vec<(Df, Df)>, otherwise: Option<Df>) -> Df {
    let whens = whens.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect();
    Df::Case(Case::new(None, whens, otherwise.map(Box::new)))
}

/// Casts that Arrow does without loss and without errors.
fn is_lossless(from: SqlType, to: SqlType, modifier: i32) -> bool {
    use SqlType as T;
    modifier < 0
        && match (from, to) {
            (a, b) if a == b => true,
            (T::Int2, T::Int4 | T::Int8) | (T::Int4, T::Int8) => true,
            (T::Int2 | T::Int4 | T::Int8, T::Float8) | (T::Int2, T::Float4) | (T::Float4, T::Float8) => true,
            (T::Text | T::Varchar, T::Text | T::Varchar) | (T::Name, T::Text) => true,
            _ => false,
        }
}

/// Whether evaluating an expression can end in an error.
pub(super) fn may_fail(expr: &BoundExpr) -> bool {
    let own = match expr {
        Expr::Const { .. }
        | Expr::Param { .. }
        | Expr::And(_)
        | Expr::Or(_)
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::Distinct { .. }
        | Expr::Case { .. }
        | Expr::Coalesce { .. }
        | Expr::Extreme { .. }
        | Expr::NullIf { .. }
        | Expr::InList { .. }
        | Expr::Quantified { .. }
        | Expr::Array { .. } => false,
        Expr::Leaf(leaf) => matches!(leaf, BoundLeaf::Subquery(_)),
        Expr::Call { func, .. } => {
            let name = func.function().name;
            comparison(name).is_none() && !INFALLIBLE.contains(&name)
        }
        Expr::Cast { arg, ty, modifier, .. } => !is_lossless(arg.ty(), *ty, *modifier),
    };
    own || expr.children().into_iter().any(may_fail)
}

/// Functions that answer for all arguments.
const INFALLIBLE: &[&str] =
    &["~~", "!~~", "~~*", "!~~*", "lower", "upper", "length", "char_length", "||", "starts_with"];

pub(super) fn has_subquery(expr: &BoundExpr) -> bool {
    let mut found = false;
    expr.each_leaf(&mut |leaf| found |= matches!(leaf, BoundLeaf::Subquery(_)));
    found
}

/// A short name for EXPLAIN.
fn label(expr: &BoundExpr) -> String {
    match expr {
        Expr::Call { func, .. } => func.function().name.to_owned(),
        Expr::Cast { ty, .. } => format!("cast_to_{ty}"),
        Expr::And(_) => "and".to_owned(),
        Expr::Or(_) => "or".to_owned(),
        Expr::Not(_) => "not".to_owned(),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Coalesce { .. } => "coalesce".to_owned(),
        Expr::Extreme { greatest: true, .. } => "greatest".to_owned(),
        Expr::Extreme { greatest: false, .. } => "least".to_owned(),
        Expr::NullIf { .. } => "nullif".to_owned(),
        Expr::InList { .. } => "in".to_owned(),
        Expr::Quantified { all: false, .. } => "any".to_owned(),
        Expr::Quantified { all: true, .. } => "all".to_owned(),
        Expr::Distinct { .. } => "distinct".to_owned(),
        Expr::Array { .. } => "array".to_owned(),
        Expr::Const { .. } | Expr::Param { .. } | Expr::Leaf(_) | Expr::IsNull { .. } | Expr::BoolTest { .. } => {
            "value".to_owned()
        }
    }
}

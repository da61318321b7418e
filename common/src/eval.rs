//! The scalar evaluator: what an expression means, row by row, for point statements, defaults, checks and constants.

use crate::datum::{Datum, DatumRef};
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::expr::{BoolTest, CastContext, Expr, Leaf, Slot};
use crate::func::{Context, FuncId, Volatility};
use crate::limits::MAX_EXPRESSION_DEPTH;
use crate::types::SqlType;
use crate::types::cast::cast as convert;
use smallvec::SmallVec;

/// Values by position: a row of any layout, or a statement's parameters.
pub trait Row {
    /// The value at a position; NULL beyond the end.
    fn get(&self, index: u16) -> DatumRef<'_>;
}

impl Row for [Datum] {
    fn get(&self, index: u16) -> DatumRef<'_> {
        <[Datum]>::get(self, usize::from(index)).map_or(DatumRef::Null, Datum::borrow)
    }
}

impl Row for [DatumRef<'_>] {
    fn get(&self, index: u16) -> DatumRef<'_> {
        <[DatumRef<'_>]>::get(self, usize::from(index)).copied().unwrap_or(DatumRef::Null)
    }
}

impl<R: Row + ?Sized> Row for &R {
    fn get(&self, index: u16) -> DatumRef<'_> {
        (**self).get(index)
    }
}

impl<T> Row for Vec<T>
where
    [T]: Row,
{
    fn get(&self, index: u16) -> DatumRef<'_> {
        Row::get(self.as_slice(), index)
    }
}

/// A row without columns.
pub const NO_ROW: &[Datum] = &[];

/// A value on its way through an expression: borrowed from a row, a parameter or a constant as long as nothing computes it.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Borrowed(DatumRef<'a>),
    Owned(Datum),
}

impl Value<'_> {
    pub fn borrow(&self) -> DatumRef<'_> {
        match self {
            Value::Borrowed(value) => *value,
            Value::Owned(value) => value.borrow(),
        }
    }

    pub fn into_datum(self) -> Datum {
        match self {
            Value::Borrowed(value) => value.to_owned(),
            Value::Owned(value) => value,
        }
    }

    fn truth(&self) -> Option<bool> {
        match self.borrow() {
            DatumRef::Bool(value) => Some(value),
            _ => None,
        }
    }
}

const NULL: Value<'static> = Value::Borrowed(DatumRef::Null);

fn truth_value(truth: Option<bool>) -> Value<'static> {
    Value::Borrowed(truth.map_or(DatumRef::Null, DatumRef::Bool))
}

/// The value of an expression.
pub fn eval(expr: &Expr, row: &dyn Row, params: &dyn Row, env: &Env) -> SqlResult<Datum> {
    Ok(eval_ref(expr, row, params, env)?.into_datum())
}

/// The value of an expression, borrowed where it can be.
pub fn eval_ref<'a>(expr: &'a Expr, row: &'a dyn Row, params: &'a dyn Row, env: &'a Env) -> SqlResult<Value<'a>> {
    let leaf = |slot: &Slot| row.get(slot.index);
    Scope { leaf: &leaf, params, env }.value(expr, 0)
}

/// Whether a WHERE condition is true; NULL is not.
pub fn is_true(expr: &Expr, row: &dyn Row, params: &dyn Row, env: &Env) -> SqlResult<bool> {
    Ok(eval_ref(expr, row, params, env)?.truth() == Some(true))
}

/// Whether a CHECK condition forbids a row; NULL does not.
pub fn is_false(expr: &Expr, row: &dyn Row, params: &dyn Row, env: &Env) -> SqlResult<bool> {
    Ok(eval_ref(expr, row, params, env)?.truth() == Some(false))
}

/// What an expression can see.
struct Scope<'s, 'a, L> {
    leaf: &'s dyn Fn(&L) -> DatumRef<'a>,
    params: &'a dyn Row,
    env: &'a Env,
}

impl<'a, L: Leaf> Scope<'_, 'a, L> {
    fn value(&self, expr: &'a Expr<L>, depth: usize) -> SqlResult<Value<'a>> {
        if depth > MAX_EXPRESSION_DEPTH {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded"));
        }
        let depth = depth + 1;
        Ok(match expr {
            Expr::Const { value, .. } => Value::Borrowed(value.borrow()),
            Expr::Param { index, .. } => Value::Borrowed(self.params.get(*index)),
            Expr::Leaf(leaf) => Value::Borrowed((self.leaf)(leaf)),
            Expr::Call { func, args, ty } => self.call(*func, args, *ty, depth)?,
            Expr::Cast { arg, ty, modifier, context } => {
                let value = self.value(arg, depth)?;
                cast(value, arg.ty(), *ty, *modifier, *context, self.env)?
            }
            Expr::And(args) => self.connect(args, false, depth)?,
            Expr::Or(args) => self.connect(args, true, depth)?,
            Expr::Not(arg) => truth_value(self.value(arg, depth)?.truth().map(|truth| !truth)),
            Expr::IsNull { arg, negated } => truth_value(Some(self.value(arg, depth)?.borrow().is_null() != *negated)),
            Expr::BoolTest { arg, test } => {
                let truth = self.value(arg, depth)?.truth();
                truth_value(Some(match test {
                    BoolTest::True => truth == Some(true),
                    BoolTest::NotTrue => truth != Some(true),
                    BoolTest::False => truth == Some(false),
                    BoolTest::NotFalse => truth != Some(false),
                    BoolTest::Unknown => truth.is_none(),
                    BoolTest::NotUnknown => truth.is_some(),
                }))
            }
            Expr::Distinct { equal, left, right, negated } => {
                let (types, left, right) =
                    ([left.ty(), right.ty()], self.value(left, depth)?, self.value(right, depth)?);
                let equal = match (left.borrow().is_null(), right.borrow().is_null()) {
                    (true, true) => true,
                    (false, false) => self.test(*equal, types, &left, &right)? == Some(true),
                    _ => false,
                };
                truth_value(Some(equal == *negated))
            }
            Expr::Case { whens, otherwise, .. } => self.case(whens, otherwise.as_deref(), depth)?,
            Expr::Coalesce { args, .. } => {
                for arg in args {
                    let value = self.value(arg, depth)?;
                    if !value.borrow().is_null() {
                        return Ok(value);
                    }
                }
                NULL
            }
            Expr::Extreme { greatest, less, args, ty } => self.extreme(*greatest, *less, args, *ty, depth)?,
            Expr::NullIf { equal, left, right, .. } => {
                let types = [left.ty(), right.ty()];
                let (left, right) = (self.value(left, depth)?, self.value(right, depth)?);
                match self.test(*equal, types, &left, &right)? {
                    Some(true) => NULL,
                    _ => left,
                }
            }
            Expr::InList { equal, arg, list, negated } => {
                let truth = self.in_list(*equal, arg, list, depth)?;
                truth_value(truth.map(|found| found != *negated))
            }
            Expr::Quantified { op, left, array, all } => self.quantified(*op, left, array, *all, depth)?,
            Expr::Array { elements, .. } => {
                let elements = elements.iter().map(|e| Ok(self.value(e, depth)?.into_datum()));
                Value::Owned(Datum::Array(elements.collect::<SqlResult<_>>()?))
            }
        })
    }

    fn call(&self, func: FuncId, args: &'a [Expr<L>], result: SqlType, depth: usize) -> SqlResult<Value<'a>> {
        let function = func.function();
        let mut values: SmallVec<[Value<'a>; 4]> = SmallVec::new();
        let mut types: SmallVec<[SqlType; 4]> = SmallVec::new();
        for arg in args {
            let value = self.value(arg, depth)?;
            if function.strict && value.borrow().is_null() {
                return Ok(NULL);
            }
            types.push(arg.ty());
            values.push(value);
        }
        let refs: SmallVec<[DatumRef<'_>; 4]> = values.iter().map(Value::borrow).collect();
        let context = Context { env: self.env, args: &types, result };
        Ok(Value::Owned((function.kernel)(&context, &refs)?))
    }

    /// A comparison of two values; NULL when one of them is.
    fn test(&self, op: FuncId, types: [SqlType; 2], left: &Value<'_>, right: &Value<'_>) -> SqlResult<Option<bool>> {
        let (left, right) = (left.borrow(), right.borrow());
        if left.is_null() || right.is_null() {
            return Ok(None);
        }
        let context = Context { env: self.env, args: &types, result: SqlType::Bool };
        match (op.function().kernel)(&context, &[left, right])? {
            Datum::Bool(truth) => Ok(Some(truth)),
            _ => Ok(None),
        }
    }

    /// AND and OR: the first `decisive` value settles it, in the order written; else NULL outweighs.
    fn connect(&self, args: &'a [Expr<L>], decisive: bool, depth: usize) -> SqlResult<Value<'a>> {
        let mut unknown = false;
        for arg in args {
            match self.value(arg, depth)?.truth() {
                Some(truth) if truth == decisive => return Ok(truth_value(Some(decisive))),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(truth_value((!unknown).then_some(!decisive)))
    }

    fn case(
        &self,
        whens: &'a [(Expr<L>, Expr<L>)],
        otherwise: Option<&'a Expr<L>>,
        depth: usize,
    ) -> SqlResult<Value<'a>> {
        for (when, then) in whens {
            if self.value(when, depth)?.truth() == Some(true) {
                return self.value(then, depth);
            }
        }
        otherwise.map_or(Ok(NULL), |otherwise| self.value(otherwise, depth))
    }

    fn extreme(
        &self,
        greatest: bool,
        less: FuncId,
        args: &'a [Expr<L>],
        ty: SqlType,
        depth: usize,
    ) -> SqlResult<Value<'a>> {
        let mut best = NULL;
        for arg in args {
            let value = self.value(arg, depth)?;
            if value.borrow().is_null() {
                continue;
            }
            let replaces = match (best.borrow().is_null(), greatest) {
                (true, _) => true,
                (false, true) => self.test(less, [ty, ty], &best, &value)? == Some(true),
                (false, false) => self.test(less, [ty, ty], &value, &best)? == Some(true),
            };
            if replaces {
                best = value;
            }
        }
        Ok(best)
    }

    fn in_list(&self, equal: FuncId, arg: &'a Expr<L>, list: &'a [Expr<L>], depth: usize) -> SqlResult<Option<bool>> {
        let value = self.value(arg, depth)?;
        if value.borrow().is_null() && !list.is_empty() {
            return Ok(None);
        }
        let mut unknown = false;
        for element in list {
            let types = [arg.ty(), element.ty()];
            match self.test(equal, types, &value, &self.value(element, depth)?)? {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => unknown = true,
            }
        }
        Ok((!unknown).then_some(false))
    }

    fn quantified(
        &self,
        op: FuncId,
        left: &'a Expr<L>,
        array: &'a Expr<L>,
        all: bool,
        depth: usize,
    ) -> SqlResult<Value<'a>> {
        let types = [left.ty(), array.ty().element().unwrap_or(SqlType::Unknown)];
        let (left, array) = (self.value(left, depth)?, self.value(array, depth)?);
        let DatumRef::Array(elements) = array.borrow() else { return Ok(NULL) };
        let mut unknown = false;
        for element in elements {
            match self.test(op, types, &left, &Value::Borrowed(element))? {
                Some(truth) if truth != all => return Ok(truth_value(Some(!all))),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(truth_value((!unknown).then_some(all)))
    }
}

fn cast<'a>(
    value: Value<'a>,
    from: SqlType,
    to: SqlType,
    modifier: i32,
    context: CastContext,
    env: &Env,
) -> SqlResult<Value<'a>> {
    let string = |ty| matches!(ty, SqlType::Text | SqlType::Varchar);
    match modifier < 0 && (from == to || (string(from) && string(to))) || value.borrow().is_null() {
        true => Ok(value),
        false => convert(value.into_datum(), from, to, modifier, context, env).map(Value::Owned),
    }
}

/// Whether an expression is the same for every row and every execution: no leaves, no parameters, only immutable functions.
pub fn is_constant<L: Leaf>(expr: &Expr<L>) -> bool {
    !matches!(expr, Expr::Leaf(_) | Expr::Param { .. })
        && own_volatility(expr) == Volatility::Immutable
        && expr.children().into_iter().all(is_constant)
}

/// How volatile an expression is: as much as the most volatile part.
pub fn volatility<L: Leaf>(expr: &Expr<L>) -> Volatility {
    let children = expr.children().into_iter().map(volatility).max();
    own_volatility(expr).max(children.unwrap_or(Volatility::Immutable))
}

fn own_volatility<L: Leaf>(expr: &Expr<L>) -> Volatility {
    let of = |func: &FuncId| func.function().volatility;
    match expr {
        Expr::Call { func, .. }
        | Expr::Distinct { equal: func, .. }
        | Expr::Extreme { less: func, .. }
        | Expr::NullIf { equal: func, .. }
        | Expr::InList { equal: func, .. }
        | Expr::Quantified { op: func, .. } => of(func),
        Expr::Cast { arg, ty, .. } => cast_volatility(arg.ty(), *ty),
        Expr::Const { .. }
        | Expr::Param { .. }
        | Expr::Leaf(_)
        | Expr::And(_)
        | Expr::Or(_)
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::Case { .. }
        | Expr::Coalesce { .. }
        | Expr::Array { .. } => Volatility::Immutable,
    }
}

/// Casts that read the time zone, what time it is ('now', 'today') or the catalog are stable.
fn cast_volatility(from: SqlType, to: SqlType) -> Volatility {
    let element = |ty: SqlType| ty.element().unwrap_or(ty);
    let (from, to) = (element(from), element(to));
    let dated = |ty| matches!(ty, SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz);
    match from == to {
        true => Volatility::Immutable,
        false if from == SqlType::Timestamptz || to == SqlType::Timestamptz => Volatility::Stable,
        false if from.is_text() && dated(to) => Volatility::Stable,
        false if from == SqlType::Regclass && to.is_text() => Volatility::Stable,
        false if from.is_text() && to == SqlType::Regclass => Volatility::Stable,
        false => Volatility::Immutable,
    }
}

/// Replaces constant parts by their values. A part that fails is left as it is: it may never be reached.
pub fn constant_fold<L: Leaf>(expr: Expr<L>, env: &Env) -> Expr<L> {
    let ty = expr.ty();
    if !matches!(expr, Expr::Const { .. }) && is_constant(&expr) {
        let leaf = |_: &L| DatumRef::Null;
        let folded = Scope { leaf: &leaf, params: &NO_ROW, env }.value(&expr, 0).map(Value::into_datum);
        if let Ok(value) = folded {
            return Expr::Const { value, ty };
        }
    }
    expr.map_children(&mut |child| constant_fold(child, env))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func::{equal_of, less_of, resolve_operator};

    const NOTHING: Expr = Expr::Const { value: Datum::Null, ty: SqlType::Bool };

    fn truth(value: bool) -> Expr {
        Expr::Const { value: Datum::Bool(value), ty: SqlType::Bool }
    }

    fn int(value: i32) -> Expr {
        Expr::Const { value: Datum::Int4(value), ty: SqlType::Int4 }
    }

    fn null_int() -> Expr {
        Expr::Const { value: Datum::Null, ty: SqlType::Int4 }
    }

    fn divide_by_zero() -> Expr {
        let func = resolve_operator("/", Some(SqlType::Int4), SqlType::Int4).unwrap().func;
        Expr::Call { func, args: vec![int(1), int(0)], ty: SqlType::Int4 }
    }

    fn fails() -> Expr {
        Expr::IsNull { arg: Box::new(divide_by_zero()), negated: false }
    }

    fn value(expr: &Expr) -> Datum {
        eval(expr, &NO_ROW, &NO_ROW, &Env::default()).unwrap()
    }

    #[test]
    fn and_and_or_know_three_values_and_stop_early() {
        assert_eq!(value(&Expr::And(vec![NOTHING, truth(true)])), Datum::Null);
        assert_eq!(value(&Expr::And(vec![NOTHING, truth(false), fails()])), Datum::Bool(false));
        assert_eq!(value(&Expr::Or(vec![NOTHING, truth(false)])), Datum::Null);
        assert_eq!(value(&Expr::Or(vec![NOTHING, truth(true), fails()])), Datum::Bool(true));
        assert_eq!(value(&Expr::Not(Box::new(NOTHING))), Datum::Null);
    }

    #[test]
    fn in_lists_with_null_are_unknown_unless_found() {
        let list = |arg, list, negated| Expr::InList {
            equal: equal_of(SqlType::Int4).unwrap(),
            arg: Box::new(arg),
            list,
            negated,
        };
        assert_eq!(value(&list(int(1), vec![null_int(), int(1)], false)), Datum::Bool(true));
        assert_eq!(value(&list(int(2), vec![null_int(), int(1)], false)), Datum::Null);
        assert_eq!(value(&list(int(2), vec![null_int(), int(1)], true)), Datum::Null);
        assert_eq!(value(&list(int(2), vec![int(1)], true)), Datum::Bool(true));
        assert_eq!(value(&list(null_int(), vec![int(1)], true)), Datum::Null);
    }

    #[test]
    fn any_and_all_over_arrays() {
        let array = |elements| Box::new(Expr::Array { elements, ty: SqlType::Int4.array().unwrap() });
        let less = less_of(SqlType::Int4).unwrap();
        let all = |elements, all| Expr::Quantified { op: less, left: Box::new(int(2)), array: array(elements), all };
        assert_eq!(value(&all(vec![int(1), int(3)], false)), Datum::Bool(true));
        assert_eq!(value(&all(vec![int(3), null_int()], true)), Datum::Null);
        assert_eq!(value(&all(vec![int(1), null_int()], true)), Datum::Bool(false));
        assert_eq!(value(&all(vec![], true)), Datum::Bool(true));
        assert_eq!(value(&all(vec![], false)), Datum::Bool(false));
    }

    #[test]
    fn case_coalesce_and_extremes_skip_what_they_need_not() {
        let case = Expr::Case {
            whens: vec![(truth(false), divide_by_zero()), (truth(true), int(7))],
            otherwise: None,
            ty: SqlType::Int4,
        };
        assert_eq!(value(&case), Datum::Int4(7));
        let coalesce = Expr::Coalesce { args: vec![null_int(), int(3), divide_by_zero()], ty: SqlType::Int4 };
        assert_eq!(value(&coalesce), Datum::Int4(3));
        let less = less_of(SqlType::Int4).unwrap();
        let extreme =
            |greatest| Expr::Extreme { greatest, less, args: vec![null_int(), int(3), int(9)], ty: SqlType::Int4 };
        assert_eq!((value(&extreme(true)), value(&extreme(false))), (Datum::Int4(9), Datum::Int4(3)));
    }

    #[test]
    fn distinct_takes_null_for_a_value() {
        let equal = equal_of(SqlType::Int4).unwrap();
        let distinct =
            |left, right, negated| Expr::Distinct { equal, left: Box::new(left), right: Box::new(right), negated };
        assert_eq!(value(&distinct(null_int(), null_int(), false)), Datum::Bool(false));
        assert_eq!(value(&distinct(null_int(), int(1), false)), Datum::Bool(true));
        assert_eq!(value(&distinct(int(1), int(1), true)), Datum::Bool(true));
    }

    #[test]
    fn folding_leaves_errors_to_run_time() {
        let env = Env::default();
        assert_eq!(constant_fold(divide_by_zero(), &env), divide_by_zero());
        let plus = resolve_operator("+", Some(SqlType::Int4), SqlType::Int4).unwrap().func;
        let sum = Expr::Call { func: plus, args: vec![int(1), int(2)], ty: SqlType::Int4 };
        let column = Expr::Leaf(Slot { index: 0, ty: SqlType::Int4 });
        let open = Expr::Call { func: plus, args: vec![column.clone(), sum], ty: SqlType::Int4 };
        let folded = Expr::Call { func: plus, args: vec![column, int(3)], ty: SqlType::Int4 };
        assert_eq!(constant_fold(open, &env), folded);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = (0..2 * MAX_EXPRESSION_DEPTH).fold(truth(true), |inner, _| Expr::Not(Box::new(inner)));
        let error = eval(&deep, &NO_ROW, &NO_ROW, &Env::default()).unwrap_err();
        assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX);
    }

    #[test]
    fn columns_and_parameters_are_read_in_place() {
        let equal = resolve_operator("=", Some(SqlType::Text), SqlType::Text).unwrap().func;
        let column = Expr::Leaf(Slot { index: 1, ty: SqlType::Text });
        let filter = Expr::Call {
            func: equal,
            args: vec![column, Expr::Param { index: 0, ty: SqlType::Text }],
            ty: SqlType::Bool,
        };
        let row = [DatumRef::Int4(1), DatumRef::Text("x")];
        let params = vec![Datum::Text("x".to_owned())];
        assert!(is_true(&filter, &row.as_slice(), &params, &Env::default()).unwrap());
    }
}

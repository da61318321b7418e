//! Which overload a call means (PostgreSQL manual, chapter 10 "Type Conversion").

use super::category::{Category, category, converts, is_preferred};
use super::signature::Param;
use super::{FuncId, Function, overloads};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;

/// A call that found its overload.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub func: FuncId,
    /// To these types the arguments are to be cast implicitly, where they are not of them.
    pub args: Vec<SqlType>,
    pub result: SqlType,
}

/// Finds the function that a call by name means.
pub fn resolve_function(name: &str, args: &[SqlType]) -> SqlResult<Resolved> {
    let call = || format!("function {name}({})", list(args));
    match select(overloads(name), args) {
        Choice::One(func) => instantiate(func, args)?.ok_or_else(|| undefined_function(&call())),
        Choice::None => Err(undefined_function(&call())),
        Choice::Many => Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("{} is not unique", call()))
            .with_hint("Could not choose a best candidate function. You might need to add explicit type casts.")),
    }
}

/// Finds the operator; `left` is absent for prefix operators.
pub fn resolve_operator(op: &str, left: Option<SqlType>, right: SqlType) -> SqlResult<Resolved> {
    let args: Vec<SqlType> = left.into_iter().chain([right]).collect();
    let name = if op == "!=" { "<>" } else { op };
    let call = || match left {
        Some(left) => format!("{left} {op} {right}"),
        None => format!("{op} {right}"),
    };
    let undefined = || {
        let hint = match left {
            Some(_) => {
                "No operator matches the given name and argument types. You might need to add explicit type casts."
            }
            None => {
                "No operator matches the given name and argument type. You might need to add an explicit type cast."
            }
        };
        SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {}", call())).with_hint(hint)
    };
    // An unknown operand is first taken for the other one's type; a prefix operator has no other operand.
    let assumed: Vec<SqlType> = match args.as_slice() {
        [SqlType::Unknown, right] => vec![*right, *right],
        [left, SqlType::Unknown] => vec![*left, *left],
        other => other.to_vec(),
    };
    let candidates = overloads(name);
    let choice = match exact(candidates, &assumed) {
        Some(func) if !assumed.contains(&SqlType::Unknown) => Choice::One(func),
        _ => select(candidates, &args),
    };
    match choice {
        Choice::One(func) => instantiate(func, &args)?.ok_or_else(undefined),
        Choice::None => Err(undefined()),
        Choice::Many => Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {}", call()))
            .with_hint("Could not choose a best candidate operator. You might need to add explicit type casts.")),
    }
}

fn undefined_function(call: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{call} does not exist"))
        .with_hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

fn list(args: &[SqlType]) -> String {
    args.iter().map(SqlType::to_string).collect::<Vec<_>>().join(", ")
}

enum Choice {
    None,
    One(FuncId),
    Many,
}

impl Function {
    /// The declared type at a position of a call with `count` arguments.
    fn param(&self, position: usize) -> Param {
        let last = self.params.len().saturating_sub(1);
        self.params.get(position.min(last)).copied().unwrap_or(Param::Any)
    }

    fn takes(&self, count: usize) -> bool {
        match self.variadic {
            true => count >= self.params.len(),
            false => count == self.params.len(),
        }
    }
}

/// The overload declared with just these types, preferring one that is not variadic.
fn exact(candidates: &[FuncId], args: &[SqlType]) -> Option<FuncId> {
    candidates.iter().copied().find(|id| {
        let function = id.function();
        function.takes(args.len()) && args.iter().enumerate().all(|(i, ty)| function.param(i) == Param::Is(*ty))
    })
}

fn select(candidates: &[FuncId], args: &[SqlType]) -> Choice {
    if let Some(func) = exact(candidates, args) {
        return Choice::One(func);
    }
    let mut left: Vec<FuncId> = candidates.iter().copied().filter(|id| accepts(id.function(), args)).collect();
    // Of two that expand to the same list, the one that is not variadic is meant.
    if left.len() > 1 && left.iter().any(|id| !id.function().variadic) {
        let plain: Vec<FuncId> = left.iter().copied().filter(|id| !id.function().variadic).collect();
        left.retain(|id| {
            !id.function().variadic
                || !plain.iter().any(|p| (0..args.len()).all(|i| p.function().param(i) == id.function().param(i)))
        });
    }
    keep_best(&mut left, |function| count(args, |i, ty| function.param(i) == Param::Is(ty)));
    keep_best(&mut left, |function| {
        count(args, |i, ty| match function.param(i) {
            Param::Is(declared) => declared == ty || (is_preferred(declared) && category(declared) == category(ty)),
            _ => false,
        })
    });
    resolve_unknown(&mut left, args);
    match left.as_slice() {
        [] => Choice::None,
        [one] => Choice::One(*one),
        _ => Choice::Many,
    }
}

fn count(args: &[SqlType], fits: impl Fn(usize, SqlType) -> bool) -> usize {
    args.iter().enumerate().filter(|(i, ty)| **ty != SqlType::Unknown && fits(*i, **ty)).count()
}

fn keep_best(candidates: &mut Vec<FuncId>, score: impl Fn(&Function) -> usize) {
    if candidates.len() > 1 {
        let best = candidates.iter().map(|id| score(id.function())).max().unwrap_or(0);
        candidates.retain(|id| score(id.function()) == best);
    }
}

/// The last rules: categories that unknown literals may take, then the one type of all known arguments.
fn resolve_unknown(left: &mut Vec<FuncId>, args: &[SqlType]) {
    let unknown: Vec<usize> = (0..args.len()).filter(|i| args[*i] == SqlType::Unknown).collect();
    if left.len() < 2 || unknown.is_empty() {
        return;
    }
    let declared = |id: FuncId, i: usize| match id.function().param(i) {
        Param::Is(ty) => (category(ty), is_preferred(ty)),
        _ => (Category::Pseudo, false),
    };
    let mut kept = left.clone();
    let mut settled = true;
    for &i in &unknown {
        let first = left.first().map(|id| declared(*id, i).0);
        let wanted = match left.iter().any(|id| declared(*id, i).0 == Category::String) {
            true => Some(Category::String),
            false => first.filter(|first| left.iter().all(|id| declared(*id, i).0 == *first)),
        };
        let Some(wanted) = wanted else {
            settled = false;
            break;
        };
        let preferred = left.iter().any(|id| declared(*id, i) == (wanted, true));
        kept.retain(|id| declared(*id, i).0 == wanted && (!preferred || declared(*id, i).1));
    }
    if settled && !kept.is_empty() {
        *left = kept;
    }
    let mut known = args.iter().copied().filter(|ty| *ty != SqlType::Unknown);
    let Some(one) = known.next() else { return };
    if left.len() > 1 && known.all(|ty| ty == one) {
        let assumed = vec![one; args.len()];
        let fitting: Vec<FuncId> = left.iter().copied().filter(|id| accepts(id.function(), &assumed)).collect();
        if fitting.len() == 1 {
            *left = fitting;
        }
    }
}

/// Whether the arguments can be converted to the declared types, polymorphic ones included.
fn accepts(function: &Function, args: &[SqlType]) -> bool {
    function.takes(args.len())
        && args.iter().enumerate().all(|(i, ty)| match function.param(i) {
            Param::Is(declared) => converts(*ty, declared),
            Param::Any | Param::AnyElement | Param::AnyCompatible => true,
            Param::AnyNonArray => ty.element().is_none(),
            Param::AnyArray | Param::AnyCompatibleArray => ty.element().is_some() || *ty == SqlType::Unknown,
        })
        && Polymorphic::settle(function, args).is_some()
}

/// What the polymorphic types of one call stand for.
#[derive(Clone, Copy)]
struct Polymorphic {
    element: Option<SqlType>,
    compatible: Option<SqlType>,
}

impl Polymorphic {
    fn settle(function: &Function, args: &[SqlType]) -> Option<Polymorphic> {
        let mut element: Option<SqlType> = None;
        let mut compatible: Vec<SqlType> = Vec::new();
        let mut uses = false;
        for (i, ty) in args.iter().enumerate() {
            let param = function.param(i);
            let inner = match param {
                Param::AnyArray | Param::AnyCompatibleArray => ty.element(),
                _ => Some(*ty).filter(|ty| *ty != SqlType::Unknown),
            };
            match param {
                Param::AnyElement | Param::AnyNonArray | Param::AnyArray => {
                    if inner.is_some_and(|inner| *element.get_or_insert(inner) != inner) {
                        return None;
                    }
                }
                Param::AnyCompatible | Param::AnyCompatibleArray => {
                    uses = true;
                    compatible.extend(inner);
                }
                Param::Is(_) | Param::Any => {}
            }
        }
        let compatible = match compatible.is_empty() {
            true => None,
            false => Some(common_type("", &compatible).ok()?),
        };
        // With nothing but unknown literals PostgreSQL takes text for anycompatible and refuses anyelement.
        let compatible = compatible.or(uses.then_some(SqlType::Text));
        let fits = args.iter().enumerate().all(|(i, ty)| match function.param(i) {
            Param::AnyCompatible => compatible.is_some_and(|target| converts(*ty, target)),
            Param::AnyCompatibleArray => {
                compatible.is_some_and(|target| ty.element().is_none_or(|inner| converts(inner, target)))
            }
            _ => true,
        });
        fits.then_some(Polymorphic { element, compatible })
    }

    fn concrete(&self, param: Param, arg: SqlType) -> Option<SqlType> {
        match param {
            Param::Is(ty) => Some(ty),
            Param::Any if arg == SqlType::Unknown => Some(SqlType::Text),
            Param::Any => Some(arg),
            Param::AnyElement | Param::AnyNonArray => self.element,
            Param::AnyArray => self.element?.array(),
            Param::AnyCompatible => self.compatible,
            Param::AnyCompatibleArray => self.compatible?.array(),
        }
    }
}

/// The call's types made concrete; an error when only unknown literals stand for a polymorphic type.
fn instantiate(func: FuncId, args: &[SqlType]) -> SqlResult<Option<Resolved>> {
    let function = func.function();
    let Some(polymorphic) = Polymorphic::settle(function, args) else { return Ok(None) };
    let targets = args.iter().enumerate().map(|(i, ty)| polymorphic.concrete(function.param(i), *ty));
    match (targets.collect::<Option<Vec<SqlType>>>(), polymorphic.concrete(function.result, SqlType::Unknown)) {
        (Some(args), Some(result)) => Ok(Some(Resolved { func, args, result })),
        _ => Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            "could not determine polymorphic type because input has type unknown",
        )),
    }
}

/// The type in which several expressions meet; `context` is PostgreSQL's word for the construct: CASE, COALESCE, UNION, VALUES, IN, ARRAY,
/// GREATEST, LEAST, JOIN/USING.
pub fn common_type(context: &str, types: &[SqlType]) -> SqlResult<SqlType> {
    let mut known = types.iter().copied().filter(|ty| *ty != SqlType::Unknown);
    let Some(mut common) = known.next() else { return Ok(SqlType::Text) };
    for ty in known {
        if ty == common {
            continue;
        }
        if category(ty) != category(common) {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("{context} types {common} and {ty} cannot be matched"),
            ));
        }
        if !is_preferred(common) && converts(common, ty) && !converts(ty, common) {
            common = ty;
        }
    }
    match types.iter().find(|ty| !converts(**ty, common)) {
        None => Ok(common),
        Some(ty) => {
            Err(SqlError::new(SqlState::CANNOT_COERCE, format!("{context} could not convert type {ty} to {common}")))
        }
    }
}

/// The `=` of two values of one type.
pub fn equal_of(ty: SqlType) -> SqlResult<FuncId> {
    same_type("=", ty, "an equality")
}

/// The `<` of two values of one type.
pub fn less_of(ty: SqlType) -> SqlResult<FuncId> {
    same_type("<", ty, "an ordering")
}

fn same_type(op: &str, ty: SqlType, kind: &str) -> SqlResult<FuncId> {
    let ty = if ty == SqlType::Unknown { SqlType::Text } else { ty };
    match resolve_operator(op, Some(ty), ty) {
        Ok(resolved) => Ok(resolved.func),
        Err(_) => {
            let message = format!("could not identify {kind} operator for type {ty}");
            let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, message);
            Err(match op {
                "<" => error.with_hint("Use an explicit ordering operator or modify the query."),
                _ => error,
            })
        }
    }
}

//! Where sqlparser binds operators otherwise than PostgreSQL: signs before `^`, prefix operators before arithmetic, chains of comparisons.

use super::binder::{Binder, error_at};
use super::operator::symbol;
use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator};
use toroid_common::error::{SqlResult, SqlState};

/// `left op right` as PostgreSQL would have read it; `None` if it is as it should be.
pub(super) fn rebound(left: &Ast, op: &BinaryOperator, right: &Ast) -> Option<Ast> {
    if *op == BinaryOperator::PGExp {
        return power_of_signed(left, right);
    }
    let is_late = is_arithmetic(op) && (ends_in_prefix(left) || starts_with_prefix(left));
    is_late.then(|| attach(left.clone(), op, right.clone()))
}

/// A sign stands closer to its number than `^`: `-2 ^ 2` is 4.
pub(super) fn signed_power(sign: UnaryOperator, arg: &Ast) -> Option<Ast> {
    let Ast::BinaryOp { left, op: BinaryOperator::PGExp, right } = arg else { return None };
    let left = signed_power(sign, left).unwrap_or_else(|| Ast::UnaryOp { op: sign, expr: left.clone() });
    Some(Ast::BinaryOp { left: Box::new(left), op: BinaryOperator::PGExp, right: right.clone() })
}

/// `a ^ -b ^ c` is `(a ^ (-b)) ^ c`.
fn power_of_signed(left: &Ast, right: &Ast) -> Option<Ast> {
    let Ast::UnaryOp { op: sign @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } = right else { return None };
    let Ast::BinaryOp { left: inner, op: BinaryOperator::PGExp, right: last } = &**expr else { return None };
    let signed = Ast::UnaryOp { op: *sign, expr: inner.clone() };
    let first = power_of_signed(left, &signed).unwrap_or_else(|| power(left.clone(), signed));
    Some(power(first, (**last).clone()))
}

fn power(left: Ast, right: Ast) -> Ast {
    Ast::BinaryOp { left: Box::new(left), op: BinaryOperator::PGExp, right: Box::new(right) }
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(op, B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo)
}

/// Operators before an operand that bind weaker than arithmetic.
fn is_weak_prefix(op: UnaryOperator) -> bool {
    use UnaryOperator as U;
    matches!(op, U::BitwiseNot | U::PGAbs | U::PGSquareRoot | U::PGCubeRoot)
}

fn starts_with_prefix(ast: &Ast) -> bool {
    match ast {
        Ast::UnaryOp { op, .. } => is_weak_prefix(*op),
        Ast::BinaryOp { left, op, .. } if is_arithmetic(op) => starts_with_prefix(left),
        _ => false,
    }
}

fn ends_in_prefix(ast: &Ast) -> bool {
    match ast {
        Ast::UnaryOp { op, .. } => is_weak_prefix(*op),
        Ast::BinaryOp { right, op, .. } if is_arithmetic(op) => ends_in_prefix(right),
        _ => false,
    }
}

/// Makes `op right` part of the operand of the prefix operator that `left` begins with or ends in.
fn attach(left: Ast, op: &BinaryOperator, right: Ast) -> Ast {
    match left {
        Ast::UnaryOp { op: prefix, expr } if is_weak_prefix(prefix) => {
            Ast::UnaryOp { op: prefix, expr: Box::new(attach(*expr, op, right)) }
        }
        Ast::BinaryOp { left: first, op: inner, right: second }
            if is_arithmetic(&inner) && starts_with_prefix(&first) =>
        {
            attach(attach(*first, &inner, *second), op, right)
        }
        Ast::BinaryOp { left: first, op: inner, right: second } if is_arithmetic(&inner) && ends_in_prefix(&second) => {
            Ast::BinaryOp { left: first, op: inner, right: Box::new(attach(*second, op, right)) }
        }
        other => Ast::BinaryOp { left: Box::new(other), op: op.clone(), right: Box::new(right) },
    }
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq)
}

impl Binder<'_> {
    /// Comparisons do not associate: `1 < 2 < 3` is an error.
    pub(super) fn refuse_chain(&self, left: &Ast, op: &BinaryOperator) -> SqlResult<()> {
        match left {
            Ast::BinaryOp { op: first, .. } if is_comparison(first) && is_comparison(op) => {
                let message = format!("syntax error at or near \"{}\"", symbol(op));
                Err(error_at(SqlState::SYNTAX_ERROR, message, self.behind(left, &symbol(op))))
            }
            _ => Ok(()),
        }
    }
}

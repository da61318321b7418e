//! How the rows of a condition are found: the distribution key and the best index that equalities bind.

use toroid_common::catalog::{Distribution, Index, IndexState, Table};
use toroid_common::eval;
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::Volatility;
use toroid_common::plan::Access;
use toroid_common::types::SqlType;

/// What a condition gives.
pub(super) struct Found {
    pub(super) access: Access,
    /// What the access leaves to be tested.
    pub(super) filter: Option<Expr>,
    /// The distribution key, if it is bound.
    pub(super) key: Option<Vec<Expr>>,
    /// A unique index is bound in full.
    pub(super) single_row: bool,
}

/// A column set equal to a value that is the same for all rows.
struct Equality {
    column: u16,
    value: Expr,
    /// Which of the conjuncts it is.
    conjunct: usize,
}

pub(super) fn find(table: &Table, filters: Vec<Expr>) -> Found {
    let conjuncts: Vec<Expr> = filters.into_iter().flat_map(conjuncts).collect();
    let equalities: Vec<Equality> = conjuncts.iter().enumerate().filter_map(|(i, c)| equality(c, i)).collect();
    let bound = |column: u16| equalities.iter().find(|e| e.column == column);
    let key = match &table.distribution {
        Distribution::Hash(columns) => {
            columns.iter().map(|c| bound(*c).map(|e| e.value.clone())).collect::<Option<Vec<_>>>()
        }
        Distribution::Replicated => None,
    };
    let best = table
        .indexes
        .iter()
        .filter(|index| index.state == IndexState::Ready)
        .map(|index| (index, leading(index, &equalities)))
        .filter(|(_, parts)| !parts.is_empty())
        .max_by_key(|(index, parts)| (index.unique && parts.len() == index.columns.len(), parts.len()));
    let Some((index, parts)) = best else {
        return Found { access: Access::Scan, filter: all_of(conjuncts), key, single_row: false };
    };
    let exact = parts.len() == index.columns.len();
    let taken: Vec<usize> = parts.iter().map(|e| e.conjunct).collect();
    let values = parts.iter().map(|e| e.value.clone()).collect();
    let rest = conjuncts.into_iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, c)| c).collect();
    let access = Access::Index { index: index.id, key: values, exact };
    Found { access, filter: all_of(rest), key, single_row: exact && index.unique }
}

/// The equalities that bind the index's first columns, as many as there are.
fn leading<'e>(index: &Index, equalities: &'e [Equality]) -> Vec<&'e Equality> {
    index.columns.iter().map_while(|part| equalities.iter().find(|e| e.column == part.column)).collect()
}

fn conjuncts(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::And(parts) => parts.into_iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

fn all_of(mut conjuncts: Vec<Expr>) -> Option<Expr> {
    match conjuncts.len() {
        0 => None,
        1 => conjuncts.pop(),
        _ => Some(Expr::And(conjuncts)),
    }
}

fn equality(expr: &Expr, conjunct: usize) -> Option<Equality> {
    let (left, right) = match expr {
        Expr::Call { func, args, .. } if func.function().name == "=" => match args.as_slice() {
            [left, right] => (left, right),
            _ => return None,
        },
        Expr::InList { arg, list, negated: false, .. } => match list.as_slice() {
            [one] => (&**arg, one),
            _ => return None,
        },
        _ => return None,
    };
    let sides = [(left, right), (right, left)];
    sides.into_iter().find_map(|(column, value)| {
        let slot = column_of(column)?;
        (is_fixed(value) && encodes_alike(slot.ty, value.ty())).then(|| Equality {
            column: slot.index,
            value: value.clone(),
            conjunct,
        })
    })
}

/// The column that an operand is; varchar is compared as text, which changes nothing in it.
fn column_of(expr: &Expr) -> Option<Slot> {
    match expr {
        Expr::Leaf(slot) => Some(*slot),
        Expr::Cast { arg, ty: SqlType::Text, modifier: -1, .. } => match &**arg {
            Expr::Leaf(slot) if slot.ty == SqlType::Varchar => Some(*slot),
            _ => None,
        },
        _ => None,
    }
}

/// The same for every row, and for every evaluation.
fn is_fixed(expr: &Expr) -> bool {
    let mut columns = false;
    expr.each_leaf(&mut |_: &Slot| columns = true);
    !columns && eval::volatility(expr) != Volatility::Volatile
}

/// Whether equal values of both types have the same bytes in keys and hashes.
fn encodes_alike(column: SqlType, value: SqlType) -> bool {
    let integer = |ty| matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    let text = |ty| matches!(ty, SqlType::Text | SqlType::Varchar);
    column == value || (integer(column) && integer(value)) || (text(column) && text(value))
}

//! Typed expressions: one tree for the binder, the engine and DataFusion's lowering, with one scalar evaluator beside it.

use crate::datum::Datum;
use crate::func::FuncId;
use crate::types::SqlType;
use serde::{Deserialize, Serialize};

/// A column of the input row, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    pub index: u16,
    pub ty: SqlType,
}

/// What an expression's leaves refer to: [`Slot`] where rows are at hand, richer things in the binder.
pub trait Leaf {
    fn ty(&self) -> SqlType;
}

impl Leaf for Slot {
    fn ty(&self) -> SqlType {
        self.ty
    }
}

pub use crate::types::cast::CastContext;

/// `IS [NOT] …` on a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BoolTest {
    True,
    NotTrue,
    False,
    NotFalse,
    Unknown,
    NotUnknown,
}

/// A typed expression. Every function is resolved, every implicit cast is written out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expr<L = Slot> {
    Const {
        value: Datum,
        ty: SqlType,
    },
    /// A statement's parameter, from 0.
    Param {
        index: u16,
        ty: SqlType,
    },
    Leaf(L),
    /// A function or operator by its resolved overload.
    Call {
        func: FuncId,
        args: Vec<Expr<L>>,
        ty: SqlType,
    },
    /// Conversion to a type and modifier, also from a type to itself when only the modifier matters (`varchar(3)`).
    Cast {
        arg: Box<Expr<L>>,
        ty: SqlType,
        modifier: i32,
        context: CastContext,
    },
    And(Vec<Expr<L>>),
    Or(Vec<Expr<L>>),
    Not(Box<Expr<L>>),
    IsNull {
        arg: Box<Expr<L>>,
        negated: bool,
    },
    BoolTest {
        arg: Box<Expr<L>>,
        test: BoolTest,
    },
    /// IS [NOT] DISTINCT FROM; `equal` is the resolved `=` of the arguments' common type.
    Distinct {
        equal: FuncId,
        left: Box<Expr<L>>,
        right: Box<Expr<L>>,
        negated: bool,
    },
    /// A searched CASE; the simple form arrives with its comparisons written out.
    Case {
        whens: Vec<(Expr<L>, Expr<L>)>,
        otherwise: Option<Box<Expr<L>>>,
        ty: SqlType,
    },
    Coalesce {
        args: Vec<Expr<L>>,
        ty: SqlType,
    },
    /// GREATEST and LEAST; `less` is the resolved `<`.
    Extreme {
        greatest: bool,
        less: FuncId,
        args: Vec<Expr<L>>,
        ty: SqlType,
    },
    /// NULLIF; `equal` is the resolved `=`.
    NullIf {
        equal: FuncId,
        left: Box<Expr<L>>,
        right: Box<Expr<L>>,
        ty: SqlType,
    },
    /// `arg IN (list)` with all sides of one type; `equal` is the resolved `=`.
    InList {
        equal: FuncId,
        arg: Box<Expr<L>>,
        list: Vec<Expr<L>>,
        negated: bool,
    },
    /// `left op ANY|ALL (array)`.
    Quantified {
        op: FuncId,
        left: Box<Expr<L>>,
        array: Box<Expr<L>>,
        all: bool,
    },
    /// ARRAY[…].
    Array {
        elements: Vec<Expr<L>>,
        ty: SqlType,
    },
}

impl<L: Leaf> Expr<L> {
    /// The type of the value.
    pub fn ty(&self) -> SqlType {
        match self {
            Expr::Const { ty, .. }
            | Expr::Param { ty, .. }
            | Expr::Call { ty, .. }
            | Expr::Cast { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::Coalesce { ty, .. }
            | Expr::Extreme { ty, .. }
            | Expr::NullIf { ty, .. }
            | Expr::Array { ty, .. } => *ty,
            Expr::Leaf(leaf) => leaf.ty(),
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::BoolTest { .. }
            | Expr::Distinct { .. }
            | Expr::InList { .. }
            | Expr::Quantified { .. } => SqlType::Bool,
        }
    }
}

impl<L> Expr<L> {
    /// The same tree with every leaf replaced; stops at the first leaf that `f` refuses.
    pub fn map_leaves<M, E>(self, f: &mut impl FnMut(L) -> Result<Expr<M>, E>) -> Result<Expr<M>, E> {
        self.map_node(f)
    }

    /// Behind a trait object, lest the closure's type nest without end.
    fn map_node<M, E>(self, f: &mut dyn FnMut(L) -> Result<Expr<M>, E>) -> Result<Expr<M>, E> {
        Ok(match self {
            Expr::Const { value, ty } => Expr::Const { value, ty },
            Expr::Param { index, ty } => Expr::Param { index, ty },
            Expr::Leaf(leaf) => f(leaf)?,
            Expr::Call { func, args, ty } => Expr::Call { func, args: map_all(args, f)?, ty },
            Expr::Cast { arg, ty, modifier, context } => Expr::Cast { arg: map_box(*arg, f)?, ty, modifier, context },
            Expr::And(args) => Expr::And(map_all(args, f)?),
            Expr::Or(args) => Expr::Or(map_all(args, f)?),
            Expr::Not(arg) => Expr::Not(map_box(*arg, f)?),
            Expr::IsNull { arg, negated } => Expr::IsNull { arg: map_box(*arg, f)?, negated },
            Expr::BoolTest { arg, test } => Expr::BoolTest { arg: map_box(*arg, f)?, test },
            Expr::Distinct { equal, left, right, negated } => {
                Expr::Distinct { equal, left: map_box(*left, f)?, right: map_box(*right, f)?, negated }
            }
            Expr::Case { whens, otherwise, ty } => Expr::Case {
                whens: whens
                    .into_iter()
                    .map(|(when, then)| Ok((when.map_node(f)?, then.map_node(f)?)))
                    .collect::<Result<_, E>>()?,
                otherwise: otherwise.map(|e| map_box(*e, f)).transpose()?,
                ty,
            },
            Expr::Coalesce { args, ty } => Expr::Coalesce { args: map_all(args, f)?, ty },
            Expr::Extreme { greatest, less, args, ty } => Expr::Extreme { greatest, less, args: map_all(args, f)?, ty },
            Expr::NullIf { equal, left, right, ty } => {
                Expr::NullIf { equal, left: map_box(*left, f)?, right: map_box(*right, f)?, ty }
            }
            Expr::InList { equal, arg, list, negated } => {
                Expr::InList { equal, arg: map_box(*arg, f)?, list: map_all(list, f)?, negated }
            }
            Expr::Quantified { op, left, array, all } => {
                Expr::Quantified { op, left: map_box(*left, f)?, array: map_box(*array, f)?, all }
            }
            Expr::Array { elements, ty } => Expr::Array { elements: map_all(elements, f)?, ty },
        })
    }

    /// The same expression with each direct subexpression replaced.
    #[must_use]
    pub fn map_children(self, f: &mut impl FnMut(Expr<L>) -> Expr<L>) -> Expr<L> {
        let all =
            |list: Vec<Expr<L>>, f: &mut dyn FnMut(Expr<L>) -> Expr<L>| list.into_iter().map(f).collect::<Vec<_>>();
        match self {
            Expr::Const { .. } | Expr::Param { .. } | Expr::Leaf(_) => self,
            Expr::Call { func, args, ty } => Expr::Call { func, args: all(args, f), ty },
            Expr::Cast { arg, ty, modifier, context } => Expr::Cast { arg: Box::new(f(*arg)), ty, modifier, context },
            Expr::And(args) => Expr::And(all(args, f)),
            Expr::Or(args) => Expr::Or(all(args, f)),
            Expr::Not(arg) => Expr::Not(Box::new(f(*arg))),
            Expr::IsNull { arg, negated } => Expr::IsNull { arg: Box::new(f(*arg)), negated },
            Expr::BoolTest { arg, test } => Expr::BoolTest { arg: Box::new(f(*arg)), test },
            Expr::Distinct { equal, left, right, negated } => {
                Expr::Distinct { equal, left: Box::new(f(*left)), right: Box::new(f(*right)), negated }
            }
            Expr::Case { whens, otherwise, ty } => Expr::Case {
                whens: whens.into_iter().map(|(when, then)| (f(when), f(then))).collect(),
                otherwise: otherwise.map(|e| Box::new(f(*e))),
                ty,
            },
            Expr::Coalesce { args, ty } => Expr::Coalesce { args: all(args, f), ty },
            Expr::Extreme { greatest, less, args, ty } => Expr::Extreme { greatest, less, args: all(args, f), ty },
            Expr::NullIf { equal, left, right, ty } => {
                Expr::NullIf { equal, left: Box::new(f(*left)), right: Box::new(f(*right)), ty }
            }
            Expr::InList { equal, arg, list, negated } => {
                Expr::InList { equal, arg: Box::new(f(*arg)), list: all(list, f), negated }
            }
            Expr::Quantified { op, left, array, all } => {
                Expr::Quantified { op, left: Box::new(f(*left)), array: Box::new(f(*array)), all }
            }
            Expr::Array { elements, ty } => Expr::Array { elements: all(elements, f), ty },
        }
    }

    /// Direct subexpressions, left to right.
    pub fn children(&self) -> Vec<&Expr<L>> {
        match self {
            Expr::Const { .. } | Expr::Param { .. } | Expr::Leaf(_) => Vec::new(),
            Expr::Call { args, .. }
            | Expr::And(args)
            | Expr::Or(args)
            | Expr::Coalesce { args, .. }
            | Expr::Extreme { args, .. }
            | Expr::Array { elements: args, .. } => args.iter().collect(),
            Expr::Cast { arg, .. } | Expr::Not(arg) | Expr::IsNull { arg, .. } | Expr::BoolTest { arg, .. } => {
                vec![arg]
            }
            Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => vec![left, right],
            Expr::Case { whens, otherwise, .. } => {
                whens.iter().flat_map(|(w, t)| [w, t]).chain(otherwise.as_deref()).collect()
            }
            Expr::InList { arg, list, .. } => std::iter::once(&**arg).chain(list).collect(),
            Expr::Quantified { left, array, .. } => vec![left, array],
        }
    }

    /// Calls `f` for every leaf.
    pub fn each_leaf(&self, f: &mut impl FnMut(&L)) {
        if let Expr::Leaf(leaf) = self {
            f(leaf);
        }
        for child in self.children() {
            child.each_leaf(f);
        }
    }
}

fn map_box<L, M, E>(expr: Expr<L>, f: &mut dyn FnMut(L) -> Result<Expr<M>, E>) -> Result<Box<Expr<M>>, E> {
    expr.map_node(f).map(Box::new)
}

fn map_all<L, M, E>(list: Vec<Expr<L>>, f: &mut dyn FnMut(L) -> Result<Expr<M>, E>) -> Result<Vec<Expr<M>>, E> {
    list.into_iter().map(|e| e.map_node(f)).collect()
}

//! Which of several possible matches PostgreSQL takes, as far as a pattern's shape tells.
//!
//! PostgreSQL first settles where the whole match ends, at the longest or the shortest place as the pattern's preference says, and then gives
//! each part in turn what it prefers; the `regex` crate takes alternatives and repetitions in the order written. Here stands for which patterns
//! both come to the same (PostgreSQL manual, "Regular Expression Matching Rules").

use regex_syntax::ast::{Ast, GroupKind, RepetitionKind, RepetitionRange};

/// What a part of a pattern is made of.
fn parts(ast: &Ast) -> &[Ast] {
    match ast {
        Ast::Group(group) => std::slice::from_ref(&*group.ast),
        Ast::Repetition(repetition) => std::slice::from_ref(&*repetition.ast),
        Ast::Concat(concat) => &concat.asts,
        Ast::Alternation(alternation) => &alternation.asts,
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => &[],
    }
}

/// What a part of a pattern prefers: `Some(true)` the longest match, `Some(false)` the shortest; `None` has no say.
pub(super) fn preference(ast: &Ast) -> Option<bool> {
    match ast {
        Ast::Alternation(_) => Some(true),
        Ast::Repetition(repetition) => match repetition.op.kind {
            RepetitionKind::Range(RepetitionRange::Exactly(_)) => preference(&repetition.ast),
            _ => Some(repetition.greedy),
        },
        other => parts(other).iter().find_map(preference),
    }
}

/// How many characters a part takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Fixed(u32),
    /// One repetition of something fixed decides; it tries its lengths in one direction.
    OneRepetition {
        greedy: bool,
    },
    Open,
}

fn sum(parts: impl Iterator<Item = Length>) -> Length {
    parts.fold(Length::Fixed(0), |sum, part| match (sum, part) {
        (Length::Fixed(a), Length::Fixed(b)) => Length::Fixed(a.saturating_add(b)),
        (Length::Fixed(_), repetition @ Length::OneRepetition { .. }) => repetition,
        (repetition @ Length::OneRepetition { .. }, Length::Fixed(_)) => repetition,
        _ => Length::Open,
    })
}

fn length(ast: &Ast) -> Length {
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => Length::Fixed(0),
        Ast::Literal(_) | Ast::Dot(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => {
            Length::Fixed(1)
        }
        Ast::Group(group) => length(&group.ast),
        Ast::Concat(concat) => sum(concat.asts.iter().map(length)),
        Ast::Alternation(alternation) => {
            let mut lengths = alternation.asts.iter().map(length);
            match lengths.next() {
                Some(first @ Length::Fixed(_)) if lengths.all(|other| other == first) => first,
                _ => Length::Open,
            }
        }
        Ast::Repetition(repetition) => match (length(&repetition.ast), &repetition.op.kind) {
            (Length::Fixed(n), RepetitionKind::Range(RepetitionRange::Exactly(times))) => {
                Length::Fixed(n.saturating_mul(*times))
            }
            (Length::Fixed(1..), _) => Length::OneRepetition { greedy: repetition.greedy },
            _ => Length::Open,
        },
    }
}

fn captures(ast: &Ast) -> bool {
    let group = matches!(ast, Ast::Group(group) if !matches!(group.kind, GroupKind::NonCapturing(_)));
    group || parts(ast).iter().any(captures)
}

/// Whether these parts, taken as one, try their lengths in the direction that they prefer as one.
fn in_order(parts: &[Ast]) -> bool {
    match sum(parts.iter().map(length)) {
        Length::Fixed(_) => true,
        Length::OneRepetition { greedy } => parts.iter().find_map(preference) == Some(greedy),
        Length::Open => false,
    }
}

/// Whether the first match in the order written is the one that PostgreSQL takes.
pub(super) fn is_first(ast: &Ast) -> bool {
    in_order(std::slice::from_ref(ast))
}

/// Whether the groups of the first match are PostgreSQL's, given that the whole match is: each group, and each run of parts between groups,
/// tries its lengths in the direction that it prefers, from left to right.
pub(super) fn groups_in_order(ast: &Ast) -> bool {
    match ast {
        Ast::Group(group) if captures(&group.ast) => groups_in_order(&group.ast),
        Ast::Concat(concat) => {
            let parts = concat.asts.as_slice();
            parts.chunk_by(|a, b| !captures(a) && !captures(b)).all(in_order)
        }
        other => is_first(other),
    }
}

/// Whether a group may be left over from an earlier round of a repetition: PostgreSQL forgets it, the crate does not.
pub(super) fn outlives_rounds(ast: &Ast) -> bool {
    match ast {
        Ast::Repetition(repetition) if !matches!(repetition.op.kind, RepetitionKind::ZeroOrOne) => {
            may_skip_a_group(&repetition.ast)
        }
        other => parts(other).iter().any(outlives_rounds),
    }
}

fn may_skip_a_group(ast: &Ast) -> bool {
    match ast {
        Ast::Alternation(_) | Ast::Repetition(_) => captures(ast),
        other => parts(other).iter().any(may_skip_a_group),
    }
}

/// Whether a quantifier stands right behind a quantifier, which PostgreSQL refuses.
pub(super) fn quantifies_a_quantifier(ast: &Ast) -> bool {
    let twice = matches!(ast, Ast::Repetition(repetition) if matches!(*repetition.ast, Ast::Repetition(_)));
    twice || parts(ast).iter().any(quantifies_a_quantifier)
}

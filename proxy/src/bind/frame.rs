//! Frames of window functions.

use super::binder::{error_at, unsupported_at};
use crate::bound::{Frame, FrameBound, FrameUnits};
use sqlparser::ast;
use toroid_common::error::{SqlResult, SqlState};

/// What a window's frame clause says; `ordered` is whether the window has an ORDER BY.
pub(super) fn frame(clause: &ast::WindowFrame, ordered: bool, place: u32) -> SqlResult<Frame> {
    let refuse = |message: &str| Err(error_at(SqlState::WINDOWING_ERROR, message, place));
    let units = match clause.units {
        ast::WindowFrameUnits::Rows => FrameUnits::Rows,
        ast::WindowFrameUnits::Range => FrameUnits::Range,
        ast::WindowFrameUnits::Groups if !ordered => return refuse("GROUPS mode requires an ORDER BY clause"),
        ast::WindowFrameUnits::Groups => FrameUnits::Groups,
    };
    let start = bound(&clause.start_bound, units, place)?;
    let end = clause.end_bound.as_ref().map_or(Ok(FrameBound::CurrentRow), |end| bound(end, units, place))?;
    match (start, end) {
        (FrameBound::Following(None), _) => refuse("frame start cannot be UNBOUNDED FOLLOWING"),
        (_, FrameBound::Preceding(None)) => refuse("frame end cannot be UNBOUNDED PRECEDING"),
        (FrameBound::CurrentRow, FrameBound::Preceding(_)) => {
            refuse("frame starting from current row cannot have preceding rows")
        }
        (FrameBound::Following(_), FrameBound::Preceding(_) | FrameBound::CurrentRow) => {
            refuse("frame starting from following row cannot have preceding rows")
        }
        _ => Ok(Frame { units, start, end }),
    }
}

fn bound(clause: &ast::WindowFrameBound, units: FrameUnits, place: u32) -> SqlResult<FrameBound> {
    let rows = |distance: &Option<Box<ast::Expr>>| match (distance, units) {
        (None, _) => Ok(None),
        (Some(distance), FrameUnits::Rows | FrameUnits::Groups) => match distance.to_string().parse::<u64>() {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(unsupported_at("a window frame by an expression", place)),
        },
        (Some(_), FrameUnits::Range) => Err(unsupported_at("a window frame by distance in RANGE", place)),
    };
    Ok(match clause {
        ast::WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
        ast::WindowFrameBound::Preceding(distance) => FrameBound::Preceding(rows(distance)?),
        ast::WindowFrameBound::Following(distance) => FrameBound::Following(rows(distance)?),
    })
}

//! json_agg and its kin: their elements as text, put together by `string_agg`, and read as JSON again.

use super::binder::{Binder, Typed, error_at, unsupported_at};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::{ColumnType, SqlType};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonAggregate {
    object: bool,
    result: SqlType,
}

impl JsonAggregate {
    pub(super) fn by_name(name: &str) -> Option<JsonAggregate> {
        let (object, result) = match name {
            "json_agg" => (false, SqlType::Json),
            "jsonb_agg" => (false, SqlType::Jsonb),
            "json_object_agg" => (true, SqlType::Json),
            "jsonb_object_agg" => (true, SqlType::Jsonb),
            _ => return None,
        };
        Some(JsonAggregate { object, result })
    }
}

impl Binder<'_> {
    /// The arguments of `string_agg` for those of the call.
    pub(super) fn json_parts(
        &mut self,
        name: &str,
        kind: JsonAggregate,
        values: Vec<Typed>,
        distinct: bool,
        place: u32,
    ) -> SqlResult<Vec<Typed>> {
        if distinct {
            return Err(unsupported_at(format!("DISTINCT in {name}"), place));
        }
        let types: Vec<String> = values.iter().map(|value| value.ty().to_string()).collect();
        let values = values.into_iter().map(|value| self.text_if_unknown(value)).collect::<SqlResult<Vec<_>>>()?;
        match (kind.object, <[Typed; 1]>::try_from(values)) {
            (false, Ok([value])) => self.element(kind, value, place),
            (true, Err(values)) if values.len() == 2 => {
                let member = self.apply_function("json_build_object", values, place)?;
                let member = self.explicit(member, SqlType::Text.into(), place)?;
                // Without its braces.
                let member = self.apply_function("substr", vec![member, number(2, place)], place)?;
                let member = self.apply_function("left", vec![member, number(-1, place)], place)?;
                Ok(vec![member, text(", ", place)])
            }
            (false | true, Ok(_) | Err(_)) => {
                let message = format!("function {name}({}) does not exist", types.join(", "));
                Err(error_at(SqlState::UNDEFINED_FUNCTION, message, place).with_hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                ))
            }
        }
    }

    fn element(&mut self, kind: JsonAggregate, value: Typed, place: u32) -> SqlResult<Vec<Typed>> {
        // PostgreSQL puts each array on a line of its own, in json only.
        let lines = kind.result == SqlType::Json && value.ty().element().is_some();
        let delimiter = match lines {
            false => text(", ", place),
            true => {
                let is_null = Expr::IsNull { arg: Box::new(value.expr.clone()), negated: false };
                let expr = Expr::Case {
                    whens: vec![(is_null, text(", ", place).expr)],
                    otherwise: Some(Box::new(text(", \n ", place).expr)),
                    ty: SqlType::Text,
                };
                Typed::new(expr, place)
            }
        };
        let function = if kind.result == SqlType::Json { "to_json" } else { "to_jsonb" };
        let json = self.apply_function(function, vec![value], place)?;
        let json = self.explicit(json, SqlType::Text.into(), place)?;
        let args = vec![json.expr, text("null", place).expr];
        Ok(vec![Typed::new(Expr::Coalesce { args, ty: SqlType::Text }, place), delimiter])
    }

    /// The text of all elements as the result of the call.
    pub(super) fn json_whole(&mut self, kind: JsonAggregate, elements: Typed, place: u32) -> SqlResult<Typed> {
        let (open, close) = if kind.object { ("{ ", " }") } else { ("[", "]") };
        let whole = self.apply_operator("||", Some(text(open, place)), elements, place)?;
        let whole = self.apply_operator("||", Some(whole), text(close, place), place)?;
        self.explicit(whole, ColumnType::from(kind.result), place)
    }
}

fn text(text: &str, place: u32) -> Typed {
    Typed::new(Expr::Const { value: Datum::Text(text.to_owned()), ty: SqlType::Text }, place)
}

fn number(number: i32, place: u32) -> Typed {
    Typed::new(Expr::Const { value: Datum::Int4(number), ty: SqlType::Int4 }, place)
}

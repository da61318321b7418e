//! Errors on their way through DataFusion: a [`SqlError`] goes in and comes out again with its SQLSTATE.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use toroid_common::error::{SqlError, SqlState};

/// Hands an error of ours to DataFusion.
pub fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The one door back: what a client is told about an error that DataFusion returned.
pub fn sql_error(error: DataFusionError) -> SqlError {
    of_datafusion(&error)
}

fn of_datafusion(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(boxed) => of_boxed(boxed.as_ref()),
        DataFusionError::ArrowError(error, _) => of_arrow(error),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => of_datafusion(inner),
        DataFusionError::Shared(inner) => of_datafusion(inner),
        DataFusionError::Collection(all) => all.first().map_or_else(|| SqlError::internal(error), of_datafusion),
        DataFusionError::ResourcesExhausted(why) => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(why.clone())
        }
        DataFusionError::NotImplemented(what) => SqlError::unsupported(what),
        other => SqlError::internal(other),
    }
}

fn of_boxed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(error) = error.downcast_ref::<SqlError>() {
        return error.clone();
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return of_datafusion(error);
    }
    match error.downcast_ref::<ArrowError>() {
        Some(error) => of_arrow(error),
        None => SqlError::internal(error),
    }
}

fn of_arrow(error: &ArrowError) -> SqlError {
    match error {
        ArrowError::ExternalError(boxed) => of_boxed(boxed.as_ref()),
        ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        other => SqlError::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_error_of_ours_comes_out_of_every_wrapping() {
        let ours = || SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero").with_hint("divide by one");
        let arrow = ArrowError::ExternalError(Box::new(ours()));
        let wrapped = [
            external(ours()),
            external(ours()).context("while planning"),
            DataFusionError::Shared(Arc::new(external(ours()))),
            DataFusionError::ArrowError(Box::new(arrow), None),
            DataFusionError::External(Box::new(external(ours()))),
            DataFusionError::External(Box::new(ArrowError::ExternalError(Box::new(external(ours()))))),
            DataFusionError::Collection(vec![external(ours())]),
            DataFusionError::from(ArrowError::from_external_error(Box::new(external(ours()).context("deep")))),
        ];
        for error in wrapped {
            assert_eq!(sql_error(error), ours());
        }
    }

    #[test]
    fn exhausted_memory_is_53200() {
        let error = DataFusionError::ResourcesExhausted("too much".to_owned());
        assert_eq!(sql_error(error).state(), SqlState::OUT_OF_MEMORY);
    }
}

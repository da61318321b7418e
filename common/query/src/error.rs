//! Errors on their way through DataFusion: a [`SqlError`] goes in and comes out again with its SQLSTATE.

use datafusion::common::DataFusionError;
use toroid_common::error::{SqlError, SqlState};

/// Hands an error of ours to DataFusion.
pub fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The one door back: what a client is told about an error that DataFusion returned.
pub fn sql_error(error: DataFusionError) -> SqlError {
    let mut inner = &error;
    loop {
        match inner {
            DataFusionError::External(boxed) => return of_boxed(boxed.as_ref()),
            DataFusionError::ArrowError(boxed, _) => return of_arrow(boxed),
            DataFusionError::Context(_, next) | DataFusionError::Diagnostic(_, next) => inner = next,
            DataFusionError::Shared(next) => inner = next,
            DataFusionError::Collection(all) if !all.is_empty() => match all.first() {
                Some(first) => inner = first,
                None => return SqlError::internal(inner),
            },
            DataFusionError::ResourcesExhausted(why) => {
                return SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(why.clone());
            }
            DataFusionError::NotImplemented(what) => return SqlError::unsupported(what),
            other => return SqlError::internal(other),
        }
    }
}

fn of_boxed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(error) = error.downcast_ref::<SqlError>() {
        return error.clone();
    }
    if let Some(error) = error.downcast_ref::<arrow::error::ArrowError>() {
        return of_arrow(error);
    }
    match error.downcast_ref::<DataFusionError>() {
        Some(DataFusionError::External(inner)) => of_boxed(inner.as_ref()),
        Some(DataFusionError::ArrowError(inner, _)) => of_arrow(inner),
        _ => SqlError::internal(error),
    }
}

fn of_arrow(error: &arrow::error::ArrowError) -> SqlError {
    match error {
        arrow::error::ArrowError::ExternalError(boxed) => of_boxed(boxed.as_ref()),
        arrow::error::ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        other => SqlError::internal(other),
    }
}

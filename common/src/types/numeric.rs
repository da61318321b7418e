//! PostgreSQL's numeric: exact decimal numbers with a display scale, NaN and infinities.

use serde::{Deserialize, Serialize};

/// An exact decimal number, held in its column encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numeric(Vec<u8>);

/// A borrowed [`Numeric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumericRef<'a>(&'a [u8]);

impl Numeric {
    pub fn borrow(&self) -> NumericRef<'_> {
        NumericRef(&self.0)
    }

    /// The bytes by which columns and rows hold it; not comparable as bytes.
    pub fn encode(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> NumericRef<'a> {
    pub fn to_owned(self) -> Numeric {
        Numeric(self.0.to_vec())
    }
}

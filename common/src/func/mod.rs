//! PostgreSQL's functions and operators: which exist, how a call is resolved, and the scalar kernel of each.

pub mod aggregate;

use crate::datum::Datum;
use crate::env::Env;
use crate::error::SqlResult;
use crate::types::SqlType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A resolved overload: an index into the table of [`Function`]s of this build. Travels as its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncId(u16);

/// What a kernel is: all it may look at is its arguments and the statement's environment.
pub type Kernel = fn(&Env, &[Datum]) -> SqlResult<Datum>;

/// PostgreSQL's `provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    Immutable,
    /// The same within one statement: reads [`Env`].
    Stable,
    Volatile,
}

/// One overload of a function or operator.
pub struct Function {
    /// The function's SQL name, or the operator's symbol.
    pub name: &'static str,
    pub args: &'static [SqlType],
    /// The last argument type may repeat.
    pub variadic: bool,
    pub result: SqlType,
    /// NULL in, NULL out: the evaluator answers without calling the kernel.
    pub strict: bool,
    pub volatility: Volatility,
    pub kernel: Kernel,
}

/// All overloads.
static FUNCTIONS: &[Function] = &[];

impl FuncId {
    pub fn function(self) -> &'static Function {
        &FUNCTIONS[usize::from(self.0)]
    }

    /// `name(type,type)`: how it travels and how plans print it.
    pub fn signature(self) -> String {
        let function = self.function();
        let args: Vec<String> = function.args.iter().map(SqlType::to_string).collect();
        format!("{}({})", function.name, args.join(","))
    }
}

impl Serialize for FuncId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.signature())
    }
}

impl<'de> Deserialize<'de> for FuncId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FuncId, D::Error> {
        let signature = String::deserialize(deserializer)?;
        (0..FUNCTIONS.len() as u16)
            .map(FuncId)
            .find(|id| id.signature() == signature)
            .ok_or_else(|| serde::de::Error::custom(format!("function {signature} does not exist here")))
    }
}

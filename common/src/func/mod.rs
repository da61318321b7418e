//! PostgreSQL's functions and operators: which exist, how a call is resolved, and the scalar kernel of each.
//!
//! Every overload is one [`Entry`] in the module of its subject: a signature as the manual prints it, and a kernel. The registry is built from
//! them once. A call is resolved by [`resolve::resolve_function`] and [`resolve::resolve_operator`]; the kernel runs in [`crate::eval`], and
//! wrapped in DataFusion's functions.

pub mod aggregate;
pub mod category;
pub mod kernel;
pub mod resolve;
pub mod signature;

mod sort_key;
mod compare;
mod overlaps;
mod arithmetic;
mod math;
mod numeric;
mod text;
mod bytes;
mod format;
mod pattern;
mod regex_syntax;
mod regex_order;
mod regex_match;
pub mod regex;
mod array;
mod datetime;
mod extract;
mod template;
mod format_date;
mod parse_date;
mod format_number;
mod json_text;
mod json;
pub mod system;
mod session;
mod catalog;

pub use format::quote_ident;
pub use resolve::{Resolved, common_type, equal_of, less_of, resolve_function, resolve_operator};
pub use signature::Param;

use crate::datum::{Datum, DatumRef};
use crate::env::Env;
use crate::error::SqlResult;
use crate::types::SqlType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use signature::Signature;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A resolved overload: an index into the table of [`Function`]s of this build. Travels as its signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncId(u16);

impl std::fmt::Debug for FuncId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.signature())
    }
}

/// What a kernel may look at besides its arguments.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub env: &'a Env,
    /// The types of the arguments: text, json and jsonb are one kind of [`Datum`].
    pub args: &'a [SqlType],
    /// The type of the call, where the signature is polymorphic.
    pub result: SqlType,
}

/// The meaning of a function. A strict one is never called with NULL.
pub type Kernel = fn(&Context<'_>, &[DatumRef<'_>]) -> SqlResult<Datum>;

/// PostgreSQL's `provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    Immutable,
    /// The same within one statement: reads [`Env`].
    Stable,
    Volatile,
}

/// Functions on `bool`, integers, floats, date, time, timestamp, timestamptz and text that Arrow has a checked kernel for. Whoever maps them
/// must keep PostgreSQL's errors: 22003 on overflow, 22012 on division by zero; floats compare with NaN equal to itself and above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Native {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One overload of a function or operator.
pub struct Function {
    /// The function's SQL name, or the operator's symbol.
    pub name: &'static str,
    pub params: Vec<Param>,
    /// The last parameter may repeat, once or more often.
    pub variadic: bool,
    pub result: Param,
    /// NULL in, NULL out: the evaluator answers without calling the kernel.
    pub strict: bool,
    pub volatility: Volatility,
    /// Set when plain Arrow kernels can take over.
    pub native: Option<Native>,
    pub kernel: Kernel,
    signature: &'static str,
}

/// A row of the modules' tables.
struct Entry {
    /// `name(type, …) -> type`.
    signature: &'static str,
    strict: bool,
    volatility: Volatility,
    native: Option<Native>,
    kernel: Kernel,
}

impl Entry {
    /// A strict, immutable function.
    const fn new(signature: &'static str, kernel: Kernel) -> Entry {
        Entry { signature, strict: true, volatility: Volatility::Immutable, native: None, kernel }
    }

    const fn stable(mut self) -> Entry {
        self.volatility = Volatility::Stable;
        self
    }

    const fn volatile(mut self) -> Entry {
        self.volatility = Volatility::Volatile;
        self
    }

    /// The kernel wants to see NULLs.
    const fn nullable(mut self) -> Entry {
        self.strict = false;
        self
    }

    const fn native(mut self, native: Native) -> Entry {
        self.native = Some(native);
        self
    }
}

/// The subjects' tables.
static MODULES: &[&[Entry]] = &[
    compare::FUNCTIONS,
    overlaps::FUNCTIONS,
    arithmetic::INTEGER_PAIRS.as_flattened(),
    arithmetic::INTEGERS.as_flattened(),
    arithmetic::SHIFTS,
    arithmetic::FLOAT_PAIRS.as_flattened(),
    arithmetic::FLOATS.as_flattened(),
    math::FUNCTIONS,
    numeric::FUNCTIONS,
    text::FUNCTIONS,
    bytes::FUNCTIONS,
    format::FUNCTIONS,
    pattern::FUNCTIONS,
    regex::FUNCTIONS,
    array::FUNCTIONS,
    datetime::FUNCTIONS,
    extract::FUNCTIONS,
    format_date::FUNCTIONS,
    parse_date::FUNCTIONS,
    format_number::FUNCTIONS,
    sort_key::FUNCTIONS,
    json::ACCESS.as_flattened(),
    json::FUNCTIONS,
    system::FUNCTIONS,
    session::FUNCTIONS,
    catalog::FUNCTIONS,
    catalog::PRIVILEGES,
];

struct Registry {
    functions: Vec<Function>,
    names: BTreeMap<&'static str, Vec<FuncId>>,
    signatures: BTreeMap<&'static str, FuncId>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry { functions: Vec::new(), names: BTreeMap::new(), signatures: BTreeMap::new() };
    for entry in MODULES.iter().flat_map(|module| module.iter()) {
        // A signature that does not parse is left out; the test below sees to it that there is none.
        let Some(Signature { name, params, variadic, result, text }) = signature::parse(entry.signature) else {
            continue;
        };
        let id = FuncId(registry.functions.len() as u16);
        registry.names.entry(name).or_default().push(id);
        registry.signatures.insert(text, id);
        registry.functions.push(Function {
            name,
            params,
            variadic,
            result,
            strict: entry.strict,
            volatility: entry.volatility,
            native: entry.native,
            kernel: entry.kernel,
            signature: text,
        });
    }
    registry
});

impl FuncId {
    pub fn function(self) -> &'static Function {
        &REGISTRY.functions[usize::from(self.0)]
    }

    /// `name(type, type)`: how it travels and how plans print it.
    pub fn signature(self) -> &'static str {
        self.function().signature
    }

    /// By [`FuncId::signature`].
    pub fn by_signature(signature: &str) -> Option<FuncId> {
        REGISTRY.signatures.get(signature).copied()
    }
}

/// All overloads of a function or operator.
pub fn overloads(name: &str) -> &'static [FuncId] {
    REGISTRY.names.get(name).map_or(&[], Vec::as_slice)
}

/// Every function and operator of this build.
pub fn all() -> impl Iterator<Item = FuncId> {
    (0..REGISTRY.functions.len() as u16).map(FuncId)
}

impl Serialize for FuncId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.signature())
    }
}

impl<'de> Deserialize<'de> for FuncId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FuncId, D::Error> {
        let signature = String::deserialize(deserializer)?;
        FuncId::by_signature(&signature)
            .ok_or_else(|| serde::de::Error::custom(format!("function {signature} does not exist here")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_parses_and_is_unique() {
        let mut seen = BTreeMap::new();
        for entry in MODULES.iter().flat_map(|module| module.iter()) {
            let parsed = signature::parse(entry.signature);
            let parsed = parsed.unwrap_or_else(|| panic!("does not parse: {}", entry.signature));
            assert!(seen.insert(parsed.text, ()).is_none(), "twice: {}", entry.signature);
        }
        assert_eq!(seen.len(), REGISTRY.functions.len());
    }

    #[test]
    fn ids_travel_by_signature() {
        for id in all() {
            let bytes = postcard::to_allocvec(&id).unwrap();
            assert_eq!(postcard::from_bytes::<FuncId>(&bytes).unwrap(), id);
        }
    }
}

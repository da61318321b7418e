//! Functions and operators on numeric.

use super::Entry;
use super::kernel::kernel;
use super::math::check_factorial;
use crate::datum::Datum;
use crate::error::SqlResult;
use crate::types::numeric::Numeric;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("sqrt(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().sqrt()))),
    Entry::new("exp(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().exp()))),
    Entry::new("ln(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().ln()))),
    Entry::new("log(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().log10()))),
    Entry::new("log10(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().log10()))),
    Entry::new(
        "log(numeric, numeric) -> numeric",
        kernel!(|base: Numeric, a: Numeric| numeric(a.to_owned().log(&base.to_owned()))),
    ),
    Entry::new(
        "power(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().power(&b.to_owned()))),
    ),
    Entry::new(
        "pow(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().power(&b.to_owned()))),
    ),
    Entry::new(
        "^(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().power(&b.to_owned()))),
    ),
    Entry::new(
        "+(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().add(&b.to_owned()))),
    ),
    Entry::new(
        "-(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().sub(&b.to_owned()))),
    ),
    Entry::new(
        "*(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().mul(&b.to_owned()))),
    ),
    Entry::new(
        "/(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().div(&b.to_owned()))),
    ),
    Entry::new(
        "%(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().rem(&b.to_owned()))),
    ),
    Entry::new(
        "mod(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().rem(&b.to_owned()))),
    ),
    Entry::new(
        "div(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| { numeric(a.to_owned().div_trunc(&b.to_owned())) }),
    ),
    Entry::new("-(numeric) -> numeric", kernel!(|a: Numeric| Ok(Datum::Numeric(a.to_owned().neg())))),
    Entry::new("+(numeric) -> numeric", kernel!(|a: Numeric| Ok(Datum::Numeric(a.to_owned())))),
    Entry::new("@(numeric) -> numeric", kernel!(|a: Numeric| Ok(Datum::Numeric(a.to_owned().abs())))),
    Entry::new("abs(numeric) -> numeric", kernel!(|a: Numeric| Ok(Datum::Numeric(a.to_owned().abs())))),
    Entry::new("sign(numeric) -> numeric", kernel!(|a: Numeric| Ok(Datum::Numeric(a.to_owned().sign())))),
    Entry::new("ceil(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().ceil()))),
    Entry::new("ceiling(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().ceil()))),
    Entry::new("floor(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().floor()))),
    Entry::new("round(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().round(0)))),
    Entry::new("round(numeric, int4) -> numeric", kernel!(|a: Numeric, n: Int4| numeric(a.to_owned().round(n)))),
    Entry::new("trunc(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().trunc(0)))),
    Entry::new("trunc(numeric, int4) -> numeric", kernel!(|a: Numeric, n: Int4| numeric(a.to_owned().trunc(n)))),
    Entry::new(
        "gcd(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().gcd(&b.to_owned()))),
    ),
    Entry::new(
        "lcm(numeric, numeric) -> numeric",
        kernel!(|a: Numeric, b: Numeric| numeric(a.to_owned().lcm(&b.to_owned()))),
    ),
    Entry::new(
        "scale(numeric) -> int4",
        kernel!(|a: Numeric| match a.is_finite() {
            true => Ok(Datum::Int4(a.scale().into())),
            false => Ok(Datum::Null),
        }),
    ),
    Entry::new(
        "min_scale(numeric) -> int4",
        kernel!(|a: Numeric| { Ok(a.to_owned().min_scale().map_or(Datum::Null, |scale| Datum::Int4(scale as i32))) }),
    ),
    Entry::new("trim_scale(numeric) -> numeric", kernel!(|a: Numeric| numeric(a.to_owned().trim_scale()))),
    Entry::new("factorial(int8) -> numeric", kernel!(|n: Int8| factorial(n))),
];

fn numeric(value: SqlResult<Numeric>) -> SqlResult<Datum> {
    value.map(Datum::Numeric)
}

fn factorial(n: i64) -> SqlResult<Datum> {
    check_factorial(n)?;
    let mut product = Numeric::from_parts(1, 0);
    for factor in 2..=n {
        product = product.mul(&Numeric::from_parts(factor.into(), 0))?;
    }
    Ok(Datum::Numeric(product))
}

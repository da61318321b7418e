//! Whole numbers of any size: `i128` while they fit, `BigInt` beyond.

use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;

/// A whole number. `Big` never holds what fits into an `i128`, so equal numbers are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Int {
    Small(i128),
    Big(BigInt),
}

/// 10^38 is the largest power of ten in an `i128`.
const POWERS: [i128; 39] = {
    let mut table = [1_i128; 39];
    let mut i = 1;
    while i < 39 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

impl Int {
    pub(crate) const ZERO: Int = Int::Small(0);
    pub(crate) const ONE: Int = Int::Small(1);

    pub(crate) fn pow10(n: u32) -> Int {
        match POWERS.get(n as usize) {
            Some(power) => Int::Small(*power),
            None => Int::from_big(BigInt::from(10).pow(n)),
        }
    }

    pub(crate) fn from_big(value: BigInt) -> Int {
        match i128::try_from(&value) {
            Ok(small) => Int::Small(small),
            Err(_) => Int::Big(value),
        }
    }

    pub(crate) fn to_big(&self) -> BigInt {
        match self {
            Int::Small(v) => BigInt::from(*v),
            Int::Big(v) => v.clone(),
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Int::Small(0))
    }

    pub(crate) fn is_negative(&self) -> bool {
        match self {
            Int::Small(v) => *v < 0,
            Int::Big(v) => v.sign() == Sign::Minus,
        }
    }

    pub(crate) fn is_odd(&self) -> bool {
        match self {
            Int::Small(v) => v & 1 == 1,
            Int::Big(v) => v.bit(0),
        }
    }

    pub(crate) fn neg(&self) -> Int {
        match self {
            Int::Small(v) => match v.checked_neg() {
                Some(v) => Int::Small(v),
                None => Int::from_big(-BigInt::from(*v)),
            },
            Int::Big(v) => Int::from_big(-v),
        }
    }

    pub(crate) fn abs(&self) -> Int {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    pub(crate) fn add(&self, other: &Int) -> Int {
        if let (Int::Small(a), Int::Small(b)) = (self, other)
            && let Some(sum) = a.checked_add(*b)
        {
            return Int::Small(sum);
        }
        Int::from_big(self.to_big() + other.to_big())
    }

    pub(crate) fn sub(&self, other: &Int) -> Int {
        if let (Int::Small(a), Int::Small(b)) = (self, other)
            && let Some(difference) = a.checked_sub(*b)
        {
            return Int::Small(difference);
        }
        Int::from_big(self.to_big() - other.to_big())
    }

    pub(crate) fn mul(&self, other: &Int) -> Int {
        if let (Int::Small(a), Int::Small(b)) = (self, other)
            && let Some(product) = a.checked_mul(*b)
        {
            return Int::Small(product);
        }
        Int::from_big(self.to_big() * other.to_big())
    }

    /// Quotient toward zero and remainder with the dividend's sign; `None` for a zero divisor.
    pub(crate) fn div_rem(&self, divisor: &Int) -> Option<(Int, Int)> {
        if divisor.is_zero() {
            return None;
        }
        if let (Int::Small(a), Int::Small(b)) = (self, divisor)
            && let (Some(q), Some(r)) = (a.checked_div(*b), a.checked_rem(*b))
        {
            return Some((Int::Small(q), Int::Small(r)));
        }
        let (a, b) = (self.to_big(), divisor.to_big());
        let quotient = &a / &b;
        let remainder = a - &quotient * b;
        Some((Int::from_big(quotient), Int::from_big(remainder)))
    }

    /// The quotient rounded to the nearest whole number, halves away from zero.
    pub(crate) fn div_round(&self, divisor: &Int) -> Option<Int> {
        let (quotient, remainder) = self.div_rem(divisor)?;
        let twice = remainder.abs().add(&remainder.abs());
        if twice.cmp(&divisor.abs()) == Ordering::Less {
            return Some(quotient);
        }
        let away = if self.is_negative() == divisor.is_negative() { Int::ONE } else { Int::Small(-1) };
        Some(quotient.add(&away))
    }

    /// Times 10^n.
    pub(crate) fn scale_up(&self, n: u32) -> Int {
        if n == 0 { self.clone() } else { self.mul(&Int::pow10(n)) }
    }

    /// Divided by 10^n, rounded half away from zero.
    pub(crate) fn scale_down_round(&self, n: u32) -> Int {
        if n == 0 {
            return self.clone();
        }
        self.div_round(&Int::pow10(n)).unwrap_or(Int::ZERO)
    }

    /// Divided by 10^n toward zero.
    pub(crate) fn scale_down_trunc(&self, n: u32) -> Int {
        if n == 0 {
            return self.clone();
        }
        self.div_rem(&Int::pow10(n)).map_or(Int::ZERO, |(quotient, _)| quotient)
    }

    pub(crate) fn cmp(&self, other: &Int) -> Ordering {
        match (self, other) {
            (Int::Small(a), Int::Small(b)) => a.cmp(b),
            _ => self.to_big().cmp(&other.to_big()),
        }
    }

    /// Decimal digits of the magnitude; zero has none.
    pub(crate) fn digit_count(&self) -> u32 {
        match self {
            Int::Small(v) => v.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1),
            Int::Big(_) => self.with_digits(|digits| digits.len() as u32),
        }
    }

    /// Calls `f` with the magnitude's decimal digits in ASCII; zero is `0`.
    pub(crate) fn with_digits<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Int::Small(v) => {
                let mut buffer = [b'0'; 39];
                let start = write_digits(&mut buffer, v.unsigned_abs());
                f(buffer.get(start..).unwrap_or_default())
            }
            Int::Big(v) => f(v.magnitude().to_str_radix(10).as_bytes()),
        }
    }

    /// From ASCII digits.
    pub(crate) fn from_digits(digits: &[u8]) -> Int {
        if digits.len() <= 38 {
            let mut value = 0_i128;
            let (mut chunk, mut unit) = (0_u64, 1_u64);
            for digit in digits {
                chunk = chunk * 10 + u64::from(digit.wrapping_sub(b'0'));
                unit *= 10;
                if unit == 1_000_000_000_000_000_000 {
                    value = value * i128::from(unit) + i128::from(chunk);
                    (chunk, unit) = (0, 1);
                }
            }
            return Int::Small(value * i128::from(unit) + i128::from(chunk));
        }
        Int::from_big(BigInt::parse_bytes(digits, 10).unwrap_or_default())
    }
}

/// Writes right-aligned and answers where the number begins.
fn write_digits(buffer: &mut [u8; 39], value: u128) -> usize {
    const CHUNK: u128 = 10_000_000_000_000_000_000;
    let mut at = buffer.len();
    let mut rest = value;
    loop {
        let (high, mut low) = (rest / CHUNK, (rest % CHUNK) as u64);
        let end = at;
        loop {
            at -= 1;
            if let Some(slot) = buffer.get_mut(at) {
                *slot = b'0' + (low % 10) as u8;
            }
            low /= 10;
            if low == 0 {
                break;
            }
        }
        if high == 0 {
            return at;
        }
        // Inner chunks keep their leading zeros: the buffer was filled with them.
        at = end - 19;
        rest = high;
    }
}

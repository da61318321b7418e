//! `to_char` of numbers and `to_number` (PostgreSQL manual, "Template Patterns for Numeric Formatting").

use super::Entry;
use super::kernel::{kernel, text};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::numeric::Numeric;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new(
        "to_char(int4, text) -> text",
        kernel!(|n: Int4, template: Text| match parse(template)?.scientific {
            true => print_float(n.into(), 15, template),
            false => print(&Numeric::from_parts(n.into(), 0), template),
        }),
    )
    .stable(),
    Entry::new(
        "to_char(int8, text) -> text",
        kernel!(|n: Int8, template: Text| print(&Numeric::from_parts(n.into(), 0), template)),
    )
    .stable(),
    Entry::new("to_char(numeric, text) -> text", kernel!(|n: Numeric, template: Text| print(&n.to_owned(), template)))
        .stable(),
    Entry::new(
        "to_char(float4, text) -> text",
        kernel!(|n: Float4, template: Text| print_float(n.into(), 6, template)),
    )
    .stable(),
    Entry::new("to_char(float8, text) -> text", kernel!(|n: Float8, template: Text| print_float(n, 15, template)))
        .stable(),
    Entry::new("to_number(text, text) -> numeric", kernel!(|value: Text, template: Text| to_number(value, template)))
        .stable(),
];

/// Where the sign goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A minus or a blank before the number.
    Default,
    /// S before the digits.
    Leading,
    /// S after the digits.
    Trailing,
    /// PR.
    Brackets,
    /// MI, PL or SG stand in the template.
    Placed,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Nine,
    Zero,
    Point,
    Group,
    Minus,
    Plus,
    Either,
    Currency,
    Ordinal(bool),
    Literal(char),
}

struct Template {
    pieces: Vec<Piece>,
    sign: Sign,
    fill: bool,
    before: usize,
    after: usize,
    /// Digits by which V shifts.
    shift: usize,
    scientific: bool,
    roman: Option<bool>,
}

fn syntax(message: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

fn parse(template: &str) -> SqlResult<Template> {
    let mut t = Template {
        pieces: Vec::new(),
        sign: Sign::Default,
        fill: false,
        before: 0,
        after: 0,
        shift: 0,
        scientific: false,
        roman: None,
    };
    let (mut point, mut shifted) = (false, false);
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find('"').unwrap_or(inner.len());
            t.pieces.extend(inner.get(..end).unwrap_or_default().chars().map(Piece::Literal));
            rest = inner.get(end + 1..).unwrap_or_default();
            continue;
        }
        let used = match t.word(rest) {
            Some(used) => used,
            None => {
                t.letter(first, &mut point, &mut shifted)?;
                first.len_utf8()
            }
        };
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(t)
}

impl Template {
    /// Takes a word of several letters from the front of `rest`; says how long it is.
    fn word(&mut self, rest: &str) -> Option<usize> {
        let front = |n: usize| rest.get(..n).unwrap_or_default().to_ascii_uppercase();
        if front(4) == "EEEE" {
            self.scientific = true;
            return Some(4);
        }
        let upper = rest.starts_with(|c: char| c.is_ascii_uppercase());
        match front(2).as_str() {
            "FM" => self.fill = true,
            "MI" | "SG" => {
                self.pieces.push(if front(1) == "M" { Piece::Minus } else { Piece::Either });
                self.sign = Sign::Placed;
            }
            "PL" => self.pieces.push(Piece::Plus),
            "PR" => self.sign = Sign::Brackets,
            "RN" => self.roman = Some(upper),
            "TH" => self.pieces.push(Piece::Ordinal(upper)),
            _ => return None,
        }
        Some(2)
    }

    fn letter(&mut self, letter: char, point: &mut bool, shifted: &mut bool) -> SqlResult<()> {
        match letter {
            '9' | '0' => {
                match (*point, *shifted) {
                    (true, _) => self.after += 1,
                    (false, true) => {
                        self.shift += 1;
                        self.before += 1;
                    }
                    (false, false) => self.before += 1,
                }
                self.pieces.push(if letter == '9' { Piece::Nine } else { Piece::Zero });
            }
            '.' | 'D' | 'd' => {
                if std::mem::replace(point, true) {
                    return Err(syntax("multiple decimal points"));
                }
                self.pieces.push(Piece::Point);
            }
            ',' | 'G' | 'g' => self.pieces.push(Piece::Group),
            'V' | 'v' => *shifted = true,
            'L' | 'l' => self.pieces.push(Piece::Currency),
            'S' | 's' if self.sign != Sign::Default => return Err(syntax("cannot use \"S\" twice")),
            'S' | 's' => self.sign = if self.before + self.after == 0 { Sign::Leading } else { Sign::Trailing },
            other => self.pieces.push(Piece::Literal(other)),
        }
        Ok(())
    }
}

/// A float as the decimal of its significant digits.
fn print_float(value: f64, digits: usize, template: &str) -> SqlResult<Datum> {
    if !value.is_finite() {
        return print(&if value.is_nan() { Numeric::nan() } else { Numeric::infinity(value < 0.0) }, template);
    }
    let after = parse(template)?.after;
    let whole = if value.abs() < 1.0 { 0 } else { value.abs().log10().floor() as usize + 1 };
    if parse(template)?.scientific {
        return text(exponential(&format!("{value:.after$e}"), &parse(template)?));
    }
    let shown = format!("{value:.*}", after.min(digits.saturating_sub(whole)));
    print(&Numeric::parse(&shown)?, template)
}

fn print(value: &Numeric, template: &str) -> SqlResult<Datum> {
    let t = parse(template)?;
    if let Some(upper) = t.roman {
        return text(roman(value, upper, t.fill));
    }
    if t.scientific {
        return text(scientific(value, &t)?);
    }
    let mut value = value.clone();
    if t.shift > 0 {
        value = value.mul(&Numeric::parse(&format!("1e{}", t.shift))?)?;
    }
    let finite = value.borrow().is_finite();
    if !finite {
        let name = value.to_string();
        let blanks = " ".repeat(if t.fill { 0 } else { (t.before + 1).saturating_sub(name.len()) });
        return text(if name.len() <= t.before { blanks + &name } else { "#".repeat(t.before) });
    }
    let rounded = value.round(t.after as i32)?;
    let shown = rounded.to_string();
    let (negative, digits) = match shown.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, shown.as_str()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = if whole == "0" { "" } else { whole };
    let fits = whole.len() <= t.before;
    text(Layout { t: &t, negative, whole, fraction, fits, out: String::new(), sign_done: false }.run())
}

/// Walks the template and puts digits, signs and separators where they belong.
struct Layout<'a> {
    t: &'a Template,
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    fits: bool,
    out: String,
    sign_done: bool,
}

impl Layout<'_> {
    /// The sign that stands right before the first digit.
    fn sign(&mut self) {
        if std::mem::replace(&mut self.sign_done, true) {
            return;
        }
        let blank = if self.t.fill { "" } else { " " };
        let sign = match (self.t.sign, self.negative) {
            (Sign::Default, true) => "-",
            (Sign::Default, false) => blank,
            (Sign::Leading, true) => "-",
            (Sign::Leading, false) => "+",
            (Sign::Brackets, true) => "<",
            (Sign::Brackets, false) => blank,
            (Sign::Trailing | Sign::Placed, _) => "",
        };
        self.out.push_str(sign);
    }

    fn blank(&mut self) {
        if !self.t.fill {
            self.out.push(' ');
        }
    }

    fn run(mut self) -> String {
        let first_zero = self.first_zero();
        // The last digit before a point that has none behind it shows a lone zero.
        let lone_zero = self.whole.is_empty() && self.t.after == 0;
        let last_kept = self.last_kept();
        let pieces = self.t.pieces.clone();
        let (mut seen, mut past_point, mut started) = (0, false, false);
        for piece in pieces {
            match piece {
                Piece::Nine | Piece::Zero if !past_point => {
                    let left = self.t.before - seen;
                    let shows = left <= self.whole.len() || first_zero.is_some_and(|z| seen >= z);
                    if !self.fits {
                        self.sign();
                        self.out.push('#');
                        started = true;
                    } else if shows || (lone_zero && left == 1) {
                        self.sign();
                        started = true;
                        let digit = self.whole.len().checked_sub(left).and_then(|i| self.whole.as_bytes().get(i));
                        self.out.push(digit.map_or('0', |d| char::from(*d)));
                    } else {
                        self.blank();
                    }
                    seen += 1;
                }
                Piece::Nine | Piece::Zero => {
                    let index = seen - self.t.before;
                    let digit = self.fraction.as_bytes().get(index).map_or('0', |d| char::from(*d));
                    if !self.fits {
                        self.out.push('#');
                    } else if index < last_kept {
                        self.out.push(digit);
                    }
                    seen += 1;
                }
                Piece::Point => {
                    self.sign();
                    started = true;
                    past_point = true;
                    self.out.push('.');
                }
                Piece::Group if started => self.out.push(','),
                Piece::Group | Piece::Currency => self.blank(),
                other => self.placed(&other),
            }
        }
        match (self.t.sign, self.negative) {
            (Sign::Brackets, true) => self.out.push('>'),
            (Sign::Brackets, false) => self.blank(),
            (Sign::Trailing, true) => self.out.push('-'),
            (Sign::Trailing, false) => self.out.push('+'),
            _ => {}
        }
        self.out
    }

    /// Signs and suffixes that stand where the template has them.
    fn placed(&mut self, piece: &Piece) {
        match (piece, self.negative) {
            (Piece::Minus | Piece::Either, true) => self.out.push('-'),
            (Piece::Minus, false) => self.blank(),
            (Piece::Plus | Piece::Either, false) => self.out.push('+'),
            (Piece::Plus, true) => self.blank(),
            (Piece::Ordinal(upper), false) if self.t.after == 0 => {
                let case = if *upper { super::template::Case::Upper } else { super::template::Case::Lower };
                self.out.push_str(super::template::ordinal(&self.out, case));
            }
            (Piece::Literal(c), _) => self.out.push(*c),
            _ => {}
        }
    }

    /// The first digit position before the point from which zeros show.
    fn first_zero(&self) -> Option<usize> {
        let before = self.t.pieces.iter().take_while(|p| **p != Piece::Point);
        before.filter(|p| matches!(p, Piece::Nine | Piece::Zero)).position(|p| *p == Piece::Zero)
    }

    /// How many digits after the point show: with FM zeros at the end that a 9 stands for are left out.
    fn last_kept(&self) -> usize {
        if !self.t.fill {
            return usize::MAX;
        }
        let after = self.t.pieces.iter().skip_while(|p| **p != Piece::Point);
        let digits: Vec<bool> =
            after.filter(|p| matches!(p, Piece::Nine | Piece::Zero)).map(|p| *p == Piece::Zero).collect();
        let zeros = digits.iter().rposition(|zero| *zero).map_or(0, |at| at + 1);
        self.fraction.trim_end_matches('0').len().max(zeros)
    }
}

fn scientific(value: &Numeric, t: &Template) -> SqlResult<String> {
    if !value.borrow().is_finite() {
        return Ok(format!(" {}", "#".repeat(t.before + t.after + 5)));
    }
    let digits = value.abs().to_string();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let all = [whole, fraction].concat();
    let lead = all.bytes().position(|d| d != b'0');
    let mut exponent = lead.map_or(0, |lead| whole.len() as i64 - 1 - lead as i64);
    let scaled = value.abs().mul(&Numeric::parse(&format!("1e{}", -exponent))?)?;
    let mut mantissa = scaled.round(t.after as i32)?.to_string();
    if mantissa.starts_with("10") {
        exponent += 1;
        mantissa = Numeric::parse(&mantissa)?.mul(&Numeric::parse("0.1")?)?.round(t.after as i32)?.to_string();
    }
    let sign = if value.to_string().starts_with('-') { "-" } else { "" };
    Ok(exponential(&format!("{sign}{mantissa}e{exponent}"), t))
}

/// A number in exponent notation with the sign as the template asks and at least two digits of exponent.
fn exponential(shown: &str, t: &Template) -> String {
    let (sign, digits) = match shown.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None if t.sign == Sign::Leading => ("+", shown),
        None => (if t.fill { "" } else { " " }, shown),
    };
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    format!("{sign}{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn roman(value: &Numeric, upper: bool, fill: bool) -> String {
    const STEPS: [(i32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let Some(mut left) = value.to_i32().ok().filter(|n| (1..4000).contains(n)) else { return "#".repeat(15) };
    let mut out = String::new();
    for (step, letters) in STEPS {
        while left >= step {
            out.push_str(letters);
            left -= step;
        }
    }
    let out = if upper { out } else { out.to_lowercase() };
    if fill { out } else { format!("{out:>15}") }
}

/// Keeps the digits, sign and point of the text where the template has digits for them.
fn to_number(value: &str, template: &str) -> SqlResult<Datum> {
    let t = parse(template)?;
    let mut digits = String::new();
    let (mut negative, mut point, mut seen) = (false, false, (0, 0));
    for c in value.chars() {
        match c {
            '0'..='9' if !point && seen.0 < t.before => {
                seen.0 += 1;
                digits.push(c);
            }
            '0'..='9' if point && seen.1 < t.after => {
                seen.1 += 1;
                digits.push(c);
            }
            '.' if !point && t.after > 0 => {
                point = true;
                digits.push('.');
            }
            '.' => break,
            '-' | '<' => negative = true,
            _ => {}
        }
    }
    if digits.is_empty() || digits == "." {
        return Err(SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type numeric: \" \"",
        ));
    }
    let number = Numeric::parse(&digits)?;
    let number = if t.shift > 0 { number.div(&Numeric::parse(&format!("1e{}", t.shift))?)? } else { number };
    Ok(Datum::Numeric(if negative { number.neg() } else { number }))
}

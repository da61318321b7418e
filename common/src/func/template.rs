//! Date templates: what `YYYY-MM-DD` and its like mean to `to_char`, `to_date` and `to_timestamp` (PostgreSQL manual, "Data Type Formatting
//! Functions").

/// How a word of a template is written, and so its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Title,
    Lower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Era { dots: bool },
    Meridiem { dots: bool },
    Century,
    DayName,
    DayAbbreviation,
    DayOfYear,
    IsoDayOfYear,
    DayOfMonth,
    DayOfWeek,
    IsoDayOfWeek,
    Fraction(u8),
    Hour24,
    Hour12,
    Minute,
    Second,
    SecondOfDay,
    Millisecond,
    Microsecond,
    Month,
    MonthName,
    MonthAbbreviation,
    MonthRoman,
    Quarter,
    Julian,
    WeekOfYear,
    WeekOfMonth,
    IsoWeek,
    Year(u8),
    IsoYear(u8),
    YearWithComma,
    Zone,
    ZoneHour,
    ZoneMinute,
    Offset,
}

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Field {
        field: Field,
        case: Case,
        /// FM: no padding.
        fill: bool,
        /// TH or th.
        ordinal: Option<Case>,
        name: &'static str,
    },
    /// Text in double quotes, or a letter that means nothing.
    Literal(char),
    Separator(char),
}

/// Longer names before those that they begin with.
const FIELDS: &[(&str, Field)] = &[
    ("A.D.", Field::Era { dots: true }),
    ("B.C.", Field::Era { dots: true }),
    ("A.M.", Field::Meridiem { dots: true }),
    ("P.M.", Field::Meridiem { dots: true }),
    ("AD", Field::Era { dots: false }),
    ("BC", Field::Era { dots: false }),
    ("AM", Field::Meridiem { dots: false }),
    ("PM", Field::Meridiem { dots: false }),
    ("CC", Field::Century),
    ("DAY", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::DayOfMonth),
    ("DY", Field::DayAbbreviation),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthAbbreviation),
    ("MS", Field::Millisecond),
    ("OF", Field::Offset),
    ("Q", Field::Quarter),
    ("RM", Field::MonthRoman),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHour),
    ("TZM", Field::ZoneMinute),
    ("TZ", Field::Zone),
    ("US", Field::Microsecond),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// The field at the front of a template.
fn field_at(rest: &str) -> Option<(&'static str, Field, Case)> {
    FIELDS.iter().find_map(|(name, field)| {
        let written = rest.get(..name.len())?;
        let title =
            || written.starts_with(|c: char| c.is_ascii_uppercase()) && written[1..] == name[1..].to_ascii_lowercase();
        let worded =
            matches!(field, Field::DayName | Field::DayAbbreviation | Field::MonthName | Field::MonthAbbreviation);
        let case = match () {
            () if written == *name => Case::Upper,
            () if written == name.to_ascii_lowercase() => Case::Lower,
            () if worded && written.eq_ignore_ascii_case(name) && title() => Case::Title,
            // Two letters are enough for PostgreSQL to tell how a name is meant.
            () if worded && written.eq_ignore_ascii_case(name) => Case::Title,
            () => return None,
        };
        Some((*name, *field, case))
    })
}

/// Cuts a template into its pieces.
pub(super) fn parse(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    loop {
        let mut fill = false;
        while let Some(after) = ["FM", "fm", "TM", "tm", "FX", "fx"].iter().find_map(|p| rest.strip_prefix(p)) {
            fill |= rest.starts_with(['F', 'f']) && !rest.starts_with("FX") && !rest.starts_with("fx");
            rest = after;
        }
        if let Some((name, field, case)) = field_at(rest) {
            rest = rest.get(name.len()..).unwrap_or_default();
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Case::Upper),
                Some("th") => Some(Case::Lower),
                _ => None,
            };
            if ordinal.is_some() {
                rest = rest.get(2..).unwrap_or_default();
            }
            pieces.push(Piece::Field { field, case, fill, ordinal, name });
            continue;
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => return pieces,
            Some('"') => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    let c = if c == '\\' { chars.next().unwrap_or('\\') } else { c };
                    pieces.push(Piece::Literal(c));
                }
            }
            Some('\\') if chars.as_str().starts_with('"') => {
                chars.next();
                pieces.push(Piece::Literal('"'));
            }
            Some(c) if c.is_alphanumeric() => pieces.push(Piece::Literal(c)),
            Some(c) => pieces.push(Piece::Separator(c)),
        }
        rest = chars.as_str();
    }
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN_MONTHS: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// English ordinals: 1st, 2nd, 3rd, 11th.
pub(super) fn ordinal(digits: &str, case: Case) -> &'static str {
    let mut last = digits.bytes().rev().filter(u8::is_ascii_digit);
    let suffix = match (last.next(), last.next()) {
        (_, Some(b'1')) => ("TH", "th"),
        (Some(b'1'), _) => ("ST", "st"),
        (Some(b'2'), _) => ("ND", "nd"),
        (Some(b'3'), _) => ("RD", "rd"),
        _ => ("TH", "th"),
    };
    if case == Case::Upper { suffix.0 } else { suffix.1 }
}

pub(super) fn in_case(word: &str, case: Case) -> String {
    match case {
        Case::Upper => word.to_uppercase(),
        Case::Lower => word.to_lowercase(),
        Case::Title => word.to_owned(),
    }
}

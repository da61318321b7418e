//! Checks a setting's new value and brings it into the form in which SHOW prints it.

use crate::settings::definition::{Check, Definition, Kind};
use crate::settings::number::{invalid, parse_integer, parse_real, show_integer, show_real};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::zone::Zone;

/// The canonical text of `text` as a value of this setting; `current` is the canonical text that it replaces.
pub(super) fn canonical(definition: &Definition, text: &str, current: &str) -> Result<String, SqlError> {
    let name = definition.name;
    match definition.kind {
        Kind::Bool => match parse_bool(text) {
            Some(value) => Ok(if value { "on" } else { "off" }.to_owned()),
            None => {
                let message = format!("parameter \"{name}\" requires a Boolean value");
                Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
            }
        },
        Kind::Integer { unit, min, max } => Ok(show_integer(parse_integer(name, text, unit, min, max)?, unit)),
        Kind::Real { unit, min, max } => Ok(show_real(parse_real(name, text, unit, min, max)?)),
        Kind::Enum(values) => one_of(name, text, values),
        Kind::Text(check) => checked(name, text, check, current),
    }
}

/// Settings whose value would change answers in a way that is not there yet. A session has no other role than its user.
pub(super) fn supported(name: &str, value: &str, user: &str) -> Result<(), SqlError> {
    let refused = match name {
        "standard_conforming_strings" => value == "off",
        "IntervalStyle" => value != "postgres",
        "DateStyle" => !value.starts_with("ISO"),
        "transform_null_equals" => value == "on",
        "seed" => true,
        "session_authorization" | "role" if value == user => false,
        "session_authorization" => true,
        "role" if value != "none" => {
            let message = format!("role \"{value}\" does not exist");
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        _ => false,
    };
    match refused {
        true => Err(SqlError::unsupported(format!("{name} = '{value}'"))),
        false => Ok(()),
    }
}

/// PostgreSQL's `parse_bool`: any beginning of a word that leaves no doubt.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "on" | "1" => Some(true),
        "of" | "off" | "0" => Some(false),
        "" | "o" => None,
        _ if "true".starts_with(&text) || "yes".starts_with(&text) => Some(true),
        _ if "false".starts_with(&text) || "no".starts_with(&text) => Some(false),
        _ => None,
    }
}

fn one_of(name: &str, text: &str, values: &[&str]) -> Result<String, SqlError> {
    let known = |wanted: &str| values.iter().find(|value| value.eq_ignore_ascii_case(wanted));
    let alias = match text.to_ascii_lowercase().as_str() {
        "debug" => Some("debug2"),
        "info" => Some("notice"),
        "true" | "yes" | "1" => Some("on"),
        "false" | "no" | "0" => Some("off"),
        _ => None,
    };
    match known(text).or_else(|| alias.and_then(known)) {
        Some(value) => Ok((*value).to_owned()),
        None => Err(invalid(name, text).with_hint(format!("Available values: {}.", values.join(", ")))),
    }
}

fn checked(name: &str, text: &str, check: Check, current: &str) -> Result<String, SqlError> {
    match check {
        Check::Free | Check::SearchPath => Ok(text.to_owned()),
        Check::Printable => {
            Ok(text.bytes().map(|b| if (b' '..=b'~').contains(&b) { char::from(b) } else { '?' }).collect())
        }
        Check::TimeZone => Zone::parse(text).map(|zone| zone.to_string()).ok_or_else(|| invalid(name, text)),
        Check::DateStyle => date_style(name, text, current),
        Check::Encoding => encoding(name, text),
    }
}

/// Encodings that PostgreSQL knows and Toroid does not translate, letters and digits only.
const OTHER_ENCODINGS: &[&str] = &[
    "latin1",
    "iso88591",
    "latin2",
    "iso88592",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "iso885915",
    "latin10",
    "win1250",
    "win1251",
    "win1252",
    "windows1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "koi8",
    "koi8r",
    "koi8u",
    "eucjp",
    "euccn",
    "euckr",
    "euctw",
    "sjis",
    "big5",
    "gbk",
    "uhc",
    "gb18030",
    "johab",
    "shiftjis2004",
    "eucjis2004",
    "mulewin",
];

fn encoding(name: &str, text: &str) -> Result<String, SqlError> {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "utf8" | "unicode" => Ok("UTF8".to_owned()),
        "sqlascii" => Ok("SQL_ASCII".to_owned()),
        other if OTHER_ENCODINGS.contains(&other) => Err(SqlError::unsupported(format!("client_encoding {text}"))),
        _ => Err(invalid(name, text)),
    }
}

/// A list of a style and an order, either of which may be left out.
fn date_style(name: &str, text: &str, current: &str) -> Result<String, SqlError> {
    let (mut style, mut order) = (None, None);
    for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        let (slot, value) = match word.as_str() {
            "iso" => (&mut style, "ISO"),
            "sql" => (&mut style, "SQL"),
            "german" => (&mut style, "German"),
            word if word.starts_with("postgres") => (&mut style, "Postgres"),
            "ymd" => (&mut order, "YMD"),
            "dmy" | "european" | "euro" => (&mut order, "DMY"),
            word if word.starts_with("euro") => (&mut order, "DMY"),
            "mdy" | "us" => (&mut order, "MDY"),
            word if word.starts_with("noneuro") => (&mut order, "MDY"),
            "default" => continue,
            _ => return Err(invalid(name, text).with_detail(format!("Unrecognized key word: \"{word}\"."))),
        };
        if slot.replace(value).is_some_and(|before| before != value) {
            return Err(invalid(name, text).with_detail("Conflicting \"datestyle\" specifications."));
        }
    }
    let (old_style, old_order) = current.split_once(", ").unwrap_or(("ISO", "MDY"));
    if style == Some("German") && order.is_none() {
        order = Some("DMY");
    }
    Ok(format!("{}, {}", style.unwrap_or(old_style), order.unwrap_or(old_order)))
}

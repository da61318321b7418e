//! COPY: its table or query, and options checked against each other.

use super::binder::{Binder, at, error_at};
use super::write::defaults;
use crate::bound::{CopyFormat, CopyIn, CopyOptions, OutputColumn, Query, Rel, Statement};
use crate::parse::copy::{CopyCommand, CopyOption, CopySource, CopyValue};
use sqlparser::ast::Spanned;
use toroid_common::catalog::Table;
use toroid_common::error::{SqlError, SqlResult, SqlState};

impl Binder<'_> {
    pub(super) fn copy(&mut self, copy: &CopyCommand) -> SqlResult<Statement> {
        match (&copy.source, copy.from) {
            (CopySource::Table { name, columns }, true) => {
                let table = self.written_table(name.schema.as_deref(), &name.name, 0)?;
                let targets = self.target_columns(&table, columns.as_deref().unwrap_or_default()).map_err(unplaced)?;
                let names = names_at(&table, &targets);
                let options = options(&copy.options, &names, true)?;
                Ok(Statement::CopyIn(CopyIn { defaults: defaults(&table), table, targets, options }))
            }
            (CopySource::Table { name, columns }, false) => {
                let Some(table) = self.stored_table(name.schema.as_deref(), &name.name) else {
                    return self.copy_virtual(name, copy);
                };
                let targets = self.target_columns(&table, columns.as_deref().unwrap_or_default()).map_err(unplaced)?;
                let options = options(&copy.options, &names_at(&table, &targets), false)?;
                let (rel, _) = self.scan_columns(&table);
                let Rel::Scan { columns: ids, .. } = &rel else { return Err(SqlError::internal("a scan was lost")) };
                let mut output = Vec::with_capacity(targets.len());
                for target in &targets {
                    let found = ids.iter().find(|(_, position)| position == target);
                    let (Some((id, _)), Some(column)) = (found, table.columns.get(usize::from(*target))) else {
                        continue;
                    };
                    let (name, origin) = (column.name.clone(), Some((table.id, column.id.0)));
                    output.push(OutputColumn { name, id: *id, ty: column.ty, origin });
                }
                for column in &output {
                    self.use_column(column.id);
                }
                Ok(Statement::CopyOut { query: Query { rel, output }, options })
            }
            (CopySource::Query(query), _) => {
                let bound = self.query(query)?;
                let names: Vec<String> = bound.output.iter().map(|c| c.name.clone()).collect();
                let options = options(&copy.options, &names, false).map_err(|e| e.or_at(at(query.span())))?;
                Ok(Statement::CopyOut { query: bound, options })
            }
        }
    }

    /// COPY of a virtual table is that of a query of it.
    fn copy_virtual(&mut self, name: &crate::parse::cursor::Name, copy: &CopyCommand) -> SqlResult<Statement> {
        let schema = name.schema.as_deref();
        if self.virtual_table(schema, &name.name).is_none() {
            return Err(super::from::undefined_table(schema, &name.name, 0));
        }
        let text = format!("SELECT * FROM {}\"{}\"", schema.map_or(String::new(), |s| format!("\"{s}\".")), name.name);
        let tokens = crate::parse::lex::tokens(&text)?;
        let query = crate::parse::parse_with(&text, &tokens, |p| p.parse_query())?;
        let bound = self.query(&query)?;
        let names: Vec<String> = bound.output.iter().map(|c| c.name.clone()).collect();
        Ok(Statement::CopyOut { query: bound, options: options(&copy.options, &names, false)? })
    }
}

/// PostgreSQL gives no position for COPY's columns.
fn unplaced(error: SqlError) -> SqlError {
    let bare = SqlError::new(error.state(), error.message());
    match error.hint() {
        Some(hint) => bare.with_hint(hint),
        None => bare,
    }
}

fn names_at(table: &Table, targets: &[u16]) -> Vec<String> {
    targets.iter().filter_map(|t| table.columns.get(usize::from(*t))).map(|c| c.name.clone()).collect()
}

/// Options as given, each at most once.
#[derive(Default)]
struct Given {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<bool>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<CopyValue>,
    force_null: Option<CopyValue>,
    force_not_null: Option<CopyValue>,
    freeze: Option<()>,
    encoding: Option<()>,
}

fn options(list: &[CopyOption], columns: &[String], from: bool) -> SqlResult<CopyOptions> {
    let mut given = Given::default();
    for option in list {
        take(&mut given, option)?;
    }
    let format = given.format.unwrap_or(CopyFormat::Text);
    check(&given, format, from)?;
    let csv = format == CopyFormat::Csv;
    let quote = one_byte(given.quote.as_deref().unwrap_or("\""), "quote")?;
    let positions = |value: &Option<CopyValue>, what: &str| -> SqlResult<Vec<usize>> {
        match value {
            Some(CopyValue::Columns(names)) => named(names, columns, what),
            _ => Ok(Vec::new()),
        }
    };
    Ok(CopyOptions {
        format,
        delimiter: one_byte(given.delimiter.as_deref().unwrap_or(if csv { "," } else { "\t" }), "delimiter")?,
        null: given.null.clone().unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() }),
        header: given.header.unwrap_or(false),
        quote,
        escape: given.escape.as_deref().map_or(Ok(quote), |e| one_byte(e, "escape"))?,
        force_quote: match &given.force_quote {
            None => None,
            Some(CopyValue::All) => Some((0..columns.len()).collect()),
            Some(_) => Some(positions(&given.force_quote, "FORCE_QUOTE")?),
        },
        force_null: positions(&given.force_null, "FORCE_NULL")?,
        force_not_null: positions(&given.force_not_null, "FORCE_NOT_NULL")?,
    })
}

fn take(given: &mut Given, option: &CopyOption) -> SqlResult<()> {
    let (name, value, place) = (option.name.as_str(), &option.value, option.at);
    match name {
        "format" => set(&mut given.format, copy_format(text(option)?, place)?, place),
        "delimiter" => set(&mut given.delimiter, text(option)?.to_owned(), place),
        "null" => set(&mut given.null, text(option)?.to_owned(), place),
        "header" => set(&mut given.header, truth(option)?, place),
        "quote" => set(&mut given.quote, text(option)?.to_owned(), place),
        "escape" => set(&mut given.escape, text(option)?.to_owned(), place),
        "force_quote" => set(&mut given.force_quote, value.clone(), place),
        "force_null" => set(&mut given.force_null, value.clone(), place),
        "force_not_null" => set(&mut given.force_not_null, value.clone(), place),
        "freeze" => {
            truth(option)?;
            set(&mut given.freeze, (), place)
        }
        "encoding" => match text(option)?.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "utf8" | "unicode" => set(&mut given.encoding, (), place),
            other => Err(SqlError::unsupported(format!("encoding {other}"))),
        },
        _ => Err(error_at(SqlState::SYNTAX_ERROR, format!("option \"{name}\" not recognized"), place)),
    }
}

fn set<T>(slot: &mut Option<T>, value: T, place: u32) -> SqlResult<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(error_at(SqlState::SYNTAX_ERROR, "conflicting or redundant options", place)),
    }
}

fn text(option: &CopyOption) -> SqlResult<&str> {
    match &option.value {
        CopyValue::Text(text) => Ok(text),
        CopyValue::None | CopyValue::Columns(_) | CopyValue::All => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{} requires a parameter", option.name)))
        }
    }
}

fn truth(option: &CopyOption) -> SqlResult<bool> {
    match &option.value {
        CopyValue::None => Ok(true),
        CopyValue::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "1" | "match" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{} requires a Boolean value", option.name))),
        },
        CopyValue::Columns(_) | CopyValue::All => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{} requires a Boolean value", option.name)))
        }
    }
}

fn copy_format(name: &str, place: u32) -> SqlResult<CopyFormat> {
    match name {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        _ => Err(error_at(SqlState::INVALID_PARAMETER_VALUE, format!("COPY format \"{name}\" not recognized"), place)),
    }
}

fn check(given: &Given, format: CopyFormat, from: bool) -> SqlResult<()> {
    let wrong = |message: &str| Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    let absent = |message: &str| Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    if format == CopyFormat::Binary {
        if given.delimiter.is_some() {
            return wrong("cannot specify DELIMITER in BINARY mode");
        }
        if given.null.is_some() {
            return wrong("cannot specify NULL in BINARY mode");
        }
        if given.header.is_some() {
            return wrong("cannot specify HEADER in BINARY mode");
        }
    }
    if format != CopyFormat::Csv {
        let only = [
            (given.quote.is_some(), "COPY quote available only in CSV mode"),
            (given.escape.is_some(), "COPY escape available only in CSV mode"),
            (given.force_quote.is_some(), "COPY force quote available only in CSV mode"),
            (given.force_not_null.is_some(), "COPY force not null available only in CSV mode"),
            (given.force_null.is_some(), "COPY force null available only in CSV mode"),
        ];
        if let Some((_, message)) = only.iter().find(|(is_given, _)| *is_given) {
            return absent(message);
        }
    }
    if from && given.force_quote.is_some() {
        return absent("COPY force quote only available using COPY TO");
    }
    if !from && (given.force_not_null.is_some() || given.force_null.is_some()) {
        return absent("COPY force not null only available using COPY FROM");
    }
    Ok(())
}

fn one_byte(text: &str, what: &str) -> SqlResult<u8> {
    match text.as_bytes() {
        [byte] if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        [_] => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("COPY {what} cannot be newline or carriage return"),
        )),
        _ => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("COPY {what} must be a single one-byte character"),
        )),
    }
}

fn named(names: &[(String, u32)], columns: &[String], what: &str) -> SqlResult<Vec<usize>> {
    let find = |(name, _): &(String, u32)| {
        columns.iter().position(|column| column == name).ok_or_else(|| {
            let message = format!("{what} column \"{name}\" not referenced by COPY");
            SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message)
        })
    };
    names.iter().map(find).collect()
}

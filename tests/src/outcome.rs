//! What a server answered to one statement, as lines that can be compared, written to a file and read back.

use crate::message::{Incoming, Report};
use std::fmt::Write as _;

/// One thing that the server said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    Parameters(Vec<u32>),
    Columns(Vec<Column>),
    NoColumns,
    Row(Vec<Option<String>>),
    Tag(String),
    Empty,
    Error {
        state: String,
        message: String,
        position: Option<u32>,
    },
    Notice {
        severity: String,
        state: String,
        message: String,
    },
    CopyIn(String),
    CopyOut(String),
    CopyLine(String),
    /// The connection ended, or the protocol was broken.
    Lost(String),
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub name: String,
    pub oid: u32,
    pub modifier: i32,
}

/// All that was said to one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub lines: Vec<Line>,
}

impl Outcome {
    /// The outcome of these messages; values are written in hexadecimal when they are `binary`.
    pub fn of(messages: Vec<Incoming>, binary: bool) -> Outcome {
        let mut lines = Vec::new();
        for message in messages {
            match message {
                Incoming::CopyData(data) => lines.extend(copy_lines(&data)),
                other => lines.extend(line(other, binary)),
            }
        }
        if binary {
            hide_oids(&mut lines);
        }
        Outcome { lines }
    }

    pub fn lost(why: impl ToString) -> Outcome {
        Outcome { lines: vec![Line::Lost(why.to_string())] }
    }

    /// Whether it is the answer to something that is not supported.
    pub fn is_unsupported(&self) -> bool {
        self.lines.iter().any(|line| matches!(line, Line::Error { state, .. } if state == "0A000"))
    }

    /// One line of text for each line, each ended by a newline.
    pub fn render(&self) -> String {
        self.lines.iter().fold(String::new(), |text, line| text + &render(line) + "\n")
    }

    /// Reads what `render` wrote.
    pub fn parse(text: &str) -> Option<Outcome> {
        text.lines().map(parse_line).collect::<Option<Vec<_>>>().map(|lines| Outcome { lines })
    }
}

/// The difference between what was expected and what came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows, names, types, tags, SQLSTATEs: the first place where they differ.
    pub hard: Option<String>,
    /// Kind and content of what differs beside that.
    pub soft: Vec<(Soft, String)>,
}

/// What may differ without changing what a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Soft {
    Message,
    Position,
    Notice,
    Modifier,
}

/// Compares; `unordered` rows are sorted first.
pub fn compare(expected: &Outcome, got: &Outcome, unordered: bool) -> Comparison {
    let mut comparison = Comparison::default();
    let (wanted, given) = (hard_lines(expected, unordered), hard_lines(got, unordered));
    if let Some(at) = (0..wanted.len().max(given.len())).find(|at| wanted.get(*at) != given.get(*at)) {
        let show = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "nothing more".to_owned());
        comparison.hard = Some(format!("expected {}\n         got {}", show(&wanted), show(&given)));
        return comparison;
    }
    for (kind, of) in [
        (Soft::Message, message as fn(&Line) -> _),
        (Soft::Position, position),
        (Soft::Notice, notice),
        (Soft::Modifier, modifiers),
    ] {
        let pick = |outcome: &Outcome| outcome.lines.iter().filter_map(of).collect::<Vec<String>>().join("; ");
        let (wanted, given) = (pick(expected), pick(got));
        // Whether a result's description comes before its error is chance.
        let failed = kind == Soft::Modifier && expected.lines.iter().any(|line| matches!(line, Line::Error { .. }));
        if wanted != given && !failed {
            comparison.soft.push((kind, format!("expected {wanted}\n         got {given}")));
        }
    }
    comparison
}

/// The lines that must be alike, without the parts that are compared softly. How much of a result comes before its error is chance.
fn hard_lines(outcome: &Outcome, unordered: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for line in outcome.lines.iter().filter(|line| !matches!(line, Line::Notice { .. })) {
        if matches!(line, Line::Error { .. }) {
            while lines
                .pop_if(|last| !matches!(last, Line::Tag(_) | Line::Empty | Line::Error { .. } | Line::Lost(_)))
                .is_some()
            {}
        }
        lines.push(line.clone());
    }
    if unordered {
        for run in lines.chunk_by_mut(|a, b| matches!((a, b), (Line::Row(_), Line::Row(_)))) {
            run.sort();
        }
    }
    let strict = |line: Line| match line {
        Line::Error { state, .. } => Line::Error { state, message: String::new(), position: None },
        Line::Columns(columns) => {
            Line::Columns(columns.into_iter().map(|column| Column { modifier: -1, ..column }).collect())
        }
        other => other,
    };
    lines.into_iter().map(|line| render(&strict(line)).trim_end().to_owned()).collect()
}

fn message(line: &Line) -> Option<String> {
    match line {
        Line::Error { message, .. } => Some(message.clone()),
        _ => None,
    }
}

fn position(line: &Line) -> Option<String> {
    match line {
        Line::Error { position, .. } => Some(position.map_or("-".to_owned(), |at| at.to_string())),
        _ => None,
    }
}

fn notice(line: &Line) -> Option<String> {
    matches!(line, Line::Notice { .. }).then(|| render(line))
}

fn modifiers(line: &Line) -> Option<String> {
    match line {
        Line::Columns(columns) => Some(columns.iter().map(|c| c.modifier.to_string()).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

fn line(message: Incoming, binary: bool) -> Option<Line> {
    let value = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) if !binary => text,
        Ok(text) => hex(text.as_bytes()),
        Err(error) => hex(error.as_bytes()),
    };
    Some(match message {
        Incoming::ParameterDescription(oids) => Line::Parameters(oids),
        Incoming::RowDescription(fields) => Line::Columns(
            fields.into_iter().map(|f| Column { name: f.name, oid: f.oid, modifier: f.modifier }).collect(),
        ),
        Incoming::NoData => Line::NoColumns,
        Incoming::DataRow(values) => Line::Row(values.into_iter().map(|v| v.map(value)).collect()),
        Incoming::CommandComplete(tag) => Line::Tag(tag),
        Incoming::EmptyQuery => Line::Empty,
        Incoming::Error(report) => error(&report),
        Incoming::Notice(report) => {
            let text = |text: &str| text.to_owned();
            Line::Notice {
                severity: text(report.severity()),
                state: text(report.state()),
                message: text(report.message()),
            }
        }
        Incoming::Notification { channel, payload, .. } => Line::Tag(format!("NOTIFICATION {channel} {payload}")),
        Incoming::CopyIn { format, columns } => Line::CopyIn(format!("{format} {columns:?}")),
        Incoming::CopyOut { format, columns } => Line::CopyOut(format!("{format} {columns:?}")),
        Incoming::Unknown(tag, body) => {
            Line::Lost(format!("message {:?} of {} bytes breaks the protocol", tag as char, body.len()))
        }
        Incoming::PortalSuspended => Line::Lost("a portal without row limit was suspended".to_owned()),
        Incoming::Authentication(_) | Incoming::ParameterStatus(..) | Incoming::BackendKey(..) | Incoming::Ready(_) => {
            return None;
        }
        Incoming::ParseComplete | Incoming::BindComplete | Incoming::CloseComplete | Incoming::CopyDone => return None,
        Incoming::CopyData(_) | Incoming::NegotiateVersion(_) => return None,
    })
}

/// In binary a regclass is the oid that the server happened to give; the text protocols compare its name.
fn hide_oids(lines: &mut [Line]) {
    const REGCLASS: u32 = 2205;
    let mut hidden = Vec::new();
    for line in lines {
        match line {
            Line::Columns(columns) => hidden = columns.iter().map(|c| c.oid == REGCLASS).collect(),
            Line::Row(values) => {
                for (value, _) in values.iter_mut().zip(&hidden).filter(|(_, hide)| **hide) {
                    if let Some(value) = value {
                        *value = "an oid".to_owned();
                    }
                }
            }
            _ => {}
        }
    }
}

/// Detail, and where in COPY's data, are compared with the message.
fn error(report: &Report) -> Line {
    let detail = report.field('D').map(|detail| format!(" DETAIL: {detail}"));
    let place =
        report.field('W').filter(|context| context.starts_with("COPY ")).map(|context| format!(" CONTEXT: {context}"));
    let message = [Some(report.message().to_owned()), detail, place].into_iter().flatten().collect();
    Line::Error { state: report.state().to_owned(), message, position: report.position() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        // infallible: writing to a String
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// COPY OUT data by lines when it is text, else whole.
fn copy_lines(data: &[u8]) -> Vec<Line> {
    match std::str::from_utf8(data) {
        Ok(text) => {
            text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| Line::CopyLine(line.to_owned())).collect()
        }
        Err(_) => vec![Line::CopyLine(hex(data))],
    }
}

fn render(line: &Line) -> String {
    let list = |values: Vec<String>| values.join(" | ");
    match line {
        Line::Parameters(oids) => format!("$ {}", list(oids.iter().map(u32::to_string).collect())),
        Line::Columns(columns) => {
            let column = |c: &Column| match c.modifier {
                -1 => format!("{} {}", escape(&c.name), c.oid),
                modifier => format!("{} {}({modifier})", escape(&c.name), c.oid),
            };
            format!(": {}", list(columns.iter().map(column).collect()))
        }
        Line::NoColumns => "-".to_owned(),
        Line::Row(values) => {
            let value = |value: &Option<String>| match value.as_deref() {
                None => "NULL".to_owned(),
                Some("NULL") => "\\NULL".to_owned(),
                Some(text) => escape(text),
            };
            match values.is_empty() {
                true => "=".to_owned(),
                false => format!("= {}", list(values.iter().map(value).collect())),
            }
        }
        Line::Tag(tag) => format!("# {tag}"),
        Line::Empty => "E".to_owned(),
        Line::Error { state, message, position: Some(at) } => format!("! {state} {} @{at}", escape(message)),
        Line::Error { state, message, position: None } => format!("! {state} {}", escape(message)),
        Line::Notice { severity, state, message } => format!("~ {severity} {state} {}", escape(message)),
        Line::CopyIn(shape) => format!("< {shape}"),
        Line::CopyOut(shape) => format!("> {shape}"),
        Line::CopyLine(text) => format!("+ {}", escape(text)),
        Line::Lost(why) => format!("X {}", escape(why)),
    }
}

/// Keeps a value on its line and apart from its neighbours.
fn escape(text: &str) -> String {
    let mut escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('|', "\\p");
    if let Some(rest) = escaped.strip_prefix(' ') {
        escaped = format!("\\s{rest}");
    }
    if let Some(rest) = escaped.strip_suffix(' ') {
        escaped = format!("{rest}\\s");
    }
    escaped
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('p') => plain.push('|'),
                Some('s') => plain.push(' '),
                Some(other) => plain.push(other),
                None => {}
            },
            (other, false) => plain.push(other),
        }
    }
    plain
}

fn parse_line(text: &str) -> Option<Line> {
    let (mark, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match mark {
        "$" => Line::Parameters(
            rest.split(" | ").filter(|oid| !oid.is_empty()).map(|oid| oid.parse().ok()).collect::<Option<_>>()?,
        ),
        ":" => Line::Columns(rest.split(" | ").filter(|c| !c.is_empty()).map(parse_column).collect::<Option<_>>()?),
        "-" => Line::NoColumns,
        "=" if text == "=" => Line::Row(Vec::new()),
        "=" => Line::Row(rest.split(" | ").map(|value| (value != "NULL").then(|| unescape(value))).collect()),
        "#" => Line::Tag(rest.to_owned()),
        "E" => Line::Empty,
        "!" => {
            let (state, rest) = rest.split_once(' ')?;
            let at = rest.rsplit_once(" @").and_then(|(message, at)| Some((message, at.parse().ok()?)));
            let (message, position) = at.map_or((rest, None), |(message, at)| (message, Some(at)));
            Line::Error { state: state.to_owned(), message: unescape(message), position }
        }
        "~" => {
            let (severity, rest) = rest.split_once(' ')?;
            let (state, message) = rest.split_once(' ')?;
            Line::Notice { severity: severity.to_owned(), state: state.to_owned(), message: unescape(message) }
        }
        "<" => Line::CopyIn(rest.to_owned()),
        ">" => Line::CopyOut(rest.to_owned()),
        "+" => Line::CopyLine(unescape(rest)),
        "X" => Line::Lost(unescape(rest)),
        _ => return None,
    })
}

fn parse_column(text: &str) -> Option<Column> {
    let (name, ty) = text.rsplit_once(' ')?;
    let (oid, modifier) = match ty.split_once('(') {
        Some((oid, modifier)) => (oid, modifier.trim_end_matches(')').parse().ok()?),
        None => (ty, -1),
    };
    Some(Column { name: unescape(name), oid: oid.parse().ok()?, modifier })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Line {
        Line::Row(values.iter().map(|v| v.map(str::to_owned)).collect())
    }

    fn failure(state: &str, message: &str, position: Option<u32>) -> Line {
        Line::Error { state: state.to_owned(), message: message.to_owned(), position }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let columns = vec![
            Column { name: "a b".into(), oid: 23, modifier: -1 },
            Column { name: "?column?".into(), oid: 1043, modifier: 14 },
        ];
        let outcome = Outcome {
            lines: vec![
                Line::Parameters(vec![23, 25]),
                Line::Columns(columns),
                row(&[Some(""), None, Some("NULL"), Some(" a|b\n\\ ")]),
                row(&[]),
                Line::Tag("SELECT 2".into()),
                failure("42601", "syntax error at or near \"x\"", Some(7)),
                failure("22012", "division by zero", None),
                Line::Notice {
                    severity: "NOTICE".into(),
                    state: "00000".into(),
                    message: "table \"t\" does not exist, skipping".into(),
                },
                Line::CopyLine("1\t2".into()),
                Line::Empty,
                Line::NoColumns,
                Line::Lost("gone".into()),
            ],
        };
        assert_eq!(Outcome::parse(&outcome.render()), Some(outcome));
    }

    #[test]
    fn rows_compare_in_order_unless_unordered() {
        let a = Outcome { lines: vec![row(&[Some("1")]), row(&[Some("2")]), Line::Tag("SELECT 2".into())] };
        let b = Outcome { lines: vec![row(&[Some("2")]), row(&[Some("1")]), Line::Tag("SELECT 2".into())] };
        assert!(compare(&a, &b, false).hard.is_some());
        assert_eq!(compare(&a, &b, true), Comparison::default());
    }

    #[test]
    fn rows_before_an_error_are_chance() {
        let error = || failure("22012", "division by zero", None);
        let a = Outcome { lines: vec![Line::Tag("SELECT 1".into()), row(&[Some("1")]), error()] };
        let b = Outcome { lines: vec![Line::Tag("SELECT 1".into()), error()] };
        assert_eq!(compare(&a, &b, false), Comparison::default());
        assert!(compare(&a, &Outcome { lines: vec![error()] }, false).hard.is_some());
    }

    #[test]
    fn states_are_hard_and_messages_soft() {
        let of = |line| Outcome { lines: vec![line] };
        let expected = of(failure("22012", "division by zero", Some(8)));
        assert!(compare(&expected, &of(failure("22003", "division by zero", Some(8))), false).hard.is_some());
        let comparison = compare(&expected, &of(failure("22012", "no", None)), false);
        assert_eq!(comparison.hard, None);
        assert_eq!(comparison.soft.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Soft::Message, Soft::Position]);
    }
}

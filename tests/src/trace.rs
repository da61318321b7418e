//! Protocol traces: what a client sends, and what comes back in which order.
//!
//! A trace file holds groups apart by blank lines. In a group, lines with `>` are sent together, lines with `<` are the replies.
//! Words are apart by spaces; texts stand in double quotes.

use crate::client::Client;
use crate::message::{Format, Incoming, Outgoing, Target, Value};
use std::io;
use std::time::Duration;

/// Messages sent together, and the replies to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub remarks: Vec<String>,
    pub sent: Vec<String>,
    pub replies: Vec<String>,
}

/// Reads a trace file.
pub fn parse(text: &str) -> Vec<Group> {
    let mut groups = vec![Group::default()];
    for line in text.lines() {
        let group = groups.last_mut().expect("there is always one");
        match line.split_at_checked(2) {
            Some(("> ", rest)) => group.sent.push(rest.to_owned()),
            Some(("< ", rest)) => group.replies.push(rest.to_owned()),
            Some(_) => group.remarks.push(line.to_owned()),
            None => groups.push(Group::default()),
        }
    }
    groups.retain(|group| *group != Group::default());
    groups
}

/// Writes groups as a trace file.
pub fn render(groups: &[Group]) -> String {
    let lines = |mark: &str, lines: &[String]| lines.iter().map(|line| format!("{mark}{line}\n")).collect::<String>();
    let group = |g: &Group| lines("", &g.remarks) + &lines("> ", &g.sent) + &lines("< ", &g.replies);
    groups.iter().map(group).collect::<Vec<_>>().join("\n")
}

/// Sends a group's messages and gives the replies: up to as many ReadyForQuery as it asks for, then whatever still comes at once.
pub fn run(client: &mut Client, group: &Group) -> Result<Vec<String>, String> {
    let mut messages = Outgoing::new();
    let mut ready = 0;
    for line in &group.sent {
        let words = words(line);
        ready += usize::from(matches!(words[0].as_str(), "Sync" | "Query"));
        messages = add(messages, &words).ok_or_else(|| format!("not a message: {line}"))?;
    }
    let failed = |error: io::Error| error.to_string();
    client.send(&messages).map_err(failed)?;
    let mut replies = Vec::new();
    while ready > 0 {
        let message = client.receive().map_err(failed)?;
        ready -= usize::from(matches!(message, Incoming::Ready(_)));
        replies.extend(reply(&message));
    }
    client.set_patience(Duration::from_millis(if replies.is_empty() { 500 } else { 20 })).map_err(failed)?;
    while let Ok(message) = client.receive() {
        replies.extend(reply(&message));
        if replies.len() == group.replies.len() {
            break;
        }
    }
    client.set_patience(crate::client::PATIENCE).map_err(failed)?;
    Ok(joined(replies))
}

/// How COPY's data is cut into messages is the server's choice: neighbours become one.
fn joined(replies: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for reply in replies {
        match (
            joined.last_mut().and_then(|last| last.strip_suffix('"').map(str::to_owned)),
            reply.strip_prefix("CopyData \""),
        ) {
            (Some(last), Some(more)) if last.starts_with("CopyData") => {
                joined.pop();
                joined.push(last + more);
            }
            _ => joined.push(reply),
        }
    }
    joined
}

/// Splits a line at spaces outside of double quotes, and takes the quotes away.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("there is always one").push(other),
        }
    }
    words
}

fn add(messages: Outgoing, words: &[String]) -> Option<Outgoing> {
    let text = |at: usize| words.get(at).map(String::as_str);
    let format = |at: usize| match text(at) {
        Some("binary") => Some(Format::Binary),
        Some("text") => Some(Format::Text),
        _ => None,
    };
    let target = |at: usize| match text(at)? {
        "S" => Some(Target::Statement),
        "P" => Some(Target::Portal),
        _ => None,
    };
    Some(match text(0)? {
        "Query" => messages.query(text(1)?),
        "Parse" => {
            let types = words[3..].iter().map(|oid| oid.parse().ok()).collect::<Option<Vec<u32>>>()?;
            messages.parse(text(1)?, text(2)?, &types)
        }
        "Bind" => {
            let values: Vec<Value> = words[5..].iter().map(|word| value(word)).collect();
            messages.bind(text(1)?, text(2)?, format(3)?, &values, format(4)?)
        }
        "Describe" => messages.describe(target(1)?, text(2)?),
        "Close" => messages.close(target(1)?, text(2)?),
        "Execute" => messages.execute(text(1)?, text(2)?.parse().ok()?),
        "Sync" => messages.sync(),
        "Flush" => messages.flush(),
        "CopyData" => messages.copy_data(text(1)?.replace("\\n", "\n").replace("\\t", "\t").as_bytes()),
        "CopyDone" => messages.copy_done(),
        "CopyFail" => messages.copy_fail(text(1)?),
        _ => return None,
    })
}

/// NULL, hexadecimal after `\x`, or text.
fn value(word: &str) -> Value {
    match word.strip_prefix("\\x") {
        Some(hex) => {
            Some((0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect())
        }
        None => (word != "NULL").then(|| word.as_bytes().to_vec()),
    }
}

/// A reply in one line; what may come at any time is left out.
fn reply(message: &Incoming) -> Option<String> {
    let bytes = |value: &Value| match value {
        None => "NULL".to_owned(),
        Some(bytes) if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            format!("\"{}\"", String::from_utf8_lossy(bytes))
        }
        Some(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    };
    let list = |words: Vec<String>| words.into_iter().map(|word| format!(" {word}")).collect::<String>();
    Some(match message {
        Incoming::ParameterStatus(..) => return None,
        Incoming::RowDescription(fields) => {
            let field = |f: &crate::message::Field| {
                format!("\"{}\":{}:{}", f.name, f.oid, if f.format == 0 { "text" } else { "binary" })
            };
            format!("RowDescription{}", list(fields.iter().map(field).collect()))
        }
        Incoming::DataRow(values) => format!("DataRow{}", list(values.iter().map(bytes).collect())),
        Incoming::ParameterDescription(oids) => {
            format!("ParameterDescription{}", list(oids.iter().map(u32::to_string).collect()))
        }
        Incoming::CommandComplete(tag) => format!("CommandComplete \"{tag}\""),
        Incoming::Error(report) => format!("Error {} {}", report.severity(), report.state()),
        Incoming::Notice(report) => format!("Notice {} {}", report.severity(), report.state()),
        Incoming::Ready(state) => format!("Ready {state}"),
        Incoming::CopyIn { format, columns } => format!("CopyIn {format} {}", columns.len()),
        Incoming::CopyOut { format, columns } => format!("CopyOut {format} {}", columns.len()),
        Incoming::CopyData(data) => format!("CopyData {:?}", String::from_utf8_lossy(data)),
        other => format!("{other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read_and_written() {
        let text = "# Two groups.\n> Parse \"\" \"SELECT $1\" 23\n> Sync\n< ParseComplete\n< Ready I\n\n> Query \"\"\n< EmptyQuery\n";
        let groups = parse(text);
        assert_eq!((groups.len(), groups[0].sent.len(), groups[1].replies.len()), (2, 2, 1));
        assert_eq!(render(&groups), text);
    }

    #[test]
    fn copied_data_is_one() {
        let replies = ["CopyData \"a\\n\"", "CopyData \"b\"", "CopyDone", "CopyData \"c\""].map(str::to_owned).to_vec();
        assert_eq!(joined(replies), ["CopyData \"a\\nb\"", "CopyDone", "CopyData \"c\""]);
    }

    #[test]
    fn words_may_be_quoted() {
        assert_eq!(words("Parse \"\" \"SELECT 1\" 23"), ["Parse", "", "SELECT 1", "23"]);
        assert_eq!(value("\\x00ff"), Some(vec![0, 255]));
    }
}

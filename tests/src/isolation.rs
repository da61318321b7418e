//! Scenes of several sessions whose statements interleave: what each sees, who waits for whom, who fails, at every isolation level.
//!
//! A scene is a text: lines `# …` say what it is about, `setup: SQL` prepares table `test` (two rows, in different partitions), `A: SQL` is a
//! statement of session A, `A: begin` its BEGIN at the level under test, and `show: SQL` is run by a session of its own.

use crate::client::{Address, Client};
use crate::message::Incoming;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// The levels under test, as SQL writes them.
pub const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A statement without an answer for so long waits for somebody.
const WAITS: Duration = Duration::from_millis(400);
/// How long a statement may wait in all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rows 1 and 2 live in different partitions.
const BEFORE: [&str; 3] = [
    "DROP TABLE IF EXISTS test",
    "CREATE TABLE test (id int PRIMARY KEY, value int)",
    "INSERT INTO test VALUES (1, 10), (2, 20)",
];

/// One statement of a scene, and who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub who: String,
    pub sql: String,
}

/// Reads a scene.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let steps = lines.map(|(number, line)| {
        let (who, sql) = line.split_once(": ").ok_or_else(|| format!("line {}: no \"WHO: SQL\"", number + 1))?;
        Ok(Step { who: who.to_owned(), sql: sql.to_owned() })
    });
    steps.collect()
}

/// A session in a thread of its own, so that others go on while it waits.
struct Actor {
    statements: Sender<String>,
    answers: Receiver<io::Result<Vec<Incoming>>>,
    /// What it said and has no answer to, in order: it says the next when the one before is answered.
    said: VecDeque<String>,
}

impl Actor {
    fn start(address: &Address) -> io::Result<Actor> {
        let mut client = Client::connect(address)?;
        client.set_patience(PATIENCE)?;
        let (statements, queue) = mpsc::channel::<String>();
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(sql) = queue.recv() {
                if sender.send(client.query(&sql)).is_err() {
                    return;
                }
            }
        });
        Ok(Actor { statements, answers, said: VecDeque::new() })
    }

    fn say(&mut self, sql: &str, sent: String) -> io::Result<()> {
        self.said.push_back(sql.to_owned());
        self.statements.send(sent).map_err(io::Error::other)
    }

    /// The oldest statement that waits, with its answer if that came within the time.
    fn answer(&mut self, time: Duration) -> Option<(String, String)> {
        let answer = match self.answers.recv_timeout(time) {
            Ok(Ok(messages)) => shown(&messages),
            Ok(Err(error)) => format!("  the session ended: {error}\n"),
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => "  the session is gone\n".to_owned(),
        };
        Some((self.said.pop_front()?, answer))
    }
}

/// Plays a scene at one level and says what happened, a line for each thing.
pub fn play(address: &Address, steps: &[Step], level: &str) -> io::Result<String> {
    let mut stage = Client::connect(address)?;
    BEFORE.iter().try_for_each(|sql| stage.run(sql))?;
    let mut actors: BTreeMap<&str, Actor> = BTreeMap::new();
    let mut log = String::new();
    for step in steps {
        let sql = step.sql.as_str();
        match step.who.as_str() {
            "setup" => stage.run(sql)?,
            "show" => said(&mut log, &format!("show {sql}\n{}", shown(&stage.query(sql)?))),
            name => {
                if !actors.contains_key(name) {
                    actors.insert(name, Actor::start(address)?);
                }
                let Some(actor) = actors.get_mut(name) else { continue };
                let begin = format!("BEGIN ISOLATION LEVEL {level}");
                let waited = !actor.said.is_empty();
                actor.say(sql, if sql == "begin" { begin } else { sql.to_owned() })?;
                said(&mut log, &format!("{name} {sql}\n"));
                match actor.answer(WAITS) {
                    Some((_, answer)) if !waited => said(&mut log, &answer),
                    Some((earlier, answer)) => said(&mut log, &format!("  waits\n{name} goes on: {earlier}\n{answer}")),
                    None => said(&mut log, "  waits\n"),
                }
                go_on(&mut actors, WAITS, &mut log);
            }
        }
    }
    go_on(&mut actors, PATIENCE, &mut log);
    for (name, _) in actors.iter().filter(|(_, actor)| !actor.said.is_empty()) {
        said(&mut log, &format!("{name} waits for ever\n"));
    }
    Ok(log)
}

/// Plays a scene at every level.
pub fn play_all(address: &Address, text: &str) -> Result<String, String> {
    let steps = parse(text)?;
    let mut log = String::new();
    for level in LEVELS {
        let played = play(address, &steps, level).map_err(|error| format!("{level}: {error}"))?;
        said(&mut log, &format!("== {level}\n{played}"));
    }
    Ok(log)
}

/// After somebody said something those who waited may have their answers, and with them others.
fn go_on(actors: &mut BTreeMap<&str, Actor>, time: Duration, log: &mut String) {
    let mut again = true;
    while again {
        again = false;
        for (name, actor) in actors.iter_mut() {
            while !actor.said.is_empty()
                && let Some((sql, answer)) = actor.answer(time)
            {
                said(log, &format!("{name} goes on: {sql}\n{answer}"));
                again = true;
            }
        }
    }
}

fn said(log: &mut String, what: &str) {
    // infallible: writing to a String
    let _ = write!(log, "{what}");
}

/// Rows, tags and errors, a line each.
fn shown(messages: &[Incoming]) -> String {
    let lines = messages.iter().filter_map(|message| match message {
        Incoming::DataRow(values) => {
            let value = |value: &Option<Vec<u8>>| match value {
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                None => "NULL".to_owned(),
            };
            Some(format!("  {}\n", values.iter().map(value).collect::<Vec<_>>().join(" | ")))
        }
        Incoming::CommandComplete(tag) => Some(format!("  {tag}\n")),
        Incoming::Error(report) => Some(format!("  ERROR {} {}\n", report.state(), report.message())),
        _ => None,
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_read() {
        let steps = parse("# Title\nsetup: SELECT 1\n\nA: begin\nA: SELECT 'x: y'\n").expect("a scene");
        let seen: Vec<_> = steps.iter().map(|step| (step.who.as_str(), step.sql.as_str())).collect();
        assert_eq!(seen, [("setup", "SELECT 1"), ("A", "begin"), ("A", "SELECT 'x: y'")]);
        assert!(parse("nonsense\n").is_err());
    }
}

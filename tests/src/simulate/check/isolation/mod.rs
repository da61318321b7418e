//! Whether clients of transactions could have seen what they saw, if each had read and committed at instants that its level allows.
//!
//! Every value of a row is made once in a history, and who makes one is told which value it replaces: so the order of a row's values is known, and with
//! it what had to happen before what. A transaction is one instant (SERIALIZABLE, and statements by themselves), or the instant of its cut and that of
//! its commitment (REPEATABLE READ), or one for each statement and one for the commitment (READ COMMITTED). Each lies between what began and what ended
//! in true time. An order of all instants exists if and only if the graph of what had to be before what has no circle. Strict serializability,
//! snapshot isolation with the first updater winning, and the absence of Adya's G0 and G1 are all special cases.
//!
//! Of rows that were never deleted it is also known what it means to find none. Whose outcome is unknown happened if somebody saw it.
//!
//! Where an anchor was lost with all its copies, so was the outcome of what was prepared elsewhere and had not heard it: each partition may have taken it or
//! not. Cuts may have seen it before the anchor began again; none may see it afterwards if it was taken back, nor anybody replace it.

mod graph;
mod versions;

use super::super::history::forsaken::Doubt;
use super::super::history::transaction::{Statement, Transaction};
use graph::Graph;
use std::collections::BTreeMap;
use toroid_common::transaction::Level;
use versions::{External, Lost, Part, Versions};

/// So many doubts are looked at one by one; of further ones all are so or so.
const MOST_DOUBTS: usize = 10;

/// What is wrong with a history, if anything: nothing, if it can be so with some of what is in doubt as its transaction made it, and the rest taken back.
pub fn judge(transactions: &[Transaction], doubts: &[Doubt]) -> Result<(), String> {
    let whole = possible(transactions, &parts(doubts, 0));
    let choices = 1_u32 << doubts.len().min(MOST_DOUBTS);
    if whole.is_ok() || (1..choices).any(|choice| possible(transactions, &parts(doubts, choice)).is_ok()) {
        return Ok(());
    }
    whole
}

/// Of the rows in doubt, which of them are taken back: those of the doubts whose bits are set.
fn parts(doubts: &[Doubt], choice: u32) -> Lost {
    let mut lost = BTreeMap::new();
    for (index, doubt) in doubts.iter().enumerate() {
        let taken_back = choice & (1 << index.min(MOST_DOUBTS - 1)) != 0;
        let part = Part { lost: doubt.lost, anew: doubt.anew, taken_back };
        lost.extend(doubt.keys.iter().map(|key| ((doubt.transaction, *key), part)));
    }
    lost
}

fn possible(transactions: &[Transaction], lost: &Lost) -> Result<(), String> {
    let versions = Versions::of(transactions, lost)?;
    let mut graph = Graph::default();
    let places: Vec<Places> = transactions
        .iter()
        .enumerate()
        .map(|(index, it)| Places::of(it, versions.happened(index), &mut graph))
        .collect();
    for external in versions.externals() {
        connect(external, &versions, &places, &mut graph);
    }
    match graph.circle() {
        None => Ok(()),
        Some(circle) => Err(explain(&circle, transactions)),
    }
}

/// Where a transaction's instants stand in the graph.
#[derive(Debug)]
struct Places {
    /// By statement.
    reads: Vec<usize>,
    /// None where it did not happen.
    commit: Option<usize>,
    /// Where its locks go.
    end: Option<usize>,
    /// What it writes must be of the state that it read.
    writes_what_it_read: bool,
}

impl Places {
    fn of(it: &Transaction, happened: bool, graph: &mut Graph) -> Places {
        let name = |what: String| format!("{} {what}", it.name);
        match (it.level, happened) {
            (Level::Serializable, true) => {
                let whole = graph.add(name("as a whole".to_owned()), it.began, it.ended);
                // What was rolled back to a savepoint is not protected any more.
                let place = |(number, statement): (usize, &Statement)| match statement.undone {
                    None => whole,
                    Some(_) => {
                        let at = graph.add(name(format!("statement {number}")), statement.began, statement.ended);
                        graph.before(at, whole, || "its own".to_owned());
                        at
                    }
                };
                let reads = it.statements.iter().enumerate().map(place).collect();
                let end = graph.add(name("ends".to_owned()), it.asked, it.ended);
                Places { reads, commit: Some(whole), end: Some(end), writes_what_it_read: true }
            }
            (Level::RepeatableRead, _) => {
                let first = it.statements.first().map_or(it.ended, |statement| statement.ended);
                let read = graph.add(name("reads".to_owned()), it.began, first);
                let commit = happened.then(|| graph.add(name("commits".to_owned()), it.asked, it.ended));
                commit.into_iter().for_each(|commit| graph.before(read, commit, || "its own".to_owned()));
                Places { reads: vec![read; it.statements.len()], commit, end: commit, writes_what_it_read: true }
            }
            (Level::ReadCommitted | Level::Serializable, _) => {
                let statement = |(number, statement): (usize, &Statement)| {
                    graph.add(name(format!("statement {number}")), statement.began, statement.ended)
                };
                let reads: Vec<usize> = it.statements.iter().enumerate().map(statement).collect();
                let commit = happened.then(|| graph.add(name("commits".to_owned()), it.asked, it.ended));
                let all: Vec<usize> = reads.iter().copied().chain(commit).collect();
                for pair in all.windows(2) {
                    graph.before(pair[0], pair[1], || "its own".to_owned());
                }
                Places { reads, commit, end: commit, writes_what_it_read: false }
            }
        }
    }
}

/// What was seen must have been there, and its successor not yet.
fn connect(external: &External, versions: &Versions, places: &[Places], graph: &mut Graph) {
    let External { transaction, statement, key, value, writes, locked } = *external;
    let mine = &places[transaction];
    let read = mine.reads[statement];
    let show = |value: Option<i64>| value.map_or("nothing".to_owned(), |value| value.to_string());
    let maker = versions.maker(key, value).filter(|maker| *maker != transaction);
    if let Some(commit) = maker.and_then(|maker| places[maker].commit) {
        graph.before(commit, read, || format!("it sees {} of key {key}", show(value)));
        if let (true, Some(end)) = (writes, mine.commit) {
            graph.before(commit, end, || format!("it replaces {} of key {key}", show(value)));
        }
    }
    let next = versions.next(key, value).filter(|next| *next != transaction);
    if let Some(commit) = next.and_then(|next| places[next].commit)
        && (!writes || mine.writes_what_it_read)
    {
        graph.before(read, commit, || format!("which replaces {} of key {key} that was seen", show(value)));
    }
    if let (true, Some(end), Some(commit)) = (locked, mine.end, next.and_then(|next| places[next].commit)) {
        graph.before(end, commit, || format!("it had locked {} of key {key}, which that replaces", show(value)));
    }
}

fn explain(circle: &[graph::Edge], transactions: &[Transaction]) -> String {
    let lines: Vec<String> =
        circle.iter().map(|edge| format!("  {} is before {}: {}", edge.from, edge.to, edge.why)).collect();
    let takes_part = |it: &&Transaction| {
        let of_it = |edge: &graph::Edge| edge.from.strip_prefix(&it.name).is_some_and(|rest| rest.starts_with(' '));
        circle.iter().any(of_it)
    };
    let told: Vec<String> = transactions.iter().filter(takes_part).map(|it| format!("  {it:?}")).collect();
    format!("these cannot all be so:\n{}\n{}", lines.join("\n"), told.join("\n"))
}

#[cfg(test)]
mod tests;

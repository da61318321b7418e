//! After the faults: what was acknowledged is there, once, and nothing else is.

use super::load::{Account, COUNTERS};
use crate::client::{Address, Client};
use crate::message::Incoming;
use std::collections::BTreeMap;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a query is asked again.
const AGAIN: usize = 50;

/// What the check came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes that were looked for.
    pub checked: u64,
    pub lost: u64,
    pub doubled: u64,
    pub unknown: u64,
    pub faults: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.faults.is_empty()
    }
}

/// Reads everything back.
pub fn check(address: &Address, account: &Account) -> io::Result<Verdict> {
    let mut client = Client::connect(address)?;
    let mut verdict = Verdict { unknown: account.unknown.load(Ordering::SeqCst), ..Verdict::default() };
    let counters = pairs(&mut client, "SELECT k, n FROM counters")?;
    for key in 0..COUNTERS {
        let Some(counter) = account.counters.get(key as usize) else { continue };
        let acknowledged = counter.acknowledged.load(Ordering::SeqCst);
        let begun = counter.begun.load(Ordering::SeqCst);
        let found = counters.get(&key).copied().unwrap_or(0);
        verdict.checked += acknowledged;
        verdict.lost += acknowledged.saturating_sub(found);
        verdict.doubled += found.saturating_sub(begun);
    }
    let names = pairs(&mut client, "SELECT k, count(*) FROM names GROUP BY k")?;
    let inserted = account.inserted.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, acknowledged) in inserted.iter() {
        let found = names.get(key).copied().unwrap_or(0);
        verdict.checked += u64::from(*acknowledged);
        verdict.lost += u64::from(*acknowledged && found == 0);
        verdict.doubled += found.saturating_sub(1);
    }
    verdict.doubled += names.keys().filter(|key| !inserted.contains_key(key)).count() as u64;
    verdict.faults = account.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(verdict)
}

/// A query that a move of partitions overtook says 40001: it is asked again, as every user would.
fn pairs(client: &mut Client, sql: &str) -> io::Result<BTreeMap<u64, u64>> {
    for _ in 0..AGAIN {
        match pairs_once(client, sql) {
            Err(error) if error.to_string().contains("40001") => std::thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
    pairs_once(client, sql)
}

fn pairs_once(client: &mut Client, sql: &str) -> io::Result<BTreeMap<u64, u64>> {
    let mut pairs = BTreeMap::new();
    for message in client.query(sql)? {
        match message {
            Incoming::Error(report) => return Err(io::Error::other(report.to_string())),
            Incoming::DataRow(row) => {
                let mut numbers = row.into_iter().map(|value| {
                    let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
                    text.parse::<u64>().map_err(|_| io::Error::other(format!("not a number: {text}")))
                });
                let (Some(key), Some(value)) = (numbers.next(), numbers.next()) else { continue };
                pairs.insert(key?, value?);
            }
            _ => {}
        }
    }
    Ok(pairs)
}

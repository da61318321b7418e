//! Clients that move money between accounts and append to pairs of lists, in transactions: all of one happens or nothing, in one order for all,
//! and every read adds up.

use super::load::Tolerance;
use super::transactor::{Audit, Clients, Ledger, Transactor, read};
use crate::client::{Address, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 64;
const INITIAL: i64 = 1_000;
/// Lists that are appended to at a time, and for how long: a row must not grow without end.
const LISTS: u64 = 16;
const GENERATION: Duration = Duration::from_secs(2);
/// Makes the tables, with lists for so many seconds.
pub fn prepare(address: &Address, seconds: u64) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    client.run("CREATE TABLE bank (id int PRIMARY KEY, balance bigint NOT NULL)")?;
    client.run("CREATE TABLE lists (id int PRIMARY KEY, items text NOT NULL)")?;
    client.run("CREATE TABLE journal (token bigint PRIMARY KEY, source int NOT NULL, target int NOT NULL, amount bigint NOT NULL)")?;
    client.run(&format!("INSERT INTO bank SELECT i, {INITIAL} FROM generate_series(0, {}) i", ACCOUNTS - 1))?;
    let lists = (seconds / GENERATION.as_secs() + 60) * LISTS;
    client.run(&format!("INSERT INTO lists SELECT i, '' FROM generate_series(0, {}) i", lists - 1))
}

/// Starts so many clients: one in four reads, the others write.
pub fn open(addresses: &[Address], clients: u64, seed: u64, tolerance: Tolerance) -> Clients {
    let opened = Instant::now();
    Clients::open(addresses, clients, seed, tolerance, move |own| {
        let mut teller = Teller { own, opened };
        Box::new(move || teller.work())
    })
}

struct Teller {
    own: Transactor,
    opened: Instant,
}

impl Teller {
    fn work(&mut self) {
        match (self.own.number() % 4, self.own.random.below(3)) {
            (3, 0) => self.read_lists(),
            (3, _) => self.read_balances(),
            (_, 0) => self.append(),
            (_, _) => self.transfer(),
        }
    }

    fn two(&mut self, of: u64) -> (u64, u64) {
        let first = self.own.random.below(of);
        (first, (first + 1 + self.own.random.below(of - 1)) % of)
    }

    /// The first list of those that are appended to now.
    fn generation(&self) -> u64 {
        (self.opened.elapsed().as_millis() / GENERATION.as_millis()) as u64 * LISTS
    }

    fn transfer(&mut self) {
        let (source, target) = self.two(ACCOUNTS);
        let amount = self.own.random.between(1, 50);
        let token = self.own.token();
        self.own.transact(token, &|token| {
            vec![
                format!("UPDATE bank SET balance = balance - {amount} WHERE id = {source}"),
                format!("UPDATE bank SET balance = balance + {amount} WHERE id = {target}"),
                format!("INSERT INTO journal VALUES ({token}, {source}, {target}, {amount})"),
            ]
        });
    }

    /// Appends its token to two lists, and sees it there in the end.
    fn append(&mut self) {
        let (first, second) = self.two(LISTS);
        let base = self.generation();
        let token = self.own.token();
        let (first, second) = (base + first, base + second);
        let committed = self.own.transact(token, &|token| {
            let append =
                |list: u64| format!("UPDATE lists SET items = items || '{token}:{first}:{second} ' WHERE id = {list}");
            vec![append(first), append(second), format!("INSERT INTO journal VALUES ({token}, -1, -1, 0)")]
        });
        let Some(token) = committed else { return };
        if let Some(rows) = self.own.ask(&format!("SELECT items FROM lists WHERE id = {second}")) {
            let item = format!("{token}:{first}:{second} ");
            if !rows.iter().flatten().any(|items| items.contains(&item)) {
                self.own.ledger.fault(format!("token {token} was committed and is not in list {second}"));
            }
        }
    }

    fn read_balances(&mut self) {
        let Some(rows) = self.own.ask("SELECT count(*), sum(balance) FROM bank") else { return };
        let expected = [ACCOUNTS.to_string(), (ACCOUNTS as i64 * INITIAL).to_string()];
        if rows != [expected.to_vec()] {
            self.own.ledger.fault(format!("the balances add up to {rows:?}"));
        }
    }

    /// Each token stands in both of its lists, and any two of them in the same order wherever both are.
    fn read_lists(&mut self) {
        let base = self.generation();
        let sql = format!("SELECT id, items FROM lists WHERE id >= {base} AND id < {}", base + LISTS);
        if let Some(rows) = self.own.ask(&sql)
            && let Some(fault) = torn(&rows)
        {
            self.own.ledger.fault(fault);
        }
    }
}

/// What is wrong with lists (id, items) that were read in one statement.
fn torn(rows: &[Vec<String>]) -> Option<String> {
    let mut lists: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        let [id, items] = row.as_slice() else { return Some(format!("a row of lists is {row:?}")) };
        lists.insert(id, items.split_whitespace().collect());
    }
    for (id, items) in &lists {
        if items.iter().collect::<BTreeSet<_>>().len() < items.len() {
            return Some(format!("list {id} has a token twice"));
        }
        for item in items {
            let twin = item.split(':').skip(1).find(|list| list != id);
            if !twin.and_then(|twin| lists.get(twin)).is_some_and(|twin| twin.contains(item)) {
                return Some(format!("{item} stands in list {id} and not in its other one"));
            }
        }
        for (other, theirs) in lists.range(*id..).skip(1) {
            let common = |of: &[&str], with: &[&str]| -> Vec<String> {
                let with: BTreeSet<_> = with.iter().collect();
                of.iter().filter(|item| with.contains(item)).map(|item| (*item).to_owned()).collect()
            };
            if common(items, theirs) != common(theirs, items) {
                return Some(format!("lists {id} and {other} have their common tokens in different orders"));
            }
        }
    }
    None
}

/// After the faults: every acknowledged transaction is in the journal, no refused one, and balances and lists agree with it.
pub fn audit(address: &Address, ledger: &Ledger) -> io::Result<Audit> {
    let mut client = Client::connect(address)?;
    let mut audit = Audit::begin(ledger);
    let mut balances: BTreeMap<i64, i64> = (0..ACCOUNTS as i64).map(|id| (id, INITIAL)).collect();
    let mut found = BTreeMap::new();
    for row in read(&mut client, "SELECT token, source, target, amount FROM journal")? {
        let numbers: Vec<i64> = row.iter().filter_map(|text| text.parse().ok()).collect();
        let [token, source, target, amount] = numbers.as_slice() else { continue };
        found.insert(*token as u64, *source < 0);
        for (account, amount) in [(source, -amount), (target, *amount)] {
            balances.entry(*account).and_modify(|balance| *balance += amount);
        }
    }
    audit.compare(ledger, found.keys().copied().collect());
    let held: BTreeMap<i64, i64> = read(&mut client, "SELECT id, balance FROM bank")?
        .iter()
        .filter_map(|row| Some((row.first()?.parse().ok()?, row.get(1)?.parse().ok()?)))
        .collect();
    if held != balances {
        audit.faults.push("the balances are not what the journal says".to_owned());
    }
    let lists = read(&mut client, "SELECT id, items FROM lists WHERE items <> ''")?;
    audit.faults.extend(torn(&lists));
    let listed: BTreeSet<u64> = lists
        .iter()
        .flat_map(|row| row.get(1).map(String::as_str).unwrap_or_default().split_whitespace())
        .filter_map(|item| item.split(':').next()?.parse().ok())
        .collect();
    let appended: BTreeSet<u64> = found.iter().filter(|(_, appended)| **appended).map(|(token, _)| *token).collect();
    if listed != appended {
        audit.faults.push(format!("{} tokens are in lists, {} in the journal", listed.len(), appended.len()));
    }
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::torn;

    fn lists(of: &[(&str, &str)]) -> Vec<Vec<String>> {
        of.iter().map(|(id, items)| vec![(*id).to_owned(), (*items).to_owned()]).collect()
    }

    #[test]
    fn torn_lists_are_seen() {
        assert_eq!(torn(&lists(&[("1", "7:1:2 8:1:2 "), ("2", "7:1:2 8:1:2 9:2:3 "), ("3", "9:2:3")])), None);
        assert!(torn(&lists(&[("1", "7:1:2 "), ("2", "")])).is_some());
        assert!(torn(&lists(&[("1", "7:1:2 8:1:2"), ("2", "8:1:2 7:1:2")])).is_some());
        assert!(torn(&lists(&[("1", "7:1:2 7:1:2"), ("2", "7:1:2")])).is_some());
    }
}

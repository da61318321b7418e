//! Clients that move money between accounts and append to pairs of lists, in transactions: all of one happens or nothing, in one order for all,
//! and every read adds up.

use super::load::Tolerance;
use crate::client::{Address, Client};
use crate::message::{Incoming, Outgoing};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 64;
const INITIAL: i64 = 1_000;
/// Lists that are appended to at a time, and for how long: a row must not grow without end.
const LISTS: u64 = 16;
const GENERATION: Duration = Duration::from_secs(2);
/// How often one transaction is tried before its client says that it cannot be had.
const TRIES: u32 = 200;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// What all clients know together.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Tokens of transactions: whether their COMMIT was acknowledged.
    tokens: Mutex<BTreeMap<u64, bool>>,
    pub committed: AtomicU64,
    pub reads: AtomicU64,
    /// Transactions that were told to try again: 40001 and 40P01.
    pub again: AtomicU64,
    pub unknown: AtomicU64,
    pub faults: Mutex<Vec<String>>,
    pub slowest: AtomicU64,
    stop: AtomicBool,
}

impl Ledger {
    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < 100 {
            faults.push(what);
        }
    }

    fn note(&self, token: u64, acknowledged: bool) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token, acknowledged);
    }

    /// The slowest transaction since the last call.
    pub fn take_slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.swap(0, Ordering::Relaxed))
    }
}

/// Clients at work.
pub struct Bank {
    pub ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
}

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

impl Bank {
    /// Starts so many clients, spread over the proxies: one in four reads, the others write.
    pub fn open(addresses: &[Address], clients: u64, seed: u64, tolerance: Tolerance) -> Bank {
        let ledger = Arc::new(Ledger::default());
        let opened = Instant::now();
        let threads = (0..clients).map(|number| {
            let teller = Teller {
                number,
                ledger: Arc::clone(&ledger),
                addresses: addresses.to_vec(),
                random: Random::new(seed).apart(number),
                client: None,
                next: 0,
                opened,
                tolerance,
            };
            std::thread::spawn(move || teller.run())
        });
        Bank { threads: threads.collect(), ledger }
    }

    pub fn close(self) -> Arc<Ledger> {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.ledger.fault("a client of the bank panicked".to_owned());
            }
        }
        self.ledger
    }
}

/// What became of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Committed,
    /// Nothing of it happened, and it may be tried again.
    Again,
    /// It may have happened.
    Unknown(String),
    /// Nothing of it happened, and that is a fault.
    Failed(String),
}

struct Teller {
    number: u64,
    ledger: Arc<Ledger>,
    addresses: Vec<Address>,
    random: Random,
    client: Option<Client>,
    next: u64,
    opened: Instant,
    tolerance: Tolerance,
}

/// Rows of a query, or the SQLSTATE and text of its error.
type Answer = Result<Vec<Vec<String>>, (String, String)>;

impl Teller {
    fn run(mut self) {
        while !self.ledger.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            match (self.number % 4, self.random.below(3)) {
                (3, 0) => self.read_lists(),
                (3, _) => self.read_balances(),
                (_, 0) => self.append(),
                (_, _) => self.transfer(),
            }
            self.ledger.slowest.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
    }

    fn token(&mut self) -> u64 {
        self.next += 1;
        self.number << 32 | self.next
    }

    fn two(&mut self, of: u64) -> (u64, u64) {
        let first = self.random.below(of);
        (first, (first + 1 + self.random.below(of - 1)) % of)
    }

    /// The first list of those that are appended to now.
    fn generation(&self) -> u64 {
        (self.opened.elapsed().as_millis() / GENERATION.as_millis()) as u64 * LISTS
    }

    fn transfer(&mut self) {
        let (source, target) = self.two(ACCOUNTS);
        let amount = self.random.between(1, 50);
        let token = self.token();
        self.transact(token, &|token| {
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
        let token = self.token();
        let (first, second) = (base + first, base + second);
        let committed = self.transact(token, &|token| {
            let append =
                |list: u64| format!("UPDATE lists SET items = items || '{token}:{first}:{second} ' WHERE id = {list}");
            vec![append(first), append(second), format!("INSERT INTO journal VALUES ({token}, -1, -1, 0)")]
        });
        let Some(token) = committed else { return };
        if let Some(rows) = self.ask(&format!("SELECT items FROM lists WHERE id = {second}")) {
            let item = format!("{token}:{first}:{second} ");
            if !rows.iter().flatten().any(|items| items.contains(&item)) {
                self.ledger.fault(format!("token {token} was committed and is not in list {second}"));
            }
        }
    }

    /// Tries a transaction under tokens of its own until it is committed or unknown; the token that was committed.
    fn transact(&mut self, token: u64, statements: &dyn Fn(u64) -> Vec<String>) -> Option<u64> {
        let mut token = token;
        for _ in 0..TRIES {
            let level = self.random.pick(&LEVELS).unwrap_or("SERIALIZABLE");
            let at_once = self.random.percent(50);
            match self.try_once(level, &statements(token), at_once) {
                End::Committed => {
                    self.ledger.note(token, true);
                    self.ledger.committed.fetch_add(1, Ordering::Relaxed);
                    return Some(token);
                }
                End::Again => {
                    self.ledger.again.fetch_add(1, Ordering::Relaxed);
                    token = self.token();
                }
                End::Unknown(why) => {
                    self.ledger.note(token, false);
                    self.ledger.unknown.fetch_add(1, Ordering::Relaxed);
                    if self.tolerance == Tolerance::None {
                        self.ledger.fault(format!("token {token} is unknown: {why}"));
                    }
                    return None;
                }
                End::Failed(why) => {
                    self.ledger.fault(format!("token {token}: {why}"));
                    return None;
                }
            }
            if self.ledger.stop.load(Ordering::Relaxed) {
                return None;
            }
        }
        self.ledger.fault(format!("token {token} was refused {TRIES} times"));
        None
    }

    /// One attempt, statement by statement or all at once.
    fn try_once(&mut self, level: &str, statements: &[String], at_once: bool) -> End {
        let mut texts = vec![format!("BEGIN ISOLATION LEVEL {level}")];
        texts.extend_from_slice(statements);
        texts.push("COMMIT".to_owned());
        if at_once {
            texts = vec![texts.join("; ")];
        }
        let last = texts.len() - 1;
        for (place, text) in texts.iter().enumerate() {
            match self.query(text) {
                Ok(Ok(_)) => {}
                Ok(Err((state, message))) => {
                    let end = match state.as_str() {
                        "40001" | "40P01" => End::Again,
                        "40003" | "08007" => End::Unknown(message),
                        _ => End::Failed(format!("{state} {message} at {text}")),
                    };
                    if self.query("ROLLBACK").is_err() {
                        self.client = None;
                    }
                    return end;
                }
                Err(error) => {
                    self.client = None;
                    let why = format!("{error} at {text}");
                    // What was not asked to commit has not happened.
                    return if place == last { End::Unknown(why) } else { End::Again };
                }
            }
        }
        End::Committed
    }

    fn read_balances(&mut self) {
        let Some(rows) = self.ask("SELECT count(*), sum(balance) FROM bank") else { return };
        let expected = [ACCOUNTS.to_string(), (ACCOUNTS as i64 * INITIAL).to_string()];
        if rows != [expected.to_vec()] {
            self.ledger.fault(format!("the balances add up to {rows:?}"));
        }
    }

    /// Each token stands in both of its lists, and any two of them in the same order wherever both are.
    fn read_lists(&mut self) {
        let base = self.generation();
        let sql = format!("SELECT id, items FROM lists WHERE id >= {base} AND id < {}", base + LISTS);
        if let Some(rows) = self.ask(&sql)
            && let Some(fault) = torn(&rows)
        {
            self.ledger.fault(fault);
        }
    }

    /// A read that commits by itself; 40001 is tried again.
    fn ask(&mut self, sql: &str) -> Option<Vec<Vec<String>>> {
        for _ in 0..TRIES {
            match self.query(sql) {
                Ok(Ok(rows)) => {
                    self.ledger.reads.fetch_add(1, Ordering::Relaxed);
                    return Some(rows);
                }
                Ok(Err((state, _))) if state == "40001" => {
                    self.ledger.again.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(Err((state, message))) => {
                    self.ledger.fault(format!("{sql}: {state} {message}"));
                    return None;
                }
                Err(error) => {
                    self.client = None;
                    if self.tolerance == Tolerance::None {
                        self.ledger.fault(format!("{sql}: {error}"));
                        return None;
                    }
                }
            }
            if self.ledger.stop.load(Ordering::Relaxed) {
                return None;
            }
        }
        self.ledger.fault(format!("{sql} was refused {TRIES} times"));
        None
    }

    fn query(&mut self, sql: &str) -> io::Result<Answer> {
        for attempt in 0..200 {
            if self.client.is_some() {
                break;
            }
            let place = (self.number as usize + attempt) % self.addresses.len().max(1);
            self.client = self.addresses.get(place).and_then(|address| Client::connect(address).ok());
            if self.client.is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let client = self.client.as_mut().ok_or_else(|| io::Error::other("no proxy takes connections"))?;
        rows(client, sql)
    }
}

fn rows(client: &mut Client, sql: &str) -> io::Result<Answer> {
    client.send(&Outgoing::new().query(sql))?;
    let mut answer = Ok(Vec::new());
    let messages = client.until_ready()?;
    if !matches!(messages.last(), Some(Incoming::Ready(_))) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in messages {
        match (message, &mut answer) {
            (Incoming::Error(report), Ok(_)) => answer = Err((report.state().to_owned(), report.message().to_owned())),
            (Incoming::DataRow(row), Ok(rows)) => {
                let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
                rows.push(row.into_iter().map(text).collect());
            }
            _ => {}
        }
    }
    Ok(answer)
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

/// What the check of everything came to.
#[derive(Debug, Default)]
pub struct Audit {
    pub checked: u64,
    pub lost: u64,
    /// Tokens that nobody was told of, or that were refused.
    pub strange: u64,
    pub faults: Vec<String>,
}

/// After the faults: every acknowledged transaction is in the journal, no refused one, and balances and lists agree with it.
pub fn audit(address: &Address, ledger: &Ledger) -> io::Result<Audit> {
    let mut client = Client::connect(address)?;
    let mut read = |sql: &str| {
        for _ in 0..50 {
            match rows(&mut client, sql)? {
                Ok(rows) => return Ok(rows),
                Err((state, _)) if state == "40001" => std::thread::sleep(Duration::from_millis(100)),
                Err((state, message)) => return Err(io::Error::other(format!("{sql}: {state} {message}"))),
            }
        }
        Err(io::Error::other(format!("{sql}: 40001 again and again")))
    };
    let mut audit =
        Audit { faults: ledger.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(), ..Audit::default() };
    let mut balances: BTreeMap<i64, i64> = (0..ACCOUNTS as i64).map(|id| (id, INITIAL)).collect();
    let mut found = BTreeMap::new();
    for row in read("SELECT token, source, target, amount FROM journal")? {
        let numbers: Vec<i64> = row.iter().filter_map(|text| text.parse().ok()).collect();
        let [token, source, target, amount] = numbers.as_slice() else { continue };
        found.insert(*token as u64, *source < 0);
        for (account, amount) in [(source, -amount), (target, *amount)] {
            balances.entry(*account).and_modify(|balance| *balance += amount);
        }
    }
    let tokens = ledger.tokens.lock().unwrap_or_else(PoisonError::into_inner);
    for (token, acknowledged) in tokens.iter() {
        audit.checked += u64::from(*acknowledged);
        audit.lost += u64::from(*acknowledged && !found.contains_key(token));
    }
    audit.strange = found.keys().filter(|token| !tokens.contains_key(token)).count() as u64;
    let held: BTreeMap<i64, i64> = read("SELECT id, balance FROM bank")?
        .iter()
        .filter_map(|row| Some((row.first()?.parse().ok()?, row.get(1)?.parse().ok()?)))
        .collect();
    if held != balances {
        audit.faults.push("the balances are not what the journal says".to_owned());
    }
    let lists = read("SELECT id, items FROM lists WHERE items <> ''")?;
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

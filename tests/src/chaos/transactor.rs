//! A client that works in transactions, and the ledger of what it and others were told: committed, to be tried again, or unknown.

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
    faults: Mutex<Vec<String>>,
    pub slowest: AtomicU64,
    stop: AtomicBool,
}

impl Ledger {
    pub fn fault(&self, what: String) {
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

/// Clients at work, each on a thread.
pub struct Clients {
    pub ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
}

/// What a client does again and again.
pub type Work = Box<dyn FnMut()>;

impl Clients {
    /// Starts so many clients, spread over the proxies.
    pub fn open(
        addresses: &[Address],
        clients: u64,
        seed: u64,
        tolerance: Tolerance,
        begin: impl Fn(Transactor) -> Work + Clone + Send + 'static,
    ) -> Clients {
        let ledger = Arc::new(Ledger::default());
        let threads = (0..clients).map(|number| {
            let (ledger, addresses, begin) = (Arc::clone(&ledger), addresses.to_vec(), begin.clone());
            let random = Random::new(seed).apart(number);
            let own = Transactor { number, ledger, addresses, random, client: None, next: 0, tolerance };
            std::thread::spawn(move || {
                let ledger = Arc::clone(&own.ledger);
                let mut work = begin(own);
                while !ledger.stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    work();
                    ledger.slowest.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
                }
            })
        });
        Clients { threads: threads.collect(), ledger }
    }

    pub fn close(self) -> Arc<Ledger> {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.ledger.fault("a client panicked".to_owned());
            }
        }
        self.ledger
    }
}

/// One client; it goes to another proxy when its own is gone.
pub struct Transactor {
    number: u64,
    pub ledger: Arc<Ledger>,
    addresses: Vec<Address>,
    pub random: Random,
    client: Option<Client>,
    next: u64,
    tolerance: Tolerance,
}

/// Rows of a query, or the SQLSTATE and text of its error.
pub type Answer = Result<Vec<Vec<String>>, (String, String)>;

impl Transactor {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A name for a transaction that no other one has.
    pub fn token(&mut self) -> u64 {
        self.next += 1;
        self.number << 32 | self.next
    }

    /// Tries a transaction under tokens of its own until it is committed or unknown; the token that was committed.
    pub fn transact(&mut self, token: u64, statements: &dyn Fn(u64) -> Vec<String>) -> Option<u64> {
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

    /// A read that commits by itself; 40001 is tried again.
    pub fn ask(&mut self, sql: &str) -> Option<Vec<Vec<String>>> {
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

/// What a query is answered; an error when the connection is lost.
pub fn rows(client: &mut Client, sql: &str) -> io::Result<Answer> {
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

/// A query after the faults: 40001 is asked again.
pub fn read(client: &mut Client, sql: &str) -> io::Result<Vec<Vec<String>>> {
    for _ in 0..50 {
        match rows(client, sql)? {
            Ok(rows) => return Ok(rows),
            Err((state, _)) if state == "40001" => std::thread::sleep(Duration::from_millis(100)),
            Err((state, message)) => return Err(io::Error::other(format!("{sql}: {state} {message}"))),
        }
    }
    Err(io::Error::other(format!("{sql}: 40001 again and again")))
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

impl Audit {
    pub fn begin(ledger: &Ledger) -> Audit {
        let faults = ledger.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Audit { faults, ..Audit::default() }
    }

    /// Every acknowledged token must be among those that were found, and no refused one.
    pub fn compare(&mut self, ledger: &Ledger, found: BTreeSet<u64>) {
        let tokens = ledger.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        for (token, acknowledged) in tokens.iter() {
            self.checked += u64::from(*acknowledged);
            self.lost += u64::from(*acknowledged && !found.contains(token));
        }
        self.strange = found.iter().filter(|token| !tokens.contains_key(token)).count() as u64;
    }
}

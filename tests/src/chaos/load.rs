//! Clients that work on the cluster and keep account: of what was acknowledged, of what may have happened, and of how long it took.

use crate::client::{Address, Client};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Counters that all clients add to.
pub const COUNTERS: u64 = 256;
/// One operation in so many is an INSERT, an UPDATE, and the rest are reads.
const INSERT_EVERY: u64 = 4;
const READ_EVERY: u64 = 3;

/// What is known of one counter.
#[derive(Debug, Default)]
pub struct Counter {
    /// Increments that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Increments that were begun.
    pub begun: AtomicU64,
}

/// What all clients know together.
#[derive(Debug, Default)]
pub struct Account {
    pub counters: Vec<Counter>,
    /// Keys whose INSERT was acknowledged, and those of which nobody knows.
    pub inserted: Mutex<BTreeMap<u64, bool>>,
    pub operations: AtomicU64,
    pub unknown: AtomicU64,
    /// What must not be: errors that a client saw, wrong reads, doubled writes.
    pub faults: Mutex<Vec<String>>,
    /// Microseconds of the slowest operation since it was last taken.
    pub slowest: AtomicU64,
    stop: AtomicBool,
}

/// Clients at work.
pub struct Load {
    pub account: Arc<Account>,
    threads: Vec<JoinHandle<()>>,
}

/// What clients may see without its being a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// No error at all: only storage nodes fail.
    None,
    /// A lost connection, since proxies fail, too: what was under way is unknown.
    LostConnections,
}

/// Makes the tables.
pub fn prepare(address: &Address) -> std::io::Result<()> {
    let mut client = Client::connect(address)?;
    client.run("CREATE TABLE counters (k int PRIMARY KEY, n bigint NOT NULL)")?;
    client.run("CREATE TABLE names (k bigint PRIMARY KEY, who int NOT NULL)")?;
    client.run(&format!("INSERT INTO counters SELECT i, 0 FROM generate_series(0, {}) i", COUNTERS - 1))
}

impl Load {
    /// Starts so many clients, spread over the proxies.
    pub fn start(addresses: &[Address], clients: u64, tolerance: Tolerance) -> Load {
        let counters = (0..COUNTERS).map(|_| Counter::default()).collect();
        let account = Arc::new(Account { counters, ..Account::default() });
        let threads = (0..clients).map(|number| {
            let (account, addresses) = (Arc::clone(&account), addresses.to_vec());
            std::thread::spawn(move || Worker { number, account, addresses, tolerance, client: None, next: 0 }.run())
        });
        Load { threads: threads.collect(), account }
    }

    /// Ends all clients; what they know stays.
    pub fn stop(self) -> Arc<Account> {
        self.account.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.account.fault("a client of the load panicked".to_owned());
            }
        }
        self.account
    }
}

impl Account {
    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < 100 {
            faults.push(what);
        }
    }

    /// The slowest operation since the last call.
    pub fn take_slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.swap(0, Ordering::Relaxed))
    }
}

/// What became of a statement.
enum Told {
    Value(Option<String>),
    /// The connection ended first.
    Lost(String),
    Error(String),
}

struct Worker {
    number: u64,
    account: Arc<Account>,
    addresses: Vec<Address>,
    tolerance: Tolerance,
    client: Option<Client>,
    next: u64,
}

impl Worker {
    fn run(mut self) {
        while !self.account.stop.load(Ordering::Relaxed) {
            self.next += 1;
            let begun = Instant::now();
            if self.next.is_multiple_of(INSERT_EVERY) {
                self.insert();
            } else if self.next.is_multiple_of(READ_EVERY) {
                self.read();
            } else {
                self.increment();
            }
            let micros = begun.elapsed().as_micros() as u64;
            self.account.slowest.fetch_max(micros, Ordering::Relaxed);
            self.account.operations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A counter that differs from client to client and from time to time.
    fn key(&self) -> u64 {
        (self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.next.wrapping_mul(0xd1b5_4a32_d192_ed03)) % COUNTERS
    }

    fn increment(&mut self) {
        let key = self.key();
        let account = Arc::clone(&self.account);
        let Some(counter) = account.counters.get(key as usize) else { return };
        counter.begun.fetch_add(1, Ordering::SeqCst);
        let before = counter.acknowledged.load(Ordering::SeqCst);
        match self.tell(&format!("UPDATE counters SET n = n + 1 WHERE k = {key} RETURNING n")) {
            Told::Value(value) => {
                counter.acknowledged.fetch_add(1, Ordering::SeqCst);
                let seen = value.and_then(|text| text.parse().ok());
                if seen.is_none_or(|n: u64| n <= before || n > counter.begun.load(Ordering::SeqCst)) {
                    account.fault(format!("counter {key} returned {seen:?} after {before} acknowledged increments"));
                }
            }
            Told::Lost(why) => self.unknown(&why),
            Told::Error(error) => account.fault(format!("UPDATE of counter {key}: {error}")),
        }
    }

    fn insert(&mut self) {
        let key = self.number << 40 | self.next;
        match self.tell(&format!("INSERT INTO names VALUES ({key}, {})", self.number)) {
            Told::Value(_) => self.note(key, true),
            Told::Lost(why) => {
                self.note(key, false);
                self.unknown(&why);
            }
            // Nobody else uses this key: an INSERT that finds it there has happened before.
            Told::Error(error) => self.account.fault(format!("INSERT of {key}: {error}")),
        }
    }

    fn note(&self, key: u64, acknowledged: bool) {
        self.account.inserted.lock().unwrap_or_else(PoisonError::into_inner).insert(key, acknowledged);
    }

    fn read(&mut self) {
        let key = self.key();
        let account = Arc::clone(&self.account);
        let Some(counter) = account.counters.get(key as usize) else { return };
        let before = counter.acknowledged.load(Ordering::SeqCst);
        match self.tell(&format!("SELECT n FROM counters WHERE k = {key}")) {
            Told::Value(value) => {
                let after = counter.begun.load(Ordering::SeqCst);
                let seen = value.and_then(|text| text.parse().ok());
                if seen.is_none_or(|n: u64| n < before || n > after) {
                    account.fault(format!("counter {key} was read as {seen:?}, not {before} to {after}"));
                }
            }
            Told::Lost(why) => self.unknown(&why),
            Told::Error(error) => account.fault(format!("SELECT of counter {key}: {error}")),
        }
    }

    fn unknown(&mut self, why: &str) {
        self.account.unknown.fetch_add(1, Ordering::Relaxed);
        if self.tolerance == Tolerance::None {
            self.account.fault(format!("a client lost its connection: {why}"));
        }
    }

    fn tell(&mut self, sql: &str) -> Told {
        if self.client.is_none() {
            match self.connect() {
                Some(client) => self.client = Some(client),
                None => return Told::Lost("no proxy takes connections".to_owned()),
            }
        }
        let Some(client) = &mut self.client else { return Told::Lost(String::new()) };
        match client.value(sql) {
            Ok(value) => Told::Value(value),
            Err(error) if error.kind() == std::io::ErrorKind::Other => Told::Error(error.to_string()),
            Err(error) => {
                self.client = None;
                Told::Lost(error.to_string())
            }
        }
    }

    fn connect(&self) -> Option<Client> {
        for attempt in 0..200 {
            let place = (self.number as usize + attempt) % self.addresses.len().max(1);
            if let Some(client) = self.addresses.get(place).and_then(|address| Client::connect(address).ok()) {
                return Some(client);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

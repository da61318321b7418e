//! Clients that change the schema in transactions, as migration tools do: a table that is made, filled, altered and indexed is there with all of it and with
//! the journal's line, or nothing of it is.

use super::load::Tolerance;
use super::transactor::{Audit, Clients, Ledger, Transactor, read};
use crate::client::{Address, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

/// Rows of each table.
const ROWS: u64 = 40;
/// Tables that a client keeps.
const KEPT: usize = 3;
/// How long it may take until what dead proxies had begun is settled.
const SETTLING: Duration = Duration::from_secs(30);

/// Makes the journal: which transaction dropped which table, which one's rows it counted up, and who altered the journal last before it.
pub fn prepare(address: &Address) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    client.run("CREATE TABLE migrations (token bigint PRIMARY KEY, dropped bigint NOT NULL, bumped bigint NOT NULL, by bigint)")
}

/// Starts so many clients.
pub fn open(addresses: &[Address], clients: u64, seed: u64, tolerance: Tolerance) -> Clients {
    Clients::open(addresses, clients, seed, tolerance, |own| {
        let mut migrator = Migrator { own, tables: BTreeMap::new() };
        Box::new(move || migrator.migrate())
    })
}

struct Migrator {
    own: Transactor,
    /// Tables of its own that are there, by the token of who made them, and the sum of their `v`.
    tables: BTreeMap<u64, u64>,
}

/// What `v` of a new table adds up to.
fn initial() -> u64 {
    ROWS * (ROWS + 1) / 2
}

impl Migrator {
    fn migrate(&mut self) {
        let first = self.tables.keys().next().copied();
        let dropped = first.filter(|_| self.tables.len() >= KEPT);
        let bumped = self.tables.keys().next_back().copied().filter(|last| Some(*last) != dropped);
        let (alters, indexes) = (self.own.random.percent(50), self.own.random.percent(50));
        let (undoes, alters_journal) = (self.own.random.percent(20), self.own.random.percent(5));
        let statements = |token: u64| {
            let mut texts = vec![
                format!("CREATE TABLE made_{token} (id int PRIMARY KEY, v int NOT NULL)"),
                format!("INSERT INTO made_{token} SELECT i, i FROM generate_series(1, {ROWS}) i"),
            ];
            if undoes {
                texts.push("SAVEPOINT a".to_owned());
                texts.push(format!("ALTER TABLE made_{token} DROP COLUMN v"));
                texts.push(format!("CREATE TABLE undone_{token} (id int PRIMARY KEY)"));
                texts.push("ROLLBACK TO a".to_owned());
            }
            if alters {
                texts.push(format!("ALTER TABLE made_{token} ADD COLUMN w int NOT NULL DEFAULT 7"));
                texts.push(format!("UPDATE made_{token} SET w = v"));
            }
            if indexes {
                texts.push(format!("CREATE INDEX ON made_{token} (v)"));
            }
            if let Some(bumped) = bumped {
                texts.push(format!("ALTER TABLE made_{bumped} ADD COLUMN c_{token} int DEFAULT 1"));
                texts.push(format!("UPDATE made_{bumped} SET v = v + c_{token}"));
            }
            if let Some(dropped) = dropped {
                texts.push(format!("DROP TABLE made_{dropped}"));
            }
            if alters_journal {
                // Its rows are copied while others write there.
                texts.push(format!("ALTER TABLE migrations ALTER COLUMN by SET DEFAULT {token}"));
            }
            let (dropped, bumped) = (dropped.unwrap_or_default(), bumped.unwrap_or_default());
            texts
                .push(format!("INSERT INTO migrations (token, dropped, bumped) VALUES ({token}, {dropped}, {bumped})"));
            texts
        };
        let token = self.own.token();
        match self.own.transact(token, &statements) {
            Some(token) => {
                dropped.and_then(|dropped| self.tables.remove(&dropped));
                bumped.and_then(|bumped| self.tables.get_mut(&bumped)).into_iter().for_each(|sum| *sum += ROWS);
                self.tables.insert(token, initial());
                self.look(bumped.unwrap_or(token));
                self.look(token);
            }
            // What it touched may have been changed or not: the audit will see.
            None => {
                for touched in [dropped, bumped].into_iter().flatten() {
                    self.tables.remove(&touched);
                }
            }
        }
    }

    /// What was committed is seen at once.
    fn look(&mut self, table: u64) {
        let Some(sum) = self.tables.get(&table).copied() else { return };
        let Some(rows) = self.own.ask(&format!("SELECT count(*), sum(v) FROM made_{table}")) else { return };
        if rows != [[ROWS.to_string(), sum.to_string()].to_vec()] {
            self.own.ledger.fault(format!("made_{table} has {rows:?} instead of {ROWS} rows that add up to {sum}"));
        }
    }
}

/// After the faults: every acknowledged migration is in the journal, no refused one, and the tables are those that the journal says, with their rows.
pub fn audit(address: &Address, ledger: &Ledger) -> io::Result<Audit> {
    let mut client = Client::connect(address)?;
    let mut audit = Audit::begin(ledger);
    let begun = Instant::now();
    loop {
        let journal = numbers(read(&mut client, "SELECT token, dropped, bumped FROM migrations")?);
        let there = numbers(read(
            &mut client,
            "SELECT substr(relname, 6) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'made%' ORDER BY 1",
        )?);
        let undone = read(&mut client, "SELECT relname FROM pg_class WHERE relname LIKE 'undone%'")?;
        let made: BTreeSet<u64> = journal.iter().filter_map(|row| row.first().copied()).collect();
        let dropped: BTreeSet<u64> = journal.iter().filter_map(|row| row.get(1).copied()).collect();
        let expected: BTreeSet<u64> = made.difference(&dropped).copied().collect();
        let there: BTreeSet<u64> = there.into_iter().flatten().collect();
        let mut faults = Vec::new();
        if there != expected {
            let (more, less): (Vec<_>, Vec<_>) =
                (there.difference(&expected).collect(), expected.difference(&there).collect());
            faults.push(format!("tables that no migration made: {more:?}; that are missing: {less:?}"));
        }
        if !undone.is_empty() {
            faults.push(format!("what was rolled back is there: {undone:?}"));
        }
        for table in there.intersection(&expected) {
            let bumps = journal.iter().filter(|row| row.get(2) == Some(table)).count() as u64;
            let sum = initial() + bumps * ROWS;
            let found = read(&mut client, &format!("SELECT count(*), sum(v) FROM made_{table}"))?;
            if found != [[ROWS.to_string(), sum.to_string()].to_vec()] {
                faults.push(format!("made_{table} has {found:?} instead of {ROWS} rows that add up to {sum}"));
            }
        }
        // What the last transactions of dead proxies had begun may not be settled yet.
        if !faults.is_empty() && begun.elapsed() < SETTLING {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        for table in there.intersection(&expected) {
            // Nobody claims it any more.
            read(&mut client, &format!("ALTER TABLE made_{table} ADD COLUMN last int DEFAULT 1"))?;
        }
        audit.faults.extend(faults);
        audit.compare(ledger, made);
        return Ok(audit);
    }
}

fn numbers(rows: Vec<Vec<String>>) -> Vec<Vec<u64>> {
    rows.iter().map(|row| row.iter().filter_map(|text| text.parse().ok()).collect()).collect()
}

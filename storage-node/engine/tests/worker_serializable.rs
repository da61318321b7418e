//! Random sessions at SERIALIZABLE in one partition: in the order of their commits they would have seen the same one after the other, and nobody waits in
//! the end.

mod cluster;
mod fixture;

use cluster::transactions::{LOCK, LOCK_SHARE, MOVE, NAMED, Said, Session, names};
use cluster::{Cluster, DELETE, INSERT, RENAME, SELECT, UPDATE};
use std::collections::BTreeMap;
use toroid_common::error::SqlState;
use toroid_common::transaction::{Level, Step};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

type Statement = (u32, i32, String);
type Rows = BTreeMap<i32, String>;

/// What a statement comes to on these rows, alone.
fn alone((plan, key, name): &Statement, rows: &mut Rows) -> Said {
    let taken = || Said::Error(SqlState::UNIQUE_VIOLATION.as_str().to_owned());
    match *plan {
        INSERT if rows.contains_key(key) => taken(),
        INSERT => {
            rows.insert(*key, name.clone());
            Said::Count(1)
        }
        SELECT | LOCK | LOCK_SHARE => Said::Names(rows.get(key).cloned().into_iter().collect()),
        UPDATE => Said::Count(rows.get_mut(key).map(|row| row.clone_from(name)).iter().count() as u64),
        DELETE => Said::Count(u64::from(rows.remove(key).is_some())),
        MOVE => {
            let to = name.parse().unwrap();
            match rows.get(key).cloned() {
                None => Said::Count(0),
                Some(_) if to != *key && rows.contains_key(&to) => taken(),
                Some(row) => {
                    rows.remove(key);
                    rows.insert(to, row);
                    Said::Count(1)
                }
            }
        }
        NAMED => Said::Names(rows.values().filter(|row| *row == name).cloned().collect()),
        RENAME => {
            let renamed = rows.values_mut().filter(|row| *row == name).map(|row| "renamed".clone_into(row));
            names(&vec!["renamed"; renamed.count()])
        }
        other => panic!("{other}"),
    }
}

/// One session: its transaction, what it has seen, and what it waits for.
struct Actor {
    session: Session,
    /// By request; those that were undone count on.
    seen: Vec<Option<(Statement, Said)>>,
    outstanding: Option<(u64, Asked)>,
}

impl Actor {
    fn undo(&mut self, keep: usize) {
        self.seen.iter_mut().skip(keep).for_each(|seen| *seen = None);
    }
}

#[derive(Clone)]
enum Asked {
    Statement(Statement),
    Commit,
    RollBack,
    Savepoint(usize),
}

struct Run {
    cluster: Cluster,
    proxy: usize,
    random: Random,
    sequence: u64,
    transactions: u64,
    actors: Vec<Actor>,
    rows: Rows,
    committed: usize,
    deadlocks: usize,
    waited: usize,
    /// Whose transactions have failed.
    failed: Vec<usize>,
}

impl Run {
    fn new(seed: u64, copies: usize) -> Run {
        let mut cluster = Cluster::new(2, copies);
        cluster.low = 1;
        let proxy = cluster.proxy(0, 9);
        let auto = || Actor { session: Session::auto(proxy), seen: Vec::new(), outstanding: None };
        let actors = (0..6).map(|_| auto()).collect();
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (rows, sequence) = (Rows::new(), 0);
        let mut run = Run {
            cluster,
            proxy,
            random,
            sequence,
            transactions: 0,
            actors,
            rows,
            committed: 0,
            deadlocks: 0,
            waited: 0,
            failed: Vec::new(),
        };
        for id in 1..=4 {
            run.sequence += 1;
            run.cluster.insert(proxy, 0, run.sequence, id, &format!("n{id}"));
            run.rows.insert(id, format!("n{id}"));
        }
        run.cluster.run();
        run.cluster.take(proxy);
        run
    }

    fn statement(&mut self) -> Statement {
        let plans = [INSERT, SELECT, UPDATE, UPDATE, DELETE, MOVE, NAMED, RENAME, LOCK, LOCK_SHARE];
        let plan = plans[self.random.below(plans.len() as u64) as usize];
        let key = 1 + self.random.below(6) as i32;
        let name = match plan {
            MOVE => (1 + self.random.below(6)).to_string(),
            _ => format!("n{}", self.random.below(5)),
        };
        (plan, key, name)
    }

    /// One actor does something, if it does not wait.
    fn act(&mut self) {
        self.cluster.hold_scans = self.random.below(3) == 0;
        let at = self.random.below(self.actors.len() as u64) as usize;
        if self.actors[at].outstanding.is_some() {
            return;
        }
        self.sequence += 1;
        let open = self.actors[at].session.number.is_some();
        let requests = self.actors[at].session.requests[0];
        let asked = match self.random.below(10) {
            0..=1 if open => Asked::Commit,
            2 if open && self.random.below(3) == 0 => Asked::RollBack,
            3 if open => Asked::Savepoint(self.random.below(u64::from(requests) + 1) as usize),
            4..=6 if !open => {
                self.transactions += 1;
                self.actors[at].session = Session::begin(self.proxy, self.transactions, Level::Serializable);
                Asked::Statement(self.statement())
            }
            _ => Asked::Statement(self.statement()),
        };
        self.ask(at, asked);
    }

    fn ask(&mut self, at: usize, asked: Asked) {
        let Run { cluster, actors, sequence, .. } = self;
        let actor = &mut actors[at];
        let requests = actor.session.requests[0];
        match &asked {
            Asked::Statement((plan, key, name)) => {
                cluster.statement(&mut actor.session, 0, *sequence, (*plan, *key, name));
            }
            Asked::Commit => cluster.step_of(&actor.session, 0, *sequence, Step::Commit { requests }),
            Asked::RollBack => cluster.step_of(&actor.session, 0, *sequence, Step::RollBack),
            Asked::Savepoint(keep) => {
                cluster.step_of(&actor.session, 0, *sequence, Step::RollBackTo { requests, keep: *keep as u32 });
            }
        }
        actor.outstanding = Some((*sequence, asked));
    }

    /// Everything that was answered, in order.
    fn hear(&mut self) {
        let told = self.cluster.told(self.proxy);
        for (sequence, said) in told {
            let at = self.actors.iter().position(|a| a.outstanding.as_ref().is_some_and(|(s, _)| *s == sequence));
            let at = at.unwrap_or_else(|| panic!("{sequence} was answered twice: {said:?}"));
            let (_, asked) = self.actors[at].outstanding.take().unwrap();
            self.answered(at, &asked, said);
        }
        self.waited += self.cluster.workers[0].waiting();
        for at in std::mem::take(&mut self.failed) {
            self.sequence += 1;
            self.ask(at, Asked::RollBack);
            self.hear();
        }
    }

    fn answered(&mut self, at: usize, asked: &Asked, said: Said) {
        let open = self.actors[at].session.number.is_some();
        match asked {
            // A scan that only reads does so where it began.
            Asked::Statement((NAMED, ..)) if !open => {}
            Asked::Statement(statement) if !open => {
                assert_eq!(said, alone(statement, &mut self.rows), "{statement:?} by itself");
            }
            Asked::Statement(_) if matches!(said, Said::Error(_)) => {
                self.deadlocks += usize::from(said == Said::Error(SqlState::DEADLOCK_DETECTED.as_str().to_owned()));
                self.failed.push(at);
            }
            Asked::Statement(statement) => self.actors[at].seen.push(Some((statement.clone(), said))),
            Asked::Commit => {
                assert_eq!(said, Said::Count(0));
                for (statement, said) in std::mem::take(&mut self.actors[at].seen).into_iter().flatten() {
                    assert_eq!(said, alone(&statement, &mut self.rows), "{statement:?} in transaction {at}");
                }
                self.actors[at].session = Session::auto(self.proxy);
                self.committed += 1;
            }
            Asked::RollBack => {
                assert_eq!(said, Said::Count(0));
                self.actors[at].seen.clear();
                self.actors[at].session = Session::auto(self.proxy);
            }
            Asked::Savepoint(keep) => {
                assert_eq!(said, Said::Count(0));
                self.actors[at].undo(*keep);
            }
        }
    }

    fn finish(&mut self) {
        self.cluster.hold_scans = false;
        self.hear();
        for _ in 0..100 {
            for at in 0..self.actors.len() {
                if self.actors[at].outstanding.is_none() && self.actors[at].session.number.is_some() {
                    self.sequence += 1;
                    self.ask(at, Asked::Commit);
                    self.hear();
                }
            }
        }
        assert!(self.actors.iter().all(|actor| actor.outstanding.is_none()), "somebody waits for ever");
        assert_eq!(self.cluster.workers[0].waiting(), 0);
        self.sequence += 1;
        let rows = self.rows.clone();
        for (id, name) in rows {
            self.sequence += 1;
            self.cluster.select(self.proxy, 0, self.sequence, id);
            assert_eq!(self.cluster.told(self.proxy), [(self.sequence, names(&[&name]))]);
        }
    }
}

#[test]
fn commits_are_in_an_order_in_which_all_would_have_seen_the_same() {
    let (mut committed, mut deadlocks, mut waited) = (0, 0, 0);
    for seed in 1..=150 {
        let mut run = Run::new(seed, 1 + (seed % 2) as usize);
        for _ in 0..150 {
            run.act();
            run.hear();
        }
        run.finish();
        committed += run.committed;
        deadlocks += run.deadlocks;
        waited += run.waited;
    }
    assert!(committed > 1_000 && deadlocks > 50 && waited > 1_000, "{committed} {deadlocks} {waited}");
}

//! Transactions at one partition: what they see, what waits for whom, savepoints, deadlocks, repeats.

mod cluster;
mod fixture;

use cluster::transactions::{
    LOCK, LOCK_NOWAIT, LOCK_SHARE, LOCK_SKIP, LOCK_TABLE, MOVE, NAMED, NOBODY, Said, Session, YIELD_TABLE, error, names,
};
use cluster::{Cluster, DELETE, Got, INSERT, RENAME, SELECT, UPDATE};
use std::sync::Arc;
use toroid_common::error::SqlState;
use toroid_common::id::{CutId, Epoch, Incarnation, PartitionId};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Fragment, FragmentOutcome, Message, Refusal, Within};
use toroid_engine::worker::Event;

const RC: Level = Level::ReadCommitted;

/// A script: each line is a session (`a` is one that commits by itself, a digit a transaction), a verb, and what it is about.
struct Script {
    cluster: Cluster,
    proxy: usize,
    sessions: Vec<Session>,
    auto: Session,
    sequence: u64,
    partition: usize,
}

impl Script {
    fn new(level: Level) -> Script {
        Script::on(Cluster::new(2, 2), level)
    }

    fn on(mut cluster: Cluster, level: Level) -> Script {
        cluster.low = 1;
        let proxy = cluster.proxy(0, 9);
        let sessions = (0..10).map(|number| Session::begin(proxy, number, level)).collect();
        let auto = Session::auto(proxy);
        let mut script = Script { cluster, proxy, sessions, auto, sequence: 0, partition: 0 };
        for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
            script.sequence += 1;
            script.cluster.insert(proxy, 0, script.sequence, id, name);
        }
        script.cluster.run();
        script.cluster.take(proxy);
        script
    }

    /// Sends one line; what anybody is told then, by sequence.
    #[track_caller]
    fn line(&mut self, line: &str) -> Vec<(u64, Said)> {
        self.sequence += 1;
        let words: Vec<&str> = line.split(' ').collect();
        let partition = self.partition;
        let session = match words[0].parse::<usize>() {
            Ok(number) => &mut self.sessions[number],
            Err(_) => &mut self.auto,
        };
        let number = |at: usize| words.get(at).map_or(0, |word| word.parse().unwrap());
        let name = || words.get(3).copied().unwrap_or_default();
        let requests = session.requests[partition];
        let plan = match words[1] {
            "insert" => INSERT,
            "select" => SELECT,
            "update" => UPDATE,
            "delete" => DELETE,
            "lock" => LOCK,
            "nowait" => LOCK_NOWAIT,
            "skip" => LOCK_SKIP,
            "share" => LOCK_SHARE,
            "named" => NAMED,
            "rename" => RENAME,
            "none" => NOBODY,
            "table" => LOCK_TABLE,
            "yielding" => YIELD_TABLE,
            "move" => MOVE,
            "commit" => {
                self.cluster.step_of(session, partition, self.sequence, Step::Commit { requests });
                return self.cluster.told(self.proxy);
            }
            "rollback" => {
                self.cluster.step_of(session, partition, self.sequence, Step::RollBack);
                return self.cluster.told(self.proxy);
            }
            "to" => {
                let keep = number(2) as u32;
                self.cluster.step_of(session, partition, self.sequence, Step::RollBackTo { requests, keep });
                return self.cluster.told(self.proxy);
            }
            "cancel" => {
                let sequence = number(2) as u64;
                self.cluster.send(self.proxy, &Message::Cancel { sequence });
                return self.cluster.told(self.proxy);
            }
            other => panic!("{other}"),
        };
        let (key, name) = match plan {
            NAMED | RENAME => (0, words[2]),
            _ => (number(2), name()),
        };
        self.cluster.statement(session, partition, self.sequence, (plan, key, name));
        self.cluster.told(self.proxy)
    }

    /// A line that is answered at once, and nobody else is.
    #[track_caller]
    fn says(&mut self, line: &str, expected: Said) {
        let told = self.line(line);
        assert_eq!(told, [(self.sequence, expected)], "{line}");
    }

    /// A line that is not answered; its sequence.
    #[track_caller]
    fn waits(&mut self, line: &str) -> u64 {
        assert_eq!(self.line(line), [], "{line}");
        self.sequence
    }

    /// A line after which these are answered besides.
    #[track_caller]
    fn frees(&mut self, line: &str, expected: Said, others: &[(u64, Said)]) {
        let told = self.line(line);
        let expected: Vec<(u64, Said)> =
            [(self.sequence, expected)].into_iter().chain(others.iter().cloned()).collect();
        assert_eq!(told, expected, "{line}");
    }

    /// Nothing is left of any transaction.
    #[track_caller]
    fn is_over(&mut self) {
        self.cluster.advance(50_000);
        assert_eq!(self.cluster.workers[0].waiting(), 0);
        self.says("a named nobody", names(&[]));
    }
}

use Said::Count;

#[test]
fn a_transaction_sees_its_own_writes_and_others_do_not_until_it_commits() {
    let mut script = Script::new(RC);
    script.says("1 insert 4 four", Count(1));
    script.says("1 update 1 uno", Count(1));
    script.says("1 delete 2", Count(1));
    script.says("1 select 1", names(&["uno"]));
    script.says("1 select 2", names(&[]));
    script.says("1 select 4", names(&["four"]));
    script.says("1 named four", names(&["four"]));
    script.says("1 named two", names(&[]));
    script.says("a select 1", names(&["one"]));
    script.says("a select 2", names(&["two"]));
    script.says("a named four", names(&[]));
    // Others insert meanwhile: its own row stands elsewhere, and is found all the same.
    script.says("a insert 5 five", Count(1));
    script.says("1 update 4 vier", Count(1));
    script.says("1 rename vier", names(&["renamed"]));
    script.says("1 select 5", names(&["five"]));
    script.says("1 commit", Count(0));
    script.says("a select 1", names(&["uno"]));
    script.says("a select 2", names(&[]));
    script.says("a select 4", names(&["renamed"]));
    script.says("a select 5", names(&["five"]));
    script.is_over();
}

#[test]
fn changed_values_are_read_by_key_whatever_was_changed_besides() {
    let mut script = Script::new(RC);
    script.says("1 update 1 uno", Count(1));
    script.says("1 select 1", names(&["uno"]));
    script.says("1 select 2", names(&["two"]));
    script.says("1 select 9", names(&[]));
    script.says("1 update 1 eins", Count(1));
    script.says("1 update 3 drei", Count(1));
    script.says("1 select 1", names(&["eins"]));
    script.says("1 to 5", Count(0));
    script.says("1 select 3", names(&["three"]));
    script.says("1 select 1", names(&["eins"]));
    script.says("1 to 1", Count(0));
    script.says("1 select 1", names(&["uno"]));
    // Its key moves away, and another row comes under it.
    script.says("1 move 1 7", Count(1));
    script.says("1 select 1", names(&[]));
    script.says("1 select 7", names(&["uno"]));
    script.says("1 insert 1 new", Count(1));
    script.says("1 update 1 newer", Count(1));
    script.says("1 select 1", names(&["newer"]));
    for number in 0..20 {
        script.says(&format!("1 update 2 {number}"), Count(1));
    }
    script.says("1 select 2", names(&["19"]));
    script.says("a select 2", names(&["two"]));
    script.says("1 commit", Count(0));
    script.says("a select 2", names(&["19"]));
    script.says("a select 7", names(&["uno"]));
    script.is_over();
}

#[test]
fn what_is_rolled_back_never_was() {
    let mut script = Script::new(RC);
    script.says("1 insert 4 four", Count(1));
    script.says("1 delete 1", Count(1));
    let waits = script.waits("a insert 4 mine");
    script.frees("1 rollback", Count(0), &[(waits, Count(1))]);
    script.says("a select 4", names(&["mine"]));
    script.says("a select 1", names(&["one"]));
    script.is_over();
}

#[test]
fn writers_of_a_row_wait_in_their_order_and_see_what_came_before() {
    let mut script = Script::new(RC);
    script.says("1 update 1 first", Count(1));
    let second = script.waits("2 update 1 second");
    let third = script.waits("a update 1 third");
    let fourth = script.waits("3 delete 1");
    script.says("a update 2 another", Count(1));
    script.says("a select 1", names(&["one"]));
    script.frees("1 commit", Count(0), &[(second, Count(1))]);
    script.says("2 select 1", names(&["second"]));
    script.says("a select 1", names(&["first"]));
    script.frees("2 commit", Count(0), &[(third, Count(1)), (fourth, Count(1))]);
    script.says("a select 1", names(&["third"]));
    script.says("3 commit", Count(0));
    script.says("a select 1", names(&[]));
    script.is_over();
}

#[test]
fn rows_are_locked_by_select_at_the_strength_that_it_says() {
    let mut script = Script::new(RC);
    script.says("1 share 1", names(&["one"]));
    script.says("2 share 1", names(&["one"]));
    script.says("3 nowait 1", error(SqlState::LOCK_NOT_AVAILABLE));
    script.says("3 skip 1", names(&[]));
    script.says("3 skip 2", names(&["two"]));
    let update = script.waits("4 update 1 uno");
    let late = script.waits("5 share 1");
    script.says("1 commit", Count(0));
    script.frees("2 commit", Count(0), &[(update, Count(1))]);
    script.frees("4 commit", Count(0), &[(late, names(&["uno"]))]);
    script.says("5 rollback", Count(0));
    script.says("3 rollback", Count(0));
    script.is_over();
}

#[test]
fn unique_keys_that_come_or_go_are_waited_for_not_reported() {
    let mut script = Script::new(RC);
    script.says("1 delete 1", Count(1));
    script.says("1 insert 4 four", Count(1));
    let takes = script.waits("2 insert 1 other");
    let brings = script.waits("a insert 4 other");
    script.says("3 move 2 7", Count(1));
    let moved = script.waits("a insert 7 other");
    let left = script.waits("a insert 2 other");
    script.frees("1 commit", Count(0), &[(takes, Count(1)), (brings, error(SqlState::UNIQUE_VIOLATION))]);
    script.frees("3 rollback", Count(0), &[(moved, Count(1)), (left, error(SqlState::UNIQUE_VIOLATION))]);
    script.says("2 commit", Count(0));
    script.says("a select 1", names(&["other"]));
    script.is_over();
}

#[test]
fn a_savepoint_gives_back_what_came_after_it() {
    let mut script = Script::new(RC);
    script.says("1 update 1 kept", Count(1));
    script.says("1 update 2 gone", Count(1));
    script.says("1 insert 4 gone", Count(1));
    let second = script.waits("a update 2 theirs");
    let fourth = script.waits("a insert 4 theirs");
    let first = script.waits("a update 1 later");
    script.frees("1 to 1", Count(0), &[(second, Count(1)), (fourth, Count(1))]);
    script.says("1 select 2", names(&["theirs"]));
    script.says("1 insert 4 again", error(SqlState::UNIQUE_VIOLATION));
    script.says("1 to 4", Count(0));
    script.says("1 insert 5 five", Count(1));
    script.frees("1 to 0", Count(0), &[(first, Count(1))]);
    script.says("1 commit", Count(0));
    script.says("a select 1", names(&["later"]));
    script.says("a select 5", names(&[]));
    script.is_over();
}

#[test]
fn a_circle_of_two_ends_with_who_closes_it() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    script.says("2 update 2 b", Count(1));
    let waits = script.waits("1 update 2 a");
    script.says("2 update 1 b", error(SqlState::DEADLOCK_DETECTED));
    script.frees("2 rollback", Count(0), &[(waits, Count(1))]);
    script.says("1 commit", Count(0));
    script.says("a select 2", names(&["a"]));
    script.is_over();
}

#[test]
fn a_read_waits_for_a_locked_table_under_a_name_only() {
    let mut script = Script::new(RC);
    script.says("1 table", names(&[]));
    let locked = || Said::Refused("TableLocked".to_owned());
    script.says("a select 1", locked());
    script.says("a named one", locked());
    script.says("a none", locked());
    let write = script.waits("a update 2 theirs");
    let read = script.waits("2 select 1");
    script.frees("1 commit", Count(0), &[(write, Count(1)), (read, names(&["one"]))]);
    script.says("a select 2", names(&["theirs"]));
    script.says("2 commit", Count(0));
    script.is_over();
}

#[test]
fn who_locks_a_part_of_a_table_gives_way_to_whoever_closes_the_circle() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    script.says("2 update 2 b", Count(1));
    let table = script.waits("2 yielding");
    let update = script.line("1 update 2 a");
    assert_eq!(update, [(table, error(SqlState::DEADLOCK_DETECTED))]);
    let update = script.sequence;
    script.frees("2 rollback", Count(0), &[(update, Count(1))]);
    // Also if it closes the circle itself.
    script.says("3 update 3 c", Count(1));
    let waits = script.waits("1 update 3 a");
    script.says("3 yielding", error(SqlState::DEADLOCK_DETECTED));
    script.frees("3 rollback", Count(0), &[(waits, Count(1))]);
    script.says("1 commit", Count(0));
    script.is_over();
}

#[test]
fn waits_end_by_timeout_cancellation_and_a_deadlock_elsewhere() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    script.auto.timeout_ms = 20;
    let timeout = script.waits("a update 1 b");
    script.auto.timeout_ms = 0;
    let cancelled = script.waits("a update 1 c");
    let victim = script.waits("2 update 1 d");
    script.cluster.advance(25_000);
    assert_eq!(script.cluster.told(script.proxy), [(timeout, error(SqlState::LOCK_NOT_AVAILABLE))]);
    let told = script.line(&format!("a cancel {cancelled}"));
    assert_eq!(told, [(cancelled, error(SqlState::QUERY_CANCELED))]);
    script.cluster.advance(40_000);
    let (_, waits) = script.cluster.waits.last().unwrap().clone();
    assert_eq!(waits.len(), 1);
    assert_eq!((waits[0].transaction.number, waits[0].process), (2, 1_002));
    assert_eq!(waits[0].holders.iter().map(|(id, process)| (id.number, *process)).collect::<Vec<_>>(), [(1, 1_001)]);
    let transaction = waits[0].transaction;
    let wait = waits[0].wait;
    script.cluster.step(0, Event::Deadlock { transaction, wait: wait + 1, detail: String::new() });
    assert_eq!(script.cluster.told(script.proxy), [], "another wait is meant");
    script.cluster.step(0, Event::Deadlock { transaction, wait, detail: "Process 1 …".to_owned() });
    assert_eq!(script.cluster.told(script.proxy), [(victim, error(SqlState::DEADLOCK_DETECTED))]);
    script.cluster.advance(40_000);
    assert_eq!(script.cluster.waits.last().unwrap().1, [], "an empty report ends it");
    let reports = script.cluster.waits.len();
    script.cluster.advance(200_000);
    assert_eq!(script.cluster.waits.len(), reports);
    script.says("2 rollback", Count(0));
    script.says("1 commit", Count(0));
    script.is_over();
}

#[test]
fn serializable_reads_keep_others_from_changing_them() {
    let mut script = Script::new(Level::Serializable);
    script.says("1 select 9", names(&[]));
    script.says("1 select 1", names(&["one"]));
    let comes = script.waits("a insert 9 nine");
    let changes = script.waits("a update 1 uno");
    script.says("a update 2 dos", Count(1));
    script.says("2 named three", names(&["three"]));
    script.says("2 select 2", names(&["dos"]));
    let all = script.waits("a update 3 tres");
    script.says("1 select 9", names(&[]));
    script.frees("1 commit", Count(0), &[]);
    script.frees("2 commit", Count(0), &[(comes, Count(1)), (changes, Count(1)), (all, Count(1))]);
    script.is_over();
}

#[test]
fn locks_take_memory_that_is_given_back_and_run_out_of_it() {
    let mut cluster = Cluster::bare(2, 2, 800_000);
    cluster.change_catalog(&cluster::accounts());
    let mut script = Script::on(cluster, Level::Serializable);
    script.says("2 select 1", names(&["one"]));
    let before = script.cluster.workers[0].memory();
    let mut locked = 0;
    let refused = loop {
        let mut told = script.line(&format!("1 select {}", 10 + locked));
        let (_, said) = told.pop().unwrap();
        if said != names(&[]) {
            break said;
        }
        locked += 1;
        assert!(locked < 10_000, "locks take no memory");
    };
    assert_eq!(refused, error(SqlState::OUT_OF_MEMORY));
    assert!(locked > 1_000, "{locked}");
    assert!(script.cluster.workers[0].memory() > 700_000);
    script.says("a named nobody", names(&[]));
    script.says("1 to 10", Count(0));
    assert!(script.cluster.workers[0].memory() > 700_000, "what was read was read");
    script.says("1 rollback", Count(0));
    assert_eq!(script.cluster.workers[0].memory(), before);
    script.says("3 select 1", names(&["one"]));
    script.says("2 commit", Count(0));
    script.says("3 commit", Count(0));
    assert!(script.cluster.workers[0].memory() < before);
    script.is_over();
}

#[test]
fn two_that_read_and_write_what_the_other_reads_do_not_both_commit() {
    let mut script = Script::new(Level::Serializable);
    script.says("1 select 1", names(&["one"]));
    script.says("2 select 2", names(&["two"]));
    let first = script.waits("1 update 2 by-1");
    script.says("2 update 1 by-2", error(SqlState::DEADLOCK_DETECTED));
    script.frees("2 rollback", Count(0), &[(first, Count(1))]);
    script.says("1 commit", Count(0));
    script.is_over();
}

#[test]
fn requests_and_steps_that_come_again_are_answered_the_same() {
    let mut script = Script::new(RC);
    script.says("1 insert 4 four", Count(1));
    let (sequence, mut before) = (script.sequence, script.sessions[1].clone());
    before.requests[0] -= 1;
    script.cluster.repeat(&before, 0, sequence, (INSERT, 4, "four"));
    assert_eq!(script.cluster.told(script.proxy), [(sequence, Count(1))]);
    script.says("1 insert 4 twice", error(SqlState::UNIQUE_VIOLATION));
    let sequence = script.sequence;
    let mut before = script.sessions[1].clone();
    before.requests[0] -= 1;
    script.cluster.repeat(&before, 0, sequence, (INSERT, 4, "twice"));
    assert_eq!(script.cluster.told(script.proxy), [(sequence, error(SqlState::UNIQUE_VIOLATION))]);
    script.says("1 to 1", Count(0));
    let sequence = script.sequence;
    script.cluster.step_of(&script.sessions[1].clone(), 0, sequence, Step::RollBackTo { requests: 2, keep: 1 });
    assert_eq!(script.cluster.told(script.proxy), [(sequence, Count(0))]);
    script.says("1 select 4", names(&["four"]));
    script.says("1 commit", Count(0));
    let sequence = script.sequence;
    script.cluster.step_of(&script.sessions[1].clone(), 0, sequence, Step::Commit { requests: 3 });
    assert_eq!(script.cluster.told(script.proxy), [(sequence, Count(0))]);
    // Read only, and rolled back: nothing is in the log.
    script.says("2 select 4", names(&["four"]));
    script.says("2 commit", Count(0));
    let sequence = script.sequence;
    script.cluster.step_of(&script.sessions[2].clone(), 0, sequence, Step::Commit { requests: 1 });
    assert_eq!(script.cluster.told(script.proxy), [(sequence, Count(0))]);
    script.is_over();
}

#[test]
fn a_request_that_waits_and_comes_again_is_answered_once() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    let waits = script.waits("2 update 1 b");
    let mut before = script.sessions[2].clone();
    before.requests[0] -= 1;
    let other = script.cluster.proxy(0, 9);
    before.proxy = other;
    script.cluster.repeat(&before, 0, waits, (UPDATE, 1, "b"));
    assert_eq!(script.cluster.told(other), []);
    script.says("1 commit", Count(0));
    assert_eq!(script.cluster.told(other), [(waits, Count(1))]);
    script.says("2 commit", Count(0));
    script.says("a select 1", names(&["b"]));
    script.is_over();
}

#[test]
fn counts_that_do_not_match_are_serialization_failures() {
    let mut script = Script::new(RC);
    script.sessions[1].requests[0] = 1;
    script.says("1 update 1 a", error(SqlState::SERIALIZATION_FAILURE));
    script.says("2 update 1 a", Count(1));
    script.sessions[2].requests[0] = 5;
    script.says("2 select 1", error(SqlState::SERIALIZATION_FAILURE));
    script.says("2 commit", error(SqlState::SERIALIZATION_FAILURE));
    script.says("a update 1 free", Count(1));
    script.is_over();
}

#[test]
fn a_late_copy_of_a_first_request_does_not_open_its_transaction_anew() {
    let mut script = Script::new(RC);
    script.cluster.low = u64::MAX;
    script.says("1 update 1 a", Count(1));
    let (late, first) = (script.sequence, Session { requests: vec![0; 8], ..script.sessions[1].clone() });
    script.cluster.low = 1;
    script.says("1 rollback", Count(0));
    script.cluster.repeat(&first, 0, late, (UPDATE, 1, "a"));
    assert_eq!(script.cluster.told(script.proxy), [(late, Said::Refused("BelowMark".to_owned()))]);
    script.cluster.low = u64::MAX;
    script.says("2 select 1", names(&["one"]));
    script.says("2 rollback", Count(0));
    script.cluster.repeat(&first, 0, late, (UPDATE, 1, "a"));
    assert_eq!(script.cluster.told(script.proxy), [(late, Said::Refused("BelowMark".to_owned()))]);
    script.says("a update 1 free", Count(1));
    script.is_over();
}

#[test]
fn a_dead_proxys_transactions_end_after_the_fence() {
    let mut script = Script::new(RC);
    let other = script.cluster.proxy(0, 10);
    script.says("1 update 1 a", Count(1));
    let waits = script.waits("2 update 1 b");
    let mut theirs = Session::auto(other);
    script.cluster.statement(&mut theirs, 0, 500, (UPDATE, 1, "theirs"));
    assert_eq!(script.cluster.told(other), []);
    for worker in 0..2 {
        let alive = [Incarnation(10)].into();
        script.cluster.step(worker, Event::ProxiesChanged { below: Incarnation(11), alive });
    }
    assert_eq!(script.cluster.told(other), [(500, Count(1))]);
    assert_eq!(script.cluster.told(script.proxy), [(waits, Said::Refused("Fenced".to_owned()))]);
    script.cluster.statement(&mut theirs, 0, 501, (SELECT, 1, ""));
    assert_eq!(script.cluster.told(other), [(501, names(&["theirs"]))]);
    assert_eq!(script.cluster.workers[0].waiting(), 0);
}

impl Script {
    /// All workers capture their partitions for this cut; it is released if that is wanted.
    fn cut(&mut self, round: u64, releases: bool) -> CutId {
        let cut = CutId { term: 1, round };
        let map = self.cluster.map.version;
        for worker in 0..2 {
            self.cluster.step(worker, Event::Capture { cut, map });
        }
        self.cluster.run();
        if releases {
            self.release(cut);
        }
        cut
    }

    fn release(&mut self, cut: CutId) {
        for worker in 0..2 {
            self.cluster.step(worker, Event::Release { cut, committed: Some(Arc::from([])) });
        }
    }
}

#[test]
fn repeatable_reads_are_of_their_cut_and_rows_changed_after_it_cannot_be_written() {
    let mut script = Script::new(Level::RepeatableRead);
    let cut = script.cut(1, true);
    for session in [1, 2, 3] {
        script.sessions[session].cut = Some(cut);
    }
    script.says("a update 1 uno", Count(1));
    script.says("a delete 2", Count(1));
    script.says("a insert 4 four", Count(1));
    script.says("1 select 1", names(&["one"]));
    script.says("1 select 2", names(&["two"]));
    script.says("1 select 4", names(&[]));
    script.says("1 named two", names(&["two"]));
    script.says("1 update 3 tres", Count(1));
    script.says("1 insert 5 five", Count(1));
    script.says("1 select 3", names(&["tres"]));
    script.says("1 named five", names(&["five"]));
    script.says("1 rename five", names(&["renamed"]));
    script.says("a select 3", names(&["three"]));
    script.says("1 insert 4 mine", error(SqlState::UNIQUE_VIOLATION));
    script.says("1 to 10", Count(0));
    script.says("1 commit", Count(0));
    script.says("a select 3", names(&["tres"]));
    script.says("a select 5", names(&["renamed"]));
    script.says("2 update 1 mine", error(SqlState::SERIALIZATION_FAILURE));
    script.says("2 rollback", Count(0));
    script.says("3 lock 2", error(SqlState::SERIALIZATION_FAILURE));
    script.says("3 rollback", Count(0));
    script.is_over();
}

#[test]
fn a_row_that_is_changed_while_one_waits_for_it_cannot_be_written_at_repeatable_read() {
    let mut script = Script::new(Level::RepeatableRead);
    let cut = script.cut(1, true);
    script.sessions[1].level = RC;
    script.sessions[2].cut = Some(cut);
    script.sessions[3].cut = Some(cut);
    script.says("1 update 1 uno", Count(1));
    let waits = script.waits("2 update 1 mine");
    script.frees("1 commit", Count(0), &[(waits, error(SqlState::SERIALIZATION_FAILURE))]);
    script.says("2 rollback", Count(0));
    script.says("4 update 3 tres", Said::Count(1));
    let waits = script.waits("3 update 3 mine");
    script.frees("4 rollback", Count(0), &[(waits, Count(1))]);
    script.says("3 commit", Count(0));
    script.says("a select 3", names(&["mine"]));
    script.is_over();
}

#[test]
fn a_cut_is_waited_for_and_asked_for_again() {
    let mut script = Script::new(Level::RepeatableRead);
    let cut = script.cut(1, false);
    script.sessions[1].cut = Some(cut);
    let waits = script.waits("1 select 1");
    script.release(cut);
    assert_eq!(script.cluster.told(script.proxy), [(waits, names(&["one"]))]);
    script.cluster.step(0, Event::DropCut(cut));
    script.says("1 select 1", Said::Refused("NoCut".to_owned()));
    script.sessions[1].requests[0] -= 1;
    script.says("1 rollback", Count(0));
    script.is_over();
}

impl Script {
    /// A fragment that reads the table in partition 0.
    fn fragment(&mut self, number: Option<u64>, level: Level) -> Vec<Got> {
        self.sequence += 1;
        let earlier = vec![number.map_or(0, |number| self.sessions[number as usize].requests[0])];
        let within = number.map(|number| Within { number, earlier: 0, level, cut: None, process: 0, prepares: None });
        let partitions = vec![(PartitionId(0), Epoch(1))];
        let tables = vec![(fixture::T, toroid_common::id::CatalogVersion(2))];
        let sequence = self.sequence;
        let (env, plan) = (&[][..], &[][..]);
        let fragment = Fragment {
            sequence,
            credit: 1,
            partitions,
            cut: None,
            coordinator: Incarnation(9),
            within,
            earlier,
            tables,
            env,
            plan,
        };
        self.cluster.send(self.proxy, &Message::Fragment(fragment));
        self.cluster.run();
        self.cluster.take(self.proxy)
    }

    /// The names in the root that the last fragment was lent, which comes back.
    fn lent(&mut self) -> Vec<String> {
        let lent = self.cluster.fragments.pop().unwrap();
        let rows = fixture::content(lent.roots[0].1.table(fixture::T).unwrap());
        let name = |row: Vec<toroid_common::datum::Datum>| match &row[1] {
            toroid_common::datum::Datum::Text(name) => name.clone(),
            other => panic!("{other:?}"),
        };
        let names = rows.into_iter().map(|(_, row)| name(row)).collect();
        let outcome = FragmentOutcome::Done { rows: 0 };
        let finished = Event::FragmentFinished { ticket: lent.ticket, roots: lent.roots, outcome };
        self.cluster.step(0, finished);
        self.cluster.take(self.proxy);
        names
    }
}

#[test]
fn fragments_see_their_transactions_writes_and_nothing_that_may_be_half_committed() {
    let mut script = Script::new(RC);
    script.says("1 insert 4 four", Count(1));
    script.says("1 delete 1", Count(1));
    assert_eq!(script.fragment(Some(1), RC), []);
    assert_eq!(script.lent(), ["two", "three", "four"]);
    assert_eq!(script.fragment(Some(2), RC), []);
    assert_eq!(script.lent(), ["one", "two", "three"]);
    script.sequence += 1;
    let requests = script.sessions[1].requests[0];
    let prepare = Step::Prepare { requests, anchor: PartitionId(1) };
    script.cluster.step_of(&script.sessions[1].clone(), 0, script.sequence, prepare);
    assert_eq!(script.cluster.told(script.proxy), [(script.sequence, Count(1))]);
    let refused = |sequence| [Got::End(sequence, FragmentOutcome::Refused(Refusal::NoCut))];
    let got = script.fragment(None, RC);
    assert_eq!(got, refused(script.sequence));
    script.sequence += 1;
    script.cluster.step_of(&script.sessions[1].clone(), 0, script.sequence, Step::Finish { commit: true });
    script.cluster.told(script.proxy);
    assert_eq!(script.fragment(None, RC), []);
    assert_eq!(script.lent(), ["two", "three", "four"]);
    // What must stay as it is was locked by requests before.
    script.sessions[3].level = Level::Serializable;
    script.cluster.hold_scans = true;
    script.says("3 none", names(&[]));
    script.cluster.hold_scans = false;
    assert_eq!(script.fragment(Some(3), Level::Serializable), []);
    assert_eq!(script.lent().len(), 3);
    script.says("3 rollback", Count(0));
    script.is_over();
}

#[test]
fn what_a_prepared_transaction_read_stays_as_it_is_until_the_outcome() {
    let mut script = Script::new(Level::Serializable);
    script.says("1 select 1", names(&["one"]));
    script.sequence += 1;
    let requests = script.sessions[1].requests[0];
    let prepare = Step::Prepare { requests, anchor: PartitionId(1) };
    let session = script.sessions[1].clone();
    script.cluster.step_of(&session, 0, script.sequence, prepare.clone());
    assert_eq!(script.cluster.told(script.proxy), [(script.sequence, Count(1))]);
    // The same again is answered the same.
    script.cluster.step_of(&session, 0, script.sequence, prepare);
    assert_eq!(script.cluster.told(script.proxy), [(script.sequence, Count(1))]);
    let written = script.waits("a update 1 ONE");
    script.frees("1 rollback", Count(0), &[(written, Count(1))]);
    script.is_over();
}

#[test]
fn what_ends_while_the_partition_is_handed_over_is_sent_back() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    let waits = script.waits("a update 1 b");
    // Something is not acknowledged, so that the old primary stays.
    script.cluster.freeze(1, 0);
    script.waits("a insert 5 five");
    script.cluster.name_successor(0, 1);
    let told = script.line(&format!("a cancel {waits}"));
    assert!(matches!(&told[..], [(sequence, Said::Refused(_))] if *sequence == waits), "{told:?}");
}

#[test]
fn two_copies_of_a_write_that_waits_end_alike() {
    let mut script = Script::new(RC);
    script.says("1 update 1 a", Count(1));
    let waits = script.waits("a update 1 b");
    let auto = script.auto.clone();
    script.cluster.repeat(&auto, 0, waits, (UPDATE, 1, "b"));
    assert_eq!(script.cluster.told(script.proxy), []);
    let told = script.line(&format!("a cancel {waits}"));
    assert_eq!(told, [(waits, error(SqlState::QUERY_CANCELED)), (waits, error(SqlState::QUERY_CANCELED))]);
    assert_eq!(script.cluster.workers[0].counters().repeats, 1);
    script.says("1 commit", Count(0));
    script.says("a select 1", names(&["a"]));
    script.is_over();
}

#[test]
fn what_was_read_stays_as_it_is_after_a_savepoint_is_gone_back_to() {
    let mut script = Script::new(Level::Serializable);
    script.says("1 select 1", names(&["one"]));
    script.says("1 update 2 gone", Count(1));
    script.says("1 to 0", Count(0));
    let reads = script.waits("a update 1 uno");
    script.frees("1 commit", Count(0), &[(reads, Count(1))]);
    script.is_over();
}

#[test]
fn what_a_proxy_that_does_not_come_again_has_locked_is_free_soon() {
    let mut script = Script::new(RC);
    let other = script.cluster.proxy(0, 8);
    let mut auto = Session::auto(other);
    script.says("1 update 1 uno", Count(1));
    script.says("2 update 2 dos", Count(1));
    let waits = script.waits("2 update 1 otro");
    script.cluster.statement(&mut auto, 0, 1, (UPDATE, 1, "other"));
    script.cluster.close_proxy(script.proxy);
    script.cluster.advance(1_000_000);
    // It comes again in time: nothing has happened.
    script.proxy = script.cluster.proxy(0, 9);
    script.sessions.iter_mut().for_each(|session| session.proxy = script.proxy);
    script.cluster.advance(3_000_000);
    assert_eq!(script.cluster.told(other), []);
    script.frees("1 update 3 tres", Count(1), &[]);
    script.cluster.close_proxy(script.proxy);
    script.cluster.advance(1_400_000);
    assert_eq!(script.cluster.told(other), []);
    script.cluster.advance(200_000);
    assert_eq!(script.cluster.told(other), [(1, Count(1))], "and who waited before is gone");
    assert_eq!(script.cluster.workers[0].transacting(), 0);
    // Whatever comes of them later, they are lost.
    script.proxy = script.cluster.proxy(0, 9);
    script.sessions.iter_mut().for_each(|session| session.proxy = script.proxy);
    script.says("1 update 1 uno", error(SqlState::SERIALIZATION_FAILURE));
    script.auto.proxy = script.proxy;
    script.sessions[2].requests[0] = 1;
    script.cluster.repeat(&script.sessions[2], 0, waits, (UPDATE, 1, "otro"));
    assert_eq!(script.cluster.told(script.proxy), [(waits, error(SqlState::SERIALIZATION_FAILURE))]);
    script.sessions[2].requests[0] = 2;
    script.says("2 commit", error(SqlState::SERIALIZATION_FAILURE));
    script.says("1 rollback", Count(0));
    script.says("a select 1", names(&["other"]));
    script.is_over();
}

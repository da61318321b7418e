//! Who gets a lock, who waits, and who goes on when.

use super::*;
use crate::store::position::Position;
use std::fmt::Write;
use toroid_common::id::{Incarnation, IndexId, TableId};
use toroid_common::plan::Strength;

const T: TableId = TableId(1);
const INDEX: IndexId = IndexId(2);

fn transaction(number: u64) -> TransactionId {
    TransactionId { proxy: Incarnation(1), number }
}

/// `row 5 Update`, `bring ab`, `touch ab`, `write`, `range a`, `read`, `settled a`, `settled`.
fn want(words: &[&str]) -> Want<Key> {
    let key = |word: &str| Key::from(word.as_bytes());
    match *words {
        ["row", position, strength] => {
            let all = [Strength::KeyShare, Strength::Share, Strength::NoKeyUpdate, Strength::Update];
            let strength = all.into_iter().find(|s| format!("{s:?}") == strength).unwrap();
            Want::Row { table: T, position: Position(position.parse().unwrap()), strength }
        }
        ["bring", word] => Want::Bring { index: INDEX, key: key(word) },
        ["touch", word] => Want::Touch { index: INDEX, key: key(word) },
        ["range", word] => Want::Range { index: INDEX, prefix: key(word) },
        ["settled", word] => Want::SettledRange { index: INDEX, prefix: key(word) },
        ["write"] => Want::Write { table: T },
        ["read"] => Want::Read { table: T },
        ["settled"] => Want::SettledTable { table: T },
        _ => panic!("{words:?}"),
    }
}

#[derive(Default)]
struct Script {
    locks: LockTable,
    waits: BTreeMap<WaitId, (Option<TransactionId>, Want<Key>)>,
    next: u64,
    out: String,
}

impl Script {
    /// `1 …` is a transaction, `- …` a statement that commits by itself, `w1 leaves` a waiter.
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let owner = words[0].parse().ok().map(transaction);
        match (owner, &words[1..]) {
            (Some(owner), ["ends"]) => self.locks.release(owner),
            (Some(owner), ["prepares"]) => self.locks.prepare(owner),
            (Some(owner), ["back", "to", keep]) => self.locks.give_back(owner, keep.parse().unwrap()),
            (None, ["leaves"]) => self.leave(WaitId(words[0][1..].parse().unwrap())),
            (owner, words) => {
                self.next += 1;
                let (wait, want) = (WaitId(self.next), want(words));
                write!(self.out, "{line}:").unwrap();
                self.attempt(wait, owner, want);
            }
        }
        while let Some(wait) = self.locks.next_ready() {
            let (owner, want) = self.waits[&wait].clone();
            write!(self.out, "w{} again:", wait.0).unwrap();
            self.attempt(wait, owner, want);
        }
    }

    fn leave(&mut self, wait: WaitId) {
        self.waits.remove(&wait);
        self.locks.leave(wait);
    }

    fn attempt(&mut self, wait: WaitId, owner: Option<TransactionId>, want: Want<Key>) {
        if self.locks.is_free(&want.borrow(), owner, Some(wait)) {
            if let Some(owner) = owner {
                self.locks.take(owner, &want.borrow());
            }
            self.leave(wait);
            self.out += " goes on\n";
            return;
        }
        self.locks.park(wait, (owner, None), &want.borrow());
        self.waits.insert(wait, (owner, want));
        let blockers: Vec<String> = self.locks.blockers(wait).iter().map(|t| t.number.to_string()).collect();
        write!(self.out, " w{} waits for {}", wait.0, blockers.join(" ")).unwrap();
        while let Some(way) = self.circle(owner, LockTable::suspects) {
            let numbers: Vec<String> = way.iter().map(|t| t.number.to_string()).collect();
            write!(self.out, ", a circle: {}", numbers.join(" ")).unwrap();
            if self.locks.let_overtake(&way) {
                self.out += ", opened";
                continue;
            }
            if self.circle(owner, LockTable::blockers).is_none() {
                self.locks.review_all();
                self.out += ", none";
            }
            break;
        }
        self.out += "\n";
    }

    fn circle(
        &self,
        owner: Option<TransactionId>,
        before: impl Fn(&LockTable, WaitId) -> BTreeSet<TransactionId>,
    ) -> Option<Vec<TransactionId>> {
        let locks = &self.locks;
        let waits_for = |transaction, found: &mut Vec<TransactionId>| {
            locks.waits_of(transaction).for_each(|wait| found.extend(before(locks, wait)));
        };
        let way = circle(owner?, waits_for);
        assert!(way.is_none() || locks.stands_in_way(owner?), "who is in a circle stands in somebody's way");
        way
    }
}

#[track_caller]
fn check(script: &str, expected: &str) {
    let mut run = Script::default();
    script.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| run.line(line));
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(run.out.lines().collect::<Vec<_>>(), expected, "\n{}", run.out);
    assert!(run.locks.is_consistent());
    for number in 0..10 {
        run.locks.release(transaction(number));
    }
    let waits: Vec<WaitId> = run.waits.keys().copied().collect();
    waits.into_iter().for_each(|wait| run.locks.leave(wait));
    assert!(run.locks.is_empty() && run.locks.is_consistent() && run.locks.ready.is_empty(), "{:?}", run.locks);
}

#[test]
fn rows_are_given_in_the_order_of_asking() {
    check(
        "1 row 5 Update
         2 row 5 Update
         - row 5 NoKeyUpdate
         3 row 5 Share
         4 row 6 Update
         1 ends
         2 ends
         3 ends",
        "1 row 5 Update: goes on
         2 row 5 Update: w2 waits for 1
         - row 5 NoKeyUpdate: w3 waits for 1 2
         3 row 5 Share: w4 waits for 1 2
         4 row 6 Update: goes on
         w2 again: goes on
         w3 again: goes on
         w4 again: goes on",
    );
}

#[test]
fn strengths_that_do_not_conflict_are_held_together() {
    check(
        "1 row 5 KeyShare
         2 row 5 NoKeyUpdate
         3 row 5 KeyShare
         4 row 5 Share
         2 ends
         5 row 5 Update
         1 ends
         3 ends
         4 ends",
        "1 row 5 KeyShare: goes on
         2 row 5 NoKeyUpdate: goes on
         3 row 5 KeyShare: goes on
         4 row 5 Share: w4 waits for 2
         w4 again: goes on
         5 row 5 Update: w5 waits for 1 3 4
         w5 again: goes on",
    );
}

#[test]
fn nobody_overtakes_who_waits_for_the_same_row() {
    check(
        "1 row 5 Share
         2 row 5 Update
         3 row 5 Share
         - row 5 KeyShare
         w2 leaves",
        "1 row 5 Share: goes on
         2 row 5 Update: w2 waits for 1
         3 row 5 Share: w3 waits for 2
         - row 5 KeyShare: w4 waits for 2
         w3 again: goes on
         w4 again: goes on",
    );
}

#[test]
fn a_lock_that_becomes_stronger_does_not_wait_behind_those_that_wait_for_it() {
    check(
        "1 row 5 Share
         - row 5 Update
         3 row 5 Update
         1 row 5 Update
         1 ends
         3 ends",
        "1 row 5 Share: goes on
         - row 5 Update: w2 waits for 1
         3 row 5 Update: w3 waits for 1
         1 row 5 Update: goes on
         w2 again: goes on
         w3 again: goes on",
    );
}

#[test]
fn two_that_make_the_same_lock_stronger_are_a_circle() {
    check(
        "1 row 5 Share
         2 row 5 Share
         1 row 5 Update
         2 row 5 Update
         w4 leaves
         2 ends",
        "1 row 5 Share: goes on
         2 row 5 Share: goes on
         1 row 5 Update: w3 waits for 2
         2 row 5 Update: w4 waits for 1, a circle: 2 1
         w3 again: goes on",
    );
}

#[test]
fn circles_of_three_are_found() {
    check(
        "1 row 1 Update
         2 row 2 Update
         3 row 3 Update
         1 row 2 Update
         2 row 3 Update
         3 row 1 Update",
        "1 row 1 Update: goes on
         2 row 2 Update: goes on
         3 row 3 Update: goes on
         1 row 2 Update: w4 waits for 2
         2 row 3 Update: w5 waits for 3
         3 row 1 Update: w6 waits for 1, a circle: 3 1 2",
    );
}

#[test]
fn a_circle_through_one_who_only_stands_behind_is_opened_by_overtaking() {
    // The statement that commits by itself waits for 2, and 1 stands behind it; when 2 waits for 1, 1 goes first.
    check(
        "2 row 5 Share
         1 row 6 Update
         - row 5 Update
         1 row 5 Share
         2 row 6 Update
         1 ends
         2 ends",
        "2 row 5 Share: goes on
         1 row 6 Update: goes on
         - row 5 Update: w3 waits for 2
         1 row 5 Share: w4 waits for 2
         2 row 6 Update: w5 waits for 1, a circle: 2 1, opened
         w4 again: goes on
         w5 again: goes on
         w3 again: goes on",
    );
}

#[test]
fn unique_keys_that_come_or_go_are_waited_for() {
    check(
        "1 touch ab
         1 bring ab
         2 bring ab
         2 bring ac
         - bring ab
         1 ends
         2 ends",
        "1 touch ab: goes on
         1 bring ab: goes on
         2 bring ab: w3 waits for 1
         2 bring ac: goes on
         - bring ab: w5 waits for 1 2
         w3 again: goes on
         w5 again: goes on",
    );
}

#[test]
fn ranges_that_were_read_stay_as_they_are() {
    check(
        "1 range ab
         2 touch a
         2 touch abc
         3 range abcd
         3 range ac
         2 touch ac
         - touch b
         - touch acd
         1 ends
         3 ends
         2 ends",
        "1 range ab: goes on
         2 touch a: goes on
         2 touch abc: w3 waits for 1
         3 range abcd: goes on
         3 range ac: goes on
         2 touch ac: w6 waits for 3
         - touch b: goes on
         - touch acd: w8 waits for 3
         w3 again: goes on
         w6 again: goes on
         w8 again: goes on",
    );
}

#[test]
fn a_reader_of_a_range_does_not_overtake_a_writer_that_waits_for_it() {
    check(
        "1 range a
         2 touch ab
         3 range a
         4 read
         2 write
         1 ends
         2 ends
         4 ends",
        "1 range a: goes on
         2 touch ab: w2 waits for 1
         3 range a: w3 waits for 2
         4 read: goes on
         2 write: w5 waits for 4
         w2 again: goes on
         w3 again: goes on
         w5 again: goes on",
    );
}

#[test]
fn only_the_prepared_are_about_to_let_go() {
    let row = want(&["row", "1", "Share"]);
    let mut locks = LockTable::default();
    let settling = |locks: &LockTable| locks.is_settling(&row.borrow(), Some(transaction(9)));
    assert!(!settling(&locks), "nobody is there");
    locks.take(transaction(1), &row.borrow());
    locks.prepare(transaction(1));
    assert!(!settling(&locks), "nobody is in the way");
    let exclusive = want(&["row", "1", "Update"]);
    let settling = |locks: &LockTable| locks.is_settling(&exclusive.borrow(), Some(transaction(9)));
    assert!(settling(&locks));
    locks.take(transaction(2), &row.borrow());
    assert!(!settling(&locks), "another one holds it, too");
    locks.release(transaction(2));
    locks.take(transaction(9), &row.borrow());
    assert!(settling(&locks), "the own lock does not matter");
}

#[test]
fn readers_wait_for_those_who_are_prepared_only() {
    check(
        "1 touch ab
         1 write
         2 touch ac
         - settled a
         1 prepares
         - settled a
         - settled
         - settled ac
         1 settled a
         1 ends",
        "1 touch ab: goes on
         1 write: goes on
         2 touch ac: goes on
         - settled a: goes on
         - settled a: w5 waits for 1
         - settled: w6 waits for 1
         - settled ac: goes on
         1 settled a: goes on
         w5 again: goes on
         w6 again: goes on",
    );
}

#[test]
fn locks_are_given_back_to_a_mark_and_weakened_again() {
    check(
        "1 row 1 Share
         1 row 2 Update
         1 row 1 Update
         1 row 3 Update
         2 row 1 KeyShare
         2 row 3 Update
         - row 2 Update
         1 back to 2
         1 back to 1
         1 ends",
        "1 row 1 Share: goes on
         1 row 2 Update: goes on
         1 row 1 Update: goes on
         1 row 3 Update: goes on
         2 row 1 KeyShare: w5 waits for 1
         2 row 3 Update: w6 waits for 1
         - row 2 Update: w7 waits for 1
         w5 again: goes on
         w6 again: goes on
         w7 again: goes on",
    );
}

#[test]
fn prefixes_of_a_key_are_found_among_many() {
    let mut facts: Facts<u64> = Facts::default();
    let all = ["", "a", "ab", "abc", "abd", "ac", "b", "aaaa", "abcde"];
    for (number, prefix) in all.iter().enumerate() {
        facts.put(&want(&["range", prefix]), number as u64);
    }
    for key in ["abcd", "abcdef", "ab", "", "zz", "aab", "abdz"] {
        let mut found = Vec::new();
        let _ = facts.opposing(&want(&["touch", key]).borrow(), |number| {
            found.push(all[number as usize]);
            ControlFlow::<()>::Continue(())
        });
        let mut expected: Vec<&str> = all.iter().copied().filter(|prefix| key.starts_with(prefix)).collect();
        expected.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        assert_eq!(found, expected, "{key}");
    }
}

#[test]
fn who_is_ahead_and_waits_for_oneself_is_no_reason_to_give_way() {
    check(
        "1 row 5 Share
         2 row 5 Share
         3 row 5 Update
         - row 5 Update
         1 row 5 Update
         2 ends
         1 ends
         3 ends",
        "1 row 5 Share: goes on
         2 row 5 Share: goes on
         3 row 5 Update: w3 waits for 1 2
         - row 5 Update: w4 waits for 1 2 3
         1 row 5 Update: w5 waits for 2, a circle: 1 3, none
         w5 again: goes on
         w3 again: goes on
         w4 again: goes on",
    );
}

#[test]
fn in_a_long_queue_each_names_the_one_before_it() {
    let mut locks = LockTable::default();
    let want = want(&["row", "5", "Update"]);
    let want = want.borrow();
    locks.take(transaction(0), &want);
    for number in 1..=50 {
        locks.park(WaitId(number), (Some(transaction(number)), None), &want);
        assert_eq!(locks.blockers(WaitId(number)).len() as u64, number);
        let nearest = BTreeSet::from([transaction(0), transaction(number - 1)]);
        assert_eq!(locks.nearest_blockers(WaitId(number)), nearest);
        assert!(!locks.stands_in_way(transaction(number)), "the last one");
        assert!(locks.stands_in_way(transaction(number - 1)));
    }
}

/// Small numbers that depend on a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn want(&mut self) -> String {
        let key = ["a", "ab"][self.below(2) as usize];
        match self.below(8) {
            0 => "range a".to_owned(),
            1 => format!("touch {key}"),
            2 => format!("bring {key}"),
            3 => ["read", "write"][self.below(2) as usize].to_owned(),
            _ => {
                let strength = ["KeyShare", "Share", "NoKeyUpdate", "Update"][self.below(4) as usize];
                format!("row {} {strength}", self.below(2))
            }
        }
    }
}

impl Script {
    fn wait_of(&self, owner: TransactionId) -> Option<WaitId> {
        self.waits.iter().find(|(_, (of, _))| *of == Some(owner)).map(|(wait, _)| *wait)
    }

    fn end(&mut self, number: u64) {
        self.wait_of(transaction(number)).into_iter().for_each(|wait| self.leave(wait));
        self.line(&format!("{number} ends"));
    }

    /// Whoever waits has a reason.
    #[track_caller]
    fn assert_blocked(&self) {
        for (wait, (of, want)) in &self.waits {
            assert!(!self.locks.is_free(&want.borrow(), *of, Some(*wait)), "w{} is free\n{}", wait.0, self.out);
            let blocked = !self.locks.blockers(*wait).is_empty();
            assert!(blocked || of.is_none(), "w{} waits for nobody\n{}", wait.0, self.out);
            assert_eq!(self.locks.nearest_blockers(*wait).is_empty(), !blocked);
        }
    }
}

#[test]
fn whoever_is_free_goes_on_and_nobody_stands_still_but_in_circles() {
    for seed in 1..1_000_u64 {
        let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut run = Script::default();
        for _ in 0..30 {
            let owner = draws.below(5);
            let (ends, want) = (draws.below(9) == 0, draws.want());
            match owner {
                0 => run.line(&format!("- {want}")),
                _ if ends => run.end(owner),
                _ if run.wait_of(transaction(owner)).is_none() => run.line(&format!("{owner} {want}")),
                _ => {}
            }
            // A deadlock is told to the last who came.
            let last = WaitId(run.next);
            if let Some((of, _)) = run.waits.get(&last)
                && run.circle(*of, LockTable::blockers).is_some()
            {
                run.line(&format!("w{} leaves", last.0));
            }
            run.assert_blocked();
        }
        while let Some(number) = (1..5)
            .find(|number| run.locks.held_by(transaction(*number)) > 0 && run.wait_of(transaction(*number)).is_none())
        {
            run.end(number);
        }
        assert!(run.waits.is_empty(), "seed {seed}\n{}", run.out);
    }
}

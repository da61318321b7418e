//! Each anomaly is seen by the checkers of the levels that forbid it, and by no other.

use super::super::super::history::transaction::{Change, Did, Fate};
use super::*;

const X: i32 = 1;
const Y: i32 = 2;
const COMMITTED: Level = Level::ReadCommitted;
const REPEATABLE: Level = Level::RepeatableRead;
const SERIALIZABLE: Level = Level::Serializable;

fn saw(key: i32, value: impl Into<Option<i64>>) -> Did {
    Did::Saw { key, value: value.into() }
}

fn made(key: i32, from: impl Into<Option<i64>>, to: impl Into<Option<i64>>) -> Did {
    Did::Made { key, from: from.into(), to: to.into() }
}

/// A statement that lasted from the first stamp to the second.
fn at(began: u64, ended: u64, did: &[Did]) -> Statement {
    Statement { began, ended, undone: None, did: did.to_vec() }
}

/// A transaction that is asked to commit at one stamp and hears of it at another.
fn commits(level: Level, statements: &[Statement], asked: u64, ended: u64) -> Transaction {
    let began = statements[0].began;
    let name = format!("T{began}");
    Transaction { name, level, began, asked, ended, fate: Fate::Committed, statements: statements.to_vec() }
}

fn aborts(level: Level, statements: &[Statement], asked: u64, ended: u64) -> Transaction {
    Transaction { fate: Fate::Aborted, ..commits(level, statements, asked, ended) }
}

fn unknown(level: Level, statements: &[Statement], asked: u64) -> Transaction {
    Transaction { fate: Fate::Unknown, ..commits(level, statements, asked, u64::MAX) }
}

/// A statement by itself.
fn alone(began: u64, ended: u64, did: &[Did]) -> Transaction {
    commits(SERIALIZABLE, &[at(began, ended, did)], began, ended)
}

/// The rows of all histories.
fn with_rows(others: &[Transaction]) -> Vec<Transaction> {
    let mut all = vec![alone(1, 2, &[made(X, None, 10)]), alone(3, 4, &[made(Y, None, 20)])];
    all.extend_from_slice(others);
    all
}

fn fine(others: &[Transaction]) {
    if let Err(what) = judge(&with_rows(others), &[]) {
        panic!("{what}");
    }
}

fn wrong(others: &[Transaction], why: &str) {
    match judge(&with_rows(others), &[]) {
        Ok(()) => panic!("nothing is found"),
        Err(what) => assert!(what.contains(why), "{what}"),
    }
}

const CIRCLE: &str = "these cannot all be so";

#[test]
fn one_after_the_other_is_fine_at_every_level() {
    for level in [COMMITTED, REPEATABLE, SERIALIZABLE] {
        let add = |began: u64, from: i64| {
            let statements =
                [at(began, began + 1, &[made(X, from, from + 1)]), at(began + 2, began + 3, &[saw(X, from + 1)])];
            commits(level, &statements, began + 4, began + 5)
        };
        fine(&[add(10, 10), add(20, 11), alone(30, 31, &[saw(X, 12), saw(Y, 20)])]);
    }
}

#[test]
fn a_lost_update_is_two_that_replace_one_value() {
    for level in [COMMITTED, REPEATABLE, SERIALIZABLE] {
        let one = commits(level, &[at(10, 20, &[made(X, 10, 11)])], 21, 30);
        let other = commits(level, &[at(11, 22, &[made(X, 10, 12)])], 23, 31);
        wrong(&[one.clone(), other.clone()], "both T10 and T11 replace");
        // One of them may have come to nothing.
        fine(&[one.clone(), Transaction { fate: Fate::Aborted, ..other.clone() }]);
        fine(&[one, Transaction { fate: Fate::Unknown, ended: u64::MAX, ..other }]);
    }
}

#[test]
fn a_write_that_was_acknowledged_is_not_lost() {
    let write = alone(10, 11, &[made(X, 10, 11)]);
    wrong(&[write.clone(), alone(12, 13, &[saw(X, 10)])], CIRCLE);
    fine(&[write, alone(10, 13, &[saw(X, 10)])]);
    let insert = alone(10, 11, &[made(3, None, 30)]);
    wrong(&[insert.clone(), alone(12, 13, &[saw(3, None)])], CIRCLE);
    wrong(&[insert, alone(12, 13, &[made(3, None, 31)])], "both T10 and T12");
}

#[test]
fn a_write_that_happened_twice_is_seen() {
    wrong(&[alone(10, 11, &[made(X, 10, 11)]), alone(12, 13, &[saw(X, 12)])], "which nobody made");
}

#[test]
fn what_nobody_was_told_of_happened_where_it_was_seen() {
    let may = |change| unknown(SERIALIZABLE, &[at(10, u64::MAX, &[Did::May { key: X, change }])], 10);
    let add = may(Change::Add(5));
    fine(&[add.clone(), alone(12, 13, &[saw(X, 10)]), alone(14, 15, &[saw(X, 15)])]);
    wrong(&[add.clone(), alone(12, 13, &[saw(X, 15)]), alone(14, 15, &[saw(X, 10)])], CIRCLE);
    fine(&[add.clone(), alone(12, 13, &[made(X, 15, 16)]), alone(14, 15, &[saw(X, 16)])]);
    wrong(&[add, alone(12, 13, &[saw(X, 20)])], "which nobody made");
    fine(&[may(Change::Delete), alone(12, 13, &[saw(X, None)]), alone(14, 15, &[saw(X, 10)])]);
}

#[test]
fn an_unknown_commitment_happened_in_all_its_rows_or_none() {
    let writes = [at(10, 11, &[made(X, 10, 11)]), at(12, 13, &[made(Y, 20, 21)])];
    let both = unknown(COMMITTED, &writes, 14);
    fine(&[both.clone(), alone(20, 21, &[saw(X, 10)]), alone(22, 23, &[saw(Y, 20)])]);
    fine(&[both.clone(), alone(20, 21, &[saw(X, 11)]), alone(22, 23, &[saw(Y, 21)])]);
    fine(&[both.clone(), alone(20, 21, &[saw(X, 10)]), alone(22, 23, &[saw(Y, 21)])]);
    wrong(&[both.clone(), alone(20, 21, &[saw(X, 11)]), alone(22, 23, &[saw(Y, 20)])], CIRCLE);
    // Half of it is gone for good.
    wrong(&[both, alone(20, 21, &[saw(X, 11)]), alone(20, 23, &[made(Y, 20, 22)])], "both");
}

#[test]
fn g0_writes_of_two_are_not_interleaved() {
    let one = commits(COMMITTED, &[at(10, 11, &[made(X, 10, 11)]), at(12, 13, &[made(Y, 22, 21)])], 14, 20);
    let two = commits(COMMITTED, &[at(10, 11, &[made(X, 11, 12)]), at(12, 13, &[made(Y, 20, 22)])], 14, 20);
    wrong(&[one, Transaction { name: "U".to_owned(), ..two }], CIRCLE);
}

#[test]
fn g1a_what_was_rolled_back_is_not_seen() {
    let gone = aborts(COMMITTED, &[at(10, 11, &[made(X, 10, 11)])], 12, 13);
    for level in [COMMITTED, REPEATABLE, SERIALIZABLE] {
        let reads = commits(level, &[at(11, 12, &[saw(X, 11)])], 14, 15);
        wrong(&[gone.clone(), reads.clone()], "of an aborted transaction");
        wrong(&[gone.clone(), Transaction { fate: Fate::Aborted, ..reads }], "of an aborted transaction");
    }
    let undone = Statement { undone: Some(1), ..at(10, 11, &[made(X, 10, 11)]) };
    let writes = commits(COMMITTED, &[undone, at(12, 13, &[saw(X, 10)])], 14, 15);
    wrong(&[writes.clone(), alone(12, 13, &[saw(X, 11)])], "rolled back to a savepoint");
    fine(&[writes, alone(12, 13, &[saw(X, 10)])]);
}

#[test]
fn g1b_what_lies_between_is_not_seen() {
    let twice = commits(COMMITTED, &[at(10, 11, &[made(X, 10, 11)]), at(12, 13, &[made(X, 11, 12)])], 14, 15);
    fine(&[twice.clone(), alone(12, 13, &[saw(X, 10)]), alone(16, 17, &[saw(X, 12)])]);
    wrong(&[twice.clone(), alone(12, 20, &[saw(X, 11)])], "replaced by its maker");
    wrong(&[twice, alone(12, 20, &[made(X, 11, 13)])], "replaced by its maker");
}

#[test]
fn g1c_information_does_not_flow_in_a_circle() {
    let one = commits(COMMITTED, &[at(10, 11, &[made(X, 10, 11)]), at(12, 13, &[saw(Y, 21)])], 14, 15);
    let two = commits(COMMITTED, &[at(10, 11, &[made(Y, 20, 21)]), at(12, 13, &[saw(X, 11)])], 14, 15);
    wrong(&[one, Transaction { name: "U".to_owned(), ..two }], CIRCLE);
}

#[test]
fn a_transaction_sees_what_it_wrote() {
    let write = at(10, 11, &[made(X, 10, 11)]);
    wrong(&[commits(COMMITTED, &[write.clone(), at(12, 13, &[saw(X, 10)])], 14, 15)], "does not see its own");
    wrong(&[commits(COMMITTED, &[write.clone(), at(12, 13, &[made(X, 10, 12)])], 14, 15)], "does not see its own");
    let undone = Statement { undone: Some(2), ..write };
    let kept = commits(COMMITTED, &[undone.clone(), at(12, 13, &[saw(X, 11)]), at(14, 15, &[saw(X, 10)])], 16, 17);
    fine(&[kept]);
    let again = commits(COMMITTED, &[undone, at(12, 13, &[saw(X, 11)]), at(14, 15, &[saw(X, 11)])], 16, 17);
    wrong(&[again], "rolled back");
}

/// Two reads of one row with a write of another transaction between them.
fn reads_twice(level: Level) -> [Transaction; 2] {
    let reads = [at(10, 11, &[saw(X, 10)]), at(14, 15, &[saw(X, 11)])];
    [commits(level, &reads, 16, 17), alone(12, 13, &[made(X, 10, 11)])]
}

#[test]
fn non_repeatable_reads_are_for_read_committed_alone() {
    fine(&reads_twice(COMMITTED));
    wrong(&reads_twice(REPEATABLE), CIRCLE);
    wrong(&reads_twice(SERIALIZABLE), CIRCLE);
}

#[test]
fn read_skew_is_for_read_committed_alone() {
    let skewed = |level| {
        let reads = commits(level, &[at(10, 11, &[saw(X, 10)]), at(20, 21, &[saw(Y, 21)])], 22, 23);
        let writes = [at(12, 13, &[made(X, 10, 11)]), at(14, 15, &[made(Y, 20, 21)])];
        [reads, commits(COMMITTED, &writes, 16, 17)]
    };
    fine(&skewed(COMMITTED));
    wrong(&skewed(REPEATABLE), CIRCLE);
    wrong(&skewed(SERIALIZABLE), CIRCLE);
    // A single statement sees one state at every level.
    let [_, writes] = skewed(COMMITTED);
    wrong(&[commits(COMMITTED, &[at(10, 30, &[saw(X, 10), saw(Y, 21)])], 31, 32), writes], CIRCLE);
}

#[test]
fn write_skew_is_not_for_serializable() {
    let skewed = |level| {
        let one = [at(10, 11, &[saw(X, 10), saw(Y, 20)]), at(12, 13, &[made(X, 10, 11)])];
        let two = [at(10, 11, &[saw(X, 10), saw(Y, 20)]), at(12, 13, &[made(Y, 20, 21)])];
        [commits(level, &one, 14, 20), Transaction { name: "U".to_owned(), ..commits(level, &two, 14, 20) }]
    };
    fine(&skewed(COMMITTED));
    fine(&skewed(REPEATABLE));
    wrong(&skewed(SERIALIZABLE), CIRCLE);
}

#[test]
fn a_phantom_is_a_row_that_was_not_there() {
    let phantom = |level| {
        let reads = [at(10, 11, &[saw(3, None), saw(X, 10)]), at(14, 15, &[saw(3, 30), saw(X, 10)])];
        [commits(level, &reads, 16, 17), alone(12, 13, &[made(3, None, 30)])]
    };
    fine(&phantom(COMMITTED));
    wrong(&phantom(REPEATABLE), CIRCLE);
    wrong(&phantom(SERIALIZABLE), CIRCLE);
}

#[test]
fn the_first_updater_wins() {
    let stale = |level| {
        let it = [at(10, 11, &[saw(Y, 20)]), at(14, 15, &[made(X, 11, 12)])];
        [commits(level, &it, 16, 17), alone(12, 13, &[made(X, 10, 11)])]
    };
    fine(&stale(COMMITTED));
    wrong(&stale(REPEATABLE), CIRCLE);
    // It had not read that row before.
    fine(&stale(SERIALIZABLE));
}

#[test]
fn a_long_fork_is_two_scans_that_disagree() {
    let writes = [alone(10, 30, &[made(X, 10, 11)]), alone(11, 31, &[made(Y, 20, 21)])];
    let scan = |began: u64, x: i64, y: i64| alone(began, began + 5, &[saw(X, x), saw(Y, y)]);
    let with = |scans: [Transaction; 2]| [writes.to_vec(), scans.to_vec()].concat();
    fine(&with([scan(12, 11, 20), scan(18, 11, 21)]));
    wrong(&with([scan(12, 11, 20), scan(18, 10, 21)]), CIRCLE);
    let cuts = |level| {
        with(
            [(12, 11, 20), (13, 10, 21)]
                .map(|(began, x, y)| commits(level, &[at(began, 16, &[saw(X, x)]), at(17, 18, &[saw(Y, y)])], 20, 21)),
        )
    };
    fine(&cuts(COMMITTED));
    wrong(&cuts(REPEATABLE), CIRCLE);
}

#[test]
fn cuts_are_not_older_than_who_reads_them() {
    let write = alone(10, 11, &[made(X, 10, 11)]);
    for level in [COMMITTED, REPEATABLE, SERIALIZABLE] {
        wrong(&[write.clone(), commits(level, &[at(12, 13, &[saw(X, 10)])], 14, 15)], CIRCLE);
    }
    // But it is read until the end.
    let later = commits(REPEATABLE, &[at(8, 9, &[saw(Y, 20)]), at(14, 15, &[saw(X, 10)])], 16, 17);
    fine(&[write.clone(), later.clone()]);
    wrong(&[write, Transaction { level: COMMITTED, ..later }], CIRCLE);
}

#[test]
fn what_was_deleted_may_come_again() {
    let delete = alone(10, 11, &[made(X, 10, None)]);
    fine(&[delete.clone(), alone(12, 13, &[saw(X, None)]), alone(14, 15, &[made(X, None, 12)])]);
    wrong(&[delete.clone(), alone(12, 13, &[saw(X, 10)])], "");
    wrong(&[delete, alone(12, 13, &[made(X, 10, 11)])], "both");
}

#[test]
fn what_was_locked_stays_until_the_end() {
    let locks = |level: Level| commits(level, &[at(10, 11, &[Did::Locked { key: X, value: 10 }])], 40, 41);
    for level in [COMMITTED, REPEATABLE, SERIALIZABLE] {
        fine(&[locks(level), alone(20, 50, &[made(X, 10, 11)])]);
        wrong(&[locks(level), alone(20, 30, &[made(X, 10, 11)])], CIRCLE);
    }
}

#[test]
fn additions_in_a_row_that_nobody_was_told_of_are_known_by_their_sum() {
    let may = |began: u64, by: i64| {
        let did = Did::May { key: X, change: Change::Add(by) };
        unknown(SERIALIZABLE, &[at(began, u64::MAX, &[did])], began)
    };
    fine(&[may(10, 5), may(11, 700), may(12, 9_000), alone(20, 21, &[saw(X, 9_015)])]);
    // One of them was before what the other was after.
    wrong(&[may(10, 5), alone(20, 21, &[saw(X, 715)]), may(30, 700)], CIRCLE);
    wrong(&[may(10, 5), may(11, 700), alone(20, 21, &[saw(X, 716)])], "which nobody made");
}

/// Writes both rows; the anchor was lost at stamp 30 and began again at 40, while the row Y was prepared elsewhere.
fn forsaken(fate: Fate) -> Transaction {
    let writes = [at(10, 11, &[made(X, 10, 11)]), at(12, 13, &[made(Y, 20, 21)])];
    let ended = if fate == Fate::Committed { 15 } else { u64::MAX };
    Transaction { fate, ..commits(COMMITTED, &writes, 14, ended) }
}

/// Whether it can be so where the anchor of the third of all transactions was lost, that of [`forsaken`].
fn with_loss(others: &[Transaction]) -> bool {
    judge(&with_rows(others), &[Doubt { transaction: 2, keys: vec![Y], lost: 30, anew: 40 }]).is_ok()
}

#[test]
fn whose_anchor_is_lost_is_taken_back_or_not() {
    for fate in [Fate::Committed, Fate::Unknown] {
        let it = forsaken(fate);
        let seen = commits(REPEATABLE, &[at(20, 21, &[saw(X, 11), saw(Y, 21)])], 22, 23);
        let with = |others: &[Transaction]| with_loss(&[&[it.clone(), seen.clone()], others].concat());
        assert!(with(&[alone(50, 51, &[saw(Y, 21)]), alone(52, 53, &[made(Y, 21, 22)])]), "it stands");
        assert!(with(&[alone(50, 51, &[saw(Y, 20)]), alone(52, 53, &[made(Y, 20, 22)])]), "it was taken back");
        assert!(judge(&with_rows(&[it.clone(), seen.clone(), alone(50, 51, &[saw(Y, 20)])]), &[]).is_err());
        // Not both, nor the row that nobody lost.
        assert!(!with(&[alone(50, 51, &[made(Y, 20, 22)]), alone(52, 53, &[saw(Y, 21)])]));
        assert!(!with(&[alone(50, 51, &[made(Y, 20, 22)]), alone(50, 53, &[made(Y, 21, 23)])]));
        assert!(!with(&[alone(50, 51, &[saw(X, 10)])]));
        assert!(!with(&[alone(50, 51, &[made(X, 10, 12)])]));
    }
}

#[test]
fn what_was_taken_back_is_seen_by_cuts_of_before_alone() {
    let after = alone(60, 61, &[made(Y, 20, 22)]);
    let reads = |began: u64| commits(REPEATABLE, &[at(began, 51, &[saw(Y, 21)])], 52, 53);
    assert!(with_loss(&[forsaken(Fate::Unknown), reads(29), after.clone()]));
    assert!(!with_loss(&[forsaken(Fate::Unknown), reads(45), after.clone()]));
    let locks = commits(COMMITTED, &[at(29, 51, &[Did::Locked { key: Y, value: 21 }])], 52, 53);
    assert!(!with_loss(&[forsaken(Fate::Unknown), locks, after]));
}

#[test]
fn a_cut_without_the_anchor_does_not_see_what_is_in_doubt() {
    let stands = alone(60, 61, &[made(Y, 21, 22)]);
    let reads = |began: u64, ended: u64| commits(REPEATABLE, &[at(began, ended, &[saw(Y, 20)])], ended + 1, ended + 2);
    assert!(with_loss(&[forsaken(Fate::Committed), reads(32, 33), stands.clone()]));
    assert!(!with_loss(&[forsaken(Fate::Committed), reads(20, 21), stands]), "it was there");
}

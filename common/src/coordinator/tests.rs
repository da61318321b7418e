//! One transaction at its proxy: savepoints, golden courses of commitments, and every course of the small ones.

use super::*;
use crate::id::{CutId, Incarnation, TransactionId};
use crate::plan::{Access, RowLock, Strength, Verb};
use crate::transaction::Level;
use std::collections::{BTreeMap, BTreeSet};

fn read() -> Verb {
    Verb::Select { access: Access::Scan, filter: None, output: Vec::new(), lock: None }
}

fn lock() -> Verb {
    let lock = Some(RowLock { strength: Strength::Update, wait: crate::plan::LockWait::Wait });
    Verb::Select { access: Access::Scan, filter: None, output: Vec::new(), lock }
}

fn write() -> Verb {
    Verb::Insert { conflict: None, returning: Vec::new() }
}

fn begin(level: Level) -> Transaction {
    Transaction::new(TransactionId { proxy: Incarnation(3), number: 8 }, 77, level)
}

fn run(transaction: &mut Transaction, partition: u16, verb: &Verb, ended: Ended) -> Option<u32> {
    let within = transaction.request(PartitionId(partition), verb).unwrap()?;
    transaction.answered(PartitionId(partition), verb, &within, ended);
    Some(within.earlier)
}

/// The last request of a transaction, prepared with it where somebody else can decide; the anchor.
fn finish_with(transaction: &mut Transaction, partition: u16) -> Option<PartitionId> {
    let partition = PartitionId(partition);
    let within = transaction.request(partition, &write()).unwrap().unwrap();
    let within = transaction.finally(partition, within);
    let ended = if within.prepares.is_some() { Ended::Prepared } else { Ended::Done };
    transaction.answered(partition, &write(), &within, ended);
    within.prepares
}

#[test]
fn only_what_everybody_may_see_is_read_outside() {
    let mut t = begin(Level::ReadCommitted);
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), None, "everybody may see it");
    assert_eq!(run(&mut t, 1, &write(), Ended::Done), Some(0));
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), Some(1), "it sees its own write");
    assert_eq!(t.home(), Some(PartitionId(1)));
    assert_eq!(run(&mut t, 1, &lock(), Ended::Error), Some(2));
    assert_eq!(run(&mut t, 1, &write(), Ended::Nothing), Some(3));
    assert_eq!(run(&mut t, 2, &write(), Ended::Nothing), Some(0));
    assert_eq!(t.reads().unwrap().unwrap().earlier, BTreeMap::from([(PartitionId(1), 3), (PartitionId(2), 0)]));
    let ends = [(PartitionId(2), Step::RollBack), (PartitionId(1), Step::Commit { requests: 3 })];
    assert_eq!(t.commit().1, ends, "who was asked is told, even if it executed nothing");
    let mut t = begin(Level::Serializable);
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), Some(0), "what it reads stays locked");
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), Some(1));
    let mut t = begin(Level::Serializable);
    t.read_cut(CutId { term: 1, round: 2 });
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), Some(0), "a read-only one reads a cut");
    assert_eq!(run(&mut t, 1, &read(), Ended::Done), Some(1));
    assert_eq!(t.commit().1, [(PartitionId(1), Step::RollBack)], "it has nothing to keep");
}

#[test]
fn what_became_of_a_request_must_be_known() {
    let mut t = begin(Level::ReadCommitted);
    run(&mut t, 1, &write(), Ended::Done);
    run(&mut t, 2, &write(), Ended::Unclear);
    assert!(t.is_lost());
    assert_eq!(t.request(PartitionId(1), &read()).unwrap_err().state(), SqlState::SERIALIZATION_FAILURE);
    assert!(t.reads().is_err());
    assert!(t.undo(&Mark::default()).is_err());
    assert_eq!(t.roll_back(), [(PartitionId(1), Step::RollBack), (PartitionId(2), Step::RollBack)]);
}

#[test]
fn savepoints_nest_and_hide_each_other() {
    let to = |partition: u16, requests, keep| (PartitionId(partition), Step::RollBackTo { requests, keep });
    let mut t = begin(Level::ReadCommitted);
    run(&mut t, 1, &write(), Ended::Done);
    t.savepoint("a".to_owned());
    run(&mut t, 1, &write(), Ended::Done);
    run(&mut t, 2, &write(), Ended::Error);
    t.savepoint("b".to_owned());
    run(&mut t, 2, &write(), Ended::Done);
    t.savepoint("a".to_owned());
    run(&mut t, 3, &write(), Ended::Done);
    assert_eq!(t.find_savepoint("c").unwrap_err().message(), "savepoint \"c\" does not exist");
    assert_eq!(t.find_savepoint("a"), Ok(2));
    assert_eq!(t.roll_back_to(2).unwrap(), [to(3, 1, 0)]);
    assert_eq!(t.roll_back_to(2).unwrap(), [], "it is undone already");
    t.release(2);
    assert_eq!(t.find_savepoint("a"), Ok(0));
    let b = t.find_savepoint("b").unwrap();
    assert_eq!(t.roll_back_to(b).unwrap(), [to(2, 2, 1)]);
    assert_eq!(run(&mut t, 2, &write(), Ended::Done), Some(2), "what was undone counts on");
    assert_eq!(t.roll_back_to(b).unwrap(), [to(2, 3, 1)]);
    assert_eq!(t.roll_back_to(0).unwrap(), [to(1, 2, 1), to(2, 3, 0)]);
    assert_eq!(t.roll_back_to(0).unwrap(), []);
    let (commitment, sends) = t.commit();
    let expected = [
        (PartitionId(2), Step::RollBack),
        (PartitionId(3), Step::RollBack),
        (PartitionId(1), Step::Commit { requests: 2 }),
    ];
    assert_eq!(sends, expected, "one partition is left that wrote");
    assert_eq!(commitment.outcome(), None);
}

/// Plays lines: `w 1` `r 1` `l 1` are requests, `f 1` one that is prepared at once, `commit` begins the end, `1 Prepare: done 2` answers; what is sent and heard is written after `>`.
fn play(level: Level, script: &str) {
    let (mut open, mut commitment) = (Some(begin(level)), None::<Commitment>);
    let mut sent: Sends = Vec::new();
    let mut told = false;
    let mut recorded = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('>')) {
        recorded.push_str(&format!("{line}\n"));
        let words: Vec<&str> = line.split([' ', ':']).filter(|w| !w.is_empty()).collect();
        let sends = match words.as_slice() {
            [verb @ ("w" | "r" | "l"), partition] => {
                let verb =
                    [("w", write()), ("r", read()), ("l", lock())].into_iter().find(|(n, _)| n == verb).unwrap().1;
                run(open.as_mut().unwrap(), partition.parse().unwrap(), &verb, Ended::Done);
                Vec::new()
            }
            ["f", partition] => {
                finish_with(open.as_mut().unwrap(), partition.parse().unwrap());
                Vec::new()
            }
            ["commit"] => {
                let (begun, sends) = open.take().unwrap().commit();
                commitment = Some(begun);
                sends
            }
            [partition, step, end, ..] => {
                let partition = PartitionId(partition.parse().unwrap());
                let named = |(p, s): &(PartitionId, Step)| *p == partition && format!("{s:?}").starts_with(step);
                let place = sent.iter().position(named).expect("answers what was sent");
                let (_, step) = sent.remove(place);
                let end = match *end {
                    "done" => StepEnd::Done(words[3].parse().unwrap()),
                    "error" => StepEnd::Error(SqlError::new(SqlState::OUT_OF_MEMORY, "no")),
                    _ => StepEnd::Unknown(SqlError::new(SqlState::STATEMENT_COMPLETION_UNKNOWN, "?")),
                };
                commitment.as_mut().unwrap().ended(partition, &step, end)
            }
            _ => panic!("{line}"),
        };
        for (partition, step) in &sends {
            recorded.push_str(&format!("> {partition} {step:?}\n"));
        }
        if let Some(anchor) = commitment.as_mut().and_then(Commitment::forgets) {
            recorded.push_str(&format!("> {anchor} forgets\n"));
        }
        sent.extend(sends);
        if let Some(outcome) = commitment.as_ref().and_then(Commitment::outcome)
            && !std::mem::replace(&mut told, true)
        {
            let heard = outcome.as_ref().map_or_else(|e| e.state().to_string(), |()| "committed".to_owned());
            recorded.push_str(&format!("> {heard}\n"));
        }
    }
    let script: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(recorded.trim_end(), script.join("\n"));
}

#[test]
fn one_partition_commits_in_one_phase() {
    play(Level::ReadCommitted, "r 1\n commit\n > committed");
    play(
        Level::ReadCommitted,
        "r 1\n w 2\n w 2\n commit\n > 2 Commit { requests: 2 }\n 2 Commit: done 2\n > committed",
    );
    play(Level::ReadCommitted, "l 2\n commit\n > 2 Commit { requests: 1 }\n 2 Commit: error\n > 2 RollBack\n > 53200");
    play(Level::Serializable, "r 2\n commit\n > 2 Commit { requests: 1 }\n 2 Commit: lost\n > 2 RollBack\n > 40003");
}

#[test]
fn several_partitions_prepare_and_the_anchor_decides() {
    play(
        Level::ReadCommitted,
        "w 1
         w 2
         w 2
         w 3
         commit
         > 2 Prepare { requests: 2, anchor: PartitionId(1) }
         > 3 Prepare { requests: 1, anchor: PartitionId(1) }
         3 Prepare: done 1
         2 Prepare: done 2
         > 1 Decide { requests: 1, participants: [PartitionId(2), PartitionId(3)] }
         1 Decide: done 1
         > 2 Finish { commit: true }
         > 3 Finish { commit: true }
         > committed
         3 Finish: done 1
         2 Finish: done 1
         > 1 forgets",
    );
}

#[test]
fn who_is_prepared_with_its_last_request_is_not_asked_again() {
    play(
        Level::ReadCommitted,
        "w 2
         w 1
         w 3
         f 1
         commit
         > 3 Prepare { requests: 1, anchor: PartitionId(2) }
         3 Prepare: done 1
         > 2 Decide { requests: 1, participants: [PartitionId(1), PartitionId(3)] }
         2 Decide: done 1
         > 1 Finish { commit: true }
         > 3 Finish { commit: true }
         > committed",
    );
    play(
        Level::ReadCommitted,
        "w 1
         f 2
         commit
         > 1 Decide { requests: 1, participants: [PartitionId(2)] }
         1 Decide: error
         > 1 RollBack
         > 2 RollBack
         > 53200",
    );
    let mut t = begin(Level::ReadCommitted);
    assert_eq!(finish_with(&mut t, 1), None, "nobody else wrote");
    run(&mut t, 2, &lock(), Ended::Done);
    assert_eq!(finish_with(&mut t, 1), None, "who only locked does not decide");
    let mark = t.mark();
    assert_eq!(finish_with(&mut t, 2), Some(PartitionId(1)));
    assert!(t.undo(&mark).is_err() && t.is_lost(), "it has said its last word");
    assert_eq!(t.roll_back().len(), 2);
    let mut t = begin(Level::ReadCommitted);
    run(&mut t, 1, &write(), Ended::Done);
    t.change();
    assert_eq!(finish_with(&mut t, 2), None, "the metadata group decides");
}

#[test]
fn the_metadata_group_decides_what_changes_the_schema() {
    let anchor = PartitionId::METADATA;
    let begin_two = || {
        let mut t = begin(Level::ReadCommitted);
        run(&mut t, 1, &write(), Ended::Done);
        run(&mut t, 2, &write(), Ended::Done);
        run(&mut t, 3, &write(), Ended::Error);
        assert_eq!((t.change(), t.change(), t.changes_schema()), (0, 1, true));
        t.commit_outside()
    };
    let step = Step::Prepare { requests: 1, anchor };
    let finish = Step::Finish { commit: true };
    for end in [StepEnd::Done(0), StepEnd::Error(lost()), StepEnd::Unknown(lost())] {
        let (mut commitment, sends) = begin_two();
        let (one, two, three) = (PartitionId(1), PartitionId(2), PartitionId(3));
        assert_eq!(sends, [(one, step.clone()), (two, step.clone()), (three, Step::RollBack)]);
        assert_eq!(commitment.ended(one, &step, StepEnd::Done(1)), []);
        assert_eq!(commitment.decides_outside(), None);
        assert_eq!(commitment.ended(two, &step, StepEnd::Done(1)), []);
        assert_eq!(commitment.decides_outside(), Some(&Partitions::from_iter([one, two])));
        assert_eq!(commitment.outcome(), None);
        let sends = commitment.decided_outside(end.clone());
        assert_eq!(commitment.outcome().unwrap().is_ok(), end == StepEnd::Done(0));
        match end {
            StepEnd::Done(_) => {
                assert_eq!(sends, [(one, finish.clone()), (two, finish.clone())]);
                assert_eq!(commitment.ended(one, &finish, StepEnd::Done(0)), []);
                assert_eq!(commitment.ended(two, &finish, StepEnd::Done(0)), [], "no partition has to forget it");
            }
            StepEnd::Error(_) => assert_eq!(sends, [(one, Step::RollBack), (two, Step::RollBack)]),
            StepEnd::Unknown(_) => assert_eq!(sends, [], "they will ask"),
        }
    }
    let (mut commitment, _) = begin_two();
    let sends = commitment.ended(PartitionId(1), &step, StepEnd::Error(lost()));
    assert_eq!(sends, [(PartitionId(1), Step::RollBack)]);
    assert_eq!((commitment.decides_outside(), commitment.outcome().unwrap().is_err()), (None, true));
    let (commitment, sends) = begin(Level::ReadCommitted).commit_outside();
    assert_eq!((commitment.decides_outside(), sends), (Some(&Partitions::default()), Sends::new()));
}

#[test]
fn schema_changes_are_numbered_on_from_savepoints() {
    let mut t = begin(Level::ReadCommitted);
    t.change();
    t.savepoint("a".to_owned());
    t.change();
    assert_eq!(t.at_savepoint(0).unwrap().changes(), 1);
    t.roll_back_to(0).unwrap();
    assert_eq!(t.change(), 2, "no number is given twice");
    assert_eq!(t.at_savepoint(0).unwrap().changes(), 1);
}

#[test]
fn who_wrote_nothing_lets_go_when_the_anchor_has_decided() {
    play(
        Level::Serializable,
        "r 1
         w 2
         r 3
         commit
         > 1 Prepare { requests: 1, anchor: PartitionId(2) }
         > 3 Prepare { requests: 1, anchor: PartitionId(2) }
         1 Prepare: done 0
         3 Prepare: done 0
         > 2 Commit { requests: 1 }
         2 Commit: done 1
         > 1 RollBack
         > 3 RollBack
         > committed",
    );
    play(
        Level::Serializable,
        "r 1
         r 2
         commit
         > 1 Confirm { requests: 1 }
         > 2 Confirm { requests: 1 }
         2 Confirm: done 0
         1 Confirm: done 0
         > 1 RollBack
         > 2 RollBack
         > committed",
    );
}

#[test]
fn what_a_serializable_transaction_read_stays_locked_when_it_is_undone() {
    let mut t = begin(Level::Serializable);
    run(&mut t, 1, &write(), Ended::Done);
    t.savepoint("a".to_owned());
    run(&mut t, 2, &read(), Ended::Done);
    run(&mut t, 3, &read(), Ended::Error);
    t.roll_back_to(0).unwrap();
    let prepare = |partition| (PartitionId(partition), Step::Prepare { requests: 1, anchor: PartitionId(1) });
    assert_eq!(t.commit().1, [prepare(2), prepare(3)], "nobody changes it before the outcome");
    let mut t = begin(Level::ReadCommitted);
    run(&mut t, 1, &write(), Ended::Done);
    t.savepoint("a".to_owned());
    run(&mut t, 2, &lock(), Ended::Done);
    t.roll_back_to(0).unwrap();
    assert_eq!(t.commit().1, [(PartitionId(2), Step::RollBack), (PartitionId(1), Step::Commit { requests: 1 })]);
}

#[test]
fn a_failed_prepare_rolls_all_back() {
    play(
        Level::ReadCommitted,
        "w 1
         w 2
         w 3
         w 4
         commit
         > 2 Prepare { requests: 1, anchor: PartitionId(1) }
         > 3 Prepare { requests: 1, anchor: PartitionId(1) }
         > 4 Prepare { requests: 1, anchor: PartitionId(1) }
         3 Prepare: done 1
         2 Prepare: error
         > 1 RollBack
         > 2 RollBack
         > 3 RollBack
         > 53200
         1 RollBack: done 0
         4 Prepare: done 1
         > 4 RollBack
         2 RollBack: done 0
         4 RollBack: done 0
         3 RollBack: done 0
         > 1 Forget",
    );
    play(
        Level::ReadCommitted,
        "w 1
         w 2
         commit
         > 2 Prepare { requests: 1, anchor: PartitionId(1) }
         2 Prepare: lost
         > 1 RollBack
         > 2 RollBack
         > 40001
         1 RollBack: done 0
         2 RollBack: lost",
    );
}

#[test]
fn an_outcome_that_is_unknown_is_left_to_the_participants() {
    let prepared = "w 1
         w 2
         commit
         > 2 Prepare { requests: 1, anchor: PartitionId(1) }
         2 Prepare: done 1
         > 1 Decide { requests: 1, participants: [PartitionId(2)] }";
    play(Level::ReadCommitted, &format!("{prepared}\n 1 Decide: lost\n > 1 RollBack\n > 40003"));
    play(Level::ReadCommitted, &format!("{prepared}\n 1 Decide: error\n > 1 RollBack\n > 2 RollBack\n > 53200"));
    let finish = "1 Decide: done 1\n > 2 Finish { commit: true }\n > committed";
    play(Level::ReadCommitted, &format!("{prepared}\n {finish}\n 2 Finish: lost"));
}

/// What has been seen of one commitment whose steps end in any order and any way.
#[derive(Clone, Default)]
struct Seen {
    sent: Vec<(PartitionId, Step)>,
    prepared: BTreeSet<PartitionId>,
    refused: bool,
    decided: Option<StepEnd>,
    finished: BTreeSet<PartitionId>,
    undone: BTreeSet<PartitionId>,
    readers: BTreeSet<PartitionId>,
}

/// Ends the steps under way in every order and every way, and checks each course; the number of courses. Some were prepared `already`.
fn every_course(begun: &dyn Fn() -> (Commitment, Sends), already: &[PartitionId], history: &[(usize, u8)]) -> u64 {
    let (mut commitment, mut waiting) = begun();
    let mut seen = Seen { prepared: already.iter().copied().collect(), ..Seen::default() };
    check(&commitment, &mut seen, &waiting);
    for (place, kind) in history {
        let (partition, step) = waiting.remove(*place);
        let end = match (kind, &step) {
            (0, _) => StepEnd::Done(1),
            (1, _) => StepEnd::Error(SqlError::new(SqlState::OUT_OF_MEMORY, "no")),
            (2, _) => StepEnd::Unknown(SqlError::new(SqlState::STATEMENT_COMPLETION_UNKNOWN, "?")),
            _ => StepEnd::Done(0),
        };
        match &step {
            Step::Confirm { .. } if matches!(end, StepEnd::Done(_)) => drop(seen.readers.insert(partition)),
            Step::Prepare { .. } if end == StepEnd::Done(1) => drop(seen.prepared.insert(partition)),
            Step::Prepare { .. } if end == StepEnd::Done(0) => drop(seen.readers.insert(partition)),
            Step::Prepare { .. } | Step::Confirm { .. } => seen.refused = true,
            Step::Decide { .. } | Step::Commit { .. } => seen.decided = Some(end.clone()),
            Step::Finish { .. } if matches!(end, StepEnd::Done(_)) => drop(seen.finished.insert(partition)),
            Step::RollBack if matches!(end, StepEnd::Done(_)) => drop(seen.undone.insert(partition)),
            _ => {}
        }
        let sends = commitment.ended(partition, &step, end);
        if commitment.forgets().is_some() {
            assert_eq!(seen.finished, seen.prepared, "all have confirmed");
        }
        check(&commitment, &mut seen, &sends);
        waiting.extend(sends);
    }
    if waiting.is_empty() {
        let outcome = commitment.outcome().expect("every client hears an outcome");
        let let_go = |p: &PartitionId| seen.sent.contains(&(*p, Step::RollBack));
        assert!(seen.readers.iter().all(let_go), "nobody keeps what it read");
        let sent = |wanted: &dyn Fn(&Step) -> bool| seen.sent.iter().filter(|(_, s)| wanted(s)).count();
        if matches!(seen.decided, Some(StepEnd::Done(_))) {
            assert_eq!(sent(&|s| matches!(s, Step::Finish { commit: true })), seen.prepared.len());
        }
        if outcome.is_err() {
            let rolled_back = |p: &PartitionId| seen.sent.contains(&(*p, Step::RollBack));
            let asks = matches!(seen.decided, Some(StepEnd::Unknown(_)));
            assert!(asks || seen.prepared.iter().all(rolled_back), "nobody stays prepared");
            let decides = |(_, s): &&(PartitionId, Step)| matches!(s, Step::Decide { .. } | Step::Commit { .. });
            assert!(
                seen.sent.iter().find(decides).is_none_or(|(p, _)| rolled_back(p)),
                "nor does the anchor stay open"
            );
        }
        return 1;
    }
    let mut courses = 0;
    for (place, (_, step)) in waiting.iter().enumerate() {
        let kinds = if matches!(step, Step::Prepare { .. }) { 4 } else { 3 };
        for kind in 0..kinds {
            let mut next = history.to_vec();
            next.push((place, kind));
            courses += every_course(begun, already, &next);
        }
    }
    courses
}

/// What may be sent and told at this point.
fn check(commitment: &Commitment, seen: &mut Seen, sends: &Sends) {
    for (partition, step) in sends {
        assert!(!seen.sent.contains(&(*partition, step.clone())), "{step:?} is sent once");
        match step {
            Step::Decide { participants, .. } => {
                assert!(!seen.refused, "one refused");
                assert_eq!(participants.iter().copied().collect::<BTreeSet<_>>(), seen.prepared);
            }
            Step::Commit { .. } => assert!(!seen.refused && seen.prepared.is_empty()),
            Step::Finish { commit } => {
                assert!(*commit && matches!(seen.decided, Some(StepEnd::Done(_))));
                assert!(seen.prepared.contains(partition));
            }
            Step::Forget => {
                assert!(matches!(commitment.outcome(), Some(Err(_))));
                let asks = |(p, s): &(PartitionId, Step)| {
                    let may = matches!(s, Step::Prepare { .. } | Step::Decide { .. }) && !seen.readers.contains(p);
                    may && !seen.undone.contains(p)
                };
                assert!(!seen.sent.iter().any(asks), "nobody will ask or decide");
            }
            Step::RollBack if seen.readers.contains(partition) => {
                let decided = seen.decided.is_some() || seen.refused;
                assert!(decided || commitment.outcome().is_some(), "what was read stays so until the outcome");
            }
            Step::RollBack => {
                // Only the anchor, which may have heard nothing: what it has decided it does not take back.
                let asked = matches!(seen.decided, Some(StepEnd::Unknown(_))) && !seen.prepared.contains(partition);
                let over = seen.refused || matches!(seen.decided, Some(StepEnd::Error(_)));
                assert!(over || asked, "nothing is rolled back that may be committed");
            }
            Step::Prepare { .. } | Step::Confirm { .. } => assert!(seen.decided.is_none()),
            Step::RollBackTo { .. } => panic!("no step of a commitment"),
        }
        seen.sent.push((*partition, step.clone()));
    }
    if matches!(commitment.outcome(), Some(Ok(()))) {
        let wrote = seen.sent.iter().any(|(_, s)| matches!(s, Step::Decide { .. } | Step::Commit { .. }));
        assert!(!wrote || matches!(seen.decided, Some(StepEnd::Done(_))), "the anchor has answered");
        assert!(!seen.refused);
    }
}

#[test]
fn whatever_happens_to_each_step_the_outcome_is_one() {
    let mut courses = 0;
    for written in 0..=3_u16 {
        for locked in 0..=3 - written {
            let begun = move || {
                let mut t = begin(Level::ReadCommitted);
                for p in 0..written + locked {
                    run(&mut t, p, &if p < written { write() } else { lock() }, Ended::Done);
                }
                t.commit()
            };
            courses += every_course(&begun, &[], &[]);
        }
    }
    let begun = || {
        let mut t = begin(Level::ReadCommitted);
        run(&mut t, 0, &write(), Ended::Done);
        run(&mut t, 1, &write(), Ended::Done);
        finish_with(&mut t, 2);
        t.commit()
    };
    courses += every_course(&begun, &[PartitionId(2)], &[]);
    assert!(courses > 1_000, "{courses}");
}

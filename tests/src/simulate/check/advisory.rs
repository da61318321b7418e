//! Whether advisory locks kept others away while their clients had them, and were refused only where somebody could have stood in the way.

use super::super::history::History;
use super::super::history::grip::Grip;

/// What is wrong, if anything.
pub fn judge(history: &History) -> Result<(), String> {
    let grips = &history.grips;
    for (at, one) in grips.all.iter().enumerate() {
        let opposed =
            |other: &&Grip| one.key == other.key && one.holder != other.holder && !(one.shared && other.shared);
        if let Some((from, until)) = history.held(one) {
            let both = |other: &&Grip| history.held(other).is_some_and(|(other, end)| from < end && other < until);
            if let Some(other) = grips.all.iter().skip(at).filter(opposed).find(both) {
                return Err(format!("two have the same advisory lock: {one:?} and {other:?}"));
            }
        }
        // Who waits stands in the way of who does not.
        let stands = |other: &&Grip| other.began < one.gone && one.began < other.gone;
        if one.refused && !grips.all.iter().filter(opposed).any(|other| stands(&other)) {
            return Err(format!("an advisory lock was refused that nobody held: {one:?}"));
        }
    }
    grips.strange.clone().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::super::super::history::transaction::Fate;
    use super::*;
    use toroid_common::id::{Incarnation, PartitionId};
    use toroid_common::plan::AdvisoryKey;
    use toroid_common::transaction::Level;

    const KEY: AdvisoryKey = AdvisoryKey { pair: false, key: 1 };

    fn holder(session: u32) -> (Incarnation, u32) {
        (Incarnation(u64::from(session % 2)), session)
    }

    fn take(history: &mut History, session: u32, shared: bool, transaction: Option<usize>) -> usize {
        let grip = history.reach(holder(session), (KEY, shared), PartitionId(0), transaction);
        history.reached(grip, true, false);
        grip
    }

    fn give(history: &mut History, session: u32, shared: bool, had: bool) {
        let sure = history.give(holder(session), (KEY, shared));
        history.gave(holder(session), (KEY, shared), sure, had);
    }

    #[test]
    fn two_sessions_share_only_what_is_shared() {
        for (shared, fine) in [([true, true], true), ([true, false], false), ([false, false], false)] {
            let mut history = History::default();
            take(&mut history, 1, shared[0], None);
            take(&mut history, 1, false, None);
            give(&mut history, 1, false, true);
            take(&mut history, 2, shared[1], None);
            assert_eq!(judge(&history).is_ok(), fine, "{shared:?}");
        }
        let mut history = History::default();
        take(&mut history, 1, false, None);
        give(&mut history, 1, false, true);
        take(&mut history, 2, false, None);
        history.bereave(Incarnation(0));
        take(&mut history, 3, false, None);
        history.empty(PartitionId(0));
        take(&mut history, 5, false, None);
        assert_eq!(judge(&history), Ok(()));
    }

    #[test]
    fn a_transaction_holds_its_lock_if_it_is_committed() {
        for (fate, fine) in [(Fate::Committed, false), (Fate::Aborted, true), (Fate::Unknown, true)] {
            let mut history = History::default();
            let number = history.begin_transaction(Level::ReadCommitted);
            history.begin_statement(number, Vec::new());
            take(&mut history, 1, false, Some(number));
            take(&mut history, 2, false, None);
            history.ask(number);
            history.end_transaction(number, fate);
            assert_eq!(judge(&history).is_ok(), fine, "{fate:?}");
        }
    }

    #[test]
    fn what_is_told_of_giving_back_fits_what_was_taken() {
        let mut history = History::default();
        give(&mut history, 1, false, false);
        take(&mut history, 1, false, None);
        give(&mut history, 1, false, true);
        assert_eq!(judge(&history), Ok(()));
        give(&mut history, 1, false, true);
        assert!(judge(&history).is_err(), "nothing was left");
        let mut history = History::default();
        take(&mut history, 1, false, None);
        give(&mut history, 1, false, false);
        assert!(judge(&history).is_err(), "it was there");
    }

    #[test]
    fn a_refusal_needs_somebody_in_the_way() {
        for (given, fine) in [(false, true), (true, false)] {
            let mut history = History::default();
            take(&mut history, 1, false, None);
            if given {
                give(&mut history, 1, false, true);
            }
            let grip = history.reach(holder(2), (KEY, false), PartitionId(0), None);
            history.reached(grip, false, true);
            assert_eq!(judge(&history).is_ok(), fine);
        }
    }
}

//! Which epochs made which entries of a log, and how far two logs agree.
//!
//! In one epoch only one primary makes entries. So two logs whose entries at one position were made in the same epoch agree up to there.

use std::collections::VecDeque;
use toroid_common::id::{Epoch, Lsn};
use toroid_common::wire::LogEnd;

/// The creating epochs of the entries from some position on, as runs of entries that were made in the same.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Each run's epoch and first entry, both ascending.
    runs: VecDeque<(Epoch, Lsn)>,
}

impl Runs {
    /// The entry at `lsn`, behind all that are known, was made in this epoch.
    pub fn note(&mut self, created: Epoch, lsn: Lsn) {
        match self.runs.back() {
            Some((last, _)) if *last == created => {}
            Some((last, first)) => {
                assert!(*last < created && *first < lsn, "a log's epochs ascend: {created} after {last} at {lsn}");
                self.runs.push_back((created, lsn));
            }
            None => self.runs.push_back((created, lsn)),
        }
    }

    /// The epoch of the newest entry.
    pub fn newest(&self) -> Option<Epoch> {
        self.runs.back().map(|(epoch, _)| *epoch)
    }

    /// The epoch that made the entry at `lsn`, and the run's first entry; `None` when that is not known any more.
    pub fn of(&self, lsn: Lsn) -> Option<(Epoch, Lsn)> {
        self.runs.iter().rev().find(|(_, first)| *first <= lsn).copied()
    }

    /// The last entry of the run that the entry at `lsn` is in, when there is another run behind it.
    pub fn end(&self, lsn: Lsn) -> Option<Lsn> {
        self.runs.iter().find(|(_, first)| *first > lsn).map(|(_, first)| Lsn(first.0 - 1))
    }

    /// Entries from `first` on are gone.
    pub fn cut(&mut self, first: Lsn) {
        while self.runs.pop_back_if(|(_, start)| *start >= first).is_some() {}
    }

    /// Nobody will ask for entries before `lsn`.
    pub fn forget_below(&mut self, lsn: Lsn) {
        while self.runs.get(1).is_some_and(|(_, first)| *first <= lsn) {
            self.runs.pop_front();
        }
    }

    /// What is said of a log that ends with `last`.
    pub fn log_end(&self, last: Lsn) -> LogEnd {
        LogEnd { last, runs: self.runs.iter().copied().collect() }
    }
}

/// The last entry that both logs have: the greatest position at which both have an entry of the same epoch. Position 0, before all entries, is
/// common to all logs. `None` when the logs differ as far back as they are told.
pub fn common_prefix(one: &LogEnd, other: &LogEnd) -> Option<Lsn> {
    let run = |log: &LogEnd, lsn: Lsn| log.runs.iter().rev().find(|(_, first)| *first <= lsn).copied();
    let mut lsn = one.last.min(other.last);
    loop {
        if lsn == Lsn(0) {
            return Some(lsn);
        }
        let ((epoch, first), (other_epoch, other_first)) = (run(one, lsn)?, run(other, lsn)?);
        if epoch == other_epoch {
            return Some(lsn);
        }
        // From the later of the two runs' beginnings up to here they differ everywhere.
        lsn = Lsn(first.max(other_first).0.checked_sub(1)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(last: u64, runs: &[(u32, u64)]) -> LogEnd {
        LogEnd { last: Lsn(last), runs: runs.iter().map(|(epoch, first)| (Epoch(*epoch), Lsn(*first))).collect() }
    }

    fn common(one: &LogEnd, other: &LogEnd) -> Option<u64> {
        let found = common_prefix(one, other);
        assert_eq!(found, common_prefix(other, one), "it makes no difference who asks");
        found.map(|lsn| lsn.0)
    }

    #[test]
    fn logs_of_one_primary_agree_up_to_the_shorter_one() {
        assert_eq!(common(&log(10, &[(1, 1)]), &log(12, &[(1, 1)])), Some(10));
        assert_eq!(common(&log(12, &[(1, 1)]), &log(12, &[(1, 9)])), Some(12));
        assert_eq!(common(&log(0, &[]), &log(12, &[(1, 1)])), Some(0));
    }

    #[test]
    fn two_tails_of_different_epochs_are_told_apart_by_who_made_them() {
        // Epoch 1 left B1 at 10 and B2 at 12; as primary of epoch 2, B1 made other entries 11 and 12, which only B3 got; B1 died.
        let b2 = log(12, &[(1, 1)]);
        let b3 = log(12, &[(1, 1), (2, 11)]);
        assert_eq!(common(&b2, &b3), Some(10));
        // As primary of epoch 3, either of them goes on from its own.
        let b3_goes_on = log(13, &[(1, 1), (2, 11), (3, 13)]);
        let b2_goes_on = log(13, &[(1, 1), (3, 13)]);
        assert_eq!(common(&b2, &b3_goes_on), Some(10));
        assert_eq!(common(&b3, &b2_goes_on), Some(10));
        assert_eq!(common(&b3, &b3_goes_on), Some(12));
    }

    #[test]
    fn a_log_that_skipped_epochs_is_compared_run_by_run() {
        let long = log(40, &[(1, 1), (2, 10), (4, 20), (5, 30)]);
        assert_eq!(common(&long, &log(35, &[(2, 10), (3, 20)])), Some(19));
        assert_eq!(
            common(&long, &log(35, &[(1, 1), (3, 15), (4, 20)])),
            Some(29),
            "as no two primaries would leave it"
        );
        assert_eq!(common(&long, &log(15, &[(1, 1), (3, 12)])), Some(9));
    }

    #[test]
    fn what_is_not_known_any_more_is_not_common() {
        assert_eq!(common(&log(40, &[(5, 30)]), &log(20, &[(1, 1)])), None);
        assert_eq!(common(&log(40, &[(5, 30)]), &log(35, &[(4, 25)])), None);
        assert_eq!(common(&log(40, &[]), &log(35, &[])), None);
        assert_eq!(common(&log(40, &[(3, 0)]), &log(35, &[(2, 0)])), None, "a run that begins nowhere is nonsense");
    }

    #[test]
    fn random_histories_agree_with_comparing_entry_by_entry() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        };
        for _ in 0..2_000 {
            // Three replicas; each epoch one of them makes entries that go, cut to its log, to some of the others.
            let mut logs: [Vec<u32>; 3] = Default::default();
            for epoch in 1..=below(7) as u32 {
                let primary = below(3) as usize;
                let made = below(4) as usize;
                logs[primary].extend(std::iter::repeat_n(epoch, made));
                let of = logs[primary].clone();
                for (index, log) in logs.iter_mut().enumerate() {
                    if index != primary && below(2) == 0 {
                        let shared = log.iter().zip(&of).take_while(|(a, b)| a == b).count();
                        let kept = (shared + below(5) as usize).min(of.len());
                        *log = of[..kept].to_vec();
                    }
                }
            }
            let ends = logs.each_ref().map(|log| {
                let mut runs = Runs::default();
                log.iter().enumerate().for_each(|(at, epoch)| runs.note(Epoch(*epoch), Lsn(at as u64 + 1)));
                runs.log_end(Lsn(log.len() as u64))
            });
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                let expected = logs[a].iter().zip(&logs[b]).take_while(|(a, b)| a == b).count();
                assert_eq!(common(&ends[a], &ends[b]), Some(expected as u64), "{logs:?}");
            }
        }
    }

    #[test]
    fn runs_follow_cuts_and_forget_the_past() {
        let mut runs = Runs::default();
        for (epoch, lsn) in [(1, 1), (1, 2), (3, 3), (4, 4), (4, 5)] {
            runs.note(Epoch(epoch), Lsn(lsn));
        }
        assert_eq!((runs.of(Lsn(2)), runs.of(Lsn(3))), (Some((Epoch(1), Lsn(1))), Some((Epoch(3), Lsn(3)))));
        assert_eq!((runs.end(Lsn(1)), runs.end(Lsn(4))), (Some(Lsn(2)), None));
        runs.cut(Lsn(4));
        assert_eq!(runs.log_end(Lsn(3)), log(3, &[(1, 1), (3, 3)]));
        runs.note(Epoch(6), Lsn(4));
        runs.forget_below(Lsn(3));
        assert_eq!((runs.of(Lsn(2)), runs.of(Lsn(3)), runs.newest()), (None, Some((Epoch(3), Lsn(3))), Some(Epoch(6))));
    }
}

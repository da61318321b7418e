//! The requests that a partition has executed, with their answers: what makes a repeated request happen once.

use crate::store::fence::Fence;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, RequestId};

/// Which requests a proxy has its answers to: copies of them that come late are to be refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    below: u64,
    /// Ascending: these are below, and not answered.
    but: Vec<u64>,
}

impl Passed {
    pub fn below(&self) -> u64 {
        self.below
    }

    /// Whether the request of this sequence is answered.
    pub fn has(&self, sequence: u64) -> bool {
        sequence < self.below && self.but.binary_search(&sequence).is_err()
    }

    /// All below are answered. False when that was known.
    pub fn raise(&mut self, below: u64) -> bool {
        let more = below > self.below || self.but.first().is_some_and(|first| *first < below);
        if more {
            self.below = self.below.max(below);
            self.but.retain(|sequence| *sequence >= below);
        }
        more
    }

    /// All below are answered but these. False when that was known.
    pub fn raise_but(&mut self, below: u64, but: &[u64]) -> bool {
        let before = (self.below, self.but.len());
        if below > self.below {
            // What is known to be answered stays so, whatever else is said.
            let fresh = but.iter().copied().filter(|sequence| !self.has(*sequence));
            self.but = fresh.collect();
            self.below = below;
        } else if below == self.below {
            self.but.retain(|sequence| but.binary_search(sequence).is_ok());
        }
        (self.below, self.but.len()) != before
    }
}

/// What is kept of one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asker {
    /// What is not known any more.
    passed: Passed,
    /// Answers by sequence, ascending.
    kept: VecDeque<(u64, Bytes)>,
}

impl Asker {
    fn find(&self, sequence: u64) -> Result<usize, usize> {
        self.kept.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
    }

    fn insert(&mut self, sequence: u64, answer: Bytes) {
        // Mostly the last one.
        if self.kept.back().is_none_or(|(last, _)| *last < sequence) {
            return self.kept.push_back((sequence, answer));
        }
        match self.find(sequence) {
            Ok(at) => {
                if let Some(known) = self.kept.get_mut(at) {
                    known.1 = answer;
                }
            }
            Err(at) => self.kept.insert(at, (sequence, answer)),
        }
    }

    fn forget_below(&mut self, lowest: u64) {
        while self.kept.pop_front_if(|(sequence, _)| *sequence < lowest).is_some() {}
    }
}

/// Answers by request, kept until the proxy says that it needs them no more, or is fenced. A clone shares them; the few that there are of a proxy are
/// copied when either changes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Ascending.
    askers: Arc<Vec<(Incarnation, Arc<Asker>)>>,
    fence: Fence,
}

impl Answers {
    fn asker(&self, proxy: Incarnation) -> Option<&Asker> {
        let at = self.askers.binary_search_by_key(&proxy, |(asker, _)| *asker).ok()?;
        self.askers.get(at).map(|(_, asker)| &**asker)
    }

    /// What is kept of a proxy, to change it; something anew where there is nothing.
    fn asker_mut(&mut self, proxy: Incarnation) -> &mut Asker {
        let askers = Arc::make_mut(&mut self.askers);
        let at = match askers.binary_search_by_key(&proxy, |(asker, _)| *asker) {
            Ok(at) => at,
            Err(at) => {
                askers.insert(at, (proxy, Arc::default()));
                at
            }
        };
        Arc::make_mut(&mut askers[at].1)
    }

    pub fn get(&self, request: RequestId) -> Option<&Bytes> {
        let asker = self.asker(request.proxy)?;
        asker.kept.get(asker.find(request.sequence).ok()?).map(|(_, answer)| answer)
    }

    pub fn insert(&mut self, request: RequestId, answer: Bytes) {
        self.asker_mut(request.proxy).insert(request.sequence, answer);
    }

    pub fn len(&self) -> usize {
        self.askers.iter().map(|(_, asker)| asker.kept.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.askers.iter().all(|(_, asker)| asker.kept.is_empty())
    }

    /// All answers in order, from a request on.
    pub fn from(&self, request: RequestId) -> impl Iterator<Item = (RequestId, &Bytes)> {
        let first = self.askers.partition_point(|(proxy, _)| *proxy < request.proxy);
        let askers = self.askers.get(first..).unwrap_or_default().iter();
        let all =
            askers.flat_map(|(proxy, asker)| asker.kept.iter().map(|(sequence, answer)| (*proxy, *sequence, answer)));
        all.map(|(proxy, sequence, answer)| (RequestId { proxy, sequence }, answer))
            .skip_while(move |(it, _)| *it < request)
    }

    /// The mark of this proxy: what it asked below is forgotten, but for requests that have waited for long.
    pub fn lowest(&self, proxy: Incarnation) -> u64 {
        self.asker(proxy).map_or(0, |asker| asker.passed.below)
    }

    /// Whether what this request was answered, if it was executed, is forgotten.
    pub fn is_passed(&self, request: RequestId) -> bool {
        self.asker(request.proxy).is_some_and(|asker| asker.passed.has(request.sequence))
    }

    /// Forgets what this proxy asked below `lowest`, its lowest sequence still unanswered.
    pub fn forget_below(&mut self, proxy: Incarnation, lowest: u64) {
        let known = |asker: &Asker| asker.passed.below >= lowest && asker.passed.but.is_empty();
        if !self.asker(proxy).is_some_and(known) {
            let asker = self.asker_mut(proxy);
            asker.passed.raise(lowest);
            asker.forget_below(lowest);
        }
    }

    /// Forgets what this proxy asked below `below`, but for these.
    pub fn forget_but(&mut self, proxy: Incarnation, below: u64, but: &[u64]) {
        if self.asker(proxy).is_none() {
            return;
        }
        let Asker { passed, kept } = self.asker_mut(proxy);
        if passed.raise_but(below, but) {
            kept.retain(|(sequence, _)| !passed.has(*sequence));
        }
    }

    /// Whether anything is kept of what this proxy asked below `below`, but for these.
    pub fn may_forget(&self, proxy: Incarnation, below: u64, but: &[u64]) -> bool {
        let Some(asker) = self.asker(proxy) else { return false };
        let mut known = asker.kept.iter().take_while(|(sequence, _)| *sequence < below);
        known.any(|(sequence, _)| but.binary_search(sequence).is_err())
    }

    /// Whether this proxy was fenced here: whether it executed something cannot be told any more.
    pub fn is_fenced(&self, proxy: Incarnation) -> bool {
        self.fence.covers(proxy)
    }

    /// Whether this fence covers proxies that are not fenced here.
    pub fn lags(&self, fence: &Fence) -> bool {
        self.fence.below < fence.below || self.fence.alive.iter().any(|proxy| fence.covers(*proxy))
    }

    /// Whether anything is kept of proxies that this fence covers.
    pub fn has_any_of(&self, fence: &Fence) -> bool {
        self.askers.iter().any(|(proxy, _)| fence.covers(*proxy))
    }

    /// Forgets the proxies that are dead, and remembers that they are.
    pub fn fence(&mut self, fence: &Fence) {
        self.fence = self.fence.and(fence);
        if self.has_any_of(&self.fence) {
            Arc::make_mut(&mut self.askers).retain(|(proxy, _)| !self.fence.covers(*proxy));
        }
    }

    /// Appends fence and marks, for a checkpoint.
    pub(in crate::store) fn write_proxies(&self, out: &mut Vec<u8>) {
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(self.fence.below.0);
        put(self.fence.alive.len() as u64);
        self.fence.alive.iter().for_each(|proxy| put(proxy.0));
        for (proxy, asker) in self.askers.iter() {
            let passed = &asker.passed;
            put(proxy.0);
            put(passed.below);
            put(passed.but.len() as u64);
            passed.but.iter().for_each(|sequence| put(*sequence));
        }
    }

    /// Takes fence and marks over from a checkpoint.
    pub(in crate::store) fn read_proxies(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let damaged = || SqlError::new(SqlState::DATA_CORRUPTED, "damaged checkpoint: marks of proxies");
        let below = Incarnation(numbers.next().ok_or_else(damaged)?);
        let count = numbers.next().ok_or_else(damaged)?;
        if !rest.is_empty() || count > numbers.len() as u64 {
            return Err(damaged());
        }
        let alive: Arc<[Incarnation]> = numbers.by_ref().take(count as usize).map(Incarnation).collect();
        self.fence = Fence { below, alive };
        while let Some(proxy) = numbers.next() {
            let below = numbers.next().ok_or_else(damaged)?;
            let count = numbers.next().filter(|count| *count <= numbers.len() as u64).ok_or_else(damaged)?;
            let but: Vec<u64> = numbers.by_ref().take(count as usize).collect();
            if !but.is_sorted_by(|one, next| one < next) {
                return Err(damaged());
            }
            self.asker_mut(Incarnation(proxy)).passed = Passed { below, but };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(below: u64, alive: &[u64]) -> Fence {
        Fence { below: Incarnation(below), alive: alive.iter().copied().map(Incarnation).collect() }
    }

    #[test]
    fn what_waits_for_long_is_remembered_alone() {
        let mut answers = Answers::default();
        let of = |sequence| RequestId { proxy: Incarnation(1), sequence };
        for sequence in 1..=9 {
            answers.insert(of(sequence), Bytes::from_static(b"answer"));
            answers.forget_below(Incarnation(1), 2);
        }
        assert!(answers.may_forget(Incarnation(1), 7, &[2, 5]));
        answers.forget_but(Incarnation(1), 7, &[2, 5]);
        assert!(!answers.may_forget(Incarnation(1), 7, &[2, 5]));
        let kept = |answers: &Answers| (1..10).filter(|s| answers.get(of(*s)).is_some()).collect::<Vec<_>>();
        let passed = |answers: &Answers| (1..10).filter(|s| answers.is_passed(of(*s))).collect::<Vec<_>>();
        assert_eq!((kept(&answers), passed(&answers)), (vec![2, 5, 7, 8, 9], vec![1, 3, 4, 6]));
        // What was said before comes late, then more of the same mark, then a mark below which all is answered.
        answers.forget_but(Incarnation(1), 4, &[2, 3]);
        answers.forget_but(Incarnation(1), 7, &[5]);
        assert_eq!((kept(&answers), passed(&answers)), (vec![5, 7, 8, 9], vec![1, 2, 3, 4, 6]));
        answers.forget_below(Incarnation(1), 3);
        assert_eq!(passed(&answers), [1, 2, 3, 4, 6]);
        answers.forget_but(Incarnation(1), 9, &[2, 5, 8]);
        assert_eq!((kept(&answers), passed(&answers)), (vec![5, 8, 9], vec![1, 2, 3, 4, 6, 7]));
        answers.forget_below(Incarnation(1), 6);
        assert_eq!((kept(&answers), passed(&answers)), (vec![8, 9], vec![1, 2, 3, 4, 5, 6, 7]));
    }

    #[test]
    fn fenced_proxies_are_forgotten_and_stay_fenced() {
        let mut answers = Answers::default();
        for proxy in 1..=6 {
            let request = RequestId { proxy: Incarnation(proxy), sequence: 9 };
            answers.insert(request, Bytes::from_static(b"answer"));
            answers.forget_below(request.proxy, 3);
        }
        assert!(answers.has_any_of(&fence(5, &[1, 3])) && !answers.has_any_of(&fence(5, &[1, 2, 3, 4])));
        answers.fence(&fence(5, &[1, 3]));
        let fenced = |answers: &Answers| (1..=7).filter(|p| answers.is_fenced(Incarnation(*p))).collect::<Vec<_>>();
        assert_eq!(fenced(&answers), [2, 4]);
        assert_eq!((answers.len(), answers.lowest(Incarnation(2)), answers.lowest(Incarnation(3))), (4, 0, 3));
        // Who is dead does not come back, and a lower fence takes nothing away.
        answers.fence(&fence(7, &[2, 3, 6]));
        answers.fence(&fence(2, &[]));
        assert_eq!(fenced(&answers), [1, 2, 4, 5]);
        assert_eq!(answers.len(), 2);
        answers.forget_but(Incarnation(3), 9, &[4, 6]);
        let mut bytes = Vec::new();
        answers.write_proxies(&mut bytes);
        let mut read = Answers::default();
        answers.from(RequestId::default()).for_each(|(request, answer)| read.insert(request, answer.clone()));
        read.read_proxies(&bytes).unwrap();
        assert_eq!(read, answers);
        for length in 0..bytes.len() {
            drop(Answers::default().read_proxies(&bytes[..length]));
        }
    }
}

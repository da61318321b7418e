//! The requests that a partition has executed, with their answers: what makes a repeated request happen once.

use crate::store::fence::Fence;
use bytes::Bytes;
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

/// Answers by request, kept until the proxy says that it needs them no more, or is fenced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    by_request: imbl::OrdMap<RequestId, Bytes>,
    /// By proxy, what is not known any more.
    passed: imbl::OrdMap<Incarnation, Passed>,
    fence: Fence,
}

impl Answers {
    pub fn get(&self, request: RequestId) -> Option<&Bytes> {
        self.by_request.get(&request)
    }

    pub fn insert(&mut self, request: RequestId, answer: Bytes) {
        self.by_request.insert(request, answer);
    }

    pub fn len(&self) -> usize {
        self.by_request.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_request.is_empty()
    }

    /// All answers in order, from a request on.
    pub fn from(&self, request: RequestId) -> impl Iterator<Item = (&RequestId, &Bytes)> {
        self.by_request.range(request..)
    }

    /// The mark of this proxy: what it asked below is forgotten, but for requests that have waited for long.
    pub fn lowest(&self, proxy: Incarnation) -> u64 {
        self.passed.get(&proxy).map_or(0, Passed::below)
    }

    /// Whether what this request was answered, if it was executed, is forgotten.
    pub fn is_passed(&self, request: RequestId) -> bool {
        self.passed.get(&request.proxy).is_some_and(|passed| passed.has(request.sequence))
    }

    /// Forgets what this proxy asked below `lowest`, its lowest sequence still unanswered.
    pub fn forget_below(&mut self, proxy: Incarnation, lowest: u64) {
        match self.passed.get_mut(&proxy) {
            Some(passed) if passed.below >= lowest && passed.but.is_empty() => return,
            Some(passed) => drop(passed.raise(lowest)),
            None => drop(self.passed.insert(proxy, Passed { below: lowest, but: Vec::new() })),
        }
        self.forget(proxy, lowest);
    }

    /// Forgets what this proxy asked below `below`, but for these.
    pub fn forget_but(&mut self, proxy: Incarnation, below: u64, but: &[u64]) {
        let Some(passed) = self.passed.get_mut(&proxy) else { return };
        if !passed.raise_but(below, but) {
            return;
        }
        let passed = passed.clone();
        let end = RequestId { proxy, sequence: below };
        let known = self.by_request.range(RequestId { proxy, sequence: 0 }..end).map(|(request, _)| *request);
        let over: Vec<RequestId> = known.filter(|request| passed.has(request.sequence)).collect();
        over.iter().for_each(|request| drop(self.by_request.remove(request)));
    }

    /// Whether anything is kept of what this proxy asked below `below`, but for these.
    pub fn may_forget(&self, proxy: Incarnation, below: u64, but: &[u64]) -> bool {
        let (first, end) = (RequestId { proxy, sequence: 0 }, RequestId { proxy, sequence: below });
        let mut known = self.by_request.range(first..end);
        known.any(|(request, _)| but.binary_search(&request.sequence).is_err())
    }

    fn forget(&mut self, proxy: Incarnation, end: u64) {
        let first = RequestId { proxy, sequence: 0 };
        let end = RequestId { proxy, sequence: end };
        while let Some(request) = self.by_request.range(first..end).next().map(|(request, _)| *request) {
            self.by_request.remove(&request);
        }
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
        self.passed.range(..fence.below).any(|(proxy, _)| fence.covers(*proxy))
    }

    /// Forgets the proxies that are dead, and remembers that they are.
    pub fn fence(&mut self, fence: &Fence) {
        self.fence = self.fence.and(fence);
        let dead: Vec<Incarnation> =
            self.passed.range(..self.fence.below).map(|(proxy, _)| *proxy).filter(|p| self.fence.covers(*p)).collect();
        for proxy in dead {
            self.passed.remove(&proxy);
            self.forget(proxy, u64::MAX);
        }
    }

    /// Appends fence and marks, for a checkpoint.
    pub(in crate::store) fn write_proxies(&self, out: &mut Vec<u8>) {
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(self.fence.below.0);
        put(self.fence.alive.len() as u64);
        self.fence.alive.iter().for_each(|proxy| put(proxy.0));
        for (proxy, passed) in &self.passed {
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
            self.passed.insert(Incarnation(proxy), Passed { below, but });
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
        let mut read = Answers { by_request: answers.by_request.clone(), ..Answers::default() };
        read.read_proxies(&bytes).unwrap();
        assert_eq!(read, answers);
        for length in 0..bytes.len() {
            drop(Answers::default().read_proxies(&bytes[..length]));
        }
    }
}

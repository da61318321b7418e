//! The requests that a partition has executed, with their answers: what makes a repeated request happen once.

use crate::store::fence::Fence;
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, RequestId};

/// Answers by request, kept until the proxy says that it needs them no more, or is fenced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    by_request: imbl::OrdMap<RequestId, Bytes>,
    /// By proxy, the mark below which nothing is known any more.
    lowest: imbl::OrdMap<Incarnation, u64>,
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

    /// The mark of this proxy: what it asked below is forgotten.
    pub fn lowest(&self, proxy: Incarnation) -> u64 {
        self.lowest.get(&proxy).copied().unwrap_or(0)
    }

    /// Forgets what this proxy asked below `lowest`, its lowest sequence still unanswered.
    pub fn forget_below(&mut self, proxy: Incarnation, lowest: u64) {
        match self.lowest.get_mut(&proxy) {
            Some(mark) if *mark >= lowest => return,
            Some(mark) => *mark = lowest,
            None => {
                self.lowest.insert(proxy, lowest);
            }
        }
        self.forget(proxy, lowest);
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
        self.lowest.range(..fence.below).any(|(proxy, _)| fence.covers(*proxy))
    }

    /// Forgets the proxies that are dead, and remembers that they are.
    pub fn fence(&mut self, fence: &Fence) {
        self.fence = self.fence.and(fence);
        let dead: Vec<Incarnation> =
            self.lowest.range(..self.fence.below).map(|(proxy, _)| *proxy).filter(|p| self.fence.covers(*p)).collect();
        for proxy in dead {
            self.lowest.remove(&proxy);
            self.forget(proxy, u64::MAX);
        }
    }

    /// Appends fence and marks, for a checkpoint.
    pub(in crate::store) fn write_proxies(&self, out: &mut Vec<u8>) {
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(self.fence.below.0);
        put(self.fence.alive.len() as u64);
        self.fence.alive.iter().for_each(|proxy| put(proxy.0));
        for (proxy, mark) in &self.lowest {
            put(proxy.0);
            put(*mark);
        }
    }

    /// Takes fence and marks over from a checkpoint.
    pub(in crate::store) fn read_proxies(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let damaged = || SqlError::new(SqlState::DATA_CORRUPTED, "damaged checkpoint: marks of proxies");
        let below = Incarnation(numbers.next().ok_or_else(damaged)?);
        let count = numbers.next().ok_or_else(damaged)?;
        if !rest.is_empty() || count > numbers.len() as u64 || !(numbers.len() as u64 - count).is_multiple_of(2) {
            return Err(damaged());
        }
        let alive: Arc<[Incarnation]> = numbers.by_ref().take(count as usize).map(Incarnation).collect();
        self.fence = Fence { below, alive };
        while let (Some(proxy), Some(mark)) = (numbers.next(), numbers.next()) {
            self.lowest.insert(Incarnation(proxy), mark);
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

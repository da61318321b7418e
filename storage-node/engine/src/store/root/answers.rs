//! The requests that a partition has executed, with their answers: what makes a repeated request happen once.

use bytes::Bytes;
use toroid_common::id::{Incarnation, RequestId};

/// Answers by request, kept until the proxy says that it needs them no more.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    by_request: imbl::OrdMap<RequestId, Bytes>,
    /// By proxy, the mark below which nothing is known any more.
    lowest: imbl::OrdMap<Incarnation, u64>,
}

impl Answers {
    pub fn get(&self, request: RequestId) -> Option<&Bytes> {
        self.by_request.get(&request)
    }

    pub fn insert(&mut self, request: RequestId, answer: Bytes) {
        self.by_request.insert(request, answer);
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
        let first = RequestId { proxy, sequence: 0 };
        let end = RequestId { proxy, sequence: lowest };
        while let Some(request) = self.by_request.range(first..end).next().map(|(request, _)| *request) {
            self.by_request.remove(&request);
        }
    }
}

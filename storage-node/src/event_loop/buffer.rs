//! Byte buffers of a connection: what arrived and is not a whole frame yet, and what waits to be written.

use std::io::{self, Read, Write};
use toroid_common::near::End;
use toroid_common::wire::RawFrame;

/// Least room for one read: some hundred point requests.
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BYTES: usize = 1 << 20;

/// Received bytes.
#[derive(Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a read said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There may be more.
    More,
    /// The socket gave all it had; when more comes, there is an event.
    Drained,
    /// The socket has nothing.
    Blocked,
    Ended,
}

impl Incoming {
    /// Reads once, into room that grows with the frame that has begun.
    pub(super) fn fill(&mut self, from: &mut impl Read) -> io::Result<Filled> {
        self.make_room();
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let wanted = room.len();
        match from.read(room) {
            Ok(0) => Ok(Filled::Ended),
            Ok(read) => {
                self.end += read;
                // A stream socket that fills less than was asked for has nothing left: no read is spent on hearing that.
                Ok(if read < wanted { Filled::Drained } else { Filled::More })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Filled::More),
            Err(error) => Err(error),
        }
    }

    /// Takes all that a stream of memory has, into a buffer that nothing else fills.
    pub(super) fn receive(&mut self, from: &mut End) -> io::Result<Filled> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let received = from.receive(&mut self.bytes);
        self.end = self.bytes.len();
        match received {
            Ok(0) => Ok(Filled::Ended),
            Ok(_) => Ok(Filled::Drained),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Blocked),
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self) {
        let held = self.end - self.start;
        if held == 0 && self.bytes.len() > KEPT_BYTES {
            *self = Incoming::default();
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end = held;
            self.start = 0;
        }
        let begun = self.bytes.get(..held).unwrap_or_default();
        // A length is only said: what has arrived is doubled at most.
        let needed = RawFrame::needed(begun).unwrap_or(0).min(2 * held);
        let wanted = needed.max(held + 1).max(READ_BYTES);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }

    /// What has arrived and was not consumed.
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes as much as the socket takes; true when nothing is left.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<bool> {
        while !self.is_empty() {
            match to.write(self.bytes.get(self.written..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drop_written();
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.written = 0;
        Ok(true)
    }

    /// Gives a stream of memory as much as it takes; true when nothing is left.
    pub(super) fn send(&mut self, to: &mut End) -> io::Result<bool> {
        match to.send(&mut self.bytes, &mut self.written) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(self.is_empty()),
        }
    }

    fn drop_written(&mut self) {
        if self.written > KEPT_BYTES && self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::id::PlanId;
    use toroid_common::wire::{FragmentBatch, Message};

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let taken = self.1.min(self.0.len()).min(out.len());
            out[..taken].copy_from_slice(&self.0[..taken]);
            self.0 = &self.0[taken..];
            Ok(taken)
        }
    }

    #[test]
    fn room_is_made_for_what_arrives_and_not_for_what_is_announced() {
        let mut incoming = Incoming::default();
        incoming.fill(&mut Trickle(b"TRK1\x01", 5)).unwrap();
        incoming.make_room();
        assert_eq!(incoming.bytes.len(), READ_BYTES);
        let mut sent = (300_u32 << 20).to_le_bytes().to_vec();
        sent.resize(READ_BYTES, 0);
        let mut incoming = Incoming::default();
        incoming.fill(&mut Trickle(&sent, READ_BYTES)).unwrap();
        incoming.make_room();
        assert_eq!(incoming.bytes.len(), 2 * READ_BYTES);
    }

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        let big = vec![7; 300_000];
        let mut sent = Vec::new();
        for i in 0..50 {
            Message::ForgetPlan(PlanId(i)).write(&mut sent);
            if i % 20 == 0 {
                Message::FragmentBatch(FragmentBatch { sequence: u64::from(i), bytes: &big }).write(&mut sent);
            }
        }
        for step in [1_usize, 3, 17, 4096, 1 << 20] {
            let mut from = Trickle(&sent, step);
            let mut incoming = Incoming::default();
            let mut plans = 0;
            let mut batches = 0;
            while incoming.fill(&mut from).unwrap() != Filled::Ended {
                while let Some((frame, used)) = RawFrame::split(incoming.unread()).unwrap() {
                    match Message::decode(frame).unwrap() {
                        Message::ForgetPlan(plan) => {
                            assert_eq!(plan, PlanId(plans));
                            plans += 1;
                        }
                        Message::FragmentBatch(batch) => {
                            assert_eq!(batch.bytes, big);
                            batches += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                    incoming.consume(used);
                }
            }
            assert_eq!((plans, batches), (50, 3));
        }
    }
}

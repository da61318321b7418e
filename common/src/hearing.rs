//! The channels that the sessions of one sender of requests listen to: what came of each, over which line the rest is to come, and who is told. Pure, so
//! that the simulator runs this.

use crate::id::{Epoch, WorkerId};
use std::collections::BTreeMap;

/// The line over which a primary was asked: its worker, the number of the connection, and the epoch, since who was another role's meanwhile has forgotten.
pub type Line = (WorkerId, u64, Epoch);

#[derive(Debug)]
struct Channel<S> {
    /// The number of the last notification that came, or need not come.
    seen: u64,
    /// None while nobody is known to tell of it.
    line: Option<Line>,
    /// Each with the number of the notification after which it began to listen.
    sessions: Vec<(S, u64)>,
    /// Sessions that wait to begin.
    beginning: usize,
}

impl<S> Default for Channel<S> {
    fn default() -> Channel<S> {
        Channel { seen: 0, line: None, sessions: Vec::new(), beginning: 0 }
    }
}

impl<S> Channel<S> {
    fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.beginning == 0
    }
}

/// What comes of a primary's answer to LISTEN.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<S> {
    /// What was asked over a line that ended is forgotten: it is to be asked again. Where some are missed that is told only once: a primary that was asked over
    /// the next line, too, takes us for a listener already.
    Again { missed: Vec<S> },
    /// The number of the last notification that there was, and the sessions that were to hear of some that nobody knows any more.
    Listening { last: u64, missed: Vec<S> },
}

/// All channels of a sender.
#[derive(Debug)]
pub struct Channels<S> {
    channels: BTreeMap<String, Channel<S>>,
}

impl<S> Default for Channels<S> {
    fn default() -> Channels<S> {
        Channels { channels: BTreeMap::new() }
    }
}

impl<S: Clone + PartialEq> Channels<S> {
    /// A session is to listen: the primary is asked for what follows this number, or for what comes. [`Channels::begun`] follows.
    pub fn begin(&mut self, channel: &str) -> Option<u64> {
        let known = self.channels.entry(channel.to_owned()).or_default();
        known.beginning += 1;
        // Those who listen already may lack something yet.
        (!known.sessions.is_empty()).then_some(known.seen)
    }

    /// It was asked for, and this was the last notification; or nobody could be asked. False when the channel is not known.
    pub fn begun(&mut self, channel: &str, session: S, last: Option<u64>) -> bool {
        let Some(known) = self.channels.get_mut(channel) else { return false };
        known.beginning = known.beginning.saturating_sub(1);
        if let Some(last) = last {
            if known.sessions.is_empty() {
                known.seen = known.seen.max(last);
            }
            if !known.sessions.iter().any(|(listening, _)| *listening == session) {
                known.sessions.push((session, last));
            }
        }
        if known.is_idle() {
            self.channels.remove(channel);
        }
        true
    }

    /// A session listens no more. True where nobody does now: the primary is to hear of it, and [`Channels::left`] follows.
    pub fn leave(&mut self, channel: &str, session: &S) -> bool {
        let Some(known) = self.channels.get_mut(channel) else { return false };
        known.sessions.retain(|(listening, _)| listening != session);
        let idle = known.is_idle();
        if idle {
            self.channels.remove(channel);
        }
        idle
    }

    /// A primary was told that nobody listens, or could not be. Somebody may have begun meanwhile, before or after that: true where it is to be asked again.
    pub fn left(&mut self, channel: &str) -> bool {
        let known = self.channels.get_mut(channel);
        known.map(|known| known.line = None).is_some()
    }

    /// A primary answered LISTEN, which was sent over the line `before`; one would be sent over the line `now`.
    pub fn answered(&mut self, channel: &str, (before, now): (Option<Line>, Option<Line>), answer: u64) -> Answered<S> {
        let stands = before.is_some() && before == now;
        let (last, misses) = (answer / 2, answer % 2 == 1);
        let mut missed = Vec::new();
        if let Some(known) = self.channels.get_mut(channel) {
            if stands {
                known.line = before;
            }
            if misses {
                missed.extend(known.sessions.iter().map(|(session, _)| session.clone()));
                known.seen = last;
            }
        }
        if stands { Answered::Listening { last, missed } } else { Answered::Again { missed } }
    }

    /// A notification came: the sessions that it is for; none where it came before.
    pub fn hear(&mut self, channel: &str, number: u64) -> impl Iterator<Item = &S> {
        let known = self.channels.get_mut(channel).filter(|known| number > known.seen);
        known.into_iter().flat_map(move |known| {
            known.seen = number;
            known.sessions.iter().filter(move |(_, from)| *from < number).map(|(session, _)| session)
        })
    }

    /// Channels that nobody is known to tell of over the line that is there now, each with the last number that came.
    pub fn stale(&self, line_of: impl Fn(&str) -> Option<Line>) -> Vec<(String, u64)> {
        let stale = self.channels.iter().filter(|(name, known)| {
            !known.sessions.is_empty() && (known.line.is_none() || known.line != line_of(name))
        });
        stale.map(|(name, known)| (name.clone(), known.seen)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn line(number: u64) -> Option<Line> {
        Some((WorkerId { node: NodeId(1), index: 0 }, number, Epoch(1)))
    }

    fn heard(channels: &mut Channels<u8>, number: u64) -> Vec<u8> {
        channels.hear("c", number).copied().collect()
    }

    fn listen(channels: &mut Channels<u8>, session: u8, answer: u64) -> Option<u64> {
        let asked = channels.begin("c");
        let Answered::Listening { last, .. } = channels.answered("c", (line(1), line(1)), answer) else {
            panic!("it is listened to")
        };
        assert!(channels.begun("c", session, Some(last)));
        asked
    }

    #[test]
    fn sessions_hear_what_comes_after_they_began_and_nothing_twice() {
        let mut channels = Channels::default();
        assert_eq!(listen(&mut channels, 1, 6), None);
        assert_eq!((heard(&mut channels, 3), heard(&mut channels, 4)), (vec![], vec![1]));
        assert_eq!(listen(&mut channels, 2, 10), Some(4), "the first lacks something yet");
        assert_eq!((heard(&mut channels, 5), heard(&mut channels, 6)), (vec![1], vec![1, 2]));
        assert!(heard(&mut channels, 6).is_empty());
    }

    #[test]
    fn a_line_that_changed_is_stale_and_a_gap_is_told() {
        let mut channels = Channels::default();
        listen(&mut channels, 1, 6);
        assert_eq!(channels.stale(|_| line(1)), []);
        assert_eq!(channels.stale(|_| line(2)), [("c".to_owned(), 3)]);
        let nothing_missed = || Answered::Again { missed: vec![] };
        assert_eq!(channels.answered("c", (line(1), line(2)), 8), nothing_missed());
        assert_eq!(channels.answered("c", (None, None), 8), nothing_missed());
        assert_eq!(channels.answered("c", (line(1), line(2)), 17), Answered::Again { missed: vec![1] });
        assert_eq!(channels.stale(|_| line(2)), [("c".to_owned(), 8)]);
        let missed = Answered::Listening { last: 9, missed: vec![1] };
        assert_eq!(channels.answered("c", (line(2), line(2)), 19), missed);
        assert_eq!((heard(&mut channels, 9), heard(&mut channels, 10)), (vec![], vec![1]));
    }

    #[test]
    fn who_begins_while_others_leave_is_asked_for_again() {
        let mut channels = Channels::default();
        listen(&mut channels, 1, 0);
        assert!(channels.leave("c", &1) && !channels.left("c"));
        listen(&mut channels, 2, 2);
        assert!(channels.left("c"));
        assert_eq!(channels.stale(|_| line(1)), [("c".to_owned(), 1)]);
        assert_eq!(channels.begin("c"), Some(1));
        assert!(!channels.leave("c", &2), "somebody is about to begin");
        assert!(channels.begun("c", 3, None) && channels.stale(|_| None).is_empty());
        assert!(!channels.begun("c", 3, Some(1)), "nobody is left");
    }
}

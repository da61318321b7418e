//! The channels that a session listens to, and what came for it that its client has not been sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use tokio::sync::Notify;
use toroid_common::error::{SqlError, SqlState};

/// Bytes of notifications that wait for one session. A client that lets more come together is sent away.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// What one takes beside its texts, about.
const HEARD_BYTES: usize = 64;

/// A notification as clients get it.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub process: i32,
    pub channel: String,
    pub payload: String,
}

impl Heard {
    fn bytes(&self) -> usize {
        HEARD_BYTES + self.channel.len() + self.payload.len()
    }
}

/// What waits for one session; bounded.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: RefCell<VecDeque<Rc<Heard>>>,
    bytes: Cell<usize>,
    lost: Cell<bool>,
    arrived: Notify,
}

impl Inbox {
    pub fn put(&self, heard: &Rc<Heard>) {
        if self.lost.get() {
            return;
        }
        let bytes = self.bytes.get() + heard.bytes();
        if bytes > MAX_WAITING_BYTES {
            return self.lose();
        }
        self.bytes.set(bytes);
        self.waiting.borrow_mut().push_back(heard.clone());
        self.arrived.notify_one();
    }

    /// Something that was to come here will not.
    pub fn lose(&self) {
        self.lost.set(true);
        self.waiting.take();
        self.arrived.notify_one();
    }

    /// All that waits, in order; an error where some of it is lost.
    pub fn take(&self) -> Result<VecDeque<Rc<Heard>>, SqlError> {
        if self.lost.get() {
            let message = "terminating connection because notifications were lost";
            let detail = "The client did not read for too long, or the storage nodes kept too few.";
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).with_detail(detail));
        }
        self.bytes.set(0);
        Ok(self.waiting.take())
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty() && !self.lost.get()
    }

    /// Waits until there is something.
    pub async fn arrival(&self) {
        while self.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Forgets what came from a channel.
    pub fn forget(&self, channel: &str) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|heard| heard.channel != channel);
        self.bytes.set(waiting.iter().map(|heard| heard.bytes()).sum());
    }
}

/// LISTEN or UNLISTEN, in the order in which a transaction said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Listen(String),
    /// To none any more, or not to this one.
    Unlisten(Option<String>),
}

#[derive(Debug, Default)]
pub struct Hearing {
    pub inbox: Rc<Inbox>,
    /// The channels that it listens to.
    pub channels: BTreeSet<String>,
    /// What comes into force with the transaction.
    pub wishes: Vec<Wish>,
}

impl Hearing {
    /// Something more comes into force with the transaction; what is said again where it changes nothing does not count.
    pub fn wish(&mut self, wish: Wish) {
        let nothing = match &wish {
            Wish::Listen(_) => false,
            Wish::Unlisten(None) => self.wishes.last() == Some(&wish),
            Wish::Unlisten(Some(channel)) => {
                let about = |known: &&Wish| match known {
                    Wish::Listen(named) | Wish::Unlisten(Some(named)) => named == channel,
                    Wish::Unlisten(None) => true,
                };
                match self.wishes.iter().rev().find(about) {
                    Some(last) => matches!(last, Wish::Unlisten(_)),
                    None => !self.channels.contains(channel),
                }
            }
        };
        if !nothing {
            self.wishes.push(wish);
        }
    }

    /// The channels once the wishes are in force.
    pub fn wished(&self) -> BTreeSet<String> {
        let mut channels = self.channels.clone();
        for wish in &self.wishes {
            match wish {
                Wish::Listen(channel) => drop(channels.insert(channel.clone())),
                Wish::Unlisten(Some(channel)) => drop(channels.remove(channel)),
                Wish::Unlisten(None) => channels.clear(),
            }
        }
        channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_read_costs_no_more_than_a_bound() {
        let inbox = Inbox::default();
        let heard = Rc::new(Heard { process: 1, channel: "c".to_owned(), payload: "x".repeat(7_999) });
        for _ in 0..2_000 {
            inbox.put(&heard);
        }
        assert_eq!(Rc::strong_count(&heard), 1, "nothing waits any more");
        assert!(!inbox.is_empty() && inbox.take().is_err());
        let inbox = Inbox::default();
        inbox.put(&heard);
        inbox.forget("d");
        assert_eq!(inbox.take().unwrap(), [heard]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_changes_nothing_is_no_wish() {
        let mut hearing = Hearing { channels: ["a".to_owned(), "b".to_owned()].into(), ..Hearing::default() };
        for _ in 0..9 {
            for wish in [Some("a"), Some("b"), Some("c"), None] {
                hearing.wish(Wish::Unlisten(wish.map(str::to_owned)));
            }
        }
        assert_eq!(hearing.wishes.len(), 3);
        hearing.wish(Wish::Listen("c".to_owned()));
        hearing.wish(Wish::Unlisten(Some("c".to_owned())));
        assert!(hearing.wished().is_empty());
    }

    #[test]
    fn what_is_forgotten_takes_no_room() {
        let inbox = Inbox::default();
        let heard =
            |channel: &str| Rc::new(Heard { process: 1, channel: channel.to_owned(), payload: "x".repeat(7_999) });
        inbox.put(&heard("kept"));
        for _ in 0..5_000 {
            inbox.put(&heard("c"));
            inbox.forget("c");
        }
        assert_eq!(inbox.take().unwrap(), [heard("kept")]);
    }

    #[test]
    fn wishes_come_into_force_in_their_order() {
        let mut hearing = Hearing { channels: ["a".to_owned()].into(), ..Hearing::default() };
        let listen = |channel: &str| Wish::Listen(channel.to_owned());
        hearing.wishes = vec![listen("b"), Wish::Unlisten(None), listen("c"), listen("d")];
        hearing.wishes.push(Wish::Unlisten(Some("d".to_owned())));
        assert_eq!(hearing.wished(), ["c".to_owned()].into());
    }
}

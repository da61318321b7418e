//! Notifications as their clients saw them: what was said, who listened from when on, and what each heard.

use super::History;
use super::transaction::Fate;
use std::collections::BTreeSet;
use toroid_common::id::{Incarnation, PartitionId};

/// What became of a statement that said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was executed.
    Done,
    /// It was not, and never will be.
    Never,
    Unknown,
}

/// A notification; each has a payload of its own.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub channel: u8,
    pub payload: u64,
    pub bytes: usize,
    pub partition: PartitionId,
    /// Of a transaction, by this statement of it; otherwise by a statement by itself.
    pub within: Option<(usize, usize)>,
    pub began: u64,
    /// `u64::MAX` when nobody was told.
    pub ended: u64,
    pub told: Told,
}

/// A session that listens to a channel.
#[derive(Clone, Debug)]
pub struct Ear {
    pub life: Incarnation,
    pub channel: u8,
    pub partition: PartitionId,
    /// When it asked for that.
    pub asked: u64,
    /// When it was told so.
    pub began: u64,
    /// `u64::MAX` while it listens.
    pub ended: u64,
    /// It was told that it missed something, and listens no more.
    pub missed: bool,
    /// Payloads with their numbers, in the order in which they came.
    pub heard: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub struct Notices {
    pub said: Vec<Said>,
    pub ears: Vec<Ear>,
}

impl History {
    /// Something is said; returns its number.
    pub fn say(
        &mut self,
        (channel, payload, bytes): (u8, u64, usize),
        partition: PartitionId,
        transaction: Option<usize>,
    ) -> usize {
        let began = self.next();
        let within = transaction.map(|number| (number, self.last_statement(number)));
        let said = Said { channel, payload, bytes, partition, within, began, ended: u64::MAX, told: Told::Unknown };
        self.notices.said.push(said);
        self.notices.said.len() - 1
    }

    pub fn said(&mut self, number: usize, told: Told) {
        let now = self.next();
        if let Some(said) = self.notices.said.get_mut(number) {
            (said.told, said.ended) = (told, if told == Told::Unknown { u64::MAX } else { now });
        }
    }

    /// Now; for what began and may come to nothing.
    pub fn stamp(&mut self) -> u64 {
        self.next()
    }

    /// A session that asked for it then listens to a channel; returns the number of its ear.
    pub fn listen(&mut self, life: Incarnation, channel: u8, partition: PartitionId, asked: u64) -> usize {
        let began = self.next();
        let ear = Ear { life, channel, partition, asked, began, ended: u64::MAX, missed: false, heard: Vec::new() };
        self.notices.ears.push(ear);
        self.notices.ears.len() - 1
    }

    pub fn hear(&mut self, ear: usize, payload: u64, number: u64) {
        if let Some(ear) = self.notices.ears.get_mut(ear) {
            ear.heard.push((payload, number));
        }
    }

    /// A session listens no more.
    pub fn deafen(&mut self, ear: usize, missed: bool) {
        let now = self.next();
        if let Some(ear) = self.notices.ears.get_mut(ear) {
            (ear.ended, ear.missed) = (ear.ended.min(now), missed);
        }
    }

    /// A life of a proxy is over.
    pub fn deafen_all(&mut self, life: Incarnation) {
        let now = self.next();
        let mine = self.notices.ears.iter_mut().filter(|ear| ear.life == life);
        mine.for_each(|ear| ear.ended = ear.ended.min(now));
    }

    /// Transactions of which somebody heard are committed, though nobody was told.
    pub fn believe_ears(&mut self) {
        let heard: BTreeSet<u64> = self.notices.ears.iter().flat_map(|ear| &ear.heard).map(|(it, _)| *it).collect();
        for said in self.notices.said.iter().filter(|said| heard.contains(&said.payload)) {
            let it = said.within.and_then(|(number, _)| self.transactions.get_mut(number));
            if let Some(it) = it.filter(|it| it.fate == Fate::Unknown) {
                it.fate = Fate::Committed;
            }
        }
    }
}

//! A transaction that is open: its participants, how many of its requests each has answered, and its savepoints.

use super::parts::Parts;
use super::{Commitment, Sends, lost};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::id::{CutId, Incarnation, PartitionId, TransactionId};
use crate::plan::Verb;
use crate::transaction::{Level, Step};
use crate::wire::Within;
use std::collections::BTreeMap;

/// What one partition has of the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Requests that have been answered.
    pub(super) requests: u32,
    pub(super) wrote: bool,
    /// It holds locks, and wrote or not.
    pub(super) locks: bool,
    /// At this count of requests what came after that many of them was undone.
    undone: Option<(u32, u32)>,
    /// It was with its last request.
    pub(super) prepared: bool,
}

/// How a request within a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was executed.
    Done,
    /// It was executed and has changed rows, so that it did what [`Within::prepares`] asked for.
    Prepared,
    /// It was answered with an error: nothing of it happened.
    Error,
    /// It was never executed, and never will be.
    Nothing,
    /// Nobody knows, or nobody waited: what this partition has of the transaction is unknown from now on.
    Unclear,
}

/// A point in the life of a transaction to which it can go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    parts: Parts<Part>,
    changes: u32,
}

impl Mark {
    /// The lowest number that a schema change after it could have.
    pub fn changes(&self) -> u32 {
        self.changes
    }
}

/// What reads of several partitions must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The life of the proxy that coordinates it.
    pub coordinator: Incarnation,
    pub within: Within,
    /// By participant, what [`Within::earlier`] says of a request.
    pub earlier: BTreeMap<PartitionId, u32>,
    /// Who reads a table that it replaces must say so everywhere.
    pub changes_schema: bool,
}

/// An open transaction.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    process: u32,
    level: Level,
    cut: Option<CutId>,
    begun: bool,
    parts: Parts<Part>,
    home: Option<PartitionId>,
    /// Who decides, once a partition is prepared with its last request.
    anchor: Option<PartitionId>,
    savepoints: Vec<(String, Mark)>,
    /// How many schema changes it has made, taken back ones as well.
    changes: u32,
    lost: bool,
}

impl Transaction {
    /// `process` is the session's number.
    pub fn new(id: TransactionId, process: u32, level: Level) -> Transaction {
        Transaction {
            id,
            process,
            level,
            cut: None,
            begun: false,
            parts: Parts::default(),
            home: None,
            anchor: None,
            savepoints: Vec::new(),
            changes: 0,
            lost: false,
        }
    }

    pub fn id(&self) -> TransactionId {
        self.id
    }

    pub fn process(&self) -> u32 {
        self.process
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// The level, before the first request.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// Whether its first statement that reads or writes has begun: how it is isolated, and what it reads, is settled.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Its first such statement begins.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    pub fn cut(&self) -> Option<CutId> {
        self.cut
    }

    /// All that it reads from now on is of this cut.
    pub fn read_cut(&mut self, cut: CutId) {
        self.cut = Some(cut);
    }

    /// Whether it can only be rolled back.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// A participant does not know its part any more.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// Where it wrote first: what may stand anywhere is best written there, too.
    pub fn home(&self) -> Option<PartitionId> {
        self.home
    }

    /// A schema change is about to be made; its number.
    pub fn change(&mut self) -> u32 {
        self.changes += 1;
        self.changes - 1
    }

    /// Whether it may have changed the schema.
    pub fn changes_schema(&self) -> bool {
        self.changes > 0
    }

    /// Whether any partition has a part in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn within(&self, part: Part) -> Within {
        Within {
            number: self.id.number,
            earlier: part.requests,
            level: self.level,
            cut: self.cut,
            process: self.process,
            prepares: None,
        }
    }

    /// What the next request in a partition carries; nothing where it only reads what everybody may see. With it the partition becomes a participant,
    /// and [`Transaction::answered`] must follow before the next request.
    pub fn request(&mut self, partition: PartitionId, verb: &Verb) -> SqlResult<Option<Within>> {
        if self.lost {
            return Err(lost());
        }
        let known = self.parts.get(partition).copied();
        let within = self.within(known.unwrap_or_default());
        if known.is_none() {
            if self.cut.is_none() && !leaves_locks(verb, &within) {
                return Ok(None);
            }
            self.parts.entry(partition);
        }
        Ok(Some(within))
    }

    /// The same where nothing but COMMIT follows, and only this partition is asked: what the request changes is prepared with it, if there is one that wrote
    /// before and can decide.
    pub fn finally(&self, partition: PartitionId, within: Within) -> Within {
        let may_decide = |(other, part): &(PartitionId, &Part)| *other != partition && part.wrote;
        let anchor = self.parts.iter().find(may_decide).map(|(other, _)| other);
        Within { prepares: anchor.filter(|_| !self.changes_schema()), ..within }
    }

    /// The same of a request that has to wait for others: under the name of the transaction, even if it only reads.
    pub fn join(&mut self, partition: PartitionId) -> SqlResult<Within> {
        if self.lost {
            return Err(lost());
        }
        let part = *self.parts.entry(partition);
        Ok(self.within(part))
    }

    /// How a request ended for which [`Transaction::request`] gave this.
    pub fn answered(&mut self, partition: PartitionId, verb: &Verb, within: &Within, ended: Ended) {
        let part = self.parts.entry(partition);
        match ended {
            Ended::Done | Ended::Prepared => {
                part.requests += 1;
                if ended == Ended::Prepared {
                    part.prepared = within.prepares.is_some();
                    self.anchor = within.prepares;
                }
                part.wrote |= verb.writes();
                if verb.writes() {
                    self.home.get_or_insert(partition);
                }
                part.locks |= leaves_locks(verb, within);
            }
            Ended::Error => {
                part.requests += 1;
                // What an error tells of what was read is seen as well.
                part.locks |= within.locks_reads();
            }
            // It stays a participant: its worker may have the transaction open.
            Ended::Nothing => {}
            Ended::Unclear => self.lost = true,
        }
    }

    /// What fragments of a query must know of it; nothing where there is nothing of its own to see, and nothing that could have been forgotten.
    pub fn reads(&self) -> SqlResult<Option<Reads>> {
        if self.lost {
            return Err(lost());
        }
        let earlier: BTreeMap<_, _> = self.parts.iter().map(|(partition, part)| (partition, part.requests)).collect();
        Ok((!earlier.is_empty() || self.changes_schema()).then(|| Reads {
            coordinator: self.id.proxy,
            within: self.within(Part::default()),
            earlier,
            changes_schema: self.changes_schema(),
        }))
    }

    /// The present state, to come back to it with [`Transaction::undo`].
    pub fn mark(&self) -> Mark {
        Mark { parts: self.parts.clone(), changes: self.changes }
    }

    /// Undoes what was done since the mark. When a participant cannot, [`Transaction::lose`] it.
    pub fn undo(&mut self, mark: &Mark) -> SqlResult<Sends> {
        if self.lost {
            return Err(lost());
        }
        // It has said its last word there.
        if self.anchor.is_some() {
            self.lost = true;
            return Err(lost());
        }
        let keeps_reads = self.within(Part::default()).locks_reads();
        let mut sends = Sends::new();
        for (partition, part) in self.parts.iter_mut() {
            let then = mark.parts.get(partition).copied().unwrap_or_default();
            part.wrote = then.wrote;
            // What was read stays locked: it was seen.
            part.locks = then.locks || (keeps_reads && part.locks);
            let keep = then.requests;
            let undone = part.undone.is_some_and(|(at, kept)| at == part.requests && kept <= keep);
            if part.requests > keep && !undone {
                sends.push((partition, Step::RollBackTo { requests: part.requests, keep }));
                part.undone = Some((part.requests, keep));
            }
        }
        Ok(sends)
    }

    /// SAVEPOINT; one of the same name is hidden by it.
    pub fn savepoint(&mut self, name: String) {
        let mark = self.mark();
        self.savepoints.push((name, mark));
    }

    /// How many savepoints there are.
    pub fn savepoints(&self) -> usize {
        self.savepoints.len()
    }

    /// The place of the youngest savepoint of this name, from 0.
    pub fn find_savepoint(&self, name: &str) -> SqlResult<usize> {
        self.savepoints.iter().rposition(|(known, _)| known == name).ok_or_else(|| {
            SqlError::new(SqlState::INVALID_SAVEPOINT_SPECIFICATION, format!("savepoint \"{name}\" does not exist"))
        })
    }

    /// What there was at the savepoint of this place.
    pub fn at_savepoint(&self, place: usize) -> Option<&Mark> {
        self.savepoints.get(place).map(|(_, mark)| mark)
    }

    /// RELEASE: this savepoint and those after it are forgotten, what was done stays.
    pub fn release(&mut self, place: usize) {
        self.savepoints.truncate(place);
    }

    /// ROLLBACK TO: those after it are forgotten, and what was done since.
    pub fn roll_back_to(&mut self, place: usize) -> SqlResult<Sends> {
        self.savepoints.truncate(place + 1);
        let Some((_, mark)) = self.savepoints.last() else {
            return Err(SqlError::internal("a savepoint that is not there"));
        };
        let mark = mark.clone();
        self.undo(&mark)
    }

    /// The end without effect.
    pub fn roll_back(self) -> Sends {
        self.parts.iter().map(|(partition, _)| (partition, Step::RollBack)).collect()
    }

    /// The end, with all that was done. A transaction that is lost can only be rolled back.
    pub fn commit(self) -> (Commitment, Sends) {
        Commitment::begin(&self.parts, self.anchor)
    }

    /// The same of one that has changed the schema: the metadata group decides.
    pub fn commit_outside(self) -> (Commitment, Sends) {
        Commitment::begin_outside(&self.parts)
    }
}

/// Whether a request keeps rows, keys or ranges from others until the transaction ends.
fn leaves_locks(verb: &Verb, within: &Within) -> bool {
    let locks = match verb {
        Verb::Select { lock, .. } => lock.is_some(),
        Verb::Insert { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_) => true,
    };
    locks || within.locks_reads()
}

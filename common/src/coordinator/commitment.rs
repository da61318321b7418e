//! The commitment of a transaction: one phase where one partition wrote, two phases where several did.

use super::open::Part;
use super::parts::{Partitions, Parts};
use super::{Sends, lost};
use crate::error::{SqlError, SqlResult};
use crate::id::PartitionId;
use crate::transaction::Step;
use smallvec::SmallVec;

/// How a step ended, after all that could be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// Its answer's count.
    Done(u64),
    /// It was answered so.
    Error(SqlError),
    /// It may have happened or not; this is what a client would hear.
    Unknown(SqlError),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Everybody but the anchor is asked to prepare.
    Preparing {
        waiting: Partitions,
        prepared: Partitions,
    },
    /// The anchor commits; it alone where nobody is prepared.
    Deciding {
        prepared: Partitions,
    },
    /// It is committed: the others are told.
    Finishing {
        waiting: Partitions,
        all: bool,
    },
    /// It is rolled back: some have not answered yet, and are told when they have.
    Aborting {
        waiting: Partitions,
        told: Partitions,
        all: bool,
    },
    Over,
}

/// A transaction on its way to its outcome.
#[derive(Debug)]
pub struct Commitment {
    /// The partition that keeps the outcome, and its count of requests; none where nobody wrote.
    anchor: Option<(PartitionId, u32)>,
    /// The metadata group keeps the outcome.
    outside: bool,
    phase: Phase,
    /// Nothing of it is to be kept there, but they remember having been asked.
    readers: Partitions,
    /// It need not remember the outcome any more.
    forgets: Option<PartitionId>,
    outcome: Option<SqlResult<()>>,
}

impl Commitment {
    /// `anchor` is who decides where a partition is prepared already.
    pub(super) fn begin(parts: &Parts<Part>, anchor: Option<PartitionId>) -> (Commitment, Sends) {
        let with = |wanted: fn(&Part) -> bool| parts.iter().filter(move |(_, part)| wanted(part));
        let mut wrote = with(|part| part.wrote).map(|(partition, part)| (partition, part.requests));
        let anchor = wrote.find(|(partition, _)| anchor.is_none_or(|anchor| anchor == *partition));
        let holders: SmallVec<[(PartitionId, u32); 8]> =
            with(|part| part.wrote || part.locks).map(|(partition, part)| (partition, part.requests)).collect();
        // Nothing is left in the others, but they remember having been asked.
        let mut sends: Sends =
            with(|part| !part.wrote && !part.locks).map(|(partition, _)| (partition, Step::RollBack)).collect();
        let readers = Partitions::default();
        let (outside, phase) = (false, Phase::Over);
        let mut commitment = Commitment { anchor, outside, phase, readers, forgets: None, outcome: None };
        match (anchor, holders.as_slice()) {
            (_, []) => commitment.outcome = Some(Ok(())),
            (_, [(partition, requests)]) => {
                commitment.anchor = Some((*partition, *requests));
                commitment.decide(Partitions::default(), &mut sends);
            }
            (anchor, [(first, _), ..]) => {
                // Where nobody wrote, nobody will have to ask it.
                let keeper = anchor.map_or(*first, |(partition, _)| partition);
                let others = holders.iter().filter(|(partition, _)| anchor.is_none() || *partition != keeper);
                let prepare = |(partition, requests): &(PartitionId, u32)| match anchor {
                    Some(_) => (*partition, Step::Prepare { requests: *requests, anchor: keeper }),
                    None => (*partition, Step::Confirm { requests: *requests }),
                };
                let is_prepared =
                    |(partition, _): &&(PartitionId, u32)| parts.get(*partition).is_some_and(|part| part.prepared);
                let prepared: Partitions =
                    others.clone().filter(is_prepared).map(|(partition, _)| *partition).collect();
                let others = others.filter(|other| !is_prepared(other));
                sends.extend(others.clone().map(prepare));
                let waiting: Partitions = others.map(|(partition, _)| *partition).collect();
                match waiting.is_empty() {
                    true => commitment.decide(prepared, &mut sends),
                    false => commitment.phase = Phase::Preparing { waiting, prepared },
                }
            }
        }
        (commitment, sends)
    }

    /// All who hold anything are prepared, and the metadata group decides.
    pub(super) fn begin_outside(parts: &Parts<Part>) -> (Commitment, Sends) {
        let anchor = PartitionId::METADATA;
        let step = |part: &Part| match part.wrote || part.locks {
            true => Step::Prepare { requests: part.requests, anchor },
            // Nothing is left in it, but it remembers having been asked.
            false => Step::RollBack,
        };
        let sends: Sends = parts.iter().map(|(partition, part)| (partition, step(part))).collect();
        let waiting: Partitions =
            parts.iter().filter(|(_, part)| part.wrote || part.locks).map(|(partition, _)| partition).collect();
        let phase = match waiting.is_empty() {
            true => Phase::Deciding { prepared: Partitions::default() },
            false => Phase::Preparing { waiting, prepared: Partitions::default() },
        };
        let readers = Partitions::default();
        (Commitment { anchor: None, outside: true, phase, readers, forgets: None, outcome: None }, sends)
    }

    /// The anchor that is to be told now that all have confirmed, with others and without haste; once.
    pub fn forgets(&mut self) -> Option<PartitionId> {
        self.forgets.take()
    }

    /// Whether the metadata group is to decide now: who is prepared until it has.
    pub fn decides_outside(&self) -> Option<&Partitions> {
        match &self.phase {
            Phase::Deciding { prepared } if self.outside => Some(prepared),
            Phase::Deciding { .. }
            | Phase::Preparing { .. }
            | Phase::Finishing { .. }
            | Phase::Aborting { .. }
            | Phase::Over => None,
        }
    }

    /// The metadata group has decided, or nobody knows.
    pub fn decided_outside(&mut self, end: StepEnd) -> Sends {
        let mut sends = Sends::new();
        self.decided(end, &mut sends);
        sends
    }

    /// What the client hears, as soon as that is known; steps may still be under way then.
    pub fn outcome(&self) -> Option<&SqlResult<()>> {
        self.outcome.as_ref()
    }

    /// A step has ended; what is to be sent next.
    pub fn ended(&mut self, partition: PartitionId, step: &Step, end: StepEnd) -> Sends {
        let mut sends = Sends::new();
        match step {
            Step::Prepare { .. } => self.prepared(partition, end, &mut sends),
            Step::Confirm { .. } => {
                let end = if let StepEnd::Done(_) = end { StepEnd::Done(0) } else { end };
                self.prepared(partition, end, &mut sends);
            }
            Step::Commit { .. } | Step::Decide { .. } => self.decided(end, &mut sends),
            Step::Finish { .. } => self.finished(partition, &end),
            Step::RollBack => self.undone(partition, &end, &mut sends),
            Step::RollBackTo { .. } | Step::Forget => {}
        }
        sends
    }

    fn prepared(&mut self, partition: PartitionId, end: StepEnd, sends: &mut Sends) {
        match (&mut self.phase, end) {
            (Phase::Preparing { waiting, prepared }, StepEnd::Done(count)) => {
                waiting.remove(partition);
                match count {
                    0 => self.readers.insert(partition),
                    _ => prepared.insert(partition),
                };
                if waiting.is_empty() {
                    let prepared = std::mem::take(prepared);
                    self.decide(prepared, sends);
                }
            }
            (Phase::Preparing { waiting, prepared }, StepEnd::Error(error)) => {
                waiting.remove(partition);
                prepared.insert(partition);
                let (waiting, prepared) = (std::mem::take(waiting), std::mem::take(prepared));
                self.abort(error, waiting, prepared, sends);
            }
            // Whatever it does, nobody will decide: that it is prepared is found out by asking the anchor, which knows nothing.
            (Phase::Preparing { waiting, prepared }, StepEnd::Unknown(_)) => {
                waiting.remove(partition);
                prepared.insert(partition);
                let (waiting, prepared) = (std::mem::take(waiting), std::mem::take(prepared));
                self.abort(lost(), waiting, prepared, sends);
            }
            (Phase::Aborting { waiting, told, .. }, _) => {
                if waiting.remove(partition) {
                    told.insert(partition);
                    sends.push((partition, Step::RollBack));
                }
            }
            (Phase::Deciding { .. } | Phase::Finishing { .. } | Phase::Over, _) => {}
        }
    }

    /// All others are prepared.
    fn decide(&mut self, prepared: Partitions, sends: &mut Sends) {
        if self.outside {
            self.phase = Phase::Deciding { prepared };
            return;
        }
        let Some((anchor, requests)) = self.anchor else {
            // All locks were held at one moment, and there is nothing to keep.
            self.phase = Phase::Over;
            self.outcome = Some(Ok(()));
            return self.let_go(sends);
        };
        let step = match prepared.is_empty() {
            true => Step::Commit { requests },
            false => Step::Decide { requests, participants: prepared.iter().collect() },
        };
        sends.push((anchor, step));
        self.phase = Phase::Deciding { prepared };
    }

    fn decided(&mut self, end: StepEnd, sends: &mut Sends) {
        let Phase::Deciding { prepared } = &mut self.phase else { return };
        let prepared = std::mem::take(prepared);
        self.let_go(sends);
        match end {
            StepEnd::Done(_) => {
                self.outcome = Some(Ok(()));
                sends.extend(prepared.iter().map(|partition| (partition, Step::Finish { commit: true })));
                self.phase = match prepared.is_empty() {
                    true => Phase::Over,
                    false => Phase::Finishing { waiting: prepared, all: true },
                };
            }
            StepEnd::Error(error) => self.undo(error, Partitions::default(), prepared, sends),
            // The participants will ask the anchor, which knows; where the step never arrived, it must not keep its locks for ever.
            StepEnd::Unknown(error) => {
                self.outcome = Some(Err(error));
                sends.extend(self.anchor.map(|(anchor, _)| (anchor, Step::RollBack)));
                self.phase = Phase::Over;
            }
        }
    }

    fn finished(&mut self, partition: PartitionId, end: &StepEnd) {
        let Phase::Finishing { waiting, all } = &mut self.phase else { return };
        waiting.remove(partition);
        // Whom it could not be told the anchor tells, and it forgets by itself then.
        *all &= matches!(end, StepEnd::Done(_));
        if waiting.is_empty() {
            if *all {
                self.forgets = self.anchor.map(|(anchor, _)| anchor);
            }
            self.phase = Phase::Over;
        }
    }

    /// Who only read has nothing to keep any more.
    fn let_go(&mut self, sends: &mut Sends) {
        sends.extend(std::mem::take(&mut self.readers).iter().map(|reader| (reader, Step::RollBack)));
    }

    /// It comes to nothing: who may be prepared is rolled back, and the anchor.
    fn abort(&mut self, error: SqlError, waiting: Partitions, prepared: Partitions, sends: &mut Sends) {
        self.let_go(sends);
        self.undo(error, waiting, prepared, sends);
    }

    fn undo(&mut self, error: SqlError, waiting: Partitions, prepared: Partitions, sends: &mut Sends) {
        let told: Partitions = self.anchor.map(|(anchor, _)| anchor).into_iter().chain(prepared.iter()).collect();
        sends.extend(told.iter().map(|partition| (partition, Step::RollBack)));
        self.outcome = Some(Err(error));
        // Whoever committed alone has nobody who could ask.
        self.phase = match waiting.is_empty() && told.len() < 2 {
            true => Phase::Over,
            false => Phase::Aborting { waiting, told, all: true },
        };
    }

    /// Somebody has heard that it is rolled back. When all have, nobody will ask the anchor any more, which may have noted for one who did that it is aborted.
    fn undone(&mut self, partition: PartitionId, end: &StepEnd, sends: &mut Sends) {
        let Phase::Aborting { waiting, told, all } = &mut self.phase else { return };
        *all &= !told.remove(partition) || matches!(end, StepEnd::Done(_));
        if waiting.is_empty() && told.is_empty() {
            if *all && let Some((anchor, _)) = self.anchor {
                sends.push((anchor, Step::Forget));
            }
            self.phase = Phase::Over;
        }
    }
}

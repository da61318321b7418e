//! Advisory locks as their clients saw them: who asked for which, was told to have it, and gave it back.

use super::History;
use super::transaction::Fate;
use toroid_common::id::{Incarnation, PartitionId};
use toroid_common::plan::AdvisoryKey;

/// The session that holds a lock, itself or by its transaction: a life of a proxy, and the session's number there.
pub type Holder = (Incarnation, u32);

/// One lock that was asked for, once. Stamps are `u64::MAX` where something never was.
#[derive(Clone, Copy, Debug)]
pub struct Grip {
    pub holder: Holder,
    pub key: AdvisoryKey,
    pub shared: bool,
    pub partition: PartitionId,
    /// Of a transaction, in this statement of it; otherwise the session's.
    pub within: Option<(usize, usize)>,
    pub began: u64,
    /// Its client was told that it has it.
    pub took: u64,
    /// Its client has it no longer, or cannot be sure any more.
    pub given: u64,
    /// It is certain that it is free again.
    pub gone: u64,
    /// Asked for without waiting, and refused.
    pub refused: bool,
}

impl Grip {
    /// Whether it is this session's lock, and no transaction's.
    fn is_of(&self, holder: Holder, lock: (AdvisoryKey, bool)) -> bool {
        self.within.is_none() && (self.holder, (self.key, self.shared)) == (holder, lock)
    }

    fn is_sure(&self) -> bool {
        self.took < u64::MAX && self.given == u64::MAX
    }
}

/// All that were asked for, and what nobody may have been told.
#[derive(Debug, Default)]
pub struct Grips {
    pub all: Vec<Grip>,
    /// What a session was told of an unlock that cannot be.
    pub strange: Option<String>,
}

impl History {
    /// A session asks for a lock; returns its number.
    pub fn reach(
        &mut self,
        holder: Holder,
        (key, shared): (AdvisoryKey, bool),
        partition: PartitionId,
        transaction: Option<usize>,
    ) -> usize {
        let began = self.next();
        let within = transaction.map(|number| {
            (number, self.transactions.get(number).map_or(0, |it| it.statements.len().saturating_sub(1)))
        });
        let (took, given, gone) = (u64::MAX, u64::MAX, u64::MAX);
        self.grips.all.push(Grip { holder, key, shared, partition, within, began, took, given, gone, refused: false });
        self.grips.all.len() - 1
    }

    /// It was told that it has it, or has not.
    pub fn reached(&mut self, grip: usize, took: bool, refused: bool) {
        let now = self.next();
        if let Some(grip) = self.grips.all.get_mut(grip) {
            match took {
                true => grip.took = now,
                false => (grip.given, grip.gone) = (grip.began, now),
            }
            grip.refused = refused;
        }
    }

    /// A session gives a lock back, once: the last one that it certainly has, if any.
    pub fn give(&mut self, holder: Holder, lock: (AdvisoryKey, bool)) -> Option<usize> {
        let now = self.next();
        let sure = |grip: &Grip| grip.is_of(holder, lock) && grip.is_sure();
        let number = self.grips.all.iter().rposition(sure)?;
        self.grips.all[number].given = now;
        Some(number)
    }

    /// It was told whether it had it; `sure` is what [`History::give`] found.
    pub fn gave(&mut self, holder: Holder, lock: (AdvisoryKey, bool), sure: Option<usize>, had: bool) {
        let now = self.next();
        let History { grips: Grips { all, strange }, emptied, .. } = self;
        let maybe = |grip: &Grip| grip.is_of(holder, lock) && grip.gone == u64::MAX;
        let sure = sure.or_else(|| all.iter().rposition(maybe).filter(|_| had));
        match (had, sure.and_then(|sure| all.get_mut(sure))) {
            (true, Some(grip)) => (grip.given, grip.gone) = (grip.given.min(now), now),
            (true, None) => {
                strange.get_or_insert(format!("{holder:?} gave {lock:?} back, which it cannot have held"));
            }
            (false, Some(grip)) => {
                if !emptied.iter().any(|emptied| emptied.partition == grip.partition) {
                    strange.get_or_insert(format!("{holder:?} was told that it does not hold what it holds: {grip:?}"));
                }
            }
            (false, None) => {
                let left = all.iter_mut().filter(|grip| maybe(grip));
                left.for_each(|grip| (grip.given, grip.gone) = (grip.given.min(now), now));
            }
        }
    }

    /// A session gives back all that it holds; returns since when.
    pub fn give_all(&mut self, holder: Holder) -> u64 {
        let now = self.next();
        let mine = self.grips.all.iter_mut().filter(|grip| grip.holder == holder && grip.within.is_none());
        mine.for_each(|grip| grip.given = grip.given.min(now));
        now
    }

    /// What it held in a partition then is free.
    pub fn gave_all(&mut self, holder: Holder, partition: PartitionId, before: u64) {
        let now = self.next();
        let mine = |grip: &&mut Grip| grip.holder == holder && grip.within.is_none() && grip.partition == partition;
        let all = self.grips.all.iter_mut().filter(mine);
        all.filter(|grip| grip.given <= before && grip.gone == u64::MAX).for_each(|grip| grip.gone = now);
    }

    /// A life of a proxy is over, or taken for over: its sessions hold nothing that they could rely on.
    pub fn bereave(&mut self, life: Incarnation) {
        let now = self.next();
        let mine = self.grips.all.iter_mut().filter(|grip| grip.holder.0 == life);
        mine.for_each(|grip| grip.given = grip.given.min(now));
    }

    /// Nothing of a transaction is under way any more: what it locked is free.
    pub fn let_go(&mut self, transaction: usize) {
        let now = self.next();
        let mine = |grip: &&mut Grip| grip.within.is_some_and(|(number, _)| number == transaction);
        self.grips.all.iter_mut().filter(mine).for_each(|grip| grip.gone = grip.gone.min(now));
    }

    /// From when to when a lock was certainly held, as its client was told.
    #[must_use]
    pub fn held(&self, grip: &Grip) -> Option<(u64, u64)> {
        let until = match grip.within {
            None => grip.given,
            Some((number, statement)) => {
                let it = self.transactions.get(number)?;
                let kept = it.fate == Fate::Committed && it.statements.get(statement)?.undone.is_none();
                kept.then_some(it.asked.min(grip.given))?
            }
        };
        (grip.took < until).then_some((grip.took, until))
    }
}

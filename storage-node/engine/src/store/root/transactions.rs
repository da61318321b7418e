//! The transactions that a partition remembers: prepared ones, chunks of large ones, outcomes that participants have not all confirmed.

use super::Answers;
use crate::store::account::{Account, Reserve};
use crate::store::change::{ChangeList, Participants};
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::id::{PartitionId, TableId, TransactionId};
use toroid_common::transaction::Fate;

/// A write set whose outcome is not known here.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Knows the outcome.
    pub anchor: PartitionId,
    changes: ChangeList,
    /// Whose rows it changes.
    tables: SmallVec<[TableId; 2]>,
    reserve: Arc<Reserve>,
}

impl Prepared {
    pub fn changes(&self) -> &ChangeList {
        &self.changes
    }

    /// The tables whose rows it changes.
    pub fn tables(&self) -> &[TableId] {
        &self.tables
    }

    /// Bytes that are kept free for applying it.
    pub fn reserve(&self) -> u64 {
        self.reserve.bytes() as u64
    }

    fn memory(&self) -> usize {
        self.changes.memory() + self.reserve.bytes()
    }
}

impl PartialEq for Prepared {
    fn eq(&self, other: &Prepared) -> bool {
        (self.anchor, self.reserve(), &self.changes) == (other.anchor, other.reserve(), &other.changes)
    }
}

/// An outcome that this partition knows as anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub fate: Fate,
    /// Participants that have not confirmed it.
    pub waiting: Participants,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transactions {
    prepared: imbl::OrdMap<TransactionId, Arc<Prepared>>,
    chunks: imbl::OrdMap<TransactionId, ChangeList>,
    outcomes: imbl::OrdMap<TransactionId, Known>,
}

impl Transactions {
    pub fn prepared(&self, transaction: TransactionId) -> Option<&Prepared> {
        self.prepared.get(&transaction).map(|prepared| &**prepared)
    }

    /// All prepared ones from this on, in order.
    pub fn prepared_from(&self, transaction: TransactionId) -> impl Iterator<Item = (TransactionId, &Prepared)> {
        self.prepared.range(transaction..).map(|(transaction, prepared)| (*transaction, &**prepared))
    }

    pub fn all_prepared(&self) -> impl Iterator<Item = (TransactionId, &Prepared)> {
        self.prepared_from(TransactionId::default())
    }

    /// Whether any is prepared: a plain read need look no further if not.
    pub fn has_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// The replicated part of a large write set that is not prepared.
    pub fn chunks(&self, transaction: TransactionId) -> Option<&ChangeList> {
        self.chunks.get(&transaction)
    }

    pub fn chunks_from(&self, transaction: TransactionId) -> impl Iterator<Item = (TransactionId, &ChangeList)> {
        self.chunks.range(transaction..).map(|(transaction, changes)| (*transaction, changes))
    }

    /// Whether any has chunks and is not prepared.
    pub fn has_chunked(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// All that have chunks and are not prepared. They are lost with their primary: the next one aborts them.
    pub fn all_chunked(&self) -> impl Iterator<Item = (TransactionId, &ChangeList)> {
        self.chunks_from(TransactionId::default())
    }

    pub fn outcome(&self, transaction: TransactionId) -> Option<&Known> {
        self.outcomes.get(&transaction)
    }

    /// Whether it is known here as committed.
    pub fn is_committed(&self, transaction: TransactionId) -> bool {
        self.outcome(transaction).is_some_and(|known| known.fate == Fate::Committed)
    }

    pub fn outcomes_from(&self, transaction: TransactionId) -> impl Iterator<Item = (TransactionId, &Known)> {
        self.outcomes.range(transaction..).map(|(transaction, known)| (*transaction, known))
    }

    pub fn all_outcomes(&self) -> impl Iterator<Item = (TransactionId, &Known)> {
        self.outcomes_from(TransactionId::default())
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.prepared.is_empty() && self.chunks.is_empty() && self.outcomes.is_empty()
    }

    /// Whether a prepared transaction changes rows of the table.
    pub fn prepared_on(&self, table: TableId) -> bool {
        self.prepared.values().any(|prepared| prepared.tables.contains(&table))
    }

    /// Memory of prepared write sets and chunks, with what is kept free for applying them.
    pub(in crate::store) fn memory(&self) -> usize {
        let prepared: usize = self.prepared.values().map(|prepared| prepared.memory()).sum();
        prepared + self.chunks.values().map(ChangeList::memory).sum::<usize>()
    }

    pub(in crate::store) fn chunk(
        &mut self,
        transaction: TransactionId,
        keep: u64,
        changes: Vec<u8>,
        account: &mut Account,
    ) {
        let mut list = self.take_chunks(transaction, keep, account);
        account.take(list.push(changes));
        self.chunks.insert(transaction, list);
    }

    pub(in crate::store) fn prepare(
        &mut self,
        (transaction, anchor): (TransactionId, PartitionId),
        reserve: u64,
        (keep, changes): (u64, &[u8]),
        account: &mut Account,
    ) {
        assert!(!self.prepared.contains_key(&transaction), "transaction {transaction} was prepared twice");
        let mut list = self.take_chunks(transaction, keep, account);
        account.take(list.push(changes.to_vec()));
        let Ok((tables, _)) = list.summary() else { panic!("an entry was applied whose write set cannot be read") };
        let reserve = account.reserve(reserve as usize);
        self.prepared.insert(transaction, Arc::new(Prepared { anchor, changes: list, tables, reserve }));
    }

    /// Puts a write set back that was prepared.
    pub(in crate::store) fn restore_prepared(
        &mut self,
        (transaction, anchor): (TransactionId, PartitionId),
        reserve: Arc<Reserve>,
        changes: ChangeList,
    ) {
        let (tables, _) = changes.summary().unwrap_or_default();
        self.prepared.insert(transaction, Arc::new(Prepared { anchor, changes, tables, reserve }));
    }

    pub(in crate::store) fn restore_chunks(&mut self, transaction: TransactionId, changes: ChangeList) {
        self.chunks.insert(transaction, changes);
    }

    /// Puts an outcome back; false when it is there already.
    #[must_use]
    pub(in crate::store) fn restore_outcome(&mut self, transaction: TransactionId, known: Known) -> bool {
        self.outcomes.insert(transaction, known).is_none()
    }

    fn take_chunks(&mut self, transaction: TransactionId, keep: u64, account: &mut Account) -> ChangeList {
        let mut list = self.chunks.remove(&transaction).unwrap_or_default();
        list.cut(keep).into_iter().for_each(|piece| account.finish_bytes(piece));
        assert_eq!(list.bytes(), keep, "an entry was applied whose write set lacks chunks");
        list
    }

    /// Takes a write set out, prepared or in chunks. What was kept free for it is given back; its own memory must be.
    pub(in crate::store) fn take(&mut self, transaction: TransactionId, account: &mut Account) -> Option<ChangeList> {
        match self.prepared.remove(&transaction) {
            Some(prepared) => {
                let Prepared { changes, reserve, .. } = Arc::unwrap_or_clone(prepared);
                account.give_back(reserve);
                Some(changes)
            }
            None => self.chunks.remove(&transaction),
        }
    }

    pub(in crate::store) fn note_outcome(
        &mut self,
        transaction: TransactionId,
        fate: Fate,
        participants: &[PartitionId],
        answers: &Answers,
    ) {
        let known = self.outcomes.entry(transaction).or_insert_with(|| Known { fate, waiting: Participants::new() });
        assert_eq!(known.fate, fate, "the outcome of transaction {transaction} is another one already");
        for participant in participants {
            if !known.waiting.contains(participant) {
                known.waiting.push(*participant);
            }
        }
        self.forget_if_done(transaction, answers);
    }

    pub(in crate::store) fn confirmed(
        &mut self,
        transaction: TransactionId,
        participant: PartitionId,
        answers: &Answers,
    ) {
        if let Some(known) = self.outcomes.get_mut(&transaction) {
            known.waiting.retain(|waiting| *waiting != participant);
            self.forget_if_done(transaction, answers);
        }
    }

    pub(in crate::store) fn forget(&mut self, transaction: TransactionId) {
        self.outcomes.remove(&transaction);
    }

    /// An aborted one is remembered until its coordinator or the fence of its proxy says that nobody will ask or decide, even if nobody waits.
    fn forget_if_done(&mut self, transaction: TransactionId, answers: &Answers) {
        let done = self.outcomes.get(&transaction).is_some_and(|known| {
            known.waiting.is_empty() && (known.fate == Fate::Committed || answers.is_fenced(transaction.proxy))
        });
        if done {
            self.outcomes.remove(&transaction);
        }
    }

    /// Forgets outcomes of dead proxies for which nobody waits.
    pub(in crate::store) fn fenced(&mut self, answers: &Answers) {
        let done: Vec<TransactionId> = self
            .outcomes
            .iter()
            .filter(|(transaction, known)| known.waiting.is_empty() && answers.is_fenced(transaction.proxy))
            .map(|(transaction, _)| *transaction)
            .collect();
        done.iter().for_each(|transaction| drop(self.outcomes.remove(transaction)));
    }

    /// Gives the memory back, as far as no other root shares it.
    pub(in crate::store) fn finish(self, account: &mut Account) {
        if self.prepared.is_empty() && self.chunks.is_empty() {
            return;
        }
        let prepared: Vec<Arc<Prepared>> = self.prepared.values().cloned().collect();
        let chunks: Vec<ChangeList> = self.chunks.values().cloned().collect();
        // Its shares go first: whose clone is then the last one is no longer needed by anybody.
        drop((self.prepared, self.chunks));
        for prepared in prepared {
            let Prepared { changes, reserve, .. } = Arc::unwrap_or_clone(prepared);
            account.give_back(reserve);
            account.finish_list(changes);
        }
        chunks.into_iter().for_each(|changes| account.finish_list(changes));
    }
}

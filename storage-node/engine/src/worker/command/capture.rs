//! Capture: the roots of all partitions whose primary is here, in one instant; what is executed from then on waits behind them in the gates.

use super::super::Worker;
use super::super::cuts::{Capture, GATE_LIMIT_MICROS, Open, finish};
use super::super::event::{Action, Actions};
use super::super::replica::Replica;
use crate::gate::Time;
use crate::store::root::Transactions;
use toroid_common::id::{CutId, Epoch, MapVersion, PartitionId};
use toroid_common::transaction::Fate;
use toroid_common::wire::Captured;

impl Worker {
    pub(in super::super) fn capture(&mut self, cut: CutId, map: MapVersion, now: Time, actions: &mut Actions) {
        if !self.cuts.hear(cut, now) {
            return self.refuse_cut(cut, actions);
        }
        self.void(now, actions);
        let Some(captures) = self.captures(map) else { return self.refuse_cut(cut, actions) };
        // Nobody waits for a worker that is nobody's primary.
        if captures.is_empty() {
            return;
        }
        for replica in self.replicas.iter_mut().flatten() {
            if let Replica::Primary(primary) = replica {
                primary.gate.bar(primary.root.lsn());
            }
        }
        self.counters.captures += 1;
        self.cuts.open = Some(Open { cut, since: now, captures, told: false, readers: Vec::new() });
        self.report_captured(now, actions);
    }

    /// The present roots of all partitions whose primary this worker is in that map; `None` when it has another map, or not what the map says.
    fn captures(&self, version: MapVersion) -> Option<Vec<Capture>> {
        let map = self.map.as_ref().filter(|map| map.version == version)?;
        let capture = |(partition, epoch): (PartitionId, Epoch)| match self.replicas.get(usize::from(partition.0)) {
            Some(Some(Replica::Primary(primary))) => {
                Some(Capture::new((partition, epoch), primary.since, primary.root.clone()))
            }
            Some(_) | None => None,
        };
        map.primaries_of(self.identity.worker).map(capture).collect()
    }

    /// Tells the metadata service of the open cut once all that it has seen is acknowledged, under lease. This never waits for captures or locks.
    pub(super) fn report_captured(&mut self, now: Time, actions: &mut Actions) {
        let Some(open) = self.cuts.open.as_mut().filter(|open| !open.told) else { return };
        if !self.lease.holds(now) {
            return;
        }
        for capture in &open.captures {
            match self.replicas.get(usize::from(capture.partition.0)) {
                Some(Some(Replica::Primary(primary))) if primary.since == capture.since => {
                    if primary.acknowledged() < capture.root.lsn() {
                        return;
                    }
                }
                Some(_) | None => return self.void(now, actions),
            }
        }
        open.told = true;
        let partitions = open.captures.iter().map(|capture| (capture.partition, capture.epoch)).collect();
        let transactions = open.captures.iter().map(|capture| capture.root.transactions());
        // Most partitions have none at the moment, and gates are barred.
        let transactions: Vec<&Transactions> = transactions.filter(|transactions| !transactions.is_empty()).collect();
        let prepared = transactions.iter().flat_map(|transactions| transactions.all_prepared());
        let outcomes = transactions.iter().flat_map(|transactions| transactions.all_outcomes());
        let committed = outcomes.filter(|(_, known)| known.fate == Fate::Committed);
        let captured = Captured {
            worker: self.identity.worker,
            cut: open.cut,
            partitions: Some(partitions),
            pending: prepared.map(|(transaction, prepared)| (transaction, prepared.anchor)).collect(),
            committed: committed.map(|(transaction, _)| transaction).collect(),
        };
        actions.push(Action::Captured(Box::new(captured)));
    }

    /// Tells the metadata service that there is nothing here for this cut, or no more.
    fn refuse_cut(&self, cut: CutId, actions: &mut Actions) {
        let worker = self.identity.worker;
        let captured = Captured { worker, cut, partitions: None, pending: Vec::new(), committed: Vec::new() };
        actions.push(Action::Captured(Box::new(captured)));
    }

    /// Ends a round here that the metadata leader did not end: its cut is none.
    pub(in super::super) fn void(&mut self, now: Time, actions: &mut Actions) {
        let Some(open) = self.cuts.open.take() else { return };
        self.counters.voids += 1;
        self.refuse_cut(open.cut, actions);
        self.open_gates(open.since, now, actions);
        finish(open.captures, &mut self.account);
        // They find out that there is no such cut.
        self.read_again(open.readers, now, actions);
    }

    /// When a round is void here.
    pub(in super::super) fn voids_at(&self) -> Option<Time> {
        self.cuts.open.as_ref().map(|open| open.since.after(GATE_LIMIT_MICROS))
    }

    /// Lifts the bars.
    pub(super) fn open_gates(&mut self, since: Time, now: Time, actions: &mut Actions) {
        self.counters.barred_micros += now.0.saturating_sub(since.0);
        for index in 0..self.replicas.len() {
            if let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(index) {
                primary.gate.lift();
                if !primary.gate.is_empty() {
                    self.drain_gate(PartitionId(index as u16), now, actions);
                }
            }
        }
        self.flush_fragments(now, actions);
        self.report_catalog(now, actions);
    }
}

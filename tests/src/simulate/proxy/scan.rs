//! A scan of all partitions: a fragment to each worker that is primary of some, all of them again while the client has seen nothing. They read a cut, or
//! what is there: each worker's at an instant of its own.

use super::super::clock::{Instant, MILLISECOND, SECOND};
use super::super::context::Context;
use super::super::history::{self, History, Rows, Told};
use super::super::network::{Side, WireId};
use super::super::observe;
use super::super::sabotage::Sabotage;
use super::super::workload::table;
use super::cut::Ticket;
use super::link::{Lead, Use};
use super::statement::Owner;
use super::{Proxy, VIEW_PATIENCE};
use std::collections::BTreeMap;
use toroid_common::coordinator::Reads;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, CutId, Epoch, MapVersion, PartitionId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::routing::{self, Next, Trouble};
use toroid_common::wire::{Fragment, FragmentBatch, FragmentEnd, FragmentOutcome, Message, Refusal};

/// Batches that may be under way for one fragment: few, so that it must be given more.
const CREDIT: u32 = 2;
/// Clients do not wait for rows for ever.
const LONGEST: Instant = 30 * SECOND;

#[derive(Debug)]
pub(super) struct Scan {
    pub(super) owner: Owner,
    snapshot: Snapshot,
    /// Who had which partition when its cut came, where it goes on with that cut whatever moves.
    captured: Option<BTreeMap<PartitionId, WorkerId>>,
    /// What it sees of its own transaction.
    reads: Option<Reads>,
    attempts: u32,
    began: Instant,
    in_trouble_since: Option<Instant>,
    state: State,
    /// By sequence.
    pieces: BTreeMap<u64, Piece>,
    trouble: Option<Trouble>,
    /// All have answered something: the first rows are on their way to the client.
    accepted: bool,
    rows: Rows,
}

/// The state that its fragments read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Snapshot {
    Present,
    /// A cut of its own, when it has come.
    Own(Option<CutId>),
    /// A cut of which the client has seen other rows.
    Shared(CutId),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    AwaitCut(Ticket),
    Running { by: MapVersion },
    Pause { until: Instant, newer_than: MapVersion },
    AwaitMap { version: MapVersion, until: Instant },
    AwaitCatalog { version: CatalogVersion, until: Instant },
    Done(history::End),
}

#[derive(Debug)]
struct Piece {
    wire: WireId,
    heard: bool,
    ended: bool,
}

impl Scan {
    pub(super) fn new(owner: Owner, snapshot: Snapshot, reads: Option<Reads>, now: Instant) -> Scan {
        Scan {
            owner,
            snapshot,
            captured: None,
            reads,
            attempts: 0,
            began: now,
            in_trouble_since: None,
            state: State::Ready,
            pieces: BTreeMap::new(),
            trouble: None,
            accepted: false,
            rows: Rows::new(),
        }
    }

    pub(super) fn waits_for(&self) -> String {
        format!("scan of {:?} ({:?}, {} attempts)", self.owner, self.state, self.attempts)
    }

    fn cut(&self) -> Option<CutId> {
        match self.snapshot {
            Snapshot::Present => None,
            Snapshot::Own(cut) => cut,
            Snapshot::Shared(cut) => Some(cut),
        }
    }

    pub(super) fn awaits(&self, sequence: u64) -> bool {
        self.pieces.contains_key(&sequence)
    }

    /// A refusal of one worker is more telling than the connections that are lost because of it.
    fn note(&mut self, trouble: Trouble) {
        if !matches!(self.trouble, Some(Trouble::Refused(_))) {
            self.trouble = Some(trouble);
        }
    }

    pub(super) fn lost(&mut self, wire: WireId) {
        if self.pieces.values().any(|piece| piece.wire == wire && !piece.ended) {
            self.note(Trouble::Lost);
        }
    }

    pub(super) fn batch(&mut self, wire: WireId, batch: &FragmentBatch<'_>, context: &mut Context) {
        let Some(piece) = self.pieces.get_mut(&batch.sequence) else { return };
        piece.heard = true;
        let credit = Message::FragmentCredit { sequence: batch.sequence, batches: 1 };
        context.send_message(wire, Side::Opener, &credit);
        let Some(rows) = table::read_batch(batch.bytes) else {
            return context.violated(|| format!("scan of {:?} got a batch that is none of its plan", self.owner));
        };
        for (partition, key, n) in rows {
            let doubled = self.rows.entry(partition).or_default().insert(key, n).is_some();
            if doubled {
                context.violated(|| format!("scan of {:?} got the row of key {key} twice", self.owner));
            }
        }
    }

    pub(super) fn piece_ended(&mut self, end: FragmentEnd) {
        if let Some(piece) = self.pieces.get_mut(&end.sequence) {
            (piece.heard, piece.ended) = (true, true);
        }
        match end.outcome {
            FragmentOutcome::Done { .. } => {}
            FragmentOutcome::Error(error)
                if error.state() == SqlState::SERIALIZATION_FAILURE && self.reads.is_none() =>
            {
                // The partition moved while it was read.
                self.note(Trouble::Moved);
            }
            FragmentOutcome::Error(_) => self.state = State::Done(history::End::Refused),
            FragmentOutcome::Refused(refusal) => self.note(Trouble::Refused(refusal)),
        }
    }
}

impl Proxy {
    /// Lets every scan do what it can; those that have ended are told.
    pub(super) fn scans_go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        let mut scans = std::mem::take(&mut self.scans);
        for scan in &mut scans {
            self.scan_goes_on(scan, context);
        }
        scans.retain_mut(|scan| {
            let State::Done(end) = scan.state else { return true };
            self.cancel(scan, context);
            self.let_go(scan, context);
            context.note(|| format!("scan of {:?} ends: {end:?} {:?}", scan.owner, scan.rows));
            let rows = (end == history::End::Answered).then(|| std::mem::take(&mut scan.rows));
            match scan.owner {
                Owner::Session { session, record } => {
                    rows.into_iter().for_each(|rows| history.told(record, 0, Told::Rows(rows)));
                    history.end(record, end);
                    idle.push(session);
                }
                Owner::Block(number) => self.scanned.push((number, rows)),
                Owner::Deed(_) | Owner::Ear(_) | Owner::Deaf(_) | Owner::Left { .. } | Owner::Nobody => {}
            }
            false
        });
        self.scans = scans;
    }

    /// Gives its own cut back.
    fn let_go(&mut self, scan: &mut Scan, context: &mut Context) {
        if let State::AwaitCut(ticket) = scan.state {
            self.forget_cut(ticket, context);
        }
        if let Snapshot::Own(cut) = &mut scan.snapshot
            && let Some(cut) = cut.take()
        {
            self.close_cut(cut, context);
        }
    }

    fn scan_goes_on(&mut self, scan: &mut Scan, context: &mut Context) {
        let now = context.now();
        let version = self.map.as_ref().map_or(MapVersion(0), |map| map.version);
        let catalog = self.catalog.as_ref().map_or(CatalogVersion(0), |catalog| catalog.version);
        if now >= scan.began + LONGEST && !matches!(scan.state, State::Done(_)) {
            self.let_go(scan, context);
            scan.state = State::Done(history::End::Refused);
        }
        match scan.state {
            State::Ready => self.start_scan(scan, context),
            State::AwaitCut(ticket) => {
                let Some(cut) = self.cuts.take(ticket) else { return };
                scan.snapshot = Snapshot::Own(Some(cut));
                if context.sabotages(Sabotage::MovedInCut) {
                    scan.captured = self.map.as_ref().and_then(|map| captured(map));
                }
                scan.state = State::Ready;
            }
            State::Running { by } => self.scan_runs(scan, by, context),
            State::Pause { until, newer_than } if now >= until || version > newer_than => scan.state = State::Ready,
            State::AwaitMap { version: wanted, .. } if version >= wanted => scan.state = State::Ready,
            State::AwaitCatalog { version: wanted, .. } if catalog >= wanted => scan.state = State::Ready,
            State::AwaitMap { until, .. } | State::AwaitCatalog { until, .. } if now >= until => {
                scan.state = State::Done(history::End::Refused);
            }
            State::Pause { until, .. } | State::AwaitMap { until, .. } | State::AwaitCatalog { until, .. } => {
                return self.wake_at(until, context);
            }
            State::Done(_) => {}
        }
        if matches!(scan.state, State::Ready) {
            self.start_scan(scan, context);
        }
    }

    fn scan_runs(&mut self, scan: &mut Scan, by: MapVersion, context: &mut Context) {
        let Some(trouble) = scan.trouble.take() else {
            scan.accepted |= scan.pieces.values().all(|piece| piece.heard);
            if scan.pieces.values().all(|piece| piece.ended) {
                scan.state = State::Done(history::End::Answered);
            }
            return;
        };
        context.note(|| format!("scan of {:?} is in trouble: {trouble:?}", scan.owner));
        self.cancel(scan, context);
        // The next attempt reads another cut.
        if scan.captured.is_none() {
            self.let_go(scan, context);
        }
        if scan.accepted {
            // Rows have reached the client: it is told that the query failed.
            scan.state = State::Done(history::End::Refused);
            return;
        }
        let of_cut =
            matches!(trouble, Trouble::Refused(Refusal::NoCut | Refusal::BehindCatalog { .. }) | Trouble::Lost);
        let trouble = match (trouble, scan.snapshot) {
            (_, Snapshot::Shared(_)) if of_cut => {
                scan.state = State::Done(history::End::Refused);
                return;
            }
            // As if a map had made the old one useless.
            (Trouble::Refused(Refusal::NoCut), Snapshot::Own(_)) => Trouble::Refused(Refusal::Busy),
            // A transaction is undecided where it reads: a cut tells whether it is committed.
            (Trouble::Refused(Refusal::NoCut), Snapshot::Present | Snapshot::Shared(_)) => {
                scan.snapshot = Snapshot::Own(None);
                Trouble::Moved
            }
            (trouble, _) => trouble,
        };
        let now = context.now();
        let waited = (now - *scan.in_trouble_since.get_or_insert(now)) / MILLISECOND;
        let next = routing::after(trouble, scan.attempts, waited as u32, by);
        scan.attempts += 1;
        scan.state = match next {
            Some(Next::Replan(version)) => State::AwaitCatalog { version, until: now + VIEW_PATIENCE },
            Some(Next::AwaitMap(version)) => State::AwaitMap { version, until: now + VIEW_PATIENCE },
            Some(Next::Resend { after_ms }) => {
                State::Pause { until: now + u64::from(after_ms) * MILLISECOND, newer_than: by }
            }
            Some(Next::RegisterPlan) | None => State::Done(history::End::Refused),
        };
    }

    /// Nobody wants more of its fragments.
    fn cancel(&mut self, scan: &mut Scan, context: &mut Context) {
        for (sequence, piece) in std::mem::take(&mut scan.pieces) {
            let link = self.links.values_mut().find(|link| link.wire == piece.wire);
            if let (Some(link), false) = (link, piece.ended) {
                let mut bytes = Vec::new();
                Message::FragmentCancel { sequence }.write(&mut bytes);
                // Behind the fragment itself, which may still wait for the welcome.
                link.send(bytes, context);
            }
        }
    }

    fn start_scan(&mut self, scan: &mut Scan, context: &mut Context) {
        let (Some(map), Some(table)) = (self.map.clone(), self.table().cloned()) else { return };
        let Some(owners) = owners(&map) else {
            // A partition is lost, and says so.
            scan.state = State::Done(history::End::Refused);
            return;
        };
        if let Snapshot::Own(None) = scan.snapshot
            && !context.sabotages(Sabotage::Cuts)
        {
            scan.state = State::AwaitCut(self.open_cut(context));
            return;
        }
        scan.rows = owners.values().flatten().map(|(partition, _)| (*partition, BTreeMap::new())).collect();
        scan.state = State::Running { by: map.version };
        let plan = table::fragment(&table);
        let moved = |worker: WorkerId, partition: PartitionId| {
            scan.captured.as_ref().is_some_and(|captured| captured.get(&partition) != Some(&worker))
        };
        let mut asked = Vec::new();
        for (worker, partitions) in owners {
            let (apart, whole): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|(of, _)| moved(worker, *of));
            asked.extend([(worker, whole, scan.cut()), (worker, apart, None)]);
        }
        for (worker, partitions, cut) in asked.into_iter().filter(|(_, partitions, _)| !partitions.is_empty()) {
            let (Some(address), Some(node)) = (map.address(worker), map.node(worker.node)) else { continue };
            self.fragments += 1;
            let sequence = self.fragments;
            let tables = vec![(table.id, table.version)];
            let earlier = |(partition, _): &(PartitionId, Epoch)| {
                scan.reads.as_ref().and_then(|reads| reads.earlier.get(partition)).copied().unwrap_or_default()
            };
            let fragment = Fragment {
                sequence,
                credit: CREDIT,
                cut,
                within: scan.reads.as_ref().map(|reads| reads.within),
                coordinator: scan.reads.as_ref().map(|reads| reads.coordinator).unwrap_or_default(),
                earlier: partitions.iter().map(earlier).collect(),
                partitions: partitions.clone(),
                tables,
                env: &[],
                plan: &plan,
            };
            observe::asked_fragment(self.incarnation, &fragment, context);
            let mut bytes = Vec::new();
            Message::Fragment(fragment).write(&mut bytes);
            let lead = Lead { to: Use::Fragments, worker, incarnation: node.incarnation };
            let Some(link) = self.link(lead, address, context) else { continue };
            scan.pieces.insert(sequence, Piece { wire: link.wire, heard: false, ended: false });
            link.send(bytes, context);
        }
    }
}

/// Who has which partition.
fn captured(map: &ClusterMap) -> Option<BTreeMap<PartitionId, WorkerId>> {
    let of = |(worker, partitions): (WorkerId, Vec<(PartitionId, Epoch)>)| {
        partitions.into_iter().map(move |(partition, _)| (partition, worker))
    };
    Some(owners(map)?.into_iter().flat_map(of).collect())
}

/// Which worker is to be asked for which partitions; `None` when one of them is lost.
fn owners(map: &ClusterMap) -> Option<BTreeMap<WorkerId, Vec<(PartitionId, Epoch)>>> {
    let mut owners: BTreeMap<WorkerId, Vec<(PartitionId, Epoch)>> = BTreeMap::new();
    for partition in (0..map.partitions.len()).map(|index| PartitionId(index as u16)) {
        let route = routing::route(map, partition)?;
        owners.entry(route.worker).or_default().push((partition, route.epoch));
    }
    Some(owners)
}

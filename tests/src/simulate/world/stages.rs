//! The stages of a run: the cluster forms, works through faults, settles, and is judged.

use super::super::check::linear::{self, Strictness, Verdict};
use super::super::check::scans;
use super::super::check::{advisory, agree, isolation, notices, schema};
use super::super::clock::{Instant, SECOND};
use super::super::context::Happening;
use super::super::proxy::Proxy;
use super::super::scenario::{CALM, LEAST};
use super::super::workload::{Act, Kind, Work, table};
use super::{LOOK, World};
use toroid_common::id::{Incarnation, NodeId, PartitionId, RequestId, WorkerId};
use toroid_common::map::{NodeEntry, NodeState};
use toroid_common::transaction::Fate;
use toroid_common::wire::ControlBody;
use toroid_engine::store::root::Root;

/// What a run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The cluster forms, and the table is made.
    Forming,
    Working,
    /// Faults are over: everything must be answered, every partition have its copies, the same in all.
    Settling,
    /// Every key is read once more.
    LastReads,
    Over,
}

impl World<'_> {
    /// Looks whether the run can go on to its next stage.
    pub(super) fn look(&mut self) {
        let now = self.context.now();
        match self.stage {
            Stage::Forming => self.form(now),
            Stage::Working if now >= CALM => self.stage = Stage::Settling,
            Stage::Settling => {
                self.accept_loss();
                if self.unsettled_because().is_none() {
                    self.read_all();
                }
            }
            // What was said last is on its way to listeners.
            Stage::LastReads if !self.history.notices.ears.is_empty() && now < self.last_reads_at + SECOND => {}
            Stage::LastReads if self.proxies.iter().all(|proxy| proxy.open() == 0) && now >= LEAST => {
                self.judge();
                self.stage = Stage::Over;
            }
            Stage::Working | Stage::LastReads | Stage::Over => {}
        }
        self.context.agenda.after(LOOK, Happening::Look);
    }

    pub(super) fn faults_are_over(&self) -> bool {
        !matches!(self.stage, Stage::Forming | Stage::Working)
    }

    /// What has no living replica is given up at last, where somebody does that.
    fn accept_loss(&mut self) {
        let lost =
            self.group.map().into_iter().flat_map(|map| &map.partitions).any(|assignment| assignment.primary.is_none());
        if lost && self.scenario.accepts_loss && self.context.now() >= self.asked_for_recovery + SECOND {
            self.asked_for_recovery = self.context.now();
            self.ask(ControlBody::Recover { id: self.context.now() });
        }
    }

    fn form(&mut self, now: Instant) {
        if self.proxies.iter().all(|proxy| proxy.serves(now)) {
            self.stage = Stage::Working;
            for session in 0..self.sessions.len() {
                self.context.agenda.after(0, Happening::Session(session));
            }
        } else if now >= self.asked_for_table + SECOND / 2 && self.proxies[0].is_ready() {
            self.asked_for_table = now;
            self.proxies[0].create_table(&mut self.context);
        }
    }

    /// Why the cluster has not settled yet.
    fn unsettled_because(&self) -> Option<String> {
        for proxy in &self.proxies {
            if !proxy.serves(self.context.now()) {
                return Some(format!("proxy {} does not serve", proxy.index));
            }
            if !proxy.hears() {
                return Some(format!("proxy {} does not hear", proxy.index));
            }
            if proxy.open() > 0 {
                return Some(format!("proxy {} waits for {}", proxy.index, proxy.waits_for()));
            }
        }
        if let Some(session) = self.sessions.iter().position(|session| !session.queue.is_empty()) {
            return Some(format!("session {session} has not ended"));
        }
        let Some(map) = self.group.map() else { return Some("there is no map".to_owned()) };
        let serving = |node: &&NodeEntry| node.state == NodeState::Serving && self.is_there(node.id);
        let copies = map.nodes.iter().filter(serving).count().min(usize::from(map.copies));
        for (index, assignment) in map.partitions.iter().enumerate() {
            if assignment.primary.is_none() && !self.scenario.accepts_loss {
                continue;
            }
            if assignment.copies() != copies || !assignment.joining.is_empty() || assignment.successor.is_some() {
                return Some(format!("partition {index} is {assignment:?}"));
            }
            let drained =
                |worker: &&WorkerId| map.node(worker.node).is_none_or(|node| node.state != NodeState::Serving);
            if let Some(worker) = assignment.primary.iter().chain(&assignment.backups).find(drained) {
                return Some(format!("partition {index} is still at {worker}, which is to be empty"));
            }
            if let Some(what) = self.replicas_differ(PartitionId(index as u16)) {
                return Some(format!("partition {index}: {what}"));
            }
        }
        if !self.group.is_whole() {
            return Some("the metadata group has not all its members, or no leader".to_owned());
        }
        self.left_over()
    }

    /// Something that should have come to its end by itself.
    fn left_over(&self) -> Option<String> {
        for proxy in &self.proxies {
            if proxy.remembered() > 0 {
                return Some(format!(
                    "proxy {} keeps {} requests from being forgotten",
                    proxy.index,
                    proxy.remembered()
                ));
            }
        }
        for node in self.nodes.iter().filter(|node| node.up) {
            for seat in &node.seats {
                let Some(worker) = &seat.worker else { continue };
                let (gated, outside, idle) = (worker.gated(), worker.outside(), worker.is_idle());
                let (transacting, waiting, cuts) = (worker.transacting(), worker.waiting(), worker.cuts());
                if gated + outside + transacting + waiting + cuts > 0 || !idle {
                    let node = node.id();
                    return Some(format!(
                        "a worker of node {node} has {gated} answers in gates, {outside} things outside, open transactions in {transacting} \
                         partitions, {waiting} requests that wait for locks, {cuts} cuts, idle: {idle}"
                    ));
                }
            }
        }
        let map = self.group.map()?;
        (0..map.partitions.len()).find_map(|index| self.undecided_in(PartitionId(index as u16)))
    }

    /// A transaction that is neither committed everywhere nor aborted.
    fn undecided_in(&self, partition: PartitionId) -> Option<String> {
        let primary = self.group.map()?.assignment(partition)?.primary?;
        let (root, _) = self.replica(primary, partition)?;
        let left = root.transactions();
        let prepared = left.all_prepared().map(|(transaction, _)| (transaction, "is prepared"));
        let chunked = left.all_chunked().map(|(transaction, _)| (transaction, "has chunks"));
        // That one is aborted is remembered as long as its proxy may ask.
        let committed = left.all_outcomes().filter(|(_, known)| known.fate == Fate::Committed);
        let committed = committed.map(|(transaction, _)| (transaction, "is committed, and not forgotten"));
        if let Some((transaction, what)) = prepared.chain(chunked).chain(committed).next() {
            return Some(format!("transaction {transaction} {what} in partition {partition}"));
        }
        if let Some((session, key, counts)) = root.advisory().all().next() {
            return Some(format!("{session} holds {key:?} in partition {partition} for good: {counts:?}"));
        }
        // What is kept for proxies goes when they are fenced.
        let lives: Vec<Incarnation> = self.proxies.iter().filter_map(Proxy::incarnation).collect();
        let answered = root.answers.from(RequestId::default()).map(|(request, _)| request.proxy);
        let aborted = left.all_outcomes().map(|(transaction, _)| transaction.proxy);
        let dead = answered.chain(aborted).find(|proxy| !lives.contains(proxy))?;
        Some(format!("partition {partition} remembers what incarnation {dead} asked, which is dead"))
    }

    fn is_there(&self, node: NodeId) -> bool {
        self.nodes.get(node.0 as usize - 1).is_some_and(|node| node.up)
    }

    fn replica(&self, worker: WorkerId, partition: PartitionId) -> Option<(&Root, toroid_common::id::Lsn)> {
        let node = self.nodes.get(worker.node.0 as usize - 1)?;
        node.seats.get(usize::from(worker.index))?.worker.as_ref()?.replica(partition)
    }

    /// What is prepared elsewhere under an anchor that is lost.
    pub(super) fn forsake(&mut self, anchor: PartitionId) {
        let Some(map) = self.group.map() else { return };
        let mut left = Vec::new();
        for (index, assignment) in map.partitions.iter().enumerate() {
            let partition = PartitionId(index as u16);
            let of = |worker: &WorkerId| self.replica(*worker, partition);
            // Backups may be behind, but one of them is primary next.
            let primary = assignment.primary.as_ref().and_then(of);
            let heirs = assignment.backups.iter().filter(|_| primary.is_none()).filter_map(of);
            for (root, _) in primary.into_iter().chain(heirs) {
                let prepared = root.transactions().all_prepared().filter(|(_, prepared)| prepared.anchor == anchor);
                left.extend(prepared.map(|(transaction, _)| (transaction, partition)));
            }
        }
        for (transaction, partition) in left {
            self.context.note(|| format!("{transaction} is prepared in partition {partition}, and its anchor lost"));
            self.history.forsake(transaction, anchor, partition);
        }
    }

    fn replicas_differ(&self, partition: PartitionId) -> Option<String> {
        let assignment = self.group.map()?.assignment(partition)?;
        let primary = assignment.primary?;
        let Some(one) = self.replica(primary, partition) else { return Some(format!("{primary} holds nothing")) };
        for backup in &assignment.backups {
            let Some(other) = self.replica(*backup, partition) else { return Some(format!("{backup} holds nothing")) };
            let requests = self.context.observed.requests.iter();
            let mine = requests.filter(|(_, to)| **to == partition).map(|(request, _)| request);
            if let Some(what) = agree::difference(one, other, mine) {
                return Some(format!("{primary} and {backup} differ: {what}"));
            }
        }
        None
    }

    fn read_all(&mut self) {
        self.stage = Stage::LastReads;
        self.last_reads_at = self.context.now();
        self.context.note(|| "the cluster has settled; every key is read once more".to_owned());
        for (number, key) in self.context.keys.clone().into_iter().enumerate() {
            let proxy = number % self.proxies.len();
            let work = Work::On { key, act: Act::Read };
            let _ = self.proxies[proxy].begin(u16::MAX, work, &mut self.history, &mut self.context);
        }
        let _ = self.proxies[0].begin(u16::MAX, Work::Scan { cut: true }, &mut self.history, &mut self.context);
    }

    fn judge(&mut self) {
        self.group.judge(&mut self.context);
        let lawless = self.context.observed.lawless;
        if let Some(table) = self.proxies.first().and_then(Proxy::table)
            && let Err(why) = schema::judge(&self.history.changes, table)
        {
            self.context.violated(|| why);
        }
        if !lawless && let Err(why) = advisory::judge(&self.history) {
            self.context.violated(|| why);
        }
        if let Err(why) = notices::judge(&self.history) {
            // Two primaries may number what they say alike.
            if !lawless {
                self.context.violated(|| why);
            }
        }
        self.history.believe_ears();
        if let Kind::Values { .. } = self.scenario.kind {
            // Reads may be old where clocks are out of their bounds.
            let all = self.history.as_transactions(&self.context.keys, self.scenario.partitions);
            let doubts = self.history.doubts(&self.context.keys, self.scenario.partitions);
            if !lawless && let Err(why) = isolation::judge(&all, &doubts) {
                self.context.violated(|| why);
            }
            return;
        }
        let strictness = if lawless { Strictness::Writes } else { Strictness::Full };
        let (records, partitions) = (&self.history.records, self.scenario.partitions);
        let mut by_key = linear::events(records, &self.history.emptied, strictness, partitions);
        if lawless {
            // Who was given up may have answered later.
            let emptied = |key: i32| {
                let partition = table::partition(key, partitions);
                self.history.emptied.iter().any(|emptied| emptied.partition == partition)
            };
            by_key.retain(|key, _| !emptied(*key));
        }
        let keys = linear::judge(&by_key);
        let scans = if lawless { Verdict::Linearizable } else { scans::judge(records, &by_key, partitions) };
        for verdict in [keys, scans] {
            match verdict {
                Verdict::Linearizable => {}
                Verdict::Undecided(searches) => self.tally.undecided += searches as u64,
                Verdict::Broken(why) => self.context.violated(|| why),
            }
        }
    }

    pub(super) fn unsettled(&mut self) {
        let why = match self.stage {
            Stage::Forming => "the cluster was never formed".to_owned(),
            Stage::Working | Stage::Over => "time stands still".to_owned(),
            Stage::Settling => self.unsettled_because().unwrap_or_default(),
            Stage::LastReads => "the last reads were not answered".to_owned(),
        };
        self.context.violated(|| format!("the cluster did not settle after the faults: {why}"));
    }
}

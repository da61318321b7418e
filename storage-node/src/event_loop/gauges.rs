//! A worker's counters for the metrics endpoint: published now and then, so that requests pay nothing for them.

use metrics::{Counter, Gauge, counter, gauge};
use toroid_common::id::WorkerId;
use toroid_engine::gate::Time;
use toroid_engine::worker::{Counters, Worker};

pub(super) struct Gauges {
    reads: Counter,
    writes: Counter,
    errors: Counter,
    refusals: Counter,
    repeats: Counter,
    fragments: Counter,
    gated: Counter,
    captures: Counter,
    voids: Counter,
    barred: Counter,
    append_frames: Counter,
    append_entries: Counter,
    role_changes: Counter,
    promotions: Counter,
    depositions: Counter,
    roots_sent: Counter,
    root_bytes: Counter,
    roots_taken: Counter,
    joined_by_tail: Counter,
    drops_proposed: Counter,
    admissions_proposed: Counter,
    hand_overs_proposed: Counter,
    /// Replicas by role.
    primaries: Gauge,
    backups: Gauge,
    joining: Gauge,
    waiting: Gauge,
    cuts: Gauge,
    outside: Gauge,
    memory: Gauge,
    connections: Gauge,
    published: Counters,
    last: Time,
    due: Option<Time>,
}

impl Gauges {
    pub(super) fn new(worker: WorkerId) -> Gauges {
        let worker = worker.to_string();
        let requests = |outcome: &'static str| counter!("toroid_worker_requests_total", "worker" => worker.clone(), "outcome" => outcome);
        let proposals = |change: &'static str| counter!("toroid_worker_proposals_total", "worker" => worker.clone(), "change" => change);
        let roles = |role: &'static str| gauge!("toroid_worker_replicas", "worker" => worker.clone(), "role" => role);
        Gauges {
            reads: requests("read"),
            writes: requests("written"),
            errors: requests("error"),
            refusals: requests("refused"),
            repeats: requests("repeated"),
            fragments: requests("fragment"),
            gated: counter!("toroid_worker_gated_answers_total", "worker" => worker.clone()),
            captures: counter!("toroid_worker_captures_total", "worker" => worker.clone()),
            voids: counter!("toroid_worker_void_captures_total", "worker" => worker.clone()),
            barred: counter!("toroid_worker_barred_microseconds_total", "worker" => worker.clone()),
            append_frames: counter!("toroid_replication_frames_total", "worker" => worker.clone()),
            append_entries: counter!("toroid_replication_entries_total", "worker" => worker.clone()),
            role_changes: counter!("toroid_worker_role_changes_total", "worker" => worker.clone()),
            promotions: counter!("toroid_worker_promotions_total", "worker" => worker.clone()),
            depositions: counter!("toroid_worker_depositions_total", "worker" => worker.clone()),
            roots_sent: counter!("toroid_worker_roots_sent_total", "worker" => worker.clone()),
            root_bytes: counter!("toroid_worker_root_bytes_total", "worker" => worker.clone()),
            roots_taken: counter!("toroid_worker_roots_taken_total", "worker" => worker.clone()),
            joined_by_tail: counter!("toroid_worker_joined_by_tail_total", "worker" => worker.clone()),
            drops_proposed: proposals("drop"),
            admissions_proposed: proposals("admit"),
            hand_overs_proposed: proposals("hand_over"),
            primaries: roles("primary"),
            backups: roles("backup"),
            joining: roles("joining"),
            waiting: gauge!("toroid_worker_waiting_answers", "worker" => worker.clone()),
            cuts: gauge!("toroid_worker_cuts", "worker" => worker.clone()),
            outside: gauge!("toroid_worker_scans_running", "worker" => worker.clone()),
            memory: gauge!("toroid_worker_memory_bytes", "worker" => worker.clone()),
            connections: gauge!("toroid_worker_connections", "worker" => worker.clone()),
            published: Counters::default(),
            last: Time(0),
            due: None,
        }
    }

    /// When something is to be published that has not been.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Publishes, unless it was done a moment ago; whether it did.
    pub(super) fn publish(&mut self, worker: &Worker, connections: usize, now: Time, interval: u64) -> bool {
        let next = self.last.after(interval);
        if now < next {
            if self.due.is_none() && *worker.counters() != self.published {
                self.due = Some(next);
            }
            return false;
        }
        let counters = *worker.counters();
        self.due = None;
        self.last = now;
        self.reads.absolute(counters.reads);
        self.writes.absolute(counters.writes);
        self.errors.absolute(counters.errors);
        self.refusals.absolute(counters.refusals);
        self.repeats.absolute(counters.repeats);
        self.fragments.absolute(counters.fragments);
        self.gated.absolute(counters.gated);
        self.captures.absolute(counters.captures);
        self.voids.absolute(counters.voids);
        self.barred.absolute(counters.barred_micros);
        self.append_frames.absolute(counters.append_frames);
        self.append_entries.absolute(counters.append_entries);
        self.role_changes.absolute(counters.role_changes);
        self.promotions.absolute(counters.promotions);
        self.depositions.absolute(counters.depositions);
        self.roots_sent.absolute(counters.roots_sent);
        self.root_bytes.absolute(counters.root_bytes);
        self.roots_taken.absolute(counters.roots_taken);
        self.joined_by_tail.absolute(counters.joined_by_tail);
        self.drops_proposed.absolute(counters.drops_proposed);
        self.admissions_proposed.absolute(counters.admissions_proposed);
        self.hand_overs_proposed.absolute(counters.hand_overs_proposed);
        let (primaries, backups, joining) = worker.roles();
        self.primaries.set(primaries as f64);
        self.backups.set(backups as f64);
        self.joining.set(joining as f64);
        self.waiting.set(worker.gated() as f64);
        self.cuts.set(worker.cuts() as f64);
        self.outside.set(worker.outside() as f64);
        self.memory.set(worker.memory() as f64);
        self.connections.set(connections as f64);
        self.published = counters;
        true
    }
}

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
    append_frames: Counter,
    append_entries: Counter,
    waiting: Gauge,
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
        Gauges {
            reads: requests("read"),
            writes: requests("written"),
            errors: requests("error"),
            refusals: requests("refused"),
            repeats: requests("repeated"),
            fragments: requests("fragment"),
            gated: counter!("toroid_worker_gated_answers_total", "worker" => worker.clone()),
            append_frames: counter!("toroid_replication_frames_total", "worker" => worker.clone()),
            append_entries: counter!("toroid_replication_entries_total", "worker" => worker.clone()),
            waiting: gauge!("toroid_worker_waiting_answers", "worker" => worker.clone()),
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

    /// Publishes, unless it was done a moment ago.
    pub(super) fn publish(&mut self, worker: &Worker, connections: usize, now: Time, interval: u64) {
        let counters = *worker.counters();
        let next = self.last.after(interval);
        if now < next {
            if self.due.is_none() && counters != self.published {
                self.due = Some(next);
            }
            return;
        }
        self.due = None;
        self.last = now;
        self.reads.absolute(counters.reads);
        self.writes.absolute(counters.writes);
        self.errors.absolute(counters.errors);
        self.refusals.absolute(counters.refusals);
        self.repeats.absolute(counters.repeats);
        self.fragments.absolute(counters.fragments);
        self.gated.absolute(counters.gated);
        self.append_frames.absolute(counters.append_frames);
        self.append_entries.absolute(counters.append_entries);
        self.waiting.set(worker.gated() as f64);
        self.outside.set(worker.outside() as f64);
        self.memory.set(worker.memory() as f64);
        self.connections.set(connections as f64);
        self.published = counters;
    }
}

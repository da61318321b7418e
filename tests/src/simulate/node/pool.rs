//! What runs outside a worker's thread: scans that find a statement's rows, and fragments, whose batches leave under credit.

use super::super::clock::Instant;
use super::super::workload::table;
use crate::random::Random;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use toroid_common::error::SqlResult;
use toroid_common::id::PartitionId;
use toroid_common::wire::FragmentOutcome;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;
use toroid_engine::worker::{Action, Event, Ticket, find_rows};

/// Everything that runs for one worker, by the number under which its next step is awaited.
#[derive(Debug, Default)]
pub struct Pool {
    running: BTreeMap<u64, Running>,
    next: u64,
}

#[derive(Debug)]
enum Running {
    Search { ticket: Ticket, root: Root, found: SqlResult<Vec<Position>> },
    Fragment(Fragment),
}

#[derive(Debug)]
struct Fragment {
    ticket: Ticket,
    roots: Vec<(PartitionId, Root)>,
    batches: VecDeque<Bytes>,
    rows: u64,
    credit: u32,
    /// A step of it is awaited; otherwise it waits for credit.
    moves: bool,
}

/// When the step of a number is done.
pub type Due = (Instant, u64);

/// What a step tells the worker.
#[derive(Debug)]
pub enum Done {
    Found { ticket: Ticket, root: Root, found: SqlResult<Vec<Position>> },
    Batch { ticket: Ticket, bytes: Bytes },
    Finished { ticket: Ticket, roots: Vec<(PartitionId, Root)>, rows: u64 },
}

impl Done {
    #[must_use]
    pub fn event(self) -> Event<'static> {
        match self {
            Done::Found { ticket, root, found } => Event::RowsFound { ticket, root, found },
            Done::Batch { ticket, bytes } => Event::FragmentBatch { ticket, bytes },
            Done::Finished { ticket, roots, rows } => {
                Event::FragmentFinished { ticket, roots, outcome: FragmentOutcome::Done { rows } }
            }
        }
    }
}

impl Pool {
    /// Takes on what the worker asked for; an action that is for others goes to them.
    pub fn take(&mut self, action: Action, others: &mut Vec<Action>, random: &mut Random) -> Option<Due> {
        match action {
            Action::FindRows { ticket, root, plan, params, env } => {
                let found = find_rows(&root, &plan, &params, &env);
                let due = self.begin(Running::Search { ticket, root, found });
                Some((20 + random.below(3_000), due))
            }
            Action::RunFragment { ticket, roots, plan, env: _, credit } => {
                // Roots don't change: what is read later is what is read now.
                let (batches, rows) = table::run_fragment(&plan, &roots);
                let batches = batches.into_iter().map(Bytes::from).collect();
                let due = self.begin(Running::Fragment(Fragment { ticket, roots, batches, rows, credit, moves: true }));
                Some((20 + random.below(3_000), due))
            }
            Action::FragmentCredit { ticket, batches } => self.change(ticket, random, |it| it.credit += batches),
            Action::FragmentCancel { ticket } => self.change(ticket, random, |it| it.batches.clear()),
            other => {
                others.push(other);
                None
            }
        }
    }

    fn begin(&mut self, running: Running) -> u64 {
        self.next += 1;
        self.running.insert(self.next, running);
        self.next
    }

    fn change(&mut self, of: Ticket, random: &mut Random, change: impl Fn(&mut Fragment)) -> Option<Due> {
        for (number, running) in &mut self.running {
            if let Running::Fragment(fragment) = running
                && fragment.ticket == of
            {
                change(fragment);
                let idle = !std::mem::replace(&mut fragment.moves, true);
                return idle.then(|| (1 + random.below(500), *number));
            }
        }
        None
    }

    /// A step is done: what the worker is told, and when the next one is.
    pub fn step(&mut self, number: u64, random: &mut Random) -> Option<(Done, Option<Due>)> {
        match self.running.remove(&number)? {
            Running::Search { ticket, root, found } => Some((Done::Found { ticket, root, found }, None)),
            Running::Fragment(fragment) if fragment.batches.is_empty() => {
                let Fragment { ticket, roots, rows, .. } = fragment;
                Some((Done::Finished { ticket, roots, rows }, None))
            }
            Running::Fragment(mut fragment) => {
                let batch = if fragment.credit > 0 { fragment.batches.pop_front() } else { None };
                fragment.moves = batch.is_some();
                fragment.credit -= u32::from(batch.is_some());
                let done = batch.map(|bytes| Done::Batch { ticket: fragment.ticket, bytes });
                self.running.insert(number, Running::Fragment(fragment));
                done.map(|done| (done, Some((1 + random.below(2_000), number))))
            }
        }
    }
}

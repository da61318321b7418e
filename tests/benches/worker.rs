//! What a worker takes per request: nanoseconds and allocations of point reads, updates and inserts, alone and with a backup, frames and turns included.
//!
//! `cargo bench -p toroid-tests --bench worker`. Times are of the processor, so that other load on the machine counts less. With two copies the
//! time of the backup's worker is included.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "../../storage-node/engine/tests/cluster/mod.rs"]
mod cluster;
#[path = "../../storage-node/engine/tests/fixture/mod.rs"]
mod fixture;

use cluster::{CLUSTER, INSERT, SELECT, UPDATE, accounts, plans, ring_map, row};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use toroid_common::datum::Datum;
use toroid_common::id::{CatalogVersion, Epoch, Incarnation, PartitionId, PlanId, WorkerId};
use toroid_common::wire::{Hello, Message, PROTOCOL_VERSION, PlanMessage, RawFrame, Request, RequestBody, Role};
use toroid_engine::gate::Time;
use toroid_engine::worker::{Action, Actions, ConnectionId, Event, Identity, Worker};

/// Counts what the system's allocator is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's duties are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: i32 = 100_000;
/// Requests that arrive together in one turn.
const PER_TURN: [usize; 3] = [1, 8, 64];

const PROXY: ConnectionId = ConnectionId { slot: 0, generation: 1 };
const WIRE: ConnectionId = ConnectionId { slot: 1, generation: 1 };

/// A primary, and its backup if it has one, with as little as possible around them.
struct Pair {
    primary: Worker,
    backup: Option<Worker>,
    actions: Actions,
    replies: Actions,
    reply: Vec<u8>,
    answered: usize,
}

impl Pair {
    fn new(copies: usize) -> Pair {
        let map = Arc::new(ring_map(copies, copies, 1));
        let mut workers = map.nodes.iter().map(|node| {
            let worker = WorkerId { node: node.id, index: 0 };
            Worker::new(Identity { cluster: CLUSTER, worker, incarnation: node.incarnation, memory: usize::MAX })
        });
        let mut pair = Pair {
            primary: workers.next().unwrap(),
            backup: workers.next(),
            actions: Actions::default(),
            replies: Actions::default(),
            reply: Vec::new(),
            answered: 0,
        };
        let (now, mut actions) = (Time(1), Actions::default());
        for worker in [Some(&mut pair.primary), pair.backup.as_mut()].into_iter().flatten() {
            worker.step(Event::LeaseRenewed { until: Time(u64::MAX) }, now, &mut actions);
            worker.step(Event::MapChanged(Arc::clone(&map)), now, &mut actions);
        }
        if let Some(backup) = &mut pair.backup {
            backup.step(Event::Accepted(WIRE), now, &mut actions);
            let worker = WorkerId { node: map.nodes[1].id, index: 0 };
            pair.primary.step(Event::Connected { connection: WIRE, worker }, now, &mut pair.actions);
        }
        pair.turn();
        pair.primary.step(Event::Accepted(PROXY), now, &mut pair.actions);
        let role = Role::Proxy { incarnation: Incarnation(1) };
        pair.message(&Message::Hello(Hello { version: PROTOCOL_VERSION, cluster: Some(CLUSTER), role }));
        let catalog = fixture::catalog(&accounts());
        pair.primary.step(Event::CatalogChanged(catalog), now, &mut pair.actions);
        for (id, plan) in plans(CatalogVersion(2)) {
            let bytes = PlanMessage::encode_plan(&plan);
            pair.message(&Message::Plan(PlanMessage { id: PlanId(id), bytes: &bytes }));
        }
        pair.turn();
        pair.answered = 0;
        pair
    }

    fn message(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.bytes(&bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (frame, _) = RawFrame::split(bytes).unwrap().unwrap();
        self.primary.step(Event::Frame { connection: PROXY, frame }, Time(1), &mut self.actions);
    }

    /// Ends the turn of the primary, then of the backup, until nothing is under way.
    fn turn(&mut self) {
        loop {
            self.primary.step(Event::TurnEnded, Time(1), &mut self.actions);
            let Pair { primary, backup, actions, replies, reply, answered } = self;
            actions.drain(|action, bytes| {
                let Action::Send { connection, .. } = action else { return };
                if connection == PROXY {
                    each_frame(bytes, |_| *answered += 1);
                } else if let Some(backup) = backup {
                    let frame_to_backup =
                        |frame: RawFrame<'_>| backup.step(Event::Frame { connection: WIRE, frame }, Time(1), replies);
                    each_frame(bytes, frame_to_backup);
                    backup.step(Event::TurnEnded, Time(1), replies);
                }
            });
            reply.clear();
            replies.drain(|_, bytes| reply.extend_from_slice(bytes));
            if reply.is_empty() {
                return;
            }
            each_frame(reply, |frame| primary.step(Event::Frame { connection: WIRE, frame }, Time(1), actions));
        }
    }
}

fn each_frame(mut bytes: &[u8], mut each: impl FnMut(RawFrame<'_>)) {
    while let Some((frame, used)) = RawFrame::split(bytes).unwrap() {
        each(frame);
        bytes = &bytes[used..];
    }
}

/// Nanoseconds that this process was on a processor.
fn on_cpu() -> u64 {
    let schedule = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedule.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn request(sequence: u64, plan: u32, body: RequestBody<'_>) -> Vec<u8> {
    let (partition, epoch, plan) = (PartitionId(0), Epoch(1), PlanId(plan));
    let mut bytes = Vec::new();
    Message::Request(Request {
        sequence,
        low: sequence,
        partition,
        epoch,
        plan,
        within: None,
        lock_timeout_ms: 0,
        env: None,
        body,
    })
    .write(&mut bytes);
    bytes
}

/// Steps through requests that are there already; prints what one takes.
fn measure(what: &str, copies: usize, per_turn: usize, pair: &mut Pair, requests: &[Vec<u8>]) {
    let before = pair.answered;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let start = on_cpu();
    for turn in requests.chunks(per_turn) {
        turn.iter().for_each(|bytes| pair.bytes(bytes));
        pair.turn();
    }
    let nanos = (on_cpu() - start) as f64 / requests.len() as f64;
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - allocations) as f64 / requests.len() as f64;
    assert_eq!(pair.answered - before, requests.len());
    println!("{what:<8} copies {copies}  {per_turn:>3} per turn  {nanos:>8.0} ns  {allocations:>5.1} allocations");
}

fn main() {
    for copies in [1, 2] {
        for per_turn in PER_TURN {
            run(copies, per_turn);
        }
    }
}

fn run(copies: usize, per_turn: usize) {
    let mut pair = Pair::new(copies);
    let mut sequence = 0;
    let mut next = || {
        sequence += 1;
        sequence
    };
    // A multiplier without common factors visits every key, in no order that helps.
    let keys = (0..ROWS).map(|i| (i64::from(i) * 7_919 % i64::from(ROWS)) as i32);
    let rows = |id| row(&[Datum::Int4(id), Datum::Text(format!("name of {id}"))]);
    let insert = |id| request(next(), INSERT, RequestBody::Insert { rows: 1, bytes: &rows(id) });
    let inserts: Vec<_> = keys.clone().map(insert).collect();
    measure("insert", copies, per_turn, &mut pair, &inserts);
    let params = |id| row(&[Datum::Int4(id), Datum::Text(format!("changed {id}"))]);
    let update = |id| request(next(), UPDATE, RequestBody::Point { params: &params(id) });
    let updates: Vec<_> = keys.clone().map(update).collect();
    measure("update", copies, per_turn, &mut pair, &updates);
    let select = |id| request(next(), SELECT, RequestBody::Point { params: &row(&[Datum::Int4(id)]) });
    let reads: Vec<_> = keys.map(select).collect();
    measure("select", copies, per_turn, &mut pair, &reads);
}

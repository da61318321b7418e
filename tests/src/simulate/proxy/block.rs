//! Transactions of sessions: the product's coordinator, moved on by what calls and scans come to.

use super::super::clock::{Instant, MILLISECOND, SECOND};
use super::super::context::Context;
use super::super::history::transaction::{Did, Fate};
use super::super::history::{self, History};
use super::super::sabotage::Sabotage;
use super::super::workload::block::{Block, Move};
use super::super::workload::deed::{Deed, Terms};
use super::super::workload::{Act, Response, table};
use super::Proxy;
use super::cut::Ticket;
use super::link::Use;
use super::scan::{Scan, Snapshot};
use super::statement::{Call, CallEnd, Job, Owner};
use toroid_common::coordinator::{Commitment, Ended, Sends, StepEnd, Transaction};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{CutId, PartitionId, TransactionId};
use toroid_common::plan::Verb;
use toroid_common::routing;
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Forget, Message, Within};

/// A transaction waits for its cut for so long.
const CUT_PATIENCE: Instant = 10 * SECOND;
/// A rollback is known to its client by then.
const ROLLING_BACK: Instant = 200 * MILLISECOND;
/// Anchors are told to forget within this time.
const FORGETTING: u64 = 20 * MILLISECOND;

/// A transaction of a session until nothing of it is under way any more.
#[derive(Debug)]
pub(super) struct Open {
    /// The transaction's, and its owner's.
    number: u64,
    session: u16,
    record: usize,
    plan: Block,
    next: usize,
    /// Until it ends.
    transaction: Option<Transaction>,
    commitment: Option<Commitment>,
    /// How many statements there were when each savepoint was made.
    savepoints: Vec<usize>,
    statements: usize,
    failed: bool,
    doing: Doing,
    /// Its client has been told the end.
    told: bool,
    /// Steps that have no answer.
    under_way: usize,
    cut: Option<CutId>,
    /// Every step that had an answer was done.
    clean: bool,
}

#[derive(Debug)]
enum Doing {
    Next,
    Pause(Instant),
    AwaitCut {
        ticket: Ticket,
        until: Instant,
    },
    Statement {
        key: i32,
        act: Act,
        within: Option<Within>,
    },
    Deed {
        deed: Deed,
        /// Its number in the history.
        grip: usize,
        within: Option<Within>,
    },
    /// Locks of all partitions before a scan, each under what it said of the transaction.
    Locking(Vec<(PartitionId, Within)>),
    Scanning,
    Undoing,
    Committing,
    RollingBack {
        until: Instant,
    },
}

impl Open {
    pub(super) fn session(&self) -> u16 {
        self.session
    }

    /// Its number in the history.
    pub(super) fn record(&self) -> usize {
        self.record
    }

    pub(super) fn owner(&self) -> Owner {
        Owner::Block(self.number)
    }

    pub(super) fn terms(&self) -> Terms {
        Terms { lock_timeout_ms: self.plan.lock_timeout_ms, patience: self.plan.patience }
    }

    /// What the next request says of it; nothing where it is lost.
    pub(super) fn request(&mut self, partition: PartitionId, verb: &Verb) -> Option<Within> {
        self.transaction.as_mut()?.request(partition, verb).ok().flatten()
    }
}

impl Proxy {
    pub(super) fn begin_block(&mut self, session: u16, plan: Block, history: &mut History, context: &mut Context) {
        let Some(proxy) = self.incarnation else { return };
        self.transactions += 1;
        let number = self.transactions;
        let id = TransactionId { proxy, number };
        let reads_cut = plan.read_only && plan.level == Level::Serializable;
        let record = history.begin_transaction(if reads_cut { Level::RepeatableRead } else { plan.level });
        history.numbers.insert(id, record);
        context.note(|| format!("transaction {id} (T{record}) of session {session} begins: {plan:?}"));
        let process = self.process(session);
        self.blocks.push(Open {
            number,
            session,
            record,
            transaction: Some(Transaction::new(id, process, plan.level)),
            plan,
            next: 0,
            commitment: None,
            savepoints: Vec::new(),
            statements: 0,
            failed: false,
            doing: Doing::Next,
            told: false,
            under_way: 0,
            cut: None,
            clean: true,
        });
    }

    /// The process is gone. Who had not asked to commit never will.
    pub(super) fn end_blocks(&mut self, history: &mut History) -> Vec<u16> {
        let mut sessions = Vec::new();
        for open in std::mem::take(&mut self.blocks).into_iter().filter(|open| !open.told) {
            let fate = if open.commitment.is_some() { Fate::Unknown } else { Fate::Aborted };
            history.end_transaction(open.record, fate);
            sessions.push(open.session);
        }
        sessions
    }

    pub(super) fn blocks_wait_for(&self) -> impl Iterator<Item = String> + '_ {
        self.blocks
            .iter()
            .map(|open| format!("transaction {} ({:?}, {} steps)", open.number, open.doing, open.under_way))
    }

    /// Lets every transaction do what it can; true when something was begun that may go on at once.
    pub(super) fn blocks_go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) -> bool {
        let mut blocks = std::mem::take(&mut self.blocks);
        let mut moved = false;
        for (number, partition, job, end) in std::mem::take(&mut self.block_ended) {
            moved = true;
            if let Some(open) = blocks.iter_mut().find(|open| open.number == number) {
                self.call_ended(open, partition, &job, end, history, context);
            }
        }
        for (number, rows) in std::mem::take(&mut self.scanned) {
            moved = true;
            if let Some(open) = blocks.iter_mut().find(|open| open.number == number) {
                let did = rows.as_ref().map(|rows| {
                    history::saw(rows, &context.keys, self.map.as_ref().map_or(1, |map| map.partitions.len() as u16))
                });
                self.statement_ended(open, did, history, context);
            }
        }
        for open in &mut blocks {
            while self.block_goes_on(open, history, idle, context) {
                moved = true;
            }
        }
        blocks.retain(|open| {
            let over = open.told && open.under_way == 0;
            if over && open.clean {
                history.let_go(open.record);
            }
            !over
        });
        blocks.append(&mut self.blocks);
        self.blocks = blocks;
        moved
    }

    /// One move; false when it waits.
    fn block_goes_on(
        &mut self,
        open: &mut Open,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) -> bool {
        let now = context.now();
        match open.doing {
            Doing::Pause(until) if now >= until => open.doing = Doing::Next,
            Doing::Pause(until) => {
                self.wake_at(until, context);
                return false;
            }
            Doing::Next => return self.next_move(open, history, context),
            Doing::AwaitCut { ticket, until } => {
                let Some(cut) = self.cuts.take(ticket) else {
                    if now >= until {
                        self.forget_cut(ticket, context);
                        open.failed = true;
                        self.end_block(open, history, context);
                        return true;
                    }
                    self.wake_at(until, context);
                    return false;
                };
                context.note(|| format!("transaction {} reads cut {cut}", open.number));
                open.cut = Some(cut);
                if let Some(transaction) = &mut open.transaction {
                    transaction.read_cut(cut);
                }
                open.doing = Doing::Next;
            }
            Doing::Committing => {
                let Some(outcome) = open.commitment.as_ref().and_then(Commitment::outcome) else { return false };
                if open.told {
                    return false;
                }
                let fate = match outcome {
                    Ok(()) => Fate::Committed,
                    Err(error) if error.state() == SqlState::STATEMENT_COMPLETION_UNKNOWN => Fate::Unknown,
                    Err(_) => Fate::Aborted,
                };
                self.tell_end(open, fate, history, idle, context);
            }
            Doing::RollingBack { until } => {
                if open.told {
                    return false;
                }
                if open.under_way > 0 && now < until {
                    self.wake_at(until, context);
                    return false;
                }
                self.tell_end(open, Fate::Aborted, history, idle, context);
            }
            Doing::Statement { .. } | Doing::Deed { .. } | Doing::Locking(_) | Doing::Scanning | Doing::Undoing => {
                return false;
            }
        }
        true
    }

    fn tell_end(
        &mut self,
        open: &mut Open,
        fate: Fate,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        context.note(|| format!("transaction {} (T{}) ends: {fate:?}", open.number, open.record));
        history.end_transaction(open.record, fate);
        open.told = true;
        idle.push(open.session);
        if let Some(cut) = open.cut.take() {
            self.close_cut(cut, context);
        }
    }

    /// Begins the next thing that the session does.
    fn next_move(&mut self, open: &mut Open, history: &mut History, context: &mut Context) -> bool {
        let fresh = open.transaction.as_ref().is_some_and(|transaction| transaction.cut().is_none()) && open.next == 0;
        let reads_cut = match open.plan.level {
            Level::ReadCommitted => false,
            Level::RepeatableRead => true,
            Level::Serializable => open.plan.read_only,
        };
        if fresh && reads_cut {
            // Its first statement begins with that.
            open.doing = Doing::AwaitCut { ticket: self.open_cut(context), until: context.now() + CUT_PATIENCE };
            return true;
        }
        let Some(next) = open.plan.moves.get(open.next).copied() else {
            self.end_block(open, history, context);
            return true;
        };
        open.next += 1;
        if open.failed && (next != Move::RollBackTo || open.savepoints.is_empty()) {
            return true;
        }
        match next {
            Move::On { key, act } => self.begin_statement(open, key, act, history, context),
            Move::Scan => self.begin_scan(open, history, context),
            Move::Deed(deed) => self.begin_deed_in(open, deed, history, context),
            Move::Savepoint => {
                open.savepoints.push(open.statements);
                if let Some(transaction) = &mut open.transaction {
                    transaction.savepoint("s".to_owned());
                }
            }
            Move::Release => {
                if open.savepoints.pop().is_some()
                    && let Some(transaction) = &mut open.transaction
                {
                    transaction.release(open.savepoints.len());
                }
            }
            Move::RollBackTo => self.roll_back_to(open, history, context),
        }
        true
    }

    fn begin_statement(&mut self, open: &mut Open, key: i32, act: Act, history: &mut History, context: &mut Context) {
        let Some(map) = self.map.clone() else { return };
        let (lock_timeout_ms, patience) = (open.plan.lock_timeout_ms, open.plan.patience);
        let partition = table::partition(key, map.partitions.len() as u16);
        history.begin_statement(open.record, Did::of(key, act, None).into_iter().collect());
        open.statements += 1;
        let mut job = Job::On { key, act, within: None, lock_timeout_ms, patience };
        let verb = self.verb_of(&job);
        // Some clients send COMMIT together with what stands before it.
        let last = open.plan.commits && open.next == open.plan.moves.len() && !open.number.is_multiple_of(4);
        let asked = match (&mut open.transaction, &verb) {
            (Some(transaction), Some(verb)) => transaction.request(partition, verb).map(|within| {
                let last = last && act.writes();
                within.map(|within| if last { transaction.finally(partition, within) } else { within })
            }),
            (None, _) | (_, None) => Ok(None),
        };
        let Ok(given) = asked else {
            return self.statement_ended(open, None, history, context);
        };
        if let Job::On { within, .. } = &mut job {
            *within = given;
        }
        open.doing = Doing::Statement { key, act, within: given };
        self.open.push(Call::new(Owner::Block(open.number), job, partition, context.now()));
    }

    fn begin_deed_in(&mut self, open: &mut Open, deed: Deed, history: &mut History, context: &mut Context) {
        history.begin_statement(open.record, Vec::new());
        open.statements += 1;
        match self.begin_deed_within(open, deed, history, context) {
            Some((grip, within)) => open.doing = Doing::Deed { deed, grip, within },
            None => self.statement_ended(open, None, history, context),
        }
    }

    fn begin_scan(&mut self, open: &mut Open, history: &mut History, context: &mut Context) {
        history.begin_statement(open.record, Vec::new());
        open.statements += 1;
        if open.plan.level == Level::Serializable && open.cut.is_none() && !context.sabotages(Sabotage::ScanLocks) {
            return self.lock_all(open, history, context);
        }
        self.start_block_scan(open, history, context);
    }

    /// A serializable scan reads what is there, and locks it all first.
    fn lock_all(&mut self, open: &mut Open, history: &mut History, context: &mut Context) {
        let Some(map) = self.map.clone() else { return };
        let probe = Within {
            number: open.number,
            earlier: 0,
            level: Level::Serializable,
            cut: None,
            process: 0,
            prepares: None,
        };
        let Some(verb) = self.verb_of(&Job::Lock { within: probe }) else { return };
        let mut asked = Vec::new();
        for partition in (0..map.partitions.len()).map(|index| PartitionId(index as u16)) {
            let Some(transaction) = &mut open.transaction else { return };
            match transaction.request(partition, &verb) {
                Ok(Some(within)) => asked.push((partition, within)),
                Ok(None) => {}
                Err(_) => return self.statement_ended(open, None, history, context),
            }
        }
        for (partition, within) in &asked {
            let job = Job::Lock { within: *within };
            self.open.push(Call::new(Owner::Block(open.number), job, *partition, context.now()));
        }
        open.doing = Doing::Locking(asked);
    }

    fn start_block_scan(&mut self, open: &mut Open, history: &mut History, context: &mut Context) {
        let Some(Ok(reads)) = open.transaction.as_ref().map(Transaction::reads) else {
            return self.statement_ended(open, None, history, context);
        };
        let snapshot = match (open.plan.level, open.cut) {
            (Level::RepeatableRead | Level::Serializable, Some(cut)) => Snapshot::Shared(cut),
            (Level::Serializable, None) => Snapshot::Present,
            (Level::ReadCommitted | Level::RepeatableRead, _) => Snapshot::Own(None),
        };
        let scan = Scan::new(Owner::Block(open.number), snapshot, reads, context.now());
        self.scans.push(scan);
        open.doing = Doing::Scanning;
    }

    fn roll_back_to(&mut self, open: &mut Open, history: &mut History, context: &mut Context) {
        let Some(keep) = open.savepoints.last().copied() else { return };
        let place = open.savepoints.len() - 1;
        match open.transaction.as_mut().map(|transaction| transaction.roll_back_to(place)) {
            Some(Ok(sends)) => {
                history.undo(open.record, keep);
                open.failed = false;
                if !sends.is_empty() {
                    open.doing = Doing::Undoing;
                    self.send_steps(open, sends, context);
                }
            }
            Some(Err(_)) | None => open.failed = true,
        }
    }

    /// COMMIT or ROLLBACK.
    fn end_block(&mut self, open: &mut Open, history: &mut History, context: &mut Context) {
        let Some(transaction) = open.transaction.take() else { return };
        if open.plan.commits && !open.failed && !transaction.is_lost() {
            history.ask(open.record);
            let (commitment, sends) = transaction.commit();
            open.commitment = Some(commitment);
            open.doing = Doing::Committing;
            self.send_steps(open, sends, context);
        } else {
            open.doing = Doing::RollingBack { until: context.now() + ROLLING_BACK };
            self.send_steps(open, transaction.roll_back(), context);
        }
    }

    fn send_steps(&mut self, open: &mut Open, sends: Sends, context: &mut Context) {
        let unconfirmed = context.sabotages(Sabotage::Confirmations);
        // At this level those that only read are prepared as well, and never in doubt.
        let in_doubt = open.plan.level != Level::Serializable;
        if in_doubt && sends.iter().any(|(_, step)| matches!(step, Step::Prepare { .. })) {
            self.steps(false, context);
        } else if sends.iter().any(|(_, step)| matches!(step, Step::Decide { .. })) {
            self.steps(true, context);
        }
        for (partition, step) in sends {
            if unconfirmed && step == (Step::Finish { commit: true }) {
                continue;
            }
            open.under_way += 1;
            let job = Job::Step { number: open.number, step };
            self.open.push(Call::new(Owner::Block(open.number), job, partition, context.now()));
        }
    }

    /// An anchor is to be told soon that all have confirmed.
    fn forget(&mut self, anchor: PartitionId, number: u64, context: &mut Context) {
        let at = context.now() + context.random.below(FORGETTING);
        self.forgets.push((at, anchor, number));
        self.wake_at(at, context);
    }

    /// Tells anchors what they may forget; it is not told again.
    pub(super) fn tell_anchors(&mut self, context: &mut Context) {
        let now = context.now();
        for (_, partition, number) in self.forgets.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            let route = self.map.as_ref().and_then(|map| routing::route(map, partition));
            if let Some(route) = route
                && let Some(link) = self.links.get_mut(&(Use::Requests, route.worker))
            {
                let mut out = Vec::new();
                Message::Forget(Forget { partition, numbers: vec![number] }).write(&mut out);
                link.send(out, context);
            }
        }
    }

    /// A request or step of a transaction has ended.
    fn call_ended(
        &mut self,
        open: &mut Open,
        partition: PartitionId,
        job: &Job,
        end: CallEnd,
        history: &mut History,
        context: &mut Context,
    ) {
        match job {
            Job::Step { step, .. } => self.step_ended(open, partition, step, end, context),
            Job::Act { act, .. } => {
                let Doing::Deed { deed, grip, within } = open.doing else { return };
                if let (Some(within), Some(transaction)) = (within, &mut open.transaction) {
                    transaction.answered(partition, &Verb::Act(*act), &within, ended(&end));
                }
                let done = self.deed_within_ended(open.session, deed, grip, &end, history);
                self.statement_ended(open, done.then(Vec::new), history, context);
            }
            Job::Lock { .. } => self.locked(open, partition, &end, history, context),
            Job::On { .. } => {
                let Doing::Statement { key, act, within } = open.doing else { return };
                if let (Some(within), Some(verb), Some(transaction)) =
                    (within, self.verb_of(job), &mut open.transaction)
                {
                    let ended = match ended(&end) {
                        Ended::Done if within.prepares.is_some() && has_changed(&end) => Ended::Prepared,
                        ended => ended,
                    };
                    transaction.answered(partition, &verb, &within, ended);
                }
                if matches!(end, CallEnd::Unknown) && within.is_some() {
                    return self.statement_ended(open, None, history, context);
                }
                let did = match end {
                    CallEnd::Response(Response::Duplicate) => None,
                    CallEnd::Response(response) => Some(Did::of(key, act, Some(response)).into_iter().collect()),
                    CallEnd::Count(_) | CallEnd::Error(_) | CallEnd::Nothing | CallEnd::Unknown => None,
                };
                self.statement_ended(open, did, history, context);
            }
        }
    }

    fn step_ended(
        &mut self,
        open: &mut Open,
        partition: PartitionId,
        step: &Step,
        end: CallEnd,
        context: &mut Context,
    ) {
        open.under_way -= 1;
        open.clean &= matches!(end, CallEnd::Count(_));
        let end = match end {
            CallEnd::Count(count) => StepEnd::Done(count),
            CallEnd::Error(error) => StepEnd::Error(error),
            CallEnd::Response(_) | CallEnd::Nothing => {
                StepEnd::Error(SqlError::new(SqlState::CONNECTION_FAILURE, "nobody answers"))
            }
            CallEnd::Unknown => StepEnd::Unknown(SqlError::new(SqlState::STATEMENT_COMPLETION_UNKNOWN, "nobody knows")),
        };
        let end = match end {
            StepEnd::Error(error)
                if context.sabotages(Sabotage::StatementCounts) && error.state() == SqlState::SERIALIZATION_FAILURE =>
            {
                StepEnd::Done(0)
            }
            end => end,
        };
        if let Some(commitment) = &mut open.commitment {
            let sends = commitment.ended(partition, step, end);
            let unconfirmed = context.sabotages(Sabotage::Confirmations) && matches!(step, Step::Decide { .. });
            let forgets = commitment.forgets().or(unconfirmed.then_some(partition));
            if let Some(anchor) = forgets {
                self.forget(anchor, open.number, context);
            }
            return self.send_steps(open, sends, context);
        }
        if let (Doing::Undoing, Step::RollBackTo { .. }) = (&open.doing, step) {
            if !matches!(end, StepEnd::Done(_)) {
                open.failed = true;
                open.transaction.iter_mut().for_each(Transaction::lose);
            }
            if open.under_way == 0 {
                open.doing = Doing::Next;
            }
        }
    }

    fn locked(
        &mut self,
        open: &mut Open,
        partition: PartitionId,
        end: &CallEnd,
        history: &mut History,
        context: &mut Context,
    ) {
        let Doing::Locking(left) = &mut open.doing else { return };
        let Some(place) = left.iter().position(|(of, _)| *of == partition) else { return };
        let (_, within) = left.swap_remove(place);
        let over = left.is_empty();
        if let (Some(verb), Some(transaction)) = (self.verb_of(&Job::Lock { within }), &mut open.transaction) {
            transaction.answered(partition, &verb, &within, ended(end));
        }
        open.failed |= !matches!(end, CallEnd::Count(_));
        if over && open.failed {
            self.statement_ended(open, None, history, context);
        } else if over {
            self.start_block_scan(open, history, context);
        }
    }

    /// A statement has ended: with what it did, or an error, after which the transaction can only go back.
    fn statement_ended(
        &mut self,
        open: &mut Open,
        did: Option<Vec<Did>>,
        history: &mut History,
        context: &mut Context,
    ) {
        open.failed |= did.is_none();
        history.end_statement(open.record, did.unwrap_or_default());
        let pause = context.random.below(open.plan.pause + 1);
        open.doing = if pause > 0 { Doing::Pause(context.now() + pause) } else { Doing::Next };
        if open.failed && open.savepoints.is_empty() {
            self.end_block(open, history, context);
        }
    }
}

/// Whether a statement that writes has changed a row.
fn has_changed(end: &CallEnd) -> bool {
    match end {
        CallEnd::Response(Response::Value(value)) => value.is_some(),
        CallEnd::Response(Response::Wrote(rows)) => *rows > 0,
        CallEnd::Response(Response::Duplicate) | CallEnd::Count(_) => false,
        CallEnd::Error(_) | CallEnd::Nothing | CallEnd::Unknown => false,
    }
}

/// What a coordinator is told of a request's end.
fn ended(end: &CallEnd) -> Ended {
    match end {
        CallEnd::Response(Response::Duplicate) | CallEnd::Error(_) => Ended::Error,
        CallEnd::Response(_) | CallEnd::Count(_) => Ended::Done,
        CallEnd::Nothing => Ended::Nothing,
        CallEnd::Unknown => Ended::Unclear,
    }
}

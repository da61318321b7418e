//! Proxy → worker: point plans, requests that run them, and the steps of transactions.

use super::bytes::{Input, put_cut, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame};
use crate::env::Env;
use crate::id::{CutId, Epoch, PartitionId, PlanId};
use crate::plan::PointPlan;
use crate::transaction::{Level, Step};

/// Registers a plan under a number for the life of the connection; requests name it. A number can be given again after `ForgetPlan`.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanMessage<'a> {
    pub id: PlanId,
    /// postcard of a [`PointPlan`].
    pub bytes: &'a [u8],
}

impl<'a> PlanMessage<'a> {
    /// The plan's bytes, to be kept and sent to every worker that needs it.
    pub fn encode_plan(plan: &PointPlan) -> Vec<u8> {
        let mut out = Vec::new();
        super::bytes::put_postcard(&mut out, plan);
        out
    }

    /// The plan itself.
    pub fn plan(&self) -> Result<PointPlan, WireError> {
        super::read_postcard(self.bytes, "PointPlan")
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Plan, |out| {
            put_u32(out, self.id.0);
            out.extend_from_slice(self.bytes);
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<PlanMessage<'a>, WireError> {
        Ok(PlanMessage { id: PlanId(input.u32("Plan")?), bytes: input.remaining() })
    }
}

/// Runs a plan in one partition. Its identity is the connection's proxy incarnation with `sequence`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Counts up in the proxy, over all its connections; a request that is sent again keeps it.
    pub sequence: u64,
    /// The lowest sequence of this proxy that is unanswered *in this partition* (this request's, when there is no other): the partition
    /// forgets the answers below it, and refuses what is below it.
    pub low: u64,
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub plan: PlanId,
    /// The transaction that it is part of; none when it commits by itself.
    pub within: Option<Within>,
    /// For so many milliseconds it may wait for locks; 0: as long as it takes.
    pub lock_timeout_ms: u32,
    /// postcard of an [`Env`], when the plan needs one: see [`encode_env`].
    pub env: Option<&'a [u8]>,
    pub body: RequestBody<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody<'a> {
    /// A plan that finds its rows: one row ([`crate::row`]) of the plan's parameters.
    Point { params: &'a [u8] },
    /// An INSERT of complete rows, by the table's columns in order: all or none. Or the keys of [`crate::plan::Access::Keys`].
    Insert { rows: u32, bytes: &'a [u8] },
    /// Whatever it was, it must not be executed any more. The answer is the one that it had, if it was executed before; otherwise
    /// [`super::Refusal::Withdrawn`], and so it is from then on.
    Withdraw,
}

impl RequestBody<'_> {
    /// Bytes of what it brings.
    pub fn bytes(&self) -> usize {
        match self {
            RequestBody::Point { params } => params.len(),
            RequestBody::Insert { bytes, .. } => bytes.len(),
            RequestBody::Withdraw => 0,
        }
    }
}

/// A request's place in its transaction, whose proxy is the connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    pub number: u64,
    /// How many requests within the transaction this partition has answered before, with an error or not; what was refused has not been answered. One
    /// that knows of another number has forgotten some: 40001. In one partition they come one after the other, each after the answer of the
    /// one before it.
    pub earlier: u32,
    pub level: Level,
    /// The cut that it reads ([`Level::RepeatableRead`], and read-only transactions that are serializable).
    pub cut: Option<CutId>,
    /// The session's process number, which deadlock reports name.
    pub process: u32,
    /// Nothing of the transaction follows but its commitment, with this partition as anchor: if the statement changes any row here, the partition is
    /// prepared when it answers, as after [`crate::transaction::Step::Prepare`].
    pub prepares: Option<PartitionId>,
}

const HAS_ENV: u8 = 1;
const IS_INSERT: u8 = 2;
const IS_WITHIN: u8 = 4;
const HAS_LOCK_TIMEOUT: u8 = 8;
const IS_WITHDRAWAL: u8 = 16;
const ALL_FLAGS: u8 = HAS_ENV | IS_INSERT | IS_WITHIN | HAS_LOCK_TIMEOUT | IS_WITHDRAWAL;

/// Beside the level, in one byte: a cut follows.
const HAS_CUT: u8 = 0x80;
/// Likewise: an anchor follows.
const PREPARES: u8 = 0x40;

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

impl Within {
    /// Whether what is read stays locked until the transaction ends.
    pub fn locks_reads(&self) -> bool {
        self.level == Level::Serializable && self.cut.is_none()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.level.to_byte() | flag(self.cut.is_some(), HAS_CUT) | flag(self.prepares.is_some(), PREPARES));
        put_u64(out, self.number);
        put_u32(out, self.earlier);
        put_u32(out, self.process);
        if let Some(cut) = self.cut {
            put_cut(out, cut);
        }
        if let Some(anchor) = self.prepares {
            put_u16(out, anchor.0);
        }
    }

    pub(super) fn read(input: &mut Input<'_>, what: &'static str) -> Result<Within, WireError> {
        let level = input.u8(what)?;
        let has = |flag: u8| level & flag != 0;
        Ok(Within {
            level: Level::from_byte(level & !(HAS_CUT | PREPARES)).ok_or(WireError::Malformed(what))?,
            number: input.u64(what)?,
            earlier: input.u32(what)?,
            process: input.u32(what)?,
            cut: if has(HAS_CUT) { Some(input.cut(what)?) } else { None },
            prepares: if has(PREPARES) { Some(PartitionId(input.u16(what)?)) } else { None },
        })
    }
}

impl<'a> Request<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Request, |out| {
            out.push(
                flag(self.env.is_some(), HAS_ENV)
                    | flag(matches!(self.body, RequestBody::Insert { .. }), IS_INSERT)
                    | flag(self.within.is_some(), IS_WITHIN)
                    | flag(self.lock_timeout_ms > 0, HAS_LOCK_TIMEOUT)
                    | flag(matches!(self.body, RequestBody::Withdraw), IS_WITHDRAWAL),
            );
            put_u16(out, self.partition.0);
            put_u32(out, self.epoch.0);
            put_u32(out, self.plan.0);
            put_u64(out, self.sequence);
            put_u64(out, self.low);
            if let Some(within) = self.within {
                within.write(out);
            }
            if self.lock_timeout_ms > 0 {
                put_u32(out, self.lock_timeout_ms);
            }
            if let Some(env) = self.env {
                put_slice(out, env);
            }
            match self.body {
                RequestBody::Point { params } => out.extend_from_slice(params),
                RequestBody::Insert { rows, bytes } => {
                    put_u32(out, rows);
                    out.extend_from_slice(bytes);
                }
                RequestBody::Withdraw => {}
            }
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Request<'a>, WireError> {
        const WHAT: &str = "Request";
        let flags = input.u8(WHAT)?;
        if flags & !ALL_FLAGS != 0 {
            return Err(WireError::Malformed(WHAT));
        }
        let partition = PartitionId(input.u16(WHAT)?);
        let epoch = Epoch(input.u32(WHAT)?);
        let plan = PlanId(input.u32(WHAT)?);
        let sequence = input.u64(WHAT)?;
        let low = input.u64(WHAT)?;
        if low > sequence {
            return Err(WireError::Malformed(WHAT));
        }
        let within = if flags & IS_WITHIN != 0 { Some(Within::read(input, WHAT)?) } else { None };
        let lock_timeout_ms = if flags & HAS_LOCK_TIMEOUT != 0 { input.u32(WHAT)? } else { 0 };
        let env = if flags & HAS_ENV != 0 { Some(input.slice(WHAT)?) } else { None };
        let body = match (flags & IS_INSERT != 0, flags & IS_WITHDRAWAL != 0) {
            (true, false) => RequestBody::Insert { rows: input.u32(WHAT)?, bytes: input.remaining() },
            (false, false) => RequestBody::Point { params: input.remaining() },
            (false, true) if input.is_empty() => RequestBody::Withdraw,
            (_, true) => return Err(WireError::Malformed(WHAT)),
        };
        Ok(Request { sequence, low, partition, epoch, plan, within, lock_timeout_ms, env, body })
    }
}

/// Requests of the connection's proxy that have their answers in a partition, told where an older one still waits, so that its low mark stays:
/// all below this sequence but these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub partition: PartitionId,
    pub below: u64,
    /// Ascending.
    pub but: Vec<u64>,
}

impl Answered {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Answered, |out| {
            put_u16(out, self.partition.0);
            put_u64(out, self.below);
            self.but.iter().for_each(|sequence| put_u64(out, *sequence));
        });
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Answered, WireError> {
        const WHAT: &str = "Answered";
        let (partition, below) = (PartitionId(input.u16(WHAT)?), input.u64(WHAT)?);
        let mut but = Vec::new();
        while !input.is_empty() {
            but.push(input.u64(WHAT)?);
        }
        match but.is_sorted_by(|one, next| one < next) && but.last().is_none_or(|last| *last < below) {
            true => Ok(Answered { partition, below, but }),
            false => Err(WireError::Malformed(WHAT)),
        }
    }
}

/// Transactions of the connection's proxy whose participants have all confirmed that they are committed: their anchor need not remember them.
/// Nothing answers it. Where it is lost the anchor tells the participants after a while, and forgets when they confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    pub partition: PartitionId,
    pub numbers: Vec<u64>,
}

impl Forget {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Forget, |out| {
            put_u16(out, self.partition.0);
            self.numbers.iter().for_each(|number| put_u64(out, *number));
        });
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Forget, WireError> {
        const WHAT: &str = "Forget";
        let partition = PartitionId(input.u16(WHAT)?);
        let mut numbers = Vec::new();
        while !input.is_empty() {
            numbers.push(input.u64(WHAT)?);
        }
        Ok(Forget { partition, numbers })
    }
}

/// A step of a transaction in one partition, under an identity like a request's. The answer is [`super::Outcome::Done`] or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transact {
    pub sequence: u64,
    pub low: u64,
    pub partition: PartitionId,
    pub epoch: Epoch,
    /// Of the transaction, whose proxy is the connection's.
    pub number: u64,
    pub step: Step,
}

impl Transact {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Transact, |out| {
            put_u16(out, self.partition.0);
            put_u32(out, self.epoch.0);
            put_u64(out, self.sequence);
            put_u64(out, self.low);
            put_u64(out, self.number);
            match &self.step {
                Step::RollBackTo { requests, keep } => {
                    out.push(ROLL_BACK_TO);
                    put_u32(out, *requests);
                    put_u32(out, *keep);
                }
                Step::RollBack => out.push(ROLL_BACK),
                Step::Commit { requests } => {
                    out.push(COMMIT);
                    put_u32(out, *requests);
                }
                Step::Prepare { requests, anchor } => {
                    out.push(PREPARE);
                    put_u32(out, *requests);
                    put_u16(out, anchor.0);
                }
                Step::Confirm { requests } => {
                    out.push(CONFIRM);
                    put_u32(out, *requests);
                }
                Step::Decide { requests, participants } => {
                    out.push(DECIDE);
                    put_u32(out, *requests);
                    participants.iter().for_each(|partition| put_u16(out, partition.0));
                }
                Step::Finish { commit } => out.push(if *commit { FINISH_COMMIT } else { FINISH_ABORT }),
                Step::Forget => out.push(FORGET),
            }
        });
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Transact, WireError> {
        const WHAT: &str = "Transact";
        let partition = PartitionId(input.u16(WHAT)?);
        let epoch = Epoch(input.u32(WHAT)?);
        let (sequence, low, number) = (input.u64(WHAT)?, input.u64(WHAT)?, input.u64(WHAT)?);
        if low > sequence {
            return Err(WireError::Malformed(WHAT));
        }
        let step = match input.u8(WHAT)? {
            ROLL_BACK_TO => Step::RollBackTo { requests: input.u32(WHAT)?, keep: input.u32(WHAT)? },
            ROLL_BACK => Step::RollBack,
            COMMIT => Step::Commit { requests: input.u32(WHAT)? },
            PREPARE => Step::Prepare { requests: input.u32(WHAT)?, anchor: PartitionId(input.u16(WHAT)?) },
            CONFIRM => Step::Confirm { requests: input.u32(WHAT)? },
            DECIDE => {
                let requests = input.u32(WHAT)?;
                let mut participants = Vec::new();
                while !input.is_empty() {
                    participants.push(PartitionId(input.u16(WHAT)?));
                }
                Step::Decide { requests, participants }
            }
            FINISH_COMMIT => Step::Finish { commit: true },
            FINISH_ABORT => Step::Finish { commit: false },
            FORGET => Step::Forget,
            _ => return Err(WireError::Malformed(WHAT)),
        };
        Ok(Transact { sequence, low, partition, epoch, number, step })
    }
}

const ROLL_BACK_TO: u8 = 0;
const ROLL_BACK: u8 = 1;
const COMMIT: u8 = 2;
const PREPARE: u8 = 3;
const DECIDE: u8 = 4;
const FINISH_COMMIT: u8 = 5;
const FINISH_ABORT: u8 = 6;
const FORGET: u8 = 7;
const CONFIRM: u8 = 8;

/// An [`Env`] as requests and fragments carry it.
pub fn encode_env(env: &Env) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    super::bytes::put_postcard(&mut out, env);
    out
}

/// The inverse of [`encode_env`].
pub fn decode_env(bytes: &[u8]) -> Result<Env, WireError> {
    super::read_postcard(bytes, "Env")
}

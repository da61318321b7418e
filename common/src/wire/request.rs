//! Proxy → worker: point plans, and requests that run them.

use super::bytes::{Input, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame};
use crate::env::Env;
use crate::id::{Epoch, PartitionId, PlanId};
use crate::plan::PointPlan;

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
    /// postcard of an [`Env`], when the plan needs one: see [`encode_env`].
    pub env: Option<&'a [u8]>,
    pub body: RequestBody<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody<'a> {
    /// A plan that finds its rows: one row ([`crate::row`]) of the plan's parameters.
    Point { params: &'a [u8] },
    /// An INSERT of complete rows, by the table's columns in order: all or none.
    Insert { rows: u32, bytes: &'a [u8] },
}

const HAS_ENV: u8 = 1;
const IS_INSERT: u8 = 2;

impl<'a> Request<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Request, |out| {
            let insert = matches!(self.body, RequestBody::Insert { .. });
            let env = if self.env.is_some() { HAS_ENV } else { 0 };
            out.push(env | if insert { IS_INSERT } else { 0 });
            put_u16(out, self.partition.0);
            put_u32(out, self.epoch.0);
            put_u32(out, self.plan.0);
            put_u64(out, self.sequence);
            put_u64(out, self.low);
            if let Some(env) = self.env {
                put_slice(out, env);
            }
            match self.body {
                RequestBody::Point { params } => out.extend_from_slice(params),
                RequestBody::Insert { rows, bytes } => {
                    put_u32(out, rows);
                    out.extend_from_slice(bytes);
                }
            }
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Request<'a>, WireError> {
        const WHAT: &str = "Request";
        let flags = input.u8(WHAT)?;
        if flags & !(HAS_ENV | IS_INSERT) != 0 {
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
        let env = if flags & HAS_ENV != 0 { Some(input.slice(WHAT)?) } else { None };
        let body = if flags & IS_INSERT != 0 {
            RequestBody::Insert { rows: input.u32(WHAT)?, bytes: input.remaining() }
        } else {
            RequestBody::Point { params: input.remaining() }
        };
        Ok(Request { sequence, low, partition, epoch, plan, env, body })
    }
}

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

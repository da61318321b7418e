//! Messages between proxies, workers and the metadata service: frames of a `u32` length, a kind and a body, all little-endian.
//!
//! The length counts kind and body. Hot messages are written by hand and decoded borrowed from the receive buffer; rare ones are postcard.
//! The first frame of a connection is [`Hello`]; a peer answers it with [`Welcome`] or [`Refused`], and refuses everything else before it.
//! Nothing here panics on bytes from outside: malformed, truncated and oversized frames are a [`WireError`], after which the connection is closed.

mod bytes;
mod hello;
mod request;
mod answer;
mod fragment;
mod replicate;
mod status;
mod control;

pub use answer::{Answer, Notification, OpenAnswer, Outcome, Refusal, write_encoded_answer};
pub use control::{
    Captured, CatalogChange, ChangeError, ChangeId, Control, ControlBody, LockWaits, MAX_CONTROL_BYTES,
    NodeAnnouncement, Notice, NoticeBody, Proposal, Reconfigure,
};
pub use fragment::{Fragment, FragmentBatch, FragmentEnd, FragmentOutcome};
pub use hello::{Hello, MAX_GREETING_BYTES, PROTOCOL_VERSION, Refused, Role, Welcome, local_name};
pub use replicate::{
    Append, AppendPart, AppendWriter, Appended, AppendedPart, EntriesHead, Follow, FollowPart, LogEnd, RootPiece,
    write_appended,
};
pub use request::{Answered, Forget, PlanMessage, Request, RequestBody, Transact, Within, decode_env, encode_env};
pub use status::{JoiningStatus, NodeLife, NodeLoad, NodeStatus, Status};

use crate::decode::decode;
use crate::id::{Epoch, PartitionId, PlanId};
use crate::limits::MAX_FRAME_BYTES;
use crate::transaction::Inquiry;
use std::fmt;

/// Bytes before a frame's kind.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are not a message. The connection that sent them is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A frame that says it is longer than [`MAX_FRAME_BYTES`], or has no kind.
    Length(u32),
    /// A kind that this version doesn't know.
    Kind(u8),
    /// The body of a frame is not what its kind says.
    Malformed(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Length(bytes) => write!(f, "frame of {bytes} bytes"),
            WireError::Kind(kind) => write!(f, "frame of unknown kind {kind}"),
            WireError::Malformed(what) => write!(f, "malformed {what}"),
        }
    }
}

impl std::error::Error for WireError {}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Welcome = 2,
    Refused = 3,
    Plan = 10,
    ForgetPlan = 11,
    Request = 12,
    Fragment = 13,
    FragmentCredit = 14,
    FragmentCancel = 15,
    Transact = 16,
    Cancel = 17,
    Answered = 18,
    Forget = 19,
    Answer = 20,
    FragmentBatch = 21,
    FragmentEnd = 22,
    Notification = 23,
    Append = 30,
    Appended = 31,
    Follow = 32,
    RootPiece = 33,
    RootTaken = 34,
    Inquiry = 35,
    Control = 40,
    Notice = 41,
    Raft = 50,
}

impl Kind {
    const ALL: [Kind; 26] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Refused,
        Kind::Plan,
        Kind::ForgetPlan,
        Kind::Request,
        Kind::Fragment,
        Kind::FragmentCredit,
        Kind::FragmentCancel,
        Kind::Transact,
        Kind::Cancel,
        Kind::Answered,
        Kind::Forget,
        Kind::Answer,
        Kind::FragmentBatch,
        Kind::FragmentEnd,
        Kind::Notification,
        Kind::Append,
        Kind::Appended,
        Kind::Follow,
        Kind::RootPiece,
        Kind::RootTaken,
        Kind::Inquiry,
        Kind::Control,
        Kind::Notice,
        Kind::Raft,
    ];

    fn from_byte(byte: u8) -> Result<Kind, WireError> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(WireError::Kind(byte))
    }
}

/// A frame in a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    pub kind: u8,
    pub body: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// The first frame of `input` and how many bytes it takes there; `None` when it has not arrived whole.
    pub fn split(input: &'a [u8]) -> Result<Option<(RawFrame<'a>, usize)>, WireError> {
        let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        let bytes = length as usize;
        if bytes == 0 || bytes > MAX_FRAME_BYTES {
            return Err(WireError::Length(length));
        }
        let Some((&kind, body)) = rest.get(..bytes).and_then(<[u8]>::split_first) else { return Ok(None) };
        Ok(Some((RawFrame { kind, body }, LENGTH_BYTES + bytes)))
    }

    /// The same for a frame that may not be longer than `limit`, of which this is known as soon as its length is.
    pub fn split_within(input: &'a [u8], limit: usize) -> Result<Option<(RawFrame<'a>, usize)>, WireError> {
        match input.split_first_chunk::<LENGTH_BYTES>().map(|(length, _)| u32::from_le_bytes(*length)) {
            Some(length) if length as usize > limit => Err(WireError::Length(length)),
            Some(_) | None => RawFrame::split(input),
        }
    }

    /// How long the first frame of `input` is with its length, as soon as that can be told. That much may never come: who makes room for it does so
    /// as bytes arrive.
    pub fn needed(input: &[u8]) -> Option<usize> {
        let (length, _) = input.split_first_chunk::<LENGTH_BYTES>()?;
        Some(LENGTH_BYTES + (u32::from_le_bytes(*length) as usize).min(MAX_FRAME_BYTES))
    }
}

/// Every message. Who receives one that is not for its role closes the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Anyone who connects → who listens.
    Hello(Hello),
    Welcome(Welcome),
    Refused(Refused),
    /// Proxy → worker.
    Plan(PlanMessage<'a>),
    ForgetPlan(PlanId),
    Request(Request<'a>),
    Transact(Transact),
    /// Give the request of this sequence up if it waits for a lock or for its rows: it is answered with 57014 then. No reply of its own.
    Cancel {
        sequence: u64,
    },
    /// What a partition need not remember any longer though it is above the low mark. It is told again, so that losing it does no harm.
    Answered(Answered),
    /// Committed transactions of which nobody will ask the anchor any more.
    Forget(Forget),
    Fragment(Fragment<'a>),
    /// The receiver of a fragment's batches has room for so many more.
    FragmentCredit {
        sequence: u64,
        batches: u32,
    },
    FragmentCancel {
        sequence: u64,
    },
    /// Worker → proxy.
    Answer(Answer<'a>),
    FragmentBatch(FragmentBatch<'a>),
    FragmentEnd(FragmentEnd),
    Notification(Notification<'a>),
    /// Primary's worker → backup's worker, and back.
    Append(Append<'a>),
    Appended(Appended<'a>),
    /// Backup's or joining replica's worker → primary's worker: where its log ends, in its epoch.
    Follow(Follow),
    /// Primary's worker → joining replica's worker, and back: a part of a root, and that it has been taken.
    RootPiece(RootPiece<'a>),
    RootTaken {
        partition: PartitionId,
        epoch: Epoch,
        number: u32,
    },
    /// Worker → worker: about a transaction whose coordinator is silent.
    Inquiry(Inquiry),
    /// Proxy or node → metadata service, and back.
    Control(Control),
    Notice(Notice),
    /// Member of the metadata group → member, and back: what it says only they know.
    Raft(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Appends the message as one frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Message::Hello(hello) => write_postcard(out, Kind::Hello, hello),
            Message::Welcome(welcome) => write_postcard(out, Kind::Welcome, welcome),
            Message::Refused(refused) => write_postcard(out, Kind::Refused, refused),
            Message::Plan(plan) => plan.write(out),
            Message::ForgetPlan(plan) => frame(out, Kind::ForgetPlan, |out| bytes::put_u32(out, plan.0)),
            Message::Request(request) => request.write(out),
            Message::Transact(transact) => transact.write(out),
            Message::Cancel { sequence } => frame(out, Kind::Cancel, |out| bytes::put_u64(out, *sequence)),
            Message::Answered(answered) => answered.write(out),
            Message::Forget(forget) => forget.write(out),
            Message::Fragment(fragment) => fragment.write(out),
            Message::FragmentCredit { sequence, batches } => frame(out, Kind::FragmentCredit, |out| {
                bytes::put_u64(out, *sequence);
                bytes::put_u32(out, *batches);
            }),
            Message::FragmentCancel { sequence } => {
                frame(out, Kind::FragmentCancel, |out| bytes::put_u64(out, *sequence));
            }
            Message::Answer(answer) => answer.write(out),
            Message::FragmentBatch(batch) => batch.write(out),
            Message::FragmentEnd(end) => end.write(out),
            Message::Notification(notification) => notification.write(out),
            Message::Append(append) => append.write(out),
            Message::Appended(appended) => appended.write(out),
            Message::Follow(follow) => write_postcard(out, Kind::Follow, follow),
            Message::RootPiece(piece) => piece.write(out),
            Message::RootTaken { partition, epoch, number } => frame(out, Kind::RootTaken, |out| {
                bytes::put_u16(out, partition.0);
                bytes::put_u32(out, epoch.0);
                bytes::put_u32(out, *number);
            }),
            Message::Inquiry(inquiry) => write_postcard(out, Kind::Inquiry, inquiry),
            Message::Control(control) => write_postcard(out, Kind::Control, control),
            Message::Notice(notice) => write_postcard(out, Kind::Notice, notice),
            Message::Raft(body) => frame(out, Kind::Raft, |out| out.extend_from_slice(body)),
        }
    }

    /// The message in a frame.
    pub fn decode(frame: RawFrame<'a>) -> Result<Message<'a>, WireError> {
        let body = frame.body;
        let mut input = bytes::Input::new(body);
        let message = match Kind::from_byte(frame.kind)? {
            Kind::Hello => return Ok(Message::Hello(read_postcard(body, "Hello")?)),
            Kind::Welcome => return Ok(Message::Welcome(read_postcard(body, "Welcome")?)),
            Kind::Refused => return Ok(Message::Refused(read_postcard(body, "Refused")?)),
            Kind::Plan => Message::Plan(PlanMessage::read(&mut input)?),
            Kind::ForgetPlan => Message::ForgetPlan(PlanId(input.u32("ForgetPlan")?)),
            Kind::Request => Message::Request(Request::read(&mut input)?),
            Kind::Transact => Message::Transact(Transact::read(&mut input)?),
            Kind::Cancel => Message::Cancel { sequence: input.u64("Cancel")? },
            Kind::Answered => Message::Answered(Answered::read(&mut input)?),
            Kind::Forget => Message::Forget(Forget::read(&mut input)?),
            Kind::Fragment => Message::Fragment(Fragment::read(&mut input)?),
            Kind::FragmentCredit => Message::FragmentCredit {
                sequence: input.u64("FragmentCredit")?,
                batches: input.u32("FragmentCredit")?,
            },
            Kind::FragmentCancel => Message::FragmentCancel { sequence: input.u64("FragmentCancel")? },
            Kind::Answer => Message::Answer(Answer::read(&mut input)?),
            Kind::FragmentBatch => Message::FragmentBatch(FragmentBatch::read(&mut input)?),
            Kind::FragmentEnd => Message::FragmentEnd(FragmentEnd::read(&mut input)?),
            Kind::Notification => Message::Notification(Notification::read(&mut input)?),
            Kind::Append => Message::Append(Append::read(&mut input)?),
            Kind::Appended => Message::Appended(Appended::read(&mut input)?),
            Kind::Follow => return Ok(Message::Follow(read_postcard(body, "Follow")?)),
            Kind::RootPiece => Message::RootPiece(RootPiece::read(&mut input)?),
            Kind::RootTaken => Message::RootTaken {
                partition: PartitionId(input.u16("RootTaken")?),
                epoch: Epoch(input.u32("RootTaken")?),
                number: input.u32("RootTaken")?,
            },
            Kind::Inquiry => return Ok(Message::Inquiry(read_postcard(body, "Inquiry")?)),
            Kind::Control => return Ok(Message::Control(read_postcard(body, "Control")?)),
            Kind::Notice => return Ok(Message::Notice(read_postcard(body, "Notice")?)),
            Kind::Raft => return Ok(Message::Raft(body)),
        };
        input.finish()?;
        Ok(message)
    }
}

/// Writes one frame whose body is what `body` appends.
fn frame(out: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
    body(out);
    let length = out.len() - start - LENGTH_BYTES;
    // Senders keep rows and batches far below this; a longer frame could not be received by anyone.
    assert!(length <= MAX_FRAME_BYTES, "a frame of {length} bytes was written");
    if let Some(field) = out.get_mut(start..start + LENGTH_BYTES) {
        field.copy_from_slice(&(length as u32).to_le_bytes());
    }
}

fn write_postcard(out: &mut Vec<u8>, kind: Kind, message: &impl serde::Serialize) {
    frame(out, kind, |out| bytes::put_postcard(out, message));
}

fn read_postcard<T: serde::de::DeserializeOwned>(body: &[u8], what: &'static str) -> Result<T, WireError> {
    decode(body).map_err(|_| WireError::Malformed(what))
}

#[cfg(test)]
mod tests;

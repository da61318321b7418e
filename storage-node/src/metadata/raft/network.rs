//! Calls between members, over frames on the control port: one connection per caller and member, one call at a time.

use super::types::{MemberId, Peer, Raft, Types};
use crate::frames::{self, FrameReader};
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use toroid_common::id::ClusterId;
use toroid_common::secret::Key;
use toroid_common::wire::{Hello, Message, PROTOCOL_VERSION, Role};

/// Votes that a member asks for when the leader wants it to lead, and how long it waits for each.
const CAMPAIGNS: u32 = 8;
const CAMPAIGN: Duration = Duration::from_millis(40);

/// A call, with whom it is for: an address may have passed to another process.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    to: MemberId,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
enum What {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<MemberId>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// Stand for election now: the leader that asks for it gives its vote.
    Campaign,
}

#[derive(Debug, Serialize, Deserialize)]
enum Return {
    Append(Result<AppendEntriesResponse<MemberId>, RaftError<MemberId>>),
    Vote(Result<VoteResponse<MemberId>, RaftError<MemberId>>),
    Snapshot(Result<InstallSnapshotResponse<MemberId>, RaftError<MemberId, InstallSnapshotError>>),
    Campaign,
    /// The process is another member, or none.
    Elsewhere,
}

/// What a member answers to the bytes of a call; an error when they are none.
pub(super) async fn answer(raft: &Raft, me: MemberId, call: &[u8]) -> io::Result<Vec<u8>> {
    let Call { to, what } = postcard::from_bytes(call).map_err(io::Error::other)?;
    let result = match what {
        _ if to != me => Return::Elsewhere,
        What::Append(request) => Return::Append(raft.append_entries(request).await),
        What::Vote(request) => Return::Vote(raft.vote(request).await),
        What::Snapshot(request) => Return::Snapshot(raft.install_snapshot(request).await),
        What::Campaign => {
            tokio::spawn(campaign(raft.clone(), me));
            Return::Campaign
        }
    };
    postcard::to_stdvec(&result).map_err(io::Error::other)
}

/// Stands for election until somebody leads in a later term: members that heard of the former leader a moment ago refuse the first votes.
async fn campaign(raft: Raft, me: MemberId) {
    let metrics = raft.server_metrics();
    let term = metrics.borrow().vote.leader_id.term;
    let is_over = || {
        let metrics = metrics.borrow();
        metrics.current_leader == Some(me)
            || (metrics.vote.leader_id.term > term && metrics.current_leader.is_some_and(|leader| leader != me))
    };
    for _ in 0..CAMPAIGNS {
        if is_over() || raft.trigger().elect().await.is_err() {
            return;
        }
        tokio::time::sleep(CAMPAIGN).await;
    }
}

/// How this member reaches others.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub me: u32,
    pub cluster: ClusterId,
    pub key: Option<Key>,
}

impl RaftNetworkFactory<Types> for Caller {
    type Network = Line;

    async fn new_client(&mut self, target: MemberId, peer: &Peer) -> Line {
        Line { caller: self.clone(), target, peer: peer.clone(), open: None }
    }
}

/// The connection to one member, opened when it is needed.
#[derive(Debug)]
pub(super) struct Line {
    caller: Caller,
    target: MemberId,
    peer: Peer,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    reader: FrameReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Caller {
    /// Asks a member to stand for election, and waits until it has heard.
    pub(super) async fn elevate(&self, target: MemberId, peer: Peer, within: Duration) -> io::Result<()> {
        let mut line = Line { caller: self.clone(), target, peer, open: None };
        match line.call(What::Campaign, within).await {
            Ok(Return::Campaign) => Ok(()),
            Ok(_) => Err(frames::unexpected()),
            Err(Failure::Unreachable(error) | Failure::Late(error)) => Err(error),
        }
    }
}

impl Line {
    async fn connect(&self) -> io::Result<Open> {
        let (cluster, role) = (Some(self.caller.cluster), Role::Member { member: self.caller.me });
        let hello = Hello { version: PROTOCOL_VERSION, cluster, role };
        let (reader, write) = frames::connect(self.peer.control, self.caller.key.as_ref(), hello, None).await?;
        Ok(Open { reader, write })
    }

    async fn exchange(&mut self, what: What) -> io::Result<Return> {
        // Taken out while the call is under way: one that is given up leaves a connection in the middle of an answer.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let call = postcard::to_stdvec(&Call { to: self.target, what }).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        Message::Raft(&call).write(&mut bytes);
        open.write.write_all(&bytes).await?;
        let answer = open.reader.next(|message| match message {
            Message::Raft(body) => postcard::from_bytes(body).map_err(io::Error::other),
            _ => Err(frames::unexpected()),
        });
        let answer = answer.await?;
        self.open = Some(open);
        Ok(answer)
    }

    async fn call(&mut self, what: What, within: Duration) -> Result<Return, Failure> {
        match tokio::time::timeout(within, self.exchange(what)).await {
            Ok(Ok(Return::Elsewhere)) => Err(Failure::Unreachable(io::Error::other("another process is there"))),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::Unreachable(error)),
            Err(_) => Err(Failure::Late(io::ErrorKind::TimedOut.into())),
        }
    }

    fn remote<T, E: std::error::Error>(
        &self,
        result: Result<T, RaftError<MemberId, E>>,
    ) -> Result<T, RPCError<MemberId, Peer, RaftError<MemberId, E>>> {
        result.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

/// Why a call has no answer.
enum Failure {
    Unreachable(io::Error),
    Late(io::Error),
}

impl<E: std::error::Error> From<Failure> for RPCError<MemberId, Peer, E> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(error) => RPCError::Unreachable(Unreachable::new(&error)),
            Failure::Late(error) => RPCError::Network(NetworkError::new(&error)),
        }
    }
}

fn another() -> Failure {
    Failure::Unreachable(io::Error::new(io::ErrorKind::InvalidData, "the answer to another call"))
}

type Answered<T, E = openraft::error::Infallible> = Result<T, RPCError<MemberId, Peer, RaftError<MemberId, E>>>;

impl RaftNetwork<Types> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Answered<AppendEntriesResponse<MemberId>> {
        match self.call(What::Append(rpc), option.hard_ttl()).await? {
            Return::Append(result) => self.remote(result),
            Return::Vote(_) | Return::Snapshot(_) | Return::Campaign | Return::Elsewhere => Err(another().into()),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Answered<InstallSnapshotResponse<MemberId>, InstallSnapshotError> {
        match self.call(What::Snapshot(rpc), option.hard_ttl()).await? {
            Return::Snapshot(result) => self.remote(result),
            Return::Vote(_) | Return::Append(_) | Return::Campaign | Return::Elsewhere => Err(another().into()),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<MemberId>, option: RPCOption) -> Answered<VoteResponse<MemberId>> {
        match self.call(What::Vote(rpc), option.hard_ttl()).await? {
            Return::Vote(result) => self.remote(result),
            Return::Append(_) | Return::Snapshot(_) | Return::Campaign | Return::Elsewhere => Err(another().into()),
        }
    }
}

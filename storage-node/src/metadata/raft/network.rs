//! Calls between members, over frames on the control port: one call at a time on a connection. Raft asks for another caller for each confirmation, so
//! connections outlive their callers.

use super::types::{MemberId, Peer, Raft, Types};
use crate::frames::{self, Reading, Writing};
use crate::neighbours::Stream;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
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
    /// Say that the member is there.
    Present,
}

#[derive(Debug, Serialize, Deserialize)]
enum Return {
    Append(Result<AppendEntriesResponse<MemberId>, RaftError<MemberId>>),
    Vote(Result<VoteResponse<MemberId>, RaftError<MemberId>>),
    Snapshot(Result<InstallSnapshotResponse<MemberId>, RaftError<MemberId, InstallSnapshotError>>),
    Campaign,
    Present,
    /// The process is another member, or none; or the caller is not who it says.
    Elsewhere,
}

/// What a member answers to the bytes of a call; an error when they are none. The caller says who it is and where.
pub(super) async fn answer(
    raft: &Raft,
    me: MemberId,
    caller: (MemberId, SocketAddr),
    call: &[u8],
) -> io::Result<Vec<u8>> {
    let Call { to, what } = postcard::from_bytes(call).map_err(io::Error::other)?;
    let result = match what {
        _ if to != me => Return::Elsewhere,
        // Who leads was elected, and may have moved meanwhile.
        What::Vote(_) | What::Campaign if is_known_elsewhere(raft, caller) => Return::Elsewhere,
        What::Present => Return::Present,
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

/// Whether this member is another process, as far as is known: one whose directory was copied, or which came back after it had been replaced. It would vote
/// twice. One that has moved is known where it is as soon as it has joined.
fn is_known_elsewhere(raft: &Raft, (member, control): (MemberId, SocketAddr)) -> bool {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow();
    let elsewhere = metrics.membership_config.nodes().any(|(id, peer)| *id == member && peer.control != control);
    if elsewhere {
        tracing::warn!(member, %control, "another process is this member of the metadata group: its vote does not count");
    }
    elsewhere
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

/// Connections to one member that wait for the next caller. More are open while more calls are under way.
const IDLE: usize = 2;

/// How this member reaches others.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    me: u32,
    /// Where this member is itself.
    control: SocketAddr,
    cluster: ClusterId,
    key: Option<Key>,
    idle: Arc<Mutex<Idle>>,
}

/// Connections that no caller has, in the middle of nothing.
type Idle = BTreeMap<(MemberId, SocketAddr), Vec<Open>>;

impl RaftNetworkFactory<Types> for Caller {
    type Network = Line;

    async fn new_client(&mut self, target: MemberId, peer: &Peer) -> Line {
        self.line(target, peer.clone())
    }
}

/// What reaches one member; its connection is opened when it is needed.
#[derive(Debug)]
pub(super) struct Line {
    caller: Caller,
    target: MemberId,
    peer: Peer,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    reader: Reading,
    write: Writing,
}

impl Open {
    async fn exchange(&mut self, call: &[u8]) -> io::Result<Return> {
        let mut bytes = Vec::new();
        Message::Raft(call).write(&mut bytes);
        self.write.write_all(&bytes).await?;
        let answer = self.reader.next(|message| match message {
            Message::Raft(body) => postcard::from_bytes(body).map_err(io::Error::other),
            _ => Err(frames::unexpected()),
        });
        answer.await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut idle = self.caller.idle();
        let waiting = idle.entry((self.target, self.peer.control)).or_default();
        if waiting.len() < IDLE {
            waiting.push(open);
        }
    }
}

impl Caller {
    pub(super) fn new(me: u32, control: SocketAddr, cluster: ClusterId, key: Option<Key>) -> Caller {
        Caller { me, control, cluster, key, idle: Arc::default() }
    }

    /// Whether a process answers there as this member.
    pub(super) async fn is_answered(&self, target: MemberId, peer: Peer, within: Duration) -> bool {
        matches!(self.line(target, peer).call(What::Present, within).await, Ok(Return::Present))
    }

    fn line(&self, target: MemberId, peer: Peer) -> Line {
        Line { caller: self.clone(), target, peer, open: None }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a member to stand for election, and waits until it has heard.
    pub(super) async fn elevate(&self, target: MemberId, peer: Peer, within: Duration) -> io::Result<()> {
        let mut line = self.line(target, peer);
        match line.call(What::Campaign, within).await {
            Ok(Return::Campaign) => Ok(()),
            Ok(_) => Err(frames::unexpected()),
            Err(Failure::Unreachable(error) | Failure::Late(error)) => Err(error),
        }
    }
}

impl Line {
    async fn connect(&self) -> io::Result<Open> {
        let (cluster, role) =
            (Some(self.caller.cluster), Role::Member { member: self.caller.me, control: self.caller.control });
        let hello = Hello { version: PROTOCOL_VERSION, cluster, role };
        let connecting = Stream::connect(self.peer.control);
        let (reader, write) = frames::connect(connecting, self.caller.key.as_ref(), hello, None).await?;
        Ok(Open { reader, write })
    }

    /// One that an earlier caller has left.
    fn take_idle(&self) -> Option<Open> {
        self.caller.idle().get_mut(&(self.target, self.peer.control))?.pop()
    }

    async fn exchange(&mut self, what: What) -> io::Result<Return> {
        let call = postcard::to_stdvec(&Call { to: self.target, what }).map_err(io::Error::other)?;
        // Taken out while the call is under way: one that is given up leaves a connection in the middle of an answer.
        if let Some(mut open) = self.open.take().or_else(|| self.take_idle()) {
            if let Ok(answer) = open.exchange(&call).await {
                self.open = Some(open);
                return Ok(answer);
            }
            // Its process may have ended long ago, and those of the same time with it. To be asked twice does no harm.
            self.caller.idle().remove(&(self.target, self.peer.control));
        }
        let mut open = self.connect().await?;
        let answer = open.exchange(&call).await?;
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
            Return::Vote(_) | Return::Snapshot(_) | Return::Campaign | Return::Present | Return::Elsewhere => {
                Err(another().into())
            }
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Answered<InstallSnapshotResponse<MemberId>, InstallSnapshotError> {
        match self.call(What::Snapshot(rpc), option.hard_ttl()).await? {
            Return::Snapshot(result) => self.remote(result),
            Return::Vote(_) | Return::Append(_) | Return::Campaign | Return::Present | Return::Elsewhere => {
                Err(another().into())
            }
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<MemberId>, option: RPCOption) -> Answered<VoteResponse<MemberId>> {
        match self.call(What::Vote(rpc), option.hard_ttl()).await? {
            Return::Vote(result) => self.remote(result),
            Return::Append(_) | Return::Snapshot(_) | Return::Campaign | Return::Present | Return::Elsewhere => {
                Err(another().into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::FrameReader;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::net::{TcpListener, TcpStream};
    use toroid_common::id::{Incarnation, NodeId};
    use toroid_common::wire::{MAX_CONTROL_BYTES, Welcome};

    const TARGET: MemberId = 7;
    const WITHIN: Duration = Duration::from_secs(20);

    /// Answers so many calls.
    async fn answer(stream: TcpStream, calls: u32) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut reader = FrameReader::new(read, MAX_CONTROL_BYTES);
        reader.next(|_| Ok(())).await?;
        let mut bytes = Vec::new();
        Message::Welcome(Welcome { cluster: ClusterId(1), worker: None, incarnation: Incarnation(1) })
            .write(&mut bytes);
        write.write_all(&bytes).await?;
        for _ in 0..calls {
            reader.next(|_| Ok(())).await?;
            let mut bytes = Vec::new();
            Message::Raft(&postcard::to_stdvec(&Return::Campaign).unwrap()).write(&mut bytes);
            write.write_all(&bytes).await?;
        }
        Ok(())
    }

    /// A member that ends each connection after so many calls; how many there were.
    async fn member(calls: u32) -> (Peer, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Peer { node: NodeId(2), control: listener.local_addr().unwrap() };
        let accepted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, calls));
            }
        });
        (peer, accepted)
    }

    async fn call(line: &mut Line) {
        assert!(matches!(line.call(What::Campaign, WITHIN).await, Ok(Return::Campaign)));
    }

    #[tokio::test]
    async fn callers_that_follow_each_other_share_connections() {
        let (peer, accepted) = member(u32::MAX).await;
        let mut caller = Caller::new(1, SocketAddr::from(([127, 0, 0, 1], 9)), ClusterId(1), None);
        for _ in 0..50 {
            call(&mut caller.new_client(TARGET, &peer).await).await;
        }
        assert_eq!(accepted.load(Ordering::Relaxed), 1);
        let mut lines: Vec<Line> = (0..4).map(|_| caller.line(TARGET, peer.clone())).collect();
        for line in &mut lines {
            call(line).await;
        }
        assert_eq!(accepted.load(Ordering::Relaxed), 4, "one call at a time on each");
        drop(lines);
        let kept: usize = caller.idle().values().map(Vec::len).sum();
        assert_eq!(kept, IDLE);
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_meanwhile_is_made_again() {
        let (peer, accepted) = member(1).await;
        let mut caller = Caller::new(1, SocketAddr::from(([127, 0, 0, 1], 9)), ClusterId(1), None);
        for _ in 0..10 {
            call(&mut caller.new_client(TARGET, &peer).await).await;
        }
        assert_eq!(accepted.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_leaves_no_connection_behind() {
        let (peer, accepted) = member(0).await;
        let caller = Caller::new(1, SocketAddr::from(([127, 0, 0, 1], 9)), ClusterId(1), None);
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = Peer { control: silent.local_addr().unwrap(), ..peer.clone() };
        let mut line = caller.line(TARGET, deaf);
        assert!(matches!(line.call(What::Campaign, Duration::from_millis(20)).await, Err(Failure::Late(_))));
        let mut line = caller.line(TARGET, peer);
        assert!(matches!(line.call(What::Campaign, WITHIN).await, Err(Failure::Unreachable(_))));
        drop(line);
        assert_eq!((accepted.load(Ordering::Relaxed), caller.idle().len()), (1, 0));
    }
}

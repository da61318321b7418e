//! Opening a connection to a worker or the metadata service, and reading whole frames from it.

use super::stream::{self, ReadHalf, WriteHalf};
use bytes::{Buf, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use toroid_common::id::ClusterId;
use toroid_common::secret::{Exchange, Key, NONCE_BYTES};
use toroid_common::wire::{Hello, MAX_GREETING_BYTES, Message, PROTOCOL_VERSION, RawFrame, Role, Welcome, WireError};

/// Least room for one read: some hundred answers to point requests.
const READ_BYTES: usize = 64 << 10;
/// How long it may take until a peer is connected to and has said welcome.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects and introduces the proxy.
pub(super) async fn open(
    address: SocketAddr,
    key: Option<&Key>,
    cluster: Option<ClusterId>,
    role: Role,
) -> io::Result<(ReadHalf, WriteHalf, Welcome)> {
    within_patience(async {
        let (mut read, mut write) = stream::connect(address).await?;
        let welcome = introduce(&mut read, &mut write, key, cluster, role).await?;
        Ok((read, write, welcome))
    })
    .await
}

/// Waits for a connection to stand as long as that may take.
pub(super) async fn within_patience<T>(opening: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was not there in time")),
    }
}

/// Introduces the proxy on a new connection.
pub(super) async fn introduce(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    key: Option<&Key>,
    cluster: Option<ClusterId>,
    role: Role,
) -> io::Result<Welcome> {
    let mut input = BytesMut::new();
    if let Some(key) = key {
        prove(read, write, &mut input, key).await?;
    }
    let mut out = Vec::new();
    Message::Hello(Hello { version: PROTOCOL_VERSION, cluster, role }).write(&mut out);
    write.write_all(&out).await?;
    loop {
        if let Some((frame, used)) = RawFrame::split_within(&input, MAX_GREETING_BYTES).map_err(invalid)? {
            let answer = Message::decode(frame).map_err(invalid)?;
            let result = match answer {
                Message::Welcome(welcome) => Ok(welcome),
                Message::Refused(refused) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, refused.reason)),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "another message where a welcome should be")),
            };
            input.advance(used);
            return result;
        }
        if read.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Both sides prove that they have the cluster's key.
async fn prove(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    input: &mut BytesMut,
    key: &Key,
) -> io::Result<()> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let mut out = Vec::new();
    let mut exchange = Exchange::connect(key, nonce, &mut out);
    loop {
        write.write_all(&out).await?;
        out.clear();
        if exchange.is_done() {
            return Ok(());
        }
        if read.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let used = exchange.advance(input, &mut out).map_err(io::Error::other)?;
        input.advance(used);
    }
}

/// Makes room in `input` for a good read, and as its first frame grows for as much as has arrived of it: a length is only said.
pub(super) fn reserve(input: &mut BytesMut) {
    let wanted = RawFrame::needed(input).map_or(0, |needed| needed.saturating_sub(input.len()));
    input.reserve(wanted.min(input.len()).max(READ_BYTES / 4));
}

pub(super) fn read_buffer() -> BytesMut {
    BytesMut::with_capacity(READ_BYTES)
}

pub(super) fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

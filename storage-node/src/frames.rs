//! Whole frames from a control connection.

use crate::neighbours::Stream;
use crate::prove;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use toroid_common::secret::Key;
use toroid_common::wire::{Hello, MAX_CONTROL_BYTES, MAX_GREETING_BYTES, Message, RawFrame, WireError};

/// Both directions of a control connection.
pub(crate) type Reading = FrameReader<ReadHalf<Stream>>;
pub(crate) type Writing = WriteHalf<Stream>;

/// Reads frames of bounded length.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    bytes: Vec<u8>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(from: R, limit: usize) -> FrameReader<R> {
        FrameReader { from, bytes: Vec::new(), limit }
    }

    /// Longer frames may come now.
    pub fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What `take` makes of the next message. Nothing is lost when the call is given up while it waits.
    pub async fn next<T>(&mut self, take: impl FnOnce(Message<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            if let Some((frame, used)) = RawFrame::split_within(&self.bytes, self.limit).map_err(invalid)? {
                let taken = Message::decode(frame).map_err(invalid).and_then(take);
                self.bytes.drain(..used);
                return taken;
            }
            if self.from.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A control connection on which the other side has said welcome, within some seconds; `first` goes out with the greeting.
pub(crate) async fn connect(
    connecting: impl Future<Output = io::Result<Stream>>,
    key: Option<&Key>,
    hello: Hello,
    first: Option<&Message<'_>>,
) -> io::Result<(Reading, Writing)> {
    prove::within_patience(greet(connecting, key, hello, first)).await
}

async fn greet(
    connecting: impl Future<Output = io::Result<Stream>>,
    key: Option<&Key>,
    hello: Hello,
    first: Option<&Message<'_>>,
) -> io::Result<(Reading, Writing)> {
    let mut stream = connecting.await?;
    prove::to_listener(&mut stream, key).await?;
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, MAX_GREETING_BYTES);
    let mut bytes = Vec::new();
    Message::Hello(hello).write(&mut bytes);
    if let Some(first) = first {
        first.write(&mut bytes);
    }
    write.write_all(&bytes).await?;
    reader
        .next(|message| match message {
            Message::Welcome(_) => Ok(()),
            Message::Refused(refused) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, refused.reason)),
            _ => Err(unexpected()),
        })
        .await?;
    reader.allow(MAX_CONTROL_BYTES);
    Ok((reader, write))
}

fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Another message than this connection may carry now.
pub fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that does not belong here")
}

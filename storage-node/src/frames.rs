//! Whole frames from a control connection.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use toroid_common::wire::{LENGTH_BYTES, Message, RawFrame, WireError};

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

    /// What `take` makes of the next message. Nothing is lost when the call is given up while it waits.
    pub async fn next<T>(&mut self, take: impl FnOnce(Message<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            if RawFrame::needed(&self.bytes).is_some_and(|needed| needed > self.limit + LENGTH_BYTES) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame beyond the limit of this connection"));
            }
            if let Some((frame, used)) = RawFrame::split(&self.bytes).map_err(invalid)? {
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

fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Another message than this connection may carry now.
pub fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that does not belong here")
}

//! Connections to control ports: TCP, and between nodes of one process memory, which costs no system call and, where they share a thread, wakes no other.

use crate::stream;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes that may be on their way in one direction of a connection that is memory.
const ROOM_BYTES: usize = 64 << 10;

/// The nodes of one process, by the addresses of their control ports. Clones mean the same process.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    doors: Arc<Mutex<BTreeMap<SocketAddr, UnboundedSender<DuplexStream>>>>,
}

/// Where the neighbours of one node come in; while it lives.
#[derive(Debug)]
pub(crate) struct Entrance(UnboundedReceiver<DuplexStream>);

impl Neighbours {
    fn doors(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, UnboundedSender<DuplexStream>>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves an address beside the socket that others use.
    pub(crate) fn listen(&self, address: SocketAddr) -> Entrance {
        let (knock, entrance) = unbounded_channel();
        self.doors().insert(address, knock);
        Entrance(entrance)
    }

    /// Connects to a control port.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let (here, there) = duplex(ROOM_BYTES);
        // Who is not, or no longer, of this process may still be at that address.
        let let_in = self.doors().get(&address).is_some_and(|door| door.send(there).is_ok());
        match let_in {
            true => Ok(Stream::Near(here)),
            false => Stream::connect(address).await,
        }
    }
}

impl Entrance {
    /// The next neighbour; waits for ever when none can come any more.
    pub(crate) async fn next(&mut self) -> Stream {
        match self.0.recv().await {
            Some(stream) => Stream::Near(stream),
            None => std::future::pending().await,
        }
    }
}

/// A connection to or from a control port.
#[derive(Debug)]
pub(crate) enum Stream {
    Far(TcpStream),
    Near(DuplexStream),
}

impl Stream {
    /// Over the network.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let stream = Stream::Far(TcpStream::connect(address).await?);
        stream.set_up()?;
        Ok(stream)
    }

    /// What the system is to know of a connection before it is used.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        match self {
            Stream::Far(stream) => {
                stream.set_nodelay(true)?;
                stream::watch_over(SockRef::from(stream))
            }
            Stream::Near(_) => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Far(stream) => Pin::new(stream).poll_read(cx, out),
            Stream::Near(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Far(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Near(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Far(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Near(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Far(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Near(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn neighbours_meet_in_memory_and_others_at_the_port() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (neighbours, alone) = (Neighbours::default(), Neighbours::default());
        let mut entrance = neighbours.listen(address);
        let mut near = neighbours.clone().connect(address).await.unwrap();
        assert!(matches!(near, Stream::Near(_)));
        near.write_all(b"hello").await.unwrap();
        let (mut there, mut got) = (entrance.next().await, [0; 5]);
        there.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        drop(there);
        assert_eq!(near.read(&mut got).await.unwrap(), 0, "the other end is gone");
        assert_eq!(near.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        assert!(matches!(alone.connect(address).await.unwrap(), Stream::Far(_)));
        drop(entrance);
        assert!(matches!(neighbours.connect(address).await.unwrap(), Stream::Far(_)), "it serves here no more");
        drop(socket);
        assert_eq!(neighbours.connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}

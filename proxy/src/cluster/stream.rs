//! A connection's two halves: TCP, or on one host the Unix socket beside a worker's TCP port, which costs half.

use socket2::{SockRef, TcpKeepalive};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use toroid_common::limits::{PEER_IDLE_SECONDS, PEER_PROBE_SECONDS, PEER_PROBES, PEER_TAKING_SECONDS};
use toroid_common::wire::local_name;

/// Bytes that a Unix socket holds on their way, if the system allows as many.
const LOCAL_BUFFER_BYTES: usize = 1 << 20;
/// Bytes of one read from a Unix socket: small, because the place for them is cleared first, and more once a read was full.
const SMALL_READ_BYTES: usize = 8 << 10;
const LARGE_READ_BYTES: usize = 512 << 10;

/// Connects: over the Unix socket if the worker is on this host and has one.
pub(super) async fn connect(address: SocketAddr) -> io::Result<(ReadHalf, WriteHalf)> {
    if cfg!(target_os = "linux")
        && address.ip().is_loopback()
        && let Ok(stream) = tokio::net::UnixStream::connect(format!("\0{}", local_name(address))).await
    {
        return local(stream);
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    watch_over(SockRef::from(&stream))?;
    let (read, write) = stream.into_split();
    Ok((ReadHalf::Tcp(read), WriteHalf::Tcp(write)))
}

/// Has the system notice when the machine at the other end is gone.
fn watch_over(socket: SockRef<'_>) -> io::Result<()> {
    let probe = Duration::from_secs(PEER_PROBE_SECONDS);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(PEER_IDLE_SECONDS)).with_interval(probe);
    socket.set_tcp_keepalive(&keepalive.with_retries(PEER_PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(PEER_TAKING_SECONDS)))?;
    Ok(())
}

fn local(stream: tokio::net::UnixStream) -> io::Result<(ReadHalf, WriteHalf)> {
    let stream = stream.into_std()?;
    SockRef::from(&stream).set_send_buffer_size(LOCAL_BUFFER_BYTES)?;
    let stream = Arc::new(stream);
    let readable = watch(stream.clone(), Interest::READABLE)?;
    let read = LocalReadHalf { readable, step: SMALL_READ_BYTES };
    Ok((ReadHalf::Local(read), WriteHalf::Local(LocalWriteHalf { stream, writable: None })))
}

/// Has the thread's queue of events tell of one kind of readiness.
fn watch(stream: Arc<UnixStream>, interest: Interest) -> io::Result<AsyncFd<Arc<UnixStream>>> {
    // SAFETY: the descriptor is the stream's own, which stays the same, and open as long as the `Arc` that is given away here lives.
    unsafe { AsyncFd::register_with_interest(stream, interest) }.map_err(io::Error::from)
}

pub(super) enum ReadHalf {
    Tcp(OwnedReadHalf),
    Local(LocalReadHalf),
}

pub(super) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    Local(LocalWriteHalf),
}

/// Hears of readable bytes only: a Unix socket says at each read of its peer that it is writable, which would wake the thread for nothing.
pub(super) struct LocalReadHalf {
    readable: AsyncFd<Arc<UnixStream>>,
    step: usize,
}

pub(super) struct LocalWriteHalf {
    stream: Arc<UnixStream>,
    /// While the socket is full.
    writable: Option<AsyncFd<Arc<UnixStream>>>,
}

impl LocalReadHalf {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.readable.poll_read_ready(cx))?;
            let place = out.initialize_unfilled_to(self.step.min(out.remaining()));
            let wanted = place.len();
            match (&**ready.get_inner()).read(place) {
                Ok(read) => {
                    if 0 < read && read < wanted {
                        // Nothing is left: no read is spent on hearing that.
                        ready.clear_ready();
                    }
                    self.step = if read < SMALL_READ_BYTES {
                        SMALL_READ_BYTES
                    } else if read == wanted {
                        (self.step * 4).min(LARGE_READ_BYTES)
                    } else {
                        self.step
                    };
                    out.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl LocalWriteHalf {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let written = match &self.writable {
                None => (&*self.stream).write(bytes),
                Some(writable) => match ready!(writable.poll_write_ready(cx))?.try_io(|_| (&*self.stream).write(bytes))
                {
                    Ok(written) => written,
                    Err(_would_block) => continue,
                },
            };
            match written {
                Ok(written) => {
                    if written == bytes.len() {
                        self.writable = None;
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A handle of its own, because a handle stands once in a thread's queue of events.
                    self.writable = Some(watch(Arc::new(self.stream.try_clone()?), Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ReadHalf::Tcp(read) => Pin::new(read).poll_read(cx, out),
            ReadHalf::Local(read) => read.poll_read(cx, out),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Tcp(write) => Pin::new(write).poll_write(cx, bytes),
            WriteHalf::Local(write) => write.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Tcp(write) => Pin::new(write).poll_shutdown(cx),
            WriteHalf::Local(write) => Poll::Ready(write.stream.shutdown(std::net::Shutdown::Write)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BYTES: usize = 24 << 20;

    /// Sends back what comes, slowly at first, so that the other side must wait.
    fn echo(mut stream: impl Read + Write) {
        std::thread::sleep(Duration::from_millis(50));
        let mut all = vec![0; BYTES];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        assert_eq!(stream.read(&mut all).unwrap(), 0, "the other side has gone");
    }

    async fn there_and_back(address: SocketAddr) {
        let (mut read, mut write) = connect(address).await.unwrap();
        let sent: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        let writing = async { write.write_all(&sent).await.unwrap() };
        let reading = async {
            let mut got = bytes::BytesMut::new();
            while got.len() < BYTES {
                got.reserve(1 << 20);
                assert_ne!(read.read_buf(&mut got).await.unwrap(), 0);
            }
            got
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == sent);
    }

    fn run(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    }

    #[test]
    fn without_a_unix_socket_the_port_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || echo(listener.accept().unwrap().0));
        run(there_and_back(address));
        peer.join().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_unix_socket_is_preferred() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let local = SocketAddr::from_abstract_name(local_name(address)).unwrap();
        let listener = UnixListener::bind_addr(&local).unwrap();
        let peer = std::thread::spawn(move || echo(listener.accept().unwrap().0));
        run(there_and_back(address));
        peer.join().unwrap();
    }
}

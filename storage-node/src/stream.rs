//! Connections between workers and their peers: TCP, between processes of one host a Unix socket beside the TCP port, which costs half, and on one
//! thread no socket at all.

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toroid_common::limits::{PEER_IDLE_SECONDS, PEER_PROBE_SECONDS, PEER_PROBES, PEER_TAKING_SECONDS};
use toroid_common::near::{End, Place};

/// Has the system notice when the machine at the other end of a connection between processes of the cluster is gone.
pub fn watch_over(socket: SockRef<'_>) -> io::Result<()> {
    let probe = Duration::from_secs(PEER_PROBE_SECONDS);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(PEER_IDLE_SECONDS)).with_interval(probe);
    socket.set_tcp_keepalive(&keepalive.with_retries(PEER_PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(PEER_TAKING_SECONDS)))?;
    Ok(())
}

/// Bytes that a Unix socket holds on their way, if the system allows as many.
const LOCAL_BUFFER_BYTES: usize = 1 << 20;

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Local(UnixListener),
}

impl Listener {
    /// Takes over a socket that listens.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)))
    }

    /// Listens for peers on the same host beside this port; `None` where the system can't.
    pub fn local(beside: SocketAddr) -> io::Result<Option<Listener>> {
        local_address(beside).map(|address| UnixListener::bind_addr(&address?).map(Listener::Local)).transpose()
    }

    /// The next connection; an error of the kind `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Stream::tcp(listener.accept()?.0),
            Listener::Local(listener) => Stream::local(listener.accept()?.0),
        }
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.register(registry, token, interests),
            Listener::Local(listener) => listener.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.reregister(registry, token, interests),
            Listener::Local(listener) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.deregister(registry),
            Listener::Local(listener) => listener.deregister(registry),
        }
    }
}

/// One connection; it never blocks.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Local(UnixStream),
    /// To a peer on the same thread: its bell tells what an event queue tells of the others.
    Near(End),
}

impl Stream {
    /// Begins to connect to a worker: without a socket if it is on this thread, over its Unix socket if it is on this host and has one.
    /// [`Stream::stands`] tells the end.
    pub fn connect(place: &Place, address: SocketAddr) -> io::Result<Stream> {
        if let Some(end) = place.connect(address) {
            return Ok(Stream::Near(end));
        }
        if address.ip().is_loopback()
            && let Some(Ok(local)) = local_address(address)
            && let Ok(stream) = UnixStream::connect_addr(&local)
        {
            return Stream::local(stream);
        }
        Stream::tcp(TcpStream::connect(address)?)
    }

    fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        watch_over(SockRef::from(&stream))?;
        Ok(Stream::Tcp(stream))
    }

    fn local(stream: UnixStream) -> io::Result<Stream> {
        SockRef::from(&stream).set_send_buffer_size(LOCAL_BUFFER_BYTES)?;
        Ok(Stream::Local(stream))
    }

    /// The host at the other end, unless it is this one.
    pub fn host(&self) -> Option<IpAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Stream::Local(_) | Stream::Near(_) => None,
        }
    }

    /// Who is at the other end, for the log.
    pub fn peer(&self) -> String {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().map_or_else(|_| "gone".to_owned(), |address| address.to_string()),
            Stream::Local(_) => "on this host".to_owned(),
            Stream::Near(_) => "in this process".to_owned(),
        }
    }

    /// Whether a connection that was begun is there; an error when it failed.
    pub fn stands(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Stream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Stream::Local(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Stream::Near(_) => return Ok(true),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(out),
            Stream::Local(stream) => stream.read(out),
            Stream::Near(end) => end.read(out),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Local(stream) => stream.write(bytes),
            Stream::Near(end) => end.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Local(stream) => stream.register(registry, token, interests),
            Stream::Near(_) => Ok(()),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.reregister(registry, token, interests),
            Stream::Local(stream) => stream.reregister(registry, token, interests),
            Stream::Near(_) => Ok(()),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Local(stream) => stream.deregister(registry),
            Stream::Near(_) => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
fn local_address(beside: SocketAddr) -> Option<io::Result<std::os::unix::net::SocketAddr>> {
    use std::os::linux::net::SocketAddrExt;
    Some(std::os::unix::net::SocketAddr::from_abstract_name(toroid_common::wire::local_name(beside)))
}

#[cfg(not(target_os = "linux"))]
fn local_address(_: SocketAddr) -> Option<io::Result<std::os::unix::net::SocketAddr>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn wait<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn without_a_unix_socket_the_port_is_taken() {
        let (listener, address) = port();
        let listener = Listener::tcp(listener).unwrap();
        let mut near = Stream::connect(&Place::default(), address).unwrap();
        assert!(matches!(near, Stream::Tcp(_)));
        let mut far = wait(|| listener.accept());
        while !near.stands().unwrap() {}
        near.write_all(b"hello").unwrap();
        let mut got = [0; 8];
        assert_eq!(wait(|| far.read(&mut got)), 5);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_unix_socket_is_preferred_and_holds_back_who_writes_too_much() {
        let (_listener, address) = port();
        let local = Listener::local(address).unwrap().unwrap();
        assert_eq!(Listener::local(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mut near = Stream::connect(&Place::default(), address).unwrap();
        assert!(matches!(near, Stream::Local(_)) && near.stands().unwrap());
        let mut far = wait(|| local.accept());
        let sent: Vec<u8> = (0..8 << 20).map(|i: u32| i as u8).collect();
        let mut written = 0;
        let full = loop {
            match near.write(&sent[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(written <= 4 << 20, "{written} bytes are on their way");
        let mut got = Vec::new();
        let mut chunk = vec![0; 100_000];
        while got.len() < sent.len() {
            let read = wait(|| far.read(&mut chunk));
            got.extend_from_slice(&chunk[..read]);
            written += near.write(&sent[written..]).unwrap_or(0);
        }
        assert!(got == sent);
    }
}

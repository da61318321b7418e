//! What the system does to a session's socket to notice that the client's machine is gone: else locks and cuts would be held for nobody.

use crate::settings::Keepalive;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Has the system ask now and then whether the client's machine is still there.
pub(super) fn begin(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_keepalive(true)
}

/// Sets what differs from what was set before.
#[cfg(target_os = "linux")]
pub(super) fn change(stream: &TcpStream, from: Keepalive, to: Keepalive) -> io::Result<()> {
    let socket = SockRef::from(stream);
    if from.user_timeout != to.user_timeout {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(to.user_timeout)))?;
    }
    // What goes back to the system's measure is read from a socket that nobody has changed.
    let fresh = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let mut keepalive = TcpKeepalive::new();
    if from.idle != to.idle {
        let idle = if to.idle > 0 { Duration::from_secs(to.idle) } else { fresh.tcp_keepalive_time()? };
        keepalive = keepalive.with_time(idle);
    }
    if from.interval != to.interval {
        let interval =
            if to.interval > 0 { Duration::from_secs(to.interval) } else { fresh.tcp_keepalive_interval()? };
        keepalive = keepalive.with_interval(interval);
    }
    if from.count != to.count {
        keepalive = keepalive.with_retries(if to.count > 0 { to.count } else { fresh.tcp_keepalive_retries()? });
    }
    socket.set_tcp_keepalive(&keepalive)
}

/// Elsewhere the system's own measures hold.
#[cfg(not(target_os = "linux"))]
pub(super) fn change(_: &TcpStream, _: Keepalive, _: Keepalive) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_socket_is_as_its_session_wants_it_and_goes_back_to_what_the_system_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let said = || {
            let socket = SockRef::from(&stream);
            let times = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            (
                socket.keepalive().unwrap(),
                times,
                socket.tcp_keepalive_retries().unwrap(),
                socket.tcp_user_timeout().unwrap(),
            )
        };
        begin(&stream).unwrap();
        let system = said();
        assert!(system.0);
        let wanted = Keepalive { idle: 7, interval: 3, count: 2, user_timeout: 9_000 };
        change(&stream, Keepalive::default(), wanted).unwrap();
        let times = (Duration::from_secs(7), Duration::from_secs(3));
        assert_eq!(said(), (true, times, 2, Some(Duration::from_secs(9))));
        change(&stream, wanted, Keepalive { count: 5, ..Keepalive::default() }).unwrap();
        assert_eq!(said(), (true, system.1, 5, system.3));
        // More than the system can do.
        assert!(change(&stream, Keepalive::default(), Keepalive { idle: 40_000, ..Keepalive::default() }).is_err());
    }
}

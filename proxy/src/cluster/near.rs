//! A connection's two halves where the worker is a guest on this thread: no socket at all.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use toroid_common::near::{End, Place};

/// Connects, if the worker is on this thread.
pub(super) fn connect(place: &Place, address: SocketAddr) -> Option<(NearReadHalf, NearWriteHalf)> {
    place.connect(address).map(halves)
}

fn halves(end: End) -> (NearReadHalf, NearWriteHalf) {
    let wakers = Rc::new(Wakers::default());
    let rung = wakers.clone();
    end.set_bell(Rc::new(move || rung.wake()));
    let shared = Rc::new(Shared { end: RefCell::new(end), wakers });
    (NearReadHalf(shared.clone()), NearWriteHalf(shared))
}

struct Shared {
    end: RefCell<End>,
    wakers: Rc<Wakers>,
}

/// A bell does not tell for whom it rings.
#[derive(Default)]
struct Wakers {
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Wakers {
    fn wake(&self) {
        for waker in [&self.reader, &self.writer] {
            let waker = waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

pub(super) struct NearReadHalf(Rc<Shared>);

pub(super) struct NearWriteHalf(Rc<Shared>);

/// Who would block waits for the bell.
fn polled<T>(result: io::Result<T>, waiting: &RefCell<Option<Waker>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            *waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }
        done => Poll::Ready(done),
    }
}

impl NearWriteHalf {
    /// Writes what there is room for.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.end.borrow_mut().write(bytes)
    }
}

impl AsyncRead for NearReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut end = self.0.end.borrow_mut();
        // No more than is here, because the place is cleared first; where nothing is here, one byte's place tells why.
        let place = out.initialize_unfilled_to(end.readable().max(1).min(out.remaining()));
        let read = end.read(place);
        polled(read, &self.0.wakers.reader, cx).map_ok(|read| out.advance(read))
    }
}

impl AsyncWrite for NearWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.end.borrow_mut().write(bytes);
        polled(written, &self.0.wakers.writer, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection ends with its halves, which are one task's.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use toroid_common::near::ROOM_BYTES;

    #[test]
    fn halves_wait_for_each_other_and_hear_the_end() {
        let (near, far) = toroid_common::near::pair();
        let ((mut read, mut write), (mut far_read, mut far_write)) = (halves(near), halves(far));
        let sent: Vec<u8> = (0..2 * ROOM_BYTES + 5).map(|byte| (byte % 251) as u8).collect();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let there = async {
                write.write_all(&sent).await.unwrap();
                let mut last = [0; 4];
                read.read_exact(&mut last).await.unwrap();
                assert_eq!((&last, read.read(&mut [0; 4]).await.unwrap()), (b"done", 0));
                assert_eq!(write.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            };
            let back = async {
                let mut got = vec![0; sent.len()];
                far_read.read_exact(&mut got).await.unwrap();
                assert!(got == sent);
                far_write.write_all(b"done").await.unwrap();
                drop((far_read, far_write));
            };
            tokio::join!(there, back);
        });
    }
}

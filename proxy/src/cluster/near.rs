//! A connection where the worker is a guest on this thread: no socket at all.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use toroid_common::near::{End, Place};

/// Connects, if the worker is on this thread.
pub(super) fn connect(place: &Place, address: SocketAddr) -> Option<Near> {
    place.connect(address).map(Near::new)
}

/// One end of a stream of memory; one task waits for it.
pub(super) struct Near {
    end: RefCell<End>,
    /// Of what is being sent so much was before.
    sent: Cell<usize>,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl Near {
    fn new(end: End) -> Near {
        let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
        let rung = waker.clone();
        end.set_bell(Rc::new(move || {
            if let Some(waker) = rung.borrow_mut().take() {
                waker.wake();
            }
        }));
        Near { end: RefCell::new(end), sent: Cell::default(), waker }
    }

    /// Reads all that is here and puts it behind what is in `input`: so many bytes, none at the end of the stream.
    pub(super) fn poll_receive(&self, cx: &Context<'_>, input: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let received = self.end.borrow_mut().receive(input);
        self.polled(received, cx)
    }

    /// Writes what there is room for; `output`, to which may only be added, is empty when all has been. Who waits for bytes is woken when there is room again, too.
    pub(super) fn send(&self, output: &mut Vec<u8>) -> io::Result<()> {
        let mut sent = self.sent.get();
        let result = self.end.borrow_mut().send(output, &mut sent);
        self.sent.set(sent);
        result
    }

    /// Who would block waits for the bell, which does not tell for what it rings.
    fn polled<T>(&self, result: io::Result<T>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut waker = self.waker.borrow_mut();
                match &mut *waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }
}

impl AsyncRead for &Near {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // No more than is here, because the place is cleared first; where nothing is here, one byte's place tells why.
        let here = self.end.borrow().readable();
        let place = out.initialize_unfilled_to(here.max(1).min(out.remaining()));
        let read = self.end.borrow_mut().read(place);
        self.polled(read, cx).map_ok(|read| out.advance(read))
    }
}

impl AsyncWrite for &Near {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.end.borrow_mut().write(bytes);
        self.polled(written, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection ends with its end.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use toroid_common::near::ROOM_BYTES;

    #[test]
    fn ends_wait_for_each_other_and_hear_the_end() {
        let (near, far) = toroid_common::near::pair();
        let (near, far) = (Near::new(near), Near::new(far));
        let sent: Vec<u8> = (0..2 * ROOM_BYTES + 5).map(|byte| (byte % 251) as u8).collect();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let there = async {
                let mut stream = &near;
                stream.write_all(&sent).await.unwrap();
                let mut last = [0; 4];
                stream.read_exact(&mut last).await.unwrap();
                assert_eq!((&last, stream.read(&mut [0; 4]).await.unwrap()), (b"done", 0));
                assert_eq!(near.send(&mut b"x".to_vec()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            };
            let back = async {
                let mut got = vec![0; sent.len()];
                (&far).read_exact(&mut got).await.unwrap();
                assert!(got == sent);
                (&far).write_all(b"done").await.unwrap();
                drop(far);
            };
            tokio::join!(there, back);
        });
    }

    #[test]
    fn who_sends_more_than_there_is_room_for_is_woken_to_send_the_rest() {
        let (near, far) = toroid_common::near::pair();
        let (near, far) = (Near::new(near), Near::new(far));
        let sent: Vec<u8> = (0..3 * ROOM_BYTES + 5).map(|byte| (byte % 251) as u8).collect();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let there = async {
                let mut output = sent.clone();
                let input = &mut Vec::new();
                let until_sent = poll_fn(|cx| {
                    near.send(&mut output).or_else(|error| match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(()),
                        _ => Err(error),
                    })?;
                    assert!(near.poll_receive(cx, input).is_pending());
                    if output.is_empty() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
                });
                until_sent.await.unwrap();
                drop(near);
            };
            let back = async {
                let mut got = Vec::new();
                while poll_fn(|cx| far.poll_receive(cx, &mut got)).await.unwrap() > 0 {}
                assert!(got == sent);
            };
            tokio::join!(there, back);
        });
    }
}

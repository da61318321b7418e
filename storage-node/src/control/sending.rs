//! What a node tells the metadata leader waits here for the socket, so that whoever reads the answers never waits for a leader that takes nothing.

use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use toroid_common::wire::{Control, ControlBody, Message};

/// Frames that go before others: beyond, the line is given up.
const MAX_URGENT: usize = 64;
/// Frames with workers' reports: beyond, these stay where they are.
const MAX_REPORTS: usize = 64;

/// Where frames are put.
pub(super) struct Sending {
    urgent: Sender<Vec<u8>>,
    reports: Sender<Vec<u8>>,
}

/// Where they come out.
pub(super) struct Outgoing {
    urgent: Receiver<Vec<u8>>,
    reports: Receiver<Vec<u8>>,
}

pub(super) fn queues() -> (Sending, Outgoing) {
    let ((urgent, urgent_out), (reports, reports_out)) = (channel(MAX_URGENT), channel(MAX_REPORTS));
    (Sending { urgent, reports }, Outgoing { urgent: urgent_out, reports: reports_out })
}

pub(super) fn frame(number: u32, body: ControlBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Control(Control { number, body }).write(&mut bytes);
    bytes
}

impl Sending {
    /// Goes before all reports: what keeps the lease must not stand behind them.
    pub(super) fn urgent(&self, number: u32, body: ControlBody) -> io::Result<()> {
        self.urgent.try_send(frame(number, body)).map_err(|error| match error {
            TrySendError::Full(_) => io::Error::new(io::ErrorKind::TimedOut, "the leader takes nothing"),
            TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }

    /// What comes next, once there is room for it; none at the end. Nothing is lost when the call is given up while it waits.
    pub(super) async fn next<T>(&self, next: impl Future<Output = Option<T>>) -> Option<(T, Room<'_>)> {
        let room = self.reports.reserve().await.ok()?;
        Some((next.await?, Room(room)))
    }
}

/// For one report.
pub(super) struct Room<'s>(tokio::sync::mpsc::Permit<'s, Vec<u8>>);

impl Room<'_> {
    pub(super) fn put(self, body: ControlBody) {
        self.0.send(frame(0, body));
    }
}

impl Outgoing {
    /// Writes `first` and then what comes, as long as the socket takes it.
    pub(super) async fn write(mut self, to: &mut (impl AsyncWrite + Unpin), first: &[u8]) -> io::Result<()> {
        to.write_all(first).await?;
        loop {
            let bytes = tokio::select! {
                biased;
                Some(bytes) = self.urgent.recv() => bytes,
                Some(bytes) = self.reports.recv() => bytes,
                else => return std::future::pending().await,
            };
            to.write_all(&bytes).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;
    use tokio::io::AsyncReadExt;
    use toroid_common::wire::RawFrame;

    #[tokio::test]
    async fn a_full_socket_holds_nobody_up_and_renewals_go_first() {
        let (sending, outgoing) = queues();
        let (mut near, mut far) = tokio::io::duplex(16);
        let mut reports = 0;
        loop {
            tokio::select! {
                biased;
                room = sending.next(ready(Some(()))) => room.unwrap().1.put(ControlBody::Recover { id: 1 }),
                () = ready(()) => break,
            }
            reports += 1;
        }
        assert_eq!(reports, MAX_REPORTS);
        for number in 1..=MAX_URGENT as u32 {
            sending.urgent(number, ControlBody::Status).unwrap();
        }
        assert_eq!(sending.urgent(0, ControlBody::Status).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let writing = tokio::spawn(async move { outgoing.write(&mut near, &frame(0, ControlBody::Watch)).await });
        let (mut bytes, mut said) = (Vec::new(), Vec::new());
        while said.len() < 1 + MAX_URGENT + MAX_REPORTS {
            far.read_buf(&mut bytes).await.unwrap();
            while let Some((frame, used)) = RawFrame::split(&bytes).unwrap() {
                let Message::Control(control) = Message::decode(frame).unwrap() else { panic!() };
                said.push(control.body);
                bytes.drain(..used);
            }
        }
        let (first, rest) = said.split_first().unwrap();
        assert!(*first == ControlBody::Watch && rest[..MAX_URGENT].iter().all(|body| *body == ControlBody::Status));
        writing.abort();
    }
}

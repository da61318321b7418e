//! A session's socket with its two buffers, and what can interrupt a wait: cancel, timeout, shutdown.

use crate::protocol::input::Frame;
use crate::protocol::{Input, Output};
use crate::session::{Fault, keepalive};
use crate::settings::Keepalive;
use crate::statement::Inbox;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use toroid_common::error::{SqlError, SqlState};

pub(super) const BY_USER: &str = "canceling statement due to user request";
pub(super) const BY_TIMEOUT: &str = "canceling statement due to statement timeout";

/// How a session is told to stop what it does.
#[derive(Clone, Debug)]
pub struct Interrupt {
    pub canceled: Arc<AtomicBool>,
    pub wake: Arc<Notify>,
    pub shutdown: watch::Receiver<bool>,
}

/// What came of waiting.
pub(super) enum Next {
    /// A message; none at the end of the stream.
    Frame(Option<Frame>),
    /// Notifications.
    Mail,
}

pub struct Wire {
    stream: TcpStream,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) interrupt: Interrupt,
    /// The client may be waiting for what stands in `output`.
    pub(super) awaited: bool,
    keepalive: Keepalive,
}

fn shut_down() -> Fault {
    Fault::Fatal(SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"))
}

impl Wire {
    pub fn new(stream: TcpStream, input: Input, output: Output, interrupt: Interrupt) -> Wire {
        if let Err(error) = keepalive::begin(&stream) {
            tracing::debug!(%error, "a client that vanishes is noticed when something is sent to it");
        }
        Wire { stream, input, output, interrupt, awaited: false, keepalive: Keepalive::default() }
    }

    /// Watches over the client's machine as its settings say now; what the system does not take it does as before.
    pub(super) fn keep_alive(&mut self, wanted: Keepalive) {
        if wanted != self.keepalive {
            if let Err(error) = keepalive::change(&self.stream, self.keepalive, wanted) {
                tracing::debug!(%error, ?wanted, "not all of it could be set");
            }
            self.keepalive = wanted;
        }
    }

    /// The next message; none at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Fault> {
        match self.next_or_idle(None, false, None).await? {
            Next::Frame(frame) => Ok(frame),
            Next::Mail => Ok(None),
        }
    }

    /// The next message, if all of it has come.
    pub(super) async fn next_at_hand(&mut self) -> Result<Option<Frame>, Fault> {
        let frame = self.input.frame().map_err(Fault::Fatal)?;
        if frame.is_some() && self.output.is_big() {
            self.flush().await?;
        }
        Ok(frame)
    }

    /// The next message, or the end of the session when it was silent until then. What was written goes out before the wait.
    pub(super) async fn next_or_idle(
        &mut self,
        until: Option<Instant>,
        in_transaction: bool,
        mail: Option<&Inbox>,
    ) -> Result<Next, Fault> {
        loop {
            if let Some(frame) = self.next_at_hand().await? {
                return Ok(Next::Frame(Some(frame)));
            }
            self.flush().await?;
            self.input.rest();
            let mut shutdown = self.interrupt.shutdown.clone();
            let idle = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let mail = async {
                match mail {
                    Some(inbox) => inbox.arrival().await,
                    None => std::future::pending().await,
                }
            };
            let count = tokio::select! {
                biased;
                count = self.stream.read_buf(self.input.space()) => count.map_err(|_| Fault::Closed)?,
                _ = shutdown.wait_for(|down| *down) => return Err(shut_down()),
                () = mail => return Ok(Next::Mail),
                () = idle => return Err(idle_too_long(in_transaction)),
            };
            if count == 0 {
                return Ok(Next::Frame(None));
            }
        }
    }

    /// Sends what was written.
    pub async fn flush(&mut self) -> Result<(), Fault> {
        self.awaited = false;
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.stream.write_all(self.output.bytes()).await;
        self.output.clear();
        sent.map_err(|_| Fault::Closed)
    }

    /// Sends when enough is gathered: the back-pressure of long answers.
    pub(super) async fn flush_if_big(&mut self) -> Result<(), Fault> {
        match self.output.is_big() {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Why the running statement should stop, if it should.
    pub(super) fn stopped(&self, deadline: Option<Instant>) -> Option<SqlError> {
        let message = match deadline {
            _ if self.interrupt.canceled.load(Ordering::Relaxed) => BY_USER,
            Some(deadline) if deadline <= Instant::now() => BY_TIMEOUT,
            Some(_) | None => return None,
        };
        Some(SqlError::new(SqlState::QUERY_CANCELED, message))
    }

    /// Waits until a cancel request for the running statement comes.
    pub(super) fn canceled(&self) -> impl Future<Output = ()> + use<> {
        let (wake, canceled) = (self.interrupt.wake.clone(), self.interrupt.canceled.clone());
        async move {
            loop {
                wake.notified().await;
                if canceled.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

fn idle_too_long(in_transaction: bool) -> Fault {
    let (state, message) = match in_transaction {
        true => (*b"25P03", "terminating connection due to idle-in-transaction timeout"),
        false => (*b"57P05", "terminating connection due to idle-session timeout"),
    };
    Fault::Fatal(SqlError::new(SqlState(state), message))
}

//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches both from its making on.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Must be made inside a runtime.
    pub fn new() -> Result<Stop, String> {
        let catch = |kind| signal(kind).map_err(|error| format!("cannot catch signals: {error}"));
        Ok(Stop { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Until the process is told to end.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

//! All sessions of a proxy: their number is bounded, and any connection may cancel any session whose key it knows.

use crate::protocol::startup::{LONG_KEY_BYTES, SHORT_KEY_BYTES};
use crate::session::Interrupt;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use toroid_common::error::{SqlError, SqlState};

struct Registered {
    key: Vec<u8>,
    canceled: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

pub struct Registry {
    limit: usize,
    entropy: File,
    sessions: Mutex<HashMap<i32, Registered>>,
    shutdown: watch::Sender<bool>,
}

/// A session's place; given back when it is dropped.
pub struct Place {
    registry: Arc<Registry>,
    pub process: i32,
    pub key: Vec<u8>,
    pub interrupt: Interrupt,
}

impl Registry {
    pub fn new(limit: usize) -> io::Result<Registry> {
        let (shutdown, _) = watch::channel(false);
        Ok(Registry { limit, entropy: File::open("/dev/urandom")?, sessions: Mutex::default(), shutdown })
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<i32, Registered>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Random bytes from the operating system.
    pub fn random<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        (&self.entropy).read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Takes a place for a session; 53300 when all are taken.
    pub fn register(self: &Arc<Self>, minor: u16) -> Result<Place, SqlError> {
        let random: [u8; LONG_KEY_BYTES] = self.random().map_err(SqlError::internal)?;
        let length = if minor >= 2 { LONG_KEY_BYTES } else { SHORT_KEY_BYTES };
        let key = random.get(..length).unwrap_or_default().to_vec();
        let interrupt =
            Interrupt { canceled: Arc::default(), wake: Arc::default(), shutdown: self.shutdown.subscribe() };
        let mut sessions = self.sessions();
        if sessions.len() >= self.limit {
            return Err(SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"));
        }
        loop {
            let process = i32::from_be_bytes(self.random().map_err(SqlError::internal)?) & 0x3fff_ffff;
            if let (1.., Entry::Vacant(place)) = (process, sessions.entry(process)) {
                place.insert(Registered {
                    key: key.clone(),
                    canceled: interrupt.canceled.clone(),
                    wake: interrupt.wake.clone(),
                });
                return Ok(Place { registry: self.clone(), process, key, interrupt });
            }
        }
    }

    /// A cancel request; one with a wrong key is passed over in silence, as PostgreSQL does.
    pub fn cancel(&self, process: i32, key: &[u8]) {
        if let Some(session) = self.sessions().get(&process)
            && same(&session.key, key)
        {
            session.canceled.store(true, Ordering::Relaxed);
            session.wake.notify_one();
        }
    }

    /// Tells all sessions to end, now or after their running statement.
    pub fn shut_down(&self) {
        self.shutdown.send_replace(true);
    }

    pub fn watch_shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }

    pub fn count(&self) -> usize {
        self.sessions().len()
    }
}

/// In a time that does not tell how much of the key was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.sessions().remove(&self.process);
    }
}

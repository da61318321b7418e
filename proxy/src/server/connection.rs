//! From an accepted socket to a session: encryption refused, cancel requests carried out, options applied.

use crate::protocol::startup::{Opening, Options, cancel_key, opening, welcome};
use crate::protocol::{Input, Output};
use crate::server::registry::{Place, Registry};
use crate::session::metrics::Metrics;
use crate::session::{Session, Wire};
use crate::settings::{Scope, Settings};
use crate::statement::{Executor, State};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toroid_common::error::{SqlError, SqlState};

/// What every connection of a thread shares.
pub struct Gate<E> {
    pub executor: Rc<E>,
    pub metrics: Rc<Metrics>,
    pub registry: Arc<Registry>,
    pub start_timeout: Duration,
}

impl<E: Executor> Gate<E> {
    /// Serves one connection from its first byte to its last.
    pub async fn admit(self: Rc<Self>, mut stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let (mut input, mut output) = (Input::default(), Output::default());
        let mut shutdown = self.registry.watch_shutdown();
        let started = tokio::select! {
            started = tokio::time::timeout(self.start_timeout, start(&mut stream, &mut input, &mut output)) => started,
            _ = shutdown.wait_for(|down| *down) => {
                let message = "the database system is shutting down";
                Ok(Err(SqlError::new(SqlState::CANNOT_CONNECT_NOW, message)))
            }
        };
        let refused = match started {
            Ok(Ok(Some(Opening::Session(options)))) => match self.session(options, &mut output) {
                Ok((state, place)) => {
                    let wire = Wire::new(stream, input, output, place.interrupt.clone());
                    self.metrics.session_began();
                    Session::new(self.executor.clone(), self.metrics.clone(), state, wire).serve().await;
                    self.metrics.session_ended();
                    drop(place);
                    return;
                }
                Err(error) => error,
            },
            Ok(Ok(Some(Opening::Cancel { process, key }))) => return self.registry.cancel(process, &key),
            Ok(Ok(Some(Opening::Refused) | None)) | Err(_) => return,
            Ok(Err(error)) => error,
        };
        output.error(&refused, true);
        stream.write_all(output.bytes()).await.ok();
    }

    fn session(&self, options: Options, output: &mut Output) -> Result<(State, Place), SqlError> {
        let mut settings = Settings::default();
        settings.describe("max_connections", &self.registry.limit().to_string());
        settings.describe("session_authorization", &options.user);
        for (name, value) in &options.settings {
            settings.set(name, Some(value), Scope::Start)?;
        }
        let place = self.registry.register(options.minor)?;
        welcome(output);
        for (name, value) in settings.reported() {
            output.parameter_status(name, value);
        }
        cancel_key(output, place.process, &place.key);
        let canceled = place.interrupt.canceled.clone();
        Ok((State::new(options.user, options.database, place.process, settings, canceled), place))
    }
}

/// Reads until it is known what the client wants; none when it went away.
async fn start(stream: &mut TcpStream, input: &mut Input, output: &mut Output) -> Result<Option<Opening>, SqlError> {
    loop {
        match opening(input, output)? {
            Some(Opening::Refused) => {
                if stream.write_all(output.bytes()).await.is_err() {
                    return Ok(None);
                }
                output.clear();
            }
            Some(opening) => return Ok(Some(opening)),
            None => match stream.read_buf(input.space()).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            },
        }
    }
}

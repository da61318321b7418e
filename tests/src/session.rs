//! Runs the steps of a script on one server.

use crate::client::{Address, Client};
use crate::message::{Format, Incoming, Outgoing, Target};
use crate::outcome::Outcome;
use crate::script::Step;
use std::io;
use std::time::Duration;

/// Which of a step's texts is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Postgres,
    Toroid,
}

/// How statements are sent. Batches, COPY and statements with parameters have a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
    /// Extended with results in binary.
    Binary,
}

/// How long one statement may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One session on one server. When the server ends the connection, the next step begins a new one.
pub struct Session {
    address: Address,
    server: Server,
    protocol: Protocol,
    client: Option<Client>,
}

impl Session {
    pub fn new(address: Address, server: Server, protocol: Protocol) -> Session {
        Session { address, server, protocol, client: None }
    }

    /// Runs one step; what breaks the connection is an outcome too.
    pub fn run(&mut self, step: &Step) -> Outcome {
        match self.try_run(step) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.client = None;
                Outcome::lost(error)
            }
        }
    }

    fn try_run(&mut self, step: &Step) -> io::Result<Outcome> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let client = none.insert(Client::connect(&self.address)?);
                client.set_patience(PATIENCE)?;
                client
            }
        };
        let sql = step.toroid.as_deref().filter(|_| self.server == Server::Toroid).unwrap_or(&step.sql);
        let simple = self.protocol == Protocol::Simple && step.params.is_none() || step.batch;
        let messages = if let Some(data) = &step.copy {
            copy_in(client, sql, data)?
        } else if simple {
            client.query(sql)?
        } else {
            extended(client, sql, step, self.protocol)?
        };
        if !matches!(messages.last(), Some(Incoming::Ready(_))) {
            self.client = None;
        }
        Ok(Outcome::of(messages, self.protocol == Protocol::Binary))
    }
}

fn extended(client: &mut Client, sql: &str, step: &Step, protocol: Protocol) -> io::Result<Vec<Incoming>> {
    let values = step.params.iter().flatten().map(|value| value.clone().map(String::into_bytes)).collect::<Vec<_>>();
    let results = if protocol == Protocol::Binary { Format::Binary } else { Format::Text };
    let messages = Outgoing::new().parse("", sql, &[]).describe(Target::Statement, "");
    client.send(&messages.bind("", "", Format::Text, &values, results).execute("", 0).sync())?;
    client.until_ready()
}

/// The data is sent only when the server asks for it, as drivers do.
fn copy_in(client: &mut Client, sql: &str, data: &[u8]) -> io::Result<Vec<Incoming>> {
    client.send(&Outgoing::new().query(sql))?;
    let mut messages = Vec::new();
    loop {
        let message = client.receive()?;
        let (asked, ready) = (matches!(message, Incoming::CopyIn { .. }), matches!(message, Incoming::Ready(_)));
        messages.push(message);
        if asked {
            client.send(&Outgoing::new().copy_data(data).copy_done())?;
        }
        if ready {
            return Ok(messages);
        }
    }
}

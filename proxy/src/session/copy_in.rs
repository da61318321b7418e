//! COPY FROM STDIN: the client's data, chunk by chunk, to the conductor's sink.

use crate::copy::{Decoder, is_binary};
use crate::protocol::backend::Format;
use crate::protocol::frontend::{Message, utf8};
use crate::protocol::input::{Frame, violation};
use crate::session::run::wait;
use crate::session::wire::BY_USER;
use crate::session::{Fault, Session};
use crate::statement::{CopyIn, Executor, Tag};
use std::pin::pin;
use toroid_common::error::{SqlError, SqlState};

impl<E: Executor> Session<E> {
    pub(super) async fn copy_in(&mut self, mut copy: CopyIn) -> Result<(), Fault> {
        let result = self.take_copy(&mut copy).await;
        if let Err(Fault::Sql(_)) = &result {
            copy.sink.give_up().await;
        }
        result
    }

    async fn take_copy(&mut self, copy: &mut CopyIn) -> Result<(), Fault> {
        let format = if is_binary(&copy.options) { Format::Binary } else { Format::Text };
        self.wire.output.copy_response(b'G', format, copy.targets.len());
        self.wire.flush().await?;
        let mut decoder = Decoder::new(copy, self.state.env().clone());
        loop {
            let frame = self.next_of_copy().await?;
            match Message::read(&frame).map_err(Fault::Fatal)? {
                Message::CopyData(mut chunk) => {
                    while !chunk.is_empty() {
                        decoder.decode(&mut chunk, copy)?;
                        self.send_batches(&mut decoder, copy, false).await?;
                    }
                }
                Message::CopyDone => break,
                Message::CopyFail { reason } => {
                    let message = format!("COPY from stdin failed: {}", utf8(reason)?);
                    let context = format!("COPY {}, line {}", copy.table.name, decoder.rows.line + 1);
                    return Err(SqlError::new(SqlState::QUERY_CANCELED, message).with_context(context).into());
                }
                // Clients that do not know that a COPY has begun.
                Message::Flush | Message::Sync => {}
                Message::Terminate => return Err(Fault::Closed),
                _ => {
                    let message = format!("unexpected message type 0x{:02X} during COPY from stdin", frame.letter);
                    return Err(Fault::Fatal(violation(message)));
                }
            }
        }
        decoder.finish(copy)?;
        self.send_batches(&mut decoder, copy, true).await?;
        wait(&mut self.wire, pin!(copy.sink.finish()), self.deadline, true).await?;
        self.send_notices();
        self.complete(Tag::Counted("COPY"), decoder.rows.count).await
    }

    async fn next_of_copy(&mut self) -> Result<Frame, Fault> {
        let canceled = self.wire.canceled();
        let frame = tokio::select! {
            biased;
            frame = self.wire.next() => frame?.ok_or(Fault::Closed)?,
            () = canceled => return Err(canceled_by_user().into()),
        };
        if self.state.canceled() {
            return Err(canceled_by_user().into());
        }
        Ok(frame)
    }

    async fn send_batches(&mut self, decoder: &mut Decoder, copy: &mut CopyIn, all: bool) -> Result<(), Fault> {
        while let Some(batch) = decoder.rows.take(all) {
            wait(&mut self.wire, pin!(copy.sink.send(batch)), self.deadline, true).await?;
        }
        Ok(())
    }
}

fn canceled_by_user() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, BY_USER)
}

//! Answers of statements → messages.

use crate::session::portal::{Cursor, Fields, Stop};
use crate::session::{Fault, Session};
use crate::statement::{Answer, Executor, Prepared, Tag};
use std::sync::Arc;
use toroid_common::error::SqlError;

impl<E: Executor> Session<E> {
    /// Sends a whole answer; in the simple protocol, the description of its rows first.
    pub(super) async fn send(
        &mut self,
        prepared: &Arc<Prepared<E::Plan>>,
        answer: Answer,
        fields: Fields,
        simple: bool,
    ) -> Result<(), Fault> {
        match answer {
            Answer::Rows(rows) => {
                if simple {
                    self.describe_rows(prepared, &fields)?;
                }
                let mut cursor = Cursor::new(rows, fields);
                self.send_rows(&mut cursor, prepared, None).await.map(|_| ())
            }
            Answer::Done { count } => self.complete(prepared.tag, count).await,
            Answer::Tag(tag) => self.complete(Tag::Plain(tag), 0).await,
            Answer::SetConfig(rows) => {
                if simple {
                    self.describe_rows(prepared, &fields)?;
                }
                self.set_config(rows, &fields).map_err(Fault::from)
            }
            Answer::CopyIn(copy) => self.copy_in(copy).await,
            Answer::CopyOut(copy) => self.copy_out(copy).await,
            Answer::Session(command) => self.command(command, fields, simple).await,
        }
    }

    /// Sends rows and what ends them. The tag counts the rows of this Execute, as in PostgreSQL.
    pub(super) async fn send_rows(
        &mut self,
        cursor: &mut Cursor,
        prepared: &Prepared<E::Plan>,
        limit: Option<u64>,
    ) -> Result<Stop, Fault> {
        let (stop, count) = cursor.send(&mut self.wire, &self.state, limit, self.deadline).await?;
        self.send_notices();
        match stop {
            Stop::Limit => self.wire.output.portal_suspended(),
            Stop::End => self.complete(prepared.tag, count).await?,
        }
        Ok(stop)
    }

    fn describe_rows(&mut self, prepared: &Prepared<E::Plan>, fields: &Fields) -> Result<(), SqlError> {
        match &prepared.columns {
            Some(columns) => {
                let described = columns.iter().zip(fields.iter().map(|field| field.format));
                self.wire.output.row_description(described);
                Ok(())
            }
            None => Err(SqlError::internal("rows of a statement without columns")),
        }
    }
}

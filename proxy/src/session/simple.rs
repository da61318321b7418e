//! Simple query: a text of statements, executed one after the other; the first error stops the rest.

use crate::protocol::frontend::utf8;
use crate::session::portal::fields;
use crate::session::{Fault, Session, aborted};
use crate::statement::{Executor, Kind, Prepared, TransactionStatus};
use std::sync::Arc;
use std::time::Instant;
use toroid_common::datum::Datum;

impl<E: Executor> Session<E> {
    pub(super) async fn query(&mut self, text: &[u8]) -> Result<(), Fault> {
        let outcome = self.texts(text).await;
        self.several = false;
        self.state.set_commits_next(false);
        outcome
    }

    async fn texts(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.begin_statement();
        // PostgreSQL's simple queries end the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        let pieces = self.executor.split(utf8(text)?)?;
        if pieces.is_empty() {
            self.wire.output.empty_query();
        }
        let several = pieces.len() > 1;
        self.several = several;
        let mut pieces = pieces.into_iter();
        while let Some(piece) = pieces.next() {
            self.last = several && pieces.len() == 0;
            let ends = self.last && !self.wire.output.is_big();
            self.state.set_commits_next(ends && self.state.transaction.get() == TransactionStatus::Idle);
            self.piece(piece, several).await?;
        }
        self.last = false;
        self.end_of_implicit().await?;
        self.ready()
    }

    async fn piece(&mut self, piece: E::Piece, several: bool) -> Result<(), Fault> {
        let started = Instant::now();
        if several {
            self.begin_implicit();
        }
        if self.state.transaction.get() == TransactionStatus::Failed && !self.executor.ends_transaction(&piece) {
            self.metrics.statement(Kind::Empty, false, started.elapsed());
            return Err(aborted().into());
        }
        let executor = self.executor.clone();
        let ready = match executor.prepare_piece(&self.state, piece).await {
            Ok(ready) => ready,
            Err(error) => {
                self.metrics.statement(Kind::Empty, false, started.elapsed());
                return Err(error.into());
            }
        };
        let outcome = self.simple(&ready.prepared, &ready.params).await;
        self.metrics.statement(ready.prepared.kind, outcome.is_ok(), started.elapsed());
        outcome
    }

    async fn simple(&mut self, prepared: &Arc<Prepared<E::Plan>>, params: &[Datum]) -> Result<(), Fault> {
        let answer = self.run(prepared, params).await?;
        let fields = prepared.columns.as_deref().map(|columns| fields(columns, &[])).unwrap_or_default();
        self.send(prepared, answer, fields, true).await
    }
}

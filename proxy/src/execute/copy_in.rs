//! COPY FROM: batches of rows on their way to their partitions, several under way at a time.

use super::Conductor;
use super::insert::insert_plan;
use super::parts::settled;
use super::plan::PointBody;
use super::rows::RowIdentity;
use super::transaction::{Scope, interruptible};
use crate::bound;
use crate::cluster::client::Client;
use crate::statement::{CopyBatch, CopyIn, CopySink, Fill, State};
use futures::StreamExt;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::FuturesUnordered;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Mutex;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, eval, volatility};
use toroid_common::expr::Expr;
use toroid_common::func::Volatility;
use toroid_common::id::PartitionId;
use toroid_common::transaction::Level;
use toroid_common::wire::RequestBody;

/// Requests that may be under way for one COPY: enough to keep every worker busy, few enough to bound memory.
const UNDER_WAY: usize = 32;

impl Conductor {
    pub(super) async fn copy_in(&self, session: &State, copy: &bound::CopyIn) -> SqlResult<CopyIn> {
        let env = session.env().clone();
        let fills = copy
            .table
            .columns
            .iter()
            .zip(&copy.defaults)
            .map(|(column, default)| {
                if column.hidden || volatility(default) == Volatility::Volatile {
                    return Ok(Fill::PerRow);
                }
                eval(default, &NO_ROW, &NO_ROW, &env).map(Fill::Value)
            })
            .collect::<SqlResult<Vec<_>>>()?;
        let mut scope = Scope::of(session);
        let own = scope.open.is_none();
        if own {
            let open = self.client.begin(session.process as u32, Level::default());
            self.enter(session, &open).await?;
            scope.open = Some(open);
        }
        let sink = Sink { own, ..Sink::new(self, &copy.table, copy.defaults.clone(), env, scope) };
        Ok(CopyIn {
            table: Arc::clone(&copy.table),
            targets: copy.targets.clone(),
            fills,
            options: copy.options.clone(),
            partitions: self.partitions() as u16,
            sink: Box::new(sink),
        })
    }
}

/// Takes batches of complete rows for a table and keeps some requests under way.
pub(super) struct Sink {
    client: Client,
    body: Rc<PointBody>,
    defaults: Vec<Expr>,
    env: Env,
    identity: Rc<RowIdentity>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, SqlResult<()>>>,
    partitions: u16,
    scope: Scope,
    /// The transaction is that of the COPY alone.
    own: bool,
    /// Within a transaction the requests of one partition go one after the other.
    turns: Vec<Rc<Mutex<()>>>,
}

impl Sink {
    pub(super) fn new(conductor: &Conductor, table: &Arc<Table>, defaults: Vec<Expr>, env: Env, scope: Scope) -> Sink {
        Sink {
            client: conductor.client.clone(),
            body: Rc::new(insert_plan(table)),
            defaults,
            env,
            identity: conductor.row_identity.clone(),
            under_way: FuturesUnordered::new(),
            partitions: conductor.partitions() as u16,
            scope,
            own: false,
            turns: (0..conductor.partitions()).map(|_| Rc::default()).collect(),
        }
    }

    fn start(&self, partition: PartitionId, batch: Rc<CopyBatch>) {
        let (client, body, scope) = (self.client.clone(), self.body.clone(), self.scope.clone());
        let turn = self.turns.get(usize::from(partition.0)).filter(|_| scope.open.is_some()).cloned();
        let call = async move {
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            let request = RequestBody::Insert { rows: batch.count as u32, bytes: &batch.rows };
            settled(scope.request(&client, partition, &body, None, request).await.map(|_| ()), &body.table.name)
        };
        self.under_way.push(call.boxed_local());
    }
}

impl Sink {
    /// Waits until fewer requests than this are under way.
    async fn until(&mut self, fewer: usize) -> SqlResult<()> {
        let (client, scope) = (self.client.clone(), self.scope.clone());
        let wait = pin!(async {
            while self.under_way.len() >= fewer {
                match self.under_way.next().await {
                    Some(result) => result?,
                    None => break,
                }
            }
            Ok(())
        });
        interruptible(&client, &scope.running, wait).await
    }
}

impl CopySink for Sink {
    fn give_up(&mut self) -> LocalBoxFuture<'_, ()> {
        async move {
            if self.under_way.is_empty() {
                return;
            }
            self.client.call_back(&self.scope.running);
            while self.under_way.next().await.is_some() {
                self.client.call_back(&self.scope.running);
            }
        }
        .boxed_local()
    }

    fn fill(&mut self, column: u16) -> SqlResult<Datum> {
        let place = usize::from(column);
        if self.body.table.columns.get(place).is_some_and(|c| c.hidden) {
            return Ok(self.identity.next());
        }
        let default = self.defaults.get(place).ok_or_else(|| SqlError::internal("a column without a default"))?;
        eval(default, &NO_ROW, &NO_ROW, &self.env)
    }

    fn send(&mut self, batch: CopyBatch) -> LocalBoxFuture<'_, SqlResult<()>> {
        let batch = Rc::new(batch);
        match batch.partition {
            Some(partition) => self.start(partition, batch),
            None => (0..self.partitions).for_each(|partition| self.start(PartitionId(partition), batch.clone())),
        }
        self.until(UNDER_WAY).boxed_local()
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, SqlResult<()>> {
        async move {
            self.until(1).await?;
            let Some(open) = self.scope.open.take().filter(|_| self.own) else { return Ok(()) };
            self.scope.running.seal();
            match open.end() {
                Some(transaction) => self.client.commit(transaction).await,
                None => Ok(()),
            }
        }
        .boxed_local()
    }
}

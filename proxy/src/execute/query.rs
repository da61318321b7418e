//! Queries that read several partitions, or none: planned and merged on a pool of threads of their own, streamed to the session as it reads.

use super::Conductor;
use super::lock::Locked;
use super::schema::{changer, seen_by};
use super::transaction::pause;
use crate::bound::Query;
use crate::cluster::client::{CallError, table_locked};
use crate::cluster::fragments::{Fragments, QueryFragments, Snapshot};
use crate::cluster::{Cluster, View};
use crate::merge::{self, FragmentClient, ResultStream, VirtualTables};
use crate::point::lock::{constants, without_locks};
use crate::statement::{Encoded, RowSource, State};
use crate::virtual_table;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use futures::stream::{self, LocalBoxStream};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use toroid_common::coordinator::Reads;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, TableId, TransactionId};
use toroid_common::row::{RowReader, read_owned};
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;
use toroid_common::wire::{Status, encode_env};
use toroid_query::memory::{Budget, Share};

/// The part of all memory that the rows of one statement take before they are written in parts.
const PARTS: usize = 8;
/// Batches that may wait between merge and session.
const BATCHES_AHEAD: usize = 2;
/// How often a query that has sent nothing yet is planned again because catalog or map changed under it, while its patience lasts.
const MOST_REPLANS: u32 = 400;

/// The rows of a query, as they come.
pub(super) type Batches = LocalBoxStream<'static, SqlResult<RecordBatch>>;

/// Where queries are planned and merged.
pub struct MergePool {
    runtime: tokio::runtime::Handle,
    fragments: Arc<Fragments>,
    cluster: Arc<Cluster>,
    memory: Arc<Budget>,
    part_bytes: usize,
}

impl MergePool {
    /// Queries run on this runtime, which should have several threads, and take so many bytes together.
    pub async fn new(
        cluster: Arc<Cluster>,
        runtime: tokio::runtime::Handle,
        memory: usize,
    ) -> SqlResult<Arc<MergePool>> {
        let fragments = Fragments::new(cluster.clone(), runtime.clone()).await?;
        Ok(Arc::new(MergePool { runtime, fragments, cluster, memory: Budget::new(memory), part_bytes: memory / PARTS }))
    }

    /// Bytes of rows that an INSERT gathers before it writes a part of them.
    pub(super) fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// What a statement may take at this proxy.
    pub(super) fn share(&self) -> Arc<Share> {
        self.memory.share()
    }
}

/// A query with all that it needs away from its session.
struct Job {
    query: Query,
    params: Vec<Datum>,
    env: Env,
    tables: Vec<(TableId, CatalogVersion)>,
    view: Arc<View>,
    /// Its transaction, if that has changed the schema.
    owner: Option<TransactionId>,
    settings: Vec<[String; 3]>,
    /// It reads what the metadata leader knows of the cluster.
    asks_status: bool,
    pool: Arc<MergePool>,
    memory: Arc<Share>,
    /// What its transaction reads; none when it may read whatever is present.
    snapshot: Option<Snapshot>,
    /// Present states were found to be undecided.
    undecided: bool,
    /// Somebody else lets nobody read one of its tables.
    locked: bool,
    /// What its transaction wrote.
    reads: Option<Reads>,
}

impl Conductor {
    pub(super) async fn query(&self, session: &State, query: &Query, params: &[Datum]) -> Result<RowSource, CallError> {
        let memory = self.pool.share();
        let stream = match merge::reads(query).locks {
            false => self.query_stream_plain(session, query, params, &memory).await?,
            true => match self.locked(session, query, params, &memory).await? {
                Locked::Rows(rows) => return Ok(RowSource::Encoded(rows)),
                Locked::Rest(rest) => self.query_stream_plain(session, &rest, params, &memory).await?,
            },
        };
        Ok(RowSource::Stream(stream))
    }

    /// The rows of a query; the first batch is there, or the end, when this returns. Whoever gathers them takes from the same share as the query.
    pub(super) async fn query_stream(
        &self,
        session: &State,
        query: &Query,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Batches, CallError> {
        if !merge::reads(query).locks {
            return Ok(self.query_stream_plain(session, query, params, memory).await?);
        }
        let rest = match self.locked(session, query, params, memory).await? {
            Locked::Rest(rest) => rest,
            Locked::Rows(rows) => rows_of(query, &rows)?,
        };
        Ok(self.query_stream_plain(session, &rest, params, memory).await?)
    }

    /// The same of a query that locks nothing.
    pub(super) async fn query_stream_plain(
        &self,
        session: &State,
        query: &Query,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> SqlResult<Batches> {
        let mut attempt = 0;
        let (first, batches) = loop {
            let mut job = self.job(session, query, params, memory);
            let tables = job.tables.clone();
            self.lock_reads(session, &tables).await?;
            (job.snapshot, job.reads) = self.snapshot(session)?;
            let (sink, mut batches) = mpsc::channel(BATCHES_AHEAD);
            self.pool.runtime.spawn(job.run(sink));
            match batches.recv().await.transpose() {
                // Fragments wait for nobody: a request does so for them, is found in deadlocks, and called back.
                Err(error) if error.state() == SqlState::LOCK_NOT_AVAILABLE => {
                    self.touch(session, &tables).await?;
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                first => break (first?, batches),
            }
        };
        let rest =
            stream::unfold(batches, |mut batches| async move { batches.recv().await.map(|item| (item, batches)) });
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed_local())
    }

    /// The plan as EXPLAIN prints it.
    pub(super) fn explain_query(&self, session: &State, query: &Query, params: &[Datum]) -> SqlResult<Vec<String>> {
        let unlocked;
        let query = match merge::reads(query).locks {
            false => query,
            true => {
                unlocked = without_locks(query.clone());
                &unlocked
            }
        };
        let job = self.job(session, query, params, &self.pool.share());
        let planned = merge::plan(&job.query, &job.params, &job.env, &job.view.map, &job.virtuals(None), &job.memory)?;
        Ok(planned.explain())
    }

    fn job(&self, session: &State, query: &Query, params: &[Datum], memory: &Arc<Share>) -> Job {
        let reads = merge::reads(query);
        let settings = match reads.virtuals.contains(&("pg_catalog", "pg_settings")) {
            true => session
                .settings()
                .show_all()
                .map(|(name, value, text)| [name, value, text].map(str::to_owned))
                .collect(),
            false => Vec::new(),
        };
        Job {
            query: query.clone(),
            params: params.to_vec(),
            env: session.env().clone(),
            tables: reads.tables.into_iter().collect(),
            view: self.seen(session),
            owner: changer(session),
            settings,
            asks_status: reads.virtuals.iter().any(|(schema, _)| *schema == "toroid"),
            pool: self.pool.clone(),
            memory: Arc::clone(memory),
            snapshot: None,
            undecided: false,
            locked: false,
            reads: None,
        }
    }
}

impl Job {
    fn virtuals(&self, status: Option<Box<Status>>) -> Arc<dyn VirtualTables> {
        Arc::new(virtual_table::Source {
            catalog: self.view.catalog.clone(),
            map: self.view.map.clone(),
            status,
            env: self.env.clone(),
            settings: self.settings.clone(),
        })
    }

    /// Runs until the end, an error, or nobody reads any more.
    async fn run(mut self, sink: mpsc::Sender<SqlResult<RecordBatch>>) {
        let begun = Instant::now();
        for attempt in 0..MOST_REPLANS {
            let started = tokio::select! {
                started = self.start() => started,
                () = sink.closed() => return,
            };
            let (mut batches, fragments) = match started {
                Ok(started) => started,
                Err(error) => return drop(sink.send(Err(error)).await),
            };
            let mut sent = false;
            loop {
                let next = tokio::select! {
                    next = batches.next() => next,
                    () = sink.closed() => return,
                };
                match next {
                    None => return,
                    Some(Err(error)) => {
                        if !sent && self.replan(&fragments, attempt, begun.elapsed().as_millis() as u32).await {
                            break;
                        }
                        let error = if self.locked { table_locked() } else { error };
                        return drop(sink.send(Err(error)).await);
                    }
                    Some(Ok(batch)) => {
                        let accepted = sent
                            || tokio::select! {
                                accepted = fragments.accepted() => accepted,
                                () = sink.closed() => return,
                            };
                        if !accepted {
                            if self.replan(&fragments, attempt, begun.elapsed().as_millis() as u32).await {
                                break;
                            }
                            let error = if self.locked { table_locked() } else { out_of_date() };
                            return drop(sink.send(Err(error)).await);
                        }
                        sent = true;
                        if sink.send(Ok(batch)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
        drop(sink.send(Err(SqlError::internal("a query was planned again and again"))).await);
    }

    async fn start(&self) -> SqlResult<(ResultStream, Arc<QueryFragments>)> {
        let status = if self.asks_status { self.pool.cluster.status().await } else { None };
        let virtuals = self.virtuals(status);
        let planned = merge::plan(&self.query, &self.params, &self.env, &self.view.map, &virtuals, &self.memory)?;
        // All fragments of a query see one state. One fragment alone runs over roots of one instant.
        let snapshot = match &self.snapshot {
            Some(snapshot) => snapshot.clone(),
            None if self.undecided || (planned.needs_cut() && !self.tables.is_empty()) => {
                Snapshot::Own(self.pool.cluster.open_cut().await?)
            }
            None => Snapshot::Present,
        };
        let env = encode_env(&self.env);
        let (fragments, view, tables) = (self.pool.fragments.clone(), self.view.clone(), self.tables.clone());
        let fragments = QueryFragments::new(fragments, view, tables, env, snapshot, self.reads.clone());
        let client: Arc<dyn FragmentClient> = Arc::new(fragments.clone());
        Ok((planned.execute(client), fragments))
    }

    /// After a refusal: whether the same bound query may run against the newest map. A query whose tables changed must be bound anew, which its client does.
    async fn replan(&mut self, fragments: &QueryFragments, attempts: u32, waited_ms: u32) -> bool {
        self.undecided |= fragments.lacks_cut();
        self.locked |= fragments.meets_table_lock();
        if !fragments.replannable(attempts, waited_ms).await.unwrap_or(false) {
            return false;
        }
        let Ok(view) = self.pool.cluster.view() else { return false };
        let same =
            |(id, version): &(TableId, CatalogVersion)| view.catalog.table(*id).is_some_and(|t| t.version == *version);
        let holds = self.tables.iter().all(same);
        self.view = self.owner.map_or_else(|| view.clone(), |owner| seen_by(&view, owner));
        holds
    }
}

/// Rows that are there, as a query.
fn rows_of(query: &Query, rows: &Encoded) -> SqlResult<Query> {
    let types: Vec<SqlType> = query.output.iter().map(|column| column.ty.ty).collect();
    let mut reader = RowReader::new(&rows.bytes);
    let rows = (0..rows.count).map(|_| read_owned(reader.skip(&types)?, &types));
    Ok(constants(query, rows.collect::<SqlResult<_>>()?))
}

fn out_of_date() -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, "a schema change or a move of partitions overtook the query")
}

impl VirtualTables for virtual_table::Source {
    fn rows(&self, schema: &str, name: &str) -> SqlResult<RecordBatch> {
        let table = virtual_table::find(Some(schema), name)
            .ok_or_else(|| SqlError::internal(format!("no virtual table {schema}.{name}")))?;
        let mut builders: Vec<ColumnBuilder> = table.columns.iter().map(|(_, ty)| ColumnBuilder::new(*ty)).collect();
        let rows = virtual_table::rows(table, self);
        for row in &rows {
            for (builder, value) in builders.iter_mut().zip(row) {
                builder.push(value.borrow())?;
            }
        }
        let columns = table.columns.iter().zip(builders).map(|((name, _), builder)| (*name, builder.finish(), true));
        RecordBatch::try_from_iter_with_nullable(columns).map_err(SqlError::internal)
    }
}

//! A cluster without sockets: rows in memory, workers that are called directly.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use toroid_common::catalog::{Catalog, Column, Distribution, PUBLIC_SCHEMA, Table, TableState};
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::hash::partition_of;
use toroid_common::id::{
    CatalogVersion, ClusterId, ColumnId, Epoch, Incarnation, IndexId, MapVersion, NodeId, PartitionId, TableId,
    WorkerId,
};
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::map::{Assignment, ClusterMap, NodeEntry, NodeState};
use toroid_common::types::SqlType;
use toroid_common::types::columnar::{ColumnBuilder, ColumnReader};
use toroid_common::types::output::write_text;
use toroid_proxy::bind::{self, NoVirtualSchemas};
use toroid_proxy::bound::{Ddl, Insert, NewTable, Query, Statement};
use toroid_proxy::merge::{self, FragmentClient, VirtualTables};
use toroid_proxy::parse;
use toroid_query::memory::Budget;
use toroid_query::source::RowSource;

/// Partitions of the cluster.
const PARTITIONS: u16 = 16;

type Rows = Arc<Vec<Vec<Datum>>>;

/// All workers' rows, by table and partition; reference tables are at partition 0, which every worker may read.
#[derive(Default)]
struct Stored {
    tables: BTreeMap<TableId, Arc<Table>>,
    rows: BTreeMap<(TableId, PartitionId), Rows>,
    /// Rows as the store lends them, for measurements: all columns, chunk by chunk.
    kept: BTreeMap<(TableId, PartitionId), Arc<Vec<RecordBatch>>>,
}

pub struct Cluster {
    pub catalog: Catalog,
    pub map: Arc<ClusterMap>,
    env: Arc<Env>,
    stored: Arc<RwLock<Stored>>,
    next_row: i64,
    runtime: tokio::runtime::Runtime,
}

/// What one worker lends to one fragment.
struct Lent {
    stored: Arc<RwLock<Stored>>,
    partitions: Vec<PartitionId>,
}

impl RowSource for Lent {
    fn scan(
        &self,
        table: TableId,
        version: CatalogVersion,
        columns: &[u16],
    ) -> SqlResult<Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send>> {
        let stored = self.stored.read().unwrap();
        let definition = stored.tables.get(&table).filter(|t| t.version == version).cloned();
        let definition = definition.ok_or_else(|| SqlError::internal("no such table"))?;
        let replicated = definition.distribution == Distribution::Replicated;
        let all = [PartitionId(0)];
        let partitions: &[PartitionId] = if replicated { &all } else { &self.partitions };
        let kept: Vec<_> = partitions.iter().filter_map(|p| stored.kept.get(&(table, *p)).cloned()).collect();
        if !kept.is_empty() {
            let columns: Vec<usize> = columns.iter().map(|c| usize::from(*c)).collect();
            let batches = kept.into_iter().flat_map(move |batches| {
                let project = |batch: &RecordBatch| batch.project(&columns).map_err(SqlError::internal);
                batches.iter().map(project).collect::<Vec<_>>()
            });
            return Ok(Box::new(batches));
        }
        let chunks: Vec<Rows> = partitions.iter().filter_map(|p| stored.rows.get(&(table, *p)).cloned()).collect();
        let columns = columns.to_vec();
        let batches = chunks.into_iter().flat_map(move |rows| {
            let batches: Vec<_> = rows.chunks(CHUNK_ROWS).map(|rows| batch(&definition, &columns, rows)).collect();
            batches
        });
        Ok(Box::new(batches))
    }
}

fn batch(table: &Table, columns: &[u16], rows: &[Vec<Datum>]) -> SqlResult<RecordBatch> {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for position in columns {
        let column = &table.columns[usize::from(*position)];
        let mut builder = ColumnBuilder::new(column.ty.ty);
        for row in rows {
            builder.push(row[usize::from(*position)].borrow())?;
        }
        arrays.push(builder.finish());
        fields.push(Field::new(&column.name, column.ty.ty.arrow(), true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(SqlError::internal)
}

struct Workers {
    stored: Arc<RwLock<Stored>>,
    env: Arc<Env>,
}

impl FragmentClient for Workers {
    fn run(
        &self,
        _: WorkerId,
        partitions: Vec<(PartitionId, Epoch)>,
        plan: Bytes,
    ) -> BoxStream<'static, SqlResult<Bytes>> {
        let partitions = partitions.into_iter().map(|(partition, _)| partition).collect();
        let rows = Lent { stored: Arc::clone(&self.stored), partitions };
        toroid_storage_node::fragment::run(plan, (*self.env).clone(), Arc::new(rows), &Budget::new(128 << 20).share())
    }
}

struct NoTables;

impl VirtualTables for NoTables {
    fn rows(&self, schema: &str, name: &str) -> SqlResult<RecordBatch> {
        Err(SqlError::internal(format!("no table {schema}.{name}")))
    }
}

impl Cluster {
    pub fn new(workers: u32) -> Cluster {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let node = |id| NodeEntry {
            id: NodeId(id),
            incarnation: Incarnation(1),
            control: address,
            workers: vec![address],
            zone: String::new(),
            capacity: 1,
            state: NodeState::Serving,
        };
        let assignment = |partition: u16| {
            let primary = WorkerId { node: NodeId(u32::from(partition) % workers), index: 0 };
            Assignment::fresh(Epoch(1), primary, Vec::new())
        };
        let map = ClusterMap {
            cluster: ClusterId(1),
            version: MapVersion(1),
            copies: 1,
            min_copies: 1,
            nodes: (0..workers).map(node).collect(),
            partitions: (0..PARTITIONS).map(assignment).collect(),
        };
        Cluster {
            catalog: Catalog::empty(),
            map: Arc::new(map),
            env: Arc::new(Env::default()),
            stored: Arc::default(),
            next_row: 0,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        }
    }

    pub fn bind(&self, text: &str) -> SqlResult<Statement> {
        let parsed = parse::statements(text)?;
        let context =
            bind::Context { catalog: &self.catalog, env: &self.env, virtuals: &NoVirtualSchemas, params: &[] };
        Ok(bind::bind(&context, &parsed[0])?.statement)
    }

    /// Runs one statement; the answer's rows as psql's unaligned mode prints them.
    pub fn run(&mut self, text: &str) -> SqlResult<Vec<String>> {
        match self.bind(text)? {
            Statement::Ddl(Ddl::CreateTable { table, .. }) => {
                self.create(table);
                Ok(Vec::new())
            }
            Statement::Insert(insert) => {
                self.insert(&insert)?;
                Ok(Vec::new())
            }
            Statement::Query(query) => {
                let types: Vec<_> = query.output.iter().map(|c| c.ty).collect();
                let print = |(value, ty): (&Datum, &toroid_common::types::ColumnType)| {
                    let mut out = Vec::new();
                    if !value.is_null() {
                        write_text(&mut out, ty.ty, ty.modifier, value.borrow(), &self.env);
                    }
                    String::from_utf8(out).unwrap()
                };
                let rows = self.rows(&query)?;
                Ok(rows.iter().map(|row| row.iter().zip(&types).map(print).collect::<Vec<_>>().join("|")).collect())
            }
            other => panic!("not for this test: {other:?}"),
        }
    }

    /// From now on scans lend batches that were made once.
    pub fn keep_batches(&mut self) {
        let mut stored = self.stored.write().unwrap();
        let stored = &mut *stored;
        for ((id, partition), rows) in &stored.rows {
            let table = &stored.tables[id];
            let columns: Vec<u16> = (0..table.columns.len() as u16).collect();
            let batches = rows.chunks(CHUNK_ROWS).map(|rows| batch(table, &columns, rows)).collect::<SqlResult<_>>();
            stored.kept.insert((*id, *partition), Arc::new(batches.unwrap()));
        }
    }

    pub fn explain(&self, text: &str) -> Vec<String> {
        let Statement::Query(query) = self.bind(text).unwrap() else { panic!("no query: {text}") };
        self.plan(&query).unwrap().explain()
    }

    fn plan(&self, query: &Query) -> SqlResult<merge::Planned> {
        let virtuals: Arc<dyn VirtualTables> = Arc::new(NoTables);
        merge::plan(query, &[], &self.env, &self.map, &virtuals, &Budget::new(1 << 30).share())
    }

    fn rows(&self, query: &Query) -> SqlResult<Vec<Vec<Datum>>> {
        let types: Vec<SqlType> = query.output.iter().map(|c| c.ty.ty).collect();
        let planned = self.plan(query)?;
        let schema = Arc::clone(planned.schema());
        let workers = Workers { stored: Arc::clone(&self.stored), env: Arc::clone(&self.env) };
        self.runtime.block_on(async {
            let mut batches = planned.execute(Arc::new(workers));
            let mut rows = Vec::new();
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                assert_eq!(batch.schema(), schema);
                let columns: Vec<ColumnReader<'_>> = batch
                    .columns()
                    .iter()
                    .zip(&types)
                    .map(|(array, ty)| ColumnReader::new(array, *ty))
                    .collect::<SqlResult<_>>()?;
                for row in 0..batch.num_rows() {
                    rows.push(columns.iter().map(|c| c.get(row).to_owned()).collect());
                }
            }
            Ok(rows)
        })
    }

    fn create(&mut self, new: NewTable) {
        let id = TableId(self.catalog.next_object);
        self.catalog.next_object += 10;
        let mut indexes = new.indexes;
        for (i, index) in indexes.iter_mut().enumerate() {
            index.id = IndexId(id.0 + 1 + i as u32);
        }
        let table = Arc::new(Table {
            id,
            schema: PUBLIC_SCHEMA.to_owned(),
            name: new.name.name,
            version: CatalogVersion(1),
            next_column: new.columns.len() as u16 + 1,
            columns: new
                .columns
                .into_iter()
                .zip(1..)
                .map(|(column, id)| Column { id: ColumnId(id), ..column })
                .collect(),
            indexes,
            distribution: new.distribution,
            state: TableState::Open,
            generation: 0,
            checks: Vec::new(),
            options: Vec::new(),
        });
        self.stored.write().unwrap().tables.insert(id, Arc::clone(&table));
        self.catalog.tables.insert(id, table);
    }

    fn insert(&mut self, insert: &Insert) -> SqlResult<()> {
        let rows = self.rows(&insert.source)?;
        let table = &insert.table;
        let mut stored = self.stored.write().unwrap();
        for values in rows {
            let mut row = vec![Datum::Null; table.columns.len()];
            if table.columns[0].hidden {
                self.next_row += 1;
                row[0] = match table.columns[0].ty.ty {
                    SqlType::Uuid => Datum::Uuid((self.next_row as u128).to_be_bytes()),
                    _ => Datum::Int8(self.next_row),
                };
            }
            for (value, target) in values.into_iter().zip(&insert.targets) {
                row[usize::from(*target)] = value;
            }
            let key = table.distribution_columns().iter().map(|c| row[usize::from(*c)].borrow());
            let partition = match table.distribution {
                Distribution::Hash(_) => partition_of(key, PARTITIONS),
                Distribution::Replicated => PartitionId(0),
            };
            Arc::make_mut(stored.rows.entry((table.id, partition)).or_default()).push(row);
        }
        Ok(())
    }
}

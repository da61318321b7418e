//! The conductor of the proxy: takes a statement through parse, bind, point or merge, and the cluster; the stages never call each other.
//!
//! Life of a statement here:
//! 1. [`prepare`]: text → `parse` → `bind` → a [`Plan`], found again in [`cache`] by its normalized text and the catalog's version;
//! 2. [`Conductor::execute`] picks the plan's verb: [`point`] (one table, workers evaluate it by themselves), [`query`] (distributed, merged
//!    here), [`insert`] and [`write`] (several partitions), [`copy_in`], `ddl`, or hands it back to the session;
//! 3. a worker that refuses a stale plan makes the statement be planned again: nothing of it has happened.

mod act;
mod cache;
mod copy_in;
mod create_as;
mod explain;
mod insert;
mod lock;
mod lock_table;
mod move_rows;
mod parts;
mod plan;
mod point;
mod prepare;
mod query;
mod rows;
mod schema;
mod set_config;
mod transaction;
mod write;

pub use plan::{Body, Plan, PointBody};
pub use query::MergePool;

use crate::bind::{VirtualSchemas, VirtualTable};
use crate::bound::{Session, Statement};
use crate::cluster::Cluster;
use crate::cluster::client::{CallError, Client};
use crate::parse;
use crate::relations;
use crate::statement::{Answer, Executor, Kind, Open, Prepared, Ready, State};
use crate::virtual_table;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::Arc;
use toroid_common::coordinator::Mark;
use toroid_common::datum::Datum;
use toroid_common::env::Relations;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{NO_ROW, eval};
use toroid_common::expr::{CastContext, Expr};
use toroid_common::id::CatalogVersion;
use toroid_common::near::Place;
use toroid_common::transaction::Level;
use toroid_common::types::SqlType;
use toroid_common::types::cast::cast;
use toroid_common::types::input::parse_text;
use transaction::interruptible;

/// How often one execution may be planned again before its client is told.
const MOST_REPLANS: usize = 16;

/// One proxy thread's conductor.
pub struct Conductor {
    client: Client,
    pool: Arc<MergePool>,
    cache: RefCell<cache::Cache>,
    row_identity: std::rc::Rc<rows::RowIdentity>,
    next_copy: Cell<u16>,
    relations: Relations,
    acts: act::ActPlans,
    /// Of the transaction that asked last.
    seen: RefCell<Option<schema::Seen>>,
}

impl Conductor {
    /// A conductor for the current thread, which must run a `LocalSet`.
    pub async fn new(cluster: Arc<Cluster>, pool: Arc<MergePool>, place: Place) -> SqlResult<Conductor> {
        let relations = relations::relations(cluster.clone());
        let client = Client::new(cluster, place).await?;
        let row_identity = std::rc::Rc::new(rows::RowIdentity::new(client.incarnation()));
        let seen = RefCell::default();
        Ok(Conductor {
            client,
            pool,
            cache: RefCell::default(),
            row_identity,
            next_copy: Cell::new(0),
            relations,
            acts: act::ActPlans::default(),
            seen,
        })
    }

    /// Reads of reference tables go around the copies.
    fn next_copy(&self) -> u16 {
        let copy = self.next_copy.get();
        self.next_copy.set(copy.wrapping_add(1));
        copy % (self.partitions().max(1) as u16)
    }

    async fn run(&self, session: &State, prepared: &Prepared<Plan>, params: &[Datum]) -> Result<Answer, CallError> {
        match &prepared.plan.body {
            Body::Empty => Ok(Answer::Done { count: 0 }),
            Body::Point(body) => self.point(session, body, params).await,
            // Apart, so that what every point statement needs stays small.
            Body::Statement(statement) => Box::pin(self.statement(session, statement, prepared, params)).await,
        }
    }

    async fn statement(
        &self,
        session: &State,
        statement: &Statement,
        prepared: &Prepared<Plan>,
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        match statement {
            Statement::Query(query) => Ok(Answer::Rows(self.query(session, query, params).await?)),
            Statement::Insert(insert) if insert.conflict.is_none() && insert.returning.is_empty() => {
                self.insert(session, insert, (&prepared.params, params)).await
            }
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
                self.write(session, statement, prepared, params).await
            }
            Statement::Explain { inner, .. } => Ok(Answer::Rows(self.explain(session, inner, prepared, params)?)),
            Statement::CopyIn(copy) => Ok(Answer::CopyIn(self.copy_in(session, copy).await?)),
            Statement::CopyOut { query, options } => {
                let columns = prepared.columns.clone().unwrap_or_else(|| Arc::from(Vec::new()));
                let rows = self.query(session, query, params).await?;
                Ok(Answer::CopyOut(crate::statement::CopyOut { columns, options: options.clone(), rows }))
            }
            Statement::Ddl(change) => {
                self.change_schema(session, change).await?;
                Ok(Answer::Done { count: 0 })
            }
            Statement::CreateAs(create) => self.create_as(session, create, params).await,
            Statement::SetConfig { query, .. } => Ok(Answer::SetConfig(self.set_config(session, query, params).await?)),
            Statement::Acts(acts) => self.act(session, acts, params).await,
            Statement::Session(Session::LockTables { names, mode, nowait }) => {
                self.lock_tables(session, names, *mode, *nowait).await
            }
            Statement::Session(command) => Ok(Answer::Session(command.clone())),
        }
    }
}

impl Executor for Conductor {
    type Plan = Plan;
    type Piece = prepare::Piece;

    fn split(&self, text: &str) -> Result<SmallVec<[Self::Piece; 1]>, SqlError> {
        prepare::split(text)
    }

    fn ends_transaction(&self, piece: &Self::Piece) -> bool {
        piece.ends_transaction()
    }

    async fn prepare_piece(&self, session: &State, piece: Self::Piece) -> Result<Ready<Plan>, SqlError> {
        let written = match &piece {
            prepare::Piece::Shared { .. } => None,
            prepare::Piece::Parsed(parsed) => Some((parsed.text.clone(), parsed.range.clone())),
        };
        let ready = self.prepare_simple(session, piece);
        // Nobody brings values for what it names as parameters.
        let missing = match &ready {
            Ok(ready) => ready.params.len() < ready.prepared.params.len(),
            Err(error) => error.state() == SqlState::INDETERMINATE_DATATYPE,
        };
        match written.filter(|_| missing).and_then(|(text, range)| parse::no_parameter(&text, &range)) {
            Some(error) => Err(error),
            None => ready,
        }
    }

    async fn prepare(&self, session: &State, text: &str, declared: &[SqlType]) -> SqlResult<Arc<Prepared<Plan>>> {
        self.prepare_text(session, text, declared)
    }

    async fn refresh(&self, session: &State, prepared: &Arc<Prepared<Plan>>) -> SqlResult<Arc<Prepared<Plan>>> {
        let plan = &prepared.plan;
        if plan.holds(&self.seen(session).catalog) {
            return Ok(prepared.clone());
        }
        self.prepare_text(session, &plan.text, &prepared.params)
    }

    fn arguments(&self, session: &State, args: &[Expr], types: &[SqlType]) -> SqlResult<Vec<Datum>> {
        let env = session.env();
        args.iter().zip(types).map(|(arg, ty)| argument(arg, *ty, &env)).collect()
    }

    fn relations(&self) -> Relations {
        self.relations.clone()
    }

    async fn fulfil(&self, session: &State) -> SqlResult<()> {
        self.begin_hearing(session).await?;
        self.settle_hearing(session);
        Ok(())
    }

    async fn give_back(&self, session: &State) -> SqlResult<()> {
        self.give_back_held(session).await
    }

    fn leave(&self, session: &State) {
        self.leave_held(session);
    }

    fn lost(&self, session: &State) -> Option<SqlError> {
        let holding = session.holding();
        let lost = holding.holds() && holding.life() != Some(self.client.incarnation());
        lost.then(act::dispossessed)
    }

    async fn execute(&self, session: &State, prepared: &Arc<Prepared<Plan>>, params: &[Datum]) -> SqlResult<Answer> {
        // Never moved: it is as large as all that a statement may come to.
        let work = pin!(self.execute_in_place(session, prepared, params));
        match prepared.kind {
            // The metadata service carries it to its end.
            Kind::Ddl => work.await,
            _ => interruptible(&self.client, session.running(), work).await,
        }
    }

    fn begin(&self, session: &State) {
        session.set_open(Some(self.client.begin(session.process as u32, Level::default())));
    }

    async fn commit(&self, session: &State) -> SqlResult<()> {
        session.running().seal();
        let begun = match self.begin_hearing(session).await {
            Ok(begun) => begun,
            Err(error) => {
                self.roll_back(session).await;
                return Err(error);
            }
        };
        let open = self.leave_schema(session);
        let committed = match open.and_then(|open| open.end()) {
            Some(transaction) => self.client.commit(transaction).await,
            None => Ok(()),
        };
        match &committed {
            Ok(()) => self.settle_hearing(session),
            Err(_) => self.end_hearing(session, &begun),
        }
        committed
    }

    async fn roll_back(&self, session: &State) {
        session.running().seal();
        session.hearing().wishes.clear();
        if let Some(transaction) = self.leave_schema(session).and_then(|open| open.end()) {
            self.client.roll_back(transaction).await;
        }
    }

    async fn fail(&self, session: &State) {
        session.running().seal();
        let Some(open) = session.open() else { return };
        let savepoint = open.with(|transaction| {
            Ok(match transaction.savepoints() {
                0 => None,
                _ if transaction.is_lost() => None,
                count => Some(count - 1),
            })
        });
        match savepoint {
            // An error here shows when the savepoint is asked for.
            Ok(Some(place)) => drop(self.roll_back_to(session, place).await),
            Ok(None) | Err(_) => {
                if let Some(transaction) = open.give_up() {
                    self.client.roll_back(transaction).await;
                }
            }
        }
    }

    async fn roll_back_to(&self, session: &State, place: usize) -> SqlResult<()> {
        let Some(open) = session.open() else { return Ok(()) };
        session.running().seal();
        let sends = open.with(|transaction| transaction.roll_back_to(place))?;
        self.undo(&open, sends).await?;
        let mark = open.with(|transaction| Ok(transaction.at_savepoint(place).cloned().unwrap_or_default()))?;
        self.take_back(&open, &mark).await;
        Ok(())
    }
}

impl Conductor {
    /// Plans a statement again while that helps; what it has done in its transaction since the mark is taken back before.
    async fn execute_planned(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Plan>>,
        params: &[Datum],
        within: Option<(&Open, &Mark)>,
    ) -> SqlResult<Answer> {
        let mut current = prepared.clone();
        for attempt in 0..MOST_REPLANS {
            match self.run(session, &current, params).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Sql(error)) => return Err(error),
                Err(CallError::Replan(version)) => {
                    // Who makes it wait may not end soon: that is waited for as the session says.
                    self.client.cluster().catalog(CatalogVersion(version.0.saturating_sub(1))).await?;
                    self.until_free(session, &current).await?;
                    // Workers hear of a catalog later than this proxy may.
                    if attempt > 1 {
                        tokio::time::sleep(transaction::pause(attempt)).await;
                    }
                    self.client.cluster().catalog(version).await?;
                }
            }
            if let Some((open, mark)) = within {
                self.undo_since(open, mark).await?;
            }
            current = self.prepare_text(session, &prepared.plan.text, &prepared.params)?;
            if current.columns != prepared.columns {
                return Err(SqlError::unsupported("a result type that changes while a statement runs"));
            }
        }
        Err(SqlError::new(
            toroid_common::error::SqlState::SERIALIZATION_FAILURE,
            "the schema changed again and again while the statement was planned",
        ))
    }
}

/// An argument of EXECUTE as a value of this type.
fn argument(arg: &Expr, ty: SqlType, env: &toroid_common::env::Env) -> SqlResult<Datum> {
    let value = eval(arg, &NO_ROW, &NO_ROW, env)?;
    match (arg.ty(), value) {
        (_, Datum::Null) => Ok(Datum::Null),
        (SqlType::Unknown, Datum::Text(text)) => parse_text(ty, -1, &text, env),
        (from, value) => cast(value, from, ty, -1, CastContext::Assignment, env),
    }
}

/// The virtual tables as the binder looks them up.
struct Virtuals;

impl VirtualSchemas for Virtuals {
    fn find(&self, schema: Option<&str>, name: &str) -> Option<VirtualTable> {
        virtual_table::find(schema, name).map(|table| VirtualTable {
            oid: table.oid,
            schema: table.schema,
            name: table.name,
            columns: &table.columns,
        })
    }

    fn functions(&self) -> Vec<(u32, &'static str)> {
        virtual_table::functions().collect()
    }
}

/// Binds one parsed statement against a catalog.
fn bind(
    view: &crate::cluster::View,
    env: &toroid_common::env::Env,
    parsed: &parse::Parsed,
    declared: &[SqlType],
) -> SqlResult<crate::bound::Bound> {
    let context = crate::bind::Context { catalog: &view.catalog, env, virtuals: &Virtuals, params: declared };
    crate::bind::bind(&context, parsed)
}

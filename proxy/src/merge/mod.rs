//! Distributed plans: DataFusion's physical plan, cut where rows must travel; what is below a cut runs next to the data.
//!
//! 1. [`crate::lower`] takes subqueries that stand alone out of the query; they run first and become parameters.
//! 2. It lowers the rest to a logical plan, which `session` optimises and makes physical.
//! 3. `cut` places each operator and puts a [`RemoteExec`] where rows travel.
//! 4. [`Planned::execute`] runs what is left here; fragments go out through a [`FragmentClient`].

mod remote;
mod place;
mod prune;
mod lazy;
mod join;
mod append;
mod cut;
mod session;
mod explain;
mod execute;

pub use crate::lower::{VirtualTables, reads};
pub use execute::{ResultStream, held_bytes};
pub use remote::{RemoteExec, Site};

use crate::bound::Query;
use crate::lower::{self, Initial, Runner};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::BoxStream;
use place::Plan;
use std::sync::{Arc, OnceLock};
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::id::{Epoch, PartitionId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_query::memory::Share;

/// How fragments reach the workers.
pub trait FragmentClient: Send + Sync + 'static {
    /// Runs a fragment over a worker's partitions; the answer is an Arrow IPC stream in pieces of any size: schema, batches, end.
    /// Dropping the stream cancels the fragment.
    fn run(
        &self,
        worker: WorkerId,
        partitions: Vec<(PartitionId, Epoch)>,
        plan: Bytes,
    ) -> BoxStream<'static, SqlResult<Bytes>>;
}

/// What a query is planned with.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) env: Arc<Env>,
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) virtuals: Arc<dyn VirtualTables>,
    /// What the statement may take here, subqueries included.
    pub(crate) memory: Arc<Share>,
    /// Known once the query runs: for subqueries that start in the middle of it.
    pub(crate) client: Arc<OnceLock<Arc<dyn FragmentClient>>>,
    /// Set when there are such subqueries.
    pub(crate) applies: Arc<OnceLock<()>>,
}

/// A query ready to run, once.
pub struct Planned {
    schema: SchemaRef,
    stage: Stage,
    setting: Setting,
}

enum Stage {
    Ready(Plan),
    /// Subqueries run first; the rest is planned with their results.
    Waiting {
        query: Box<Query>,
        params: Vec<Datum>,
        initial: Vec<Initial>,
    },
}

/// Plans a query with its parameters' values for the cluster as the map shows it; what merges here takes from `memory`.
pub fn plan(
    query: &Query,
    params: &[Datum],
    env: &Env,
    map: &Arc<ClusterMap>,
    virtuals: &Arc<dyn VirtualTables>,
    memory: &Arc<Share>,
) -> SqlResult<Planned> {
    let setting = Setting {
        memory: Arc::clone(memory),
        env: Arc::new(env.clone()),
        map: Arc::clone(map),
        virtuals: Arc::clone(virtuals),
        client: Arc::default(),
        applies: Arc::default(),
    };
    plan_in(query, params, setting)
}

pub(crate) fn plan_in(query: &Query, params: &[Datum], setting: Setting) -> SqlResult<Planned> {
    let fields = query.output.iter().enumerate();
    let fields: Vec<Field> = fields.map(|(i, c)| Field::new(format!("o{i}"), c.ty.ty.arrow(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let (query, initial) = lower::lift(query, params.len());
    let stage = match initial.is_empty() {
        true => Stage::Ready(physical(&query, params, &setting)?),
        false => Stage::Waiting { query: Box::new(query), params: params.to_vec(), initial },
    };
    Ok(Planned { schema, stage, setting })
}

/// The cut plan of a query whose subqueries have run.
fn physical(query: &Query, params: &[Datum], setting: &Setting) -> SqlResult<Plan> {
    let workers = place::sites(&place::Place::Parts(place::Parts { partitions: None, key: None }), &setting.map)?.len();
    // The planner is told of two parts at least, so that it makes the stages that can be cut apart.
    let surroundings = |runner| lower::Surroundings {
        env: &setting.env,
        virtuals: setting.virtuals.as_ref(),
        workers: workers.max(2),
        runner,
    };
    let joined = lower::lower(query, params, surroundings(None)).and_then(session::physical);
    let plan = match joined {
        // Correlated subqueries that no join can stand for run one by one.
        Err(error)
            if matches!(error.state(), SqlState::FEATURE_NOT_SUPPORTED | SqlState::INTERNAL_ERROR)
                && lower::has_correlated(query) =>
        {
            let _ = setting.applies.set(());
            let runner: Arc<dyn Runner> = Arc::new(execute::Applied::new(params, setting));
            lower::lower(query, params, surroundings(Some(runner))).and_then(session::physical)
        }
        other => other,
    };
    cut::cut(plan?, &setting.map)
}

/// How often a worker is asked for something.
fn fragments(plan: &Plan) -> usize {
    let any: &dyn std::any::Any = plan.as_ref();
    let here = any.downcast_ref::<RemoteExec>().map_or(0, |remote| remote.sites().len());
    here + plan.children().into_iter().map(fragments).sum::<usize>()
}

impl Planned {
    /// The result's columns, in the order of `Query::output`; their PostgreSQL types are there.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether several fragments run, which must all see the same state.
    pub fn needs_cut(&self) -> bool {
        match &self.stage {
            Stage::Ready(plan) => fragments(plan) > 1 || self.setting.applies.get().is_some(),
            Stage::Waiting { .. } => true,
        }
    }

    /// The plan as EXPLAIN shows it: what runs where, what merges here.
    pub fn explain(&self) -> Vec<String> {
        let Stage::Waiting { query, params, initial } = &self.stage else {
            return match &self.stage {
                Stage::Ready(plan) => explain::explain(plan),
                Stage::Waiting { .. } => Vec::new(),
            };
        };
        // What the subqueries will answer is not known yet: NULL stands for it.
        let mut params = params.clone();
        let mut lines = Vec::new();
        for (i, subquery) in initial.iter().enumerate() {
            lines.push(format!("Subquery {} runs first:", i + 1));
            match plan_in(&subquery.query, &params, self.setting.clone()) {
                Ok(planned) => lines.extend(planned.explain().into_iter().map(|line| format!("  {line}"))),
                Err(error) => lines.push(format!("  {error}")),
            }
            params.push(Datum::Null);
        }
        match physical(query, &params, &self.setting) {
            Ok(plan) => lines.extend(explain::explain(&plan)),
            Err(error) => lines.push(error.to_string()),
        }
        lines
    }
}

//! Statements without a key: their rows are looked for on a root, outside the thread, and judged again on the current rows.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId, Ticket};
use super::super::replica::Replica;
use super::answer::write_rows;
use super::request::{Address, Input, read_params};
use super::select::select;
use super::statement::{Statement, StoredRow};
use crate::gate::Time;
use crate::store::root::Root;
use crate::store::table::Position;
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::is_true;
use toroid_common::id::PartitionId;
use toroid_common::plan::{PointPlan, Verb};

/// A request that waits for its rows.
#[derive(Debug)]
pub(in super::super) struct Parked {
    address: Address,
    plan: Arc<PointPlan>,
    params: Bytes,
    env: Arc<Env>,
}

impl Parked {
    pub(super) fn partition(&self) -> PartitionId {
        self.address.partition
    }

    /// Who asked, under which sequence.
    pub(super) fn asker(&self) -> (ConnectionId, u64) {
        (self.address.connection, self.address.request.sequence)
    }
}

/// The rows of a root that meet a plan's condition. Runs outside the worker's thread, for [`Action::FindRows`].
pub fn find_rows(root: &Root, plan: &PointPlan, params: &[u8], env: &Env) -> SqlResult<Vec<Position>> {
    let table = root.table(plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    let filter = match &plan.verb {
        Verb::Select { filter, .. } | Verb::Update { filter, .. } | Verb::Delete { filter, .. } => filter.as_ref(),
        Verb::Insert { .. } => return Err(SqlError::internal("INSERT finds no rows")),
    };
    let mut values = Vec::new();
    read_params(params, plan, &mut values)?;
    let mut found = Vec::new();
    for position in table.positions() {
        let row = StoredRow { rows: table, position };
        if filter.map_or(Ok(true), |filter| is_true(filter, &row, &values, env))? {
            found.push(position);
        }
    }
    Ok(found)
}

impl Worker {
    /// Has the rows of a request looked for; [`Worker::may_execute`] has said yes.
    pub(super) fn park(
        &mut self,
        address: &Address,
        plan: Arc<PointPlan>,
        params: &[u8],
        env: Option<Env>,
        actions: &mut Actions,
    ) {
        let ticket = self.ticket();
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(address.partition.0)) else { return };
        let root = primary.root.clone();
        let env = env.map_or_else(|| Arc::clone(&self.plain_env), Arc::new);
        let parked = Parked { address: *address, plan, params: Bytes::copy_from_slice(params), env };
        actions.push(Action::FindRows {
            ticket,
            root,
            plan: Arc::clone(&parked.plan),
            params: parked.params.clone(),
            env: Arc::clone(&parked.env),
        });
        self.parked.insert(ticket, parked);
    }

    /// The rows are there. Everything may have changed in the meantime: identity, epoch and catalog are looked at again.
    pub(in super::super) fn rows_found(
        &mut self,
        ticket: Ticket,
        root: Root,
        found: SqlResult<Vec<Position>>,
        now: Time,
        actions: &mut Actions,
    ) {
        if let Some(parked) = self.parked.remove(&ticket)
            && self.may_execute(&parked.address, &parked.plan, now, actions)
        {
            match found {
                Err(error) => self.fail(&parked.address, error, now, actions),
                Ok(found) if parked.plan.verb.writes() => {
                    let input = Input::Params(&parked.params, Some(&found));
                    self.execute(&parked.address, &parked.plan, Some(&parked.env), input, now, actions);
                }
                Ok(found) => self.read_found(&parked, &root, &found, now, actions),
            }
        }
        root.finish(&mut self.account);
    }

    /// A SELECT without a key reads the root that it was looked for on.
    fn read_found(&mut self, parked: &Parked, root: &Root, found: &[Position], now: Time, actions: &mut Actions) {
        let Verb::Select { access, output, .. } = &parked.plan.verb else { return };
        let mut values = Vec::new();
        if let Err(error) = read_params(&parked.params, &parked.plan, &mut values) {
            return self.fail(&parked.address, error, now, actions);
        }
        let statement = Statement { params: &values, env: &parked.env, found: Some(found) };
        let Parked { address, plan, .. } = parked;
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(address.partition.0)) else {
            return;
        };
        self.counters.reads += 1;
        primary.gate.hold(primary.root.lsn(), address.connection, |out| {
            write_rows(out, address.request.sequence, |out| {
                let table = root.table(plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
                select(&statement, table, access, None, output, out)
            })
        });
        self.drain_gate(address.partition, now, actions);
    }
}

//! Plan and Forget plan: what a proxy's requests on this connection refer to.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use crate::gate::Time;
use toroid_common::id::PlanId;
use toroid_common::wire::PlanMessage;

impl Worker {
    pub(in super::super) fn plan(
        &mut self,
        connection: ConnectionId,
        message: &PlanMessage<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let problem = match (self.peers.proxy_mut(connection), message.plan()) {
            (None, _) => "a plan from a peer that is no proxy".to_owned(),
            (Some(_), Err(error)) => error.to_string(),
            (Some(proxy), Ok(plan)) => match proxy.register(message.id, plan) {
                true => return,
                false => "too many plans on one connection".to_owned(),
            },
        };
        self.close(connection, problem, now, actions);
    }

    pub(in super::super) fn forget_plan(
        &mut self,
        connection: ConnectionId,
        plan: PlanId,
        now: Time,
        actions: &mut Actions,
    ) {
        match self.peers.proxy_mut(connection) {
            Some(proxy) => proxy.forget(plan),
            None => self.close(connection, "a plan from a peer that is no proxy".to_owned(), now, actions),
        }
    }
}

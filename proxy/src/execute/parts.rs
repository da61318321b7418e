//! Requests of one statement that go to several partitions side by side: all of them happen, or none, as their transaction is committed or not.

use super::transaction::Scope;
use super::{Conductor, PointBody};
use crate::cluster::client::{CallError, Reply};
use crate::statement::State;
use std::cell::RefCell;
use std::collections::BTreeMap;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::PartitionId;
use toroid_common::wire::RequestBody;
use toroid_query::memory::Share;

impl Conductor {
    /// Sends requests of one statement to their partitions, side by side, but those of one partition one after the other; the replies in the same
    /// order. What they hold is taken from `memory`. After a deadlock they go from partition to partition. After a failure none of the others is waited for longer than it takes to call it back.
    pub(super) async fn each_part<'b>(
        &self,
        session: &State,
        body: &PointBody,
        env: Option<&[u8]>,
        requests: impl Iterator<Item = (PartitionId, RequestBody<'b>)>,
        memory: &Share,
    ) -> Result<Vec<Reply>, CallError> {
        let requests: Vec<_> = requests.collect();
        let scope = if requests.len() == 1 { Scope::single(session) } else { Scope::of(session) };
        self.each_part_in(&scope, body, env, requests.into_iter(), memory).await
    }

    /// The same under these terms.
    pub(super) async fn each_part_in<'b>(
        &self,
        scope: &Scope,
        body: &PointBody,
        env: Option<&[u8]>,
        requests: impl Iterator<Item = (PartitionId, RequestBody<'b>)>,
        memory: &Share,
    ) -> Result<Vec<Reply>, CallError> {
        let mut queues: BTreeMap<PartitionId, Vec<(usize, RequestBody<'b>)>> = BTreeMap::new();
        let mut count = 0;
        for (place, (partition, request)) in requests.enumerate() {
            queues.entry(partition).or_default().push((place, request));
            count += 1;
        }
        let failed = &RefCell::new(None);
        let queues = queues.into_iter().map(|(partition, requests)| async move {
            let mut replies = Vec::with_capacity(requests.len());
            for (place, request) in requests {
                if failed.borrow().is_some() {
                    break;
                }
                let reply = scope.request(&self.client, partition, body, env, request).await;
                match reply.and_then(|reply| hold(reply, memory)) {
                    Ok(reply) => replies.push((place, reply)),
                    Err(error) => {
                        failed.borrow_mut().get_or_insert(error);
                        if scope.open.is_some() {
                            self.client.call_back(&scope.running);
                        }
                    }
                }
            }
            replies
        });
        let mut replies: Vec<(usize, Reply)> = Vec::with_capacity(count);
        if scope.open.as_ref().is_some_and(|open| open.goes_in_turn()) {
            for queue in queues {
                replies.extend(queue.await);
            }
        } else {
            replies.extend(futures::future::join_all(queues).await.into_iter().flatten());
        }
        match failed.take() {
            None => in_order(count, replies),
            Some(error) => Err(error),
        }
    }
}

/// What has come is held until all has.
fn hold(reply: Reply, memory: &Share) -> Result<Reply, CallError> {
    if let Reply::Rows { bytes, .. } = &reply {
        memory.take(bytes.len())?;
    }
    Ok(reply)
}

fn in_order(count: usize, mut replies: Vec<(usize, Reply)>) -> Result<Vec<Reply>, CallError> {
    replies.sort_unstable_by_key(|(place, _)| *place);
    if replies.len() != count {
        return Err(SqlError::internal("a part of a statement has no answer").into());
    }
    Ok(replies.into_iter().map(|(_, reply)| reply).collect())
}

/// A table was altered when part of a statement had happened.
pub(super) fn changed(table: &str) -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, format!("table \"{table}\" changed while rows were written"))
}

/// For who cannot have a statement planned again.
pub(super) fn settled<T>(result: Result<T, CallError>, table: &str) -> SqlResult<T> {
    result.map_err(|error| match error {
        CallError::Sql(error) => error,
        CallError::Replan(_) => changed(table),
    })
}

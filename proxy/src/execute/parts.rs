//! Statements that several partitions execute, each by itself for now: this is where two-phase commit will go, so that all of it happens or nothing.

use super::{Conductor, PointBody};
use crate::cluster::client::{CallError, Reply};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::PartitionId;
use toroid_common::wire::RequestBody;
use toroid_query::memory::Share;

impl Conductor {
    /// Sends requests of one statement to their partitions, side by side; the replies in the same order. What they hold is taken from `memory`.
    pub(super) async fn each_part<'b>(
        &self,
        body: &PointBody,
        env: Option<&[u8]>,
        requests: impl Iterator<Item = (PartitionId, RequestBody<'b>)>,
        memory: &Share,
    ) -> Result<Vec<Reply>, CallError> {
        let calls = requests.map(|(partition, request)| async move {
            let reply = self.client.call(partition, &body.handle, env, request).await?;
            if let Reply::Rows { bytes, .. } = &reply {
                memory.take(bytes.len())?;
            }
            Ok(reply)
        });
        together(futures::future::join_all(calls).await, &body.table.name)
    }
}

/// A statement that one partition refused as out of date is planned again and sent to all of them: only while none has executed it.
fn together(replies: Vec<Result<Reply, CallError>>, table: &str) -> Result<Vec<Reply>, CallError> {
    let executed = replies.iter().any(Result::is_ok);
    replies
        .into_iter()
        .map(|reply| match reply {
            Err(CallError::Replan(_)) if executed => Err(changed(table).into()),
            reply => reply,
        })
        .collect()
}

/// A table was altered when part of a statement had happened.
pub(super) fn changed(table: &str) -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, format!("table \"{table}\" changed while rows were written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::id::CatalogVersion;

    #[test]
    fn what_has_happened_in_part_is_not_planned_again() {
        let replan = || Err(CallError::Replan(CatalogVersion(3)));
        let done = || Ok(Reply::Done { count: 1 });
        assert!(matches!(together(vec![replan(), replan()], "t"), Err(CallError::Replan(CatalogVersion(3)))));
        assert!(matches!(together(vec![done(), done()], "t"), Ok(replies) if replies.len() == 2));
        for replies in [vec![done(), replan()], vec![replan(), done()]] {
            let Err(CallError::Sql(error)) = together(replies, "t") else { panic!("planned again") };
            assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
        }
    }
}

//! The channels that sessions of this thread listen to: asked for at their partitions' primaries, again wherever these or the lines to them change.

use super::{CallError, Client, Inner, PlanHandle, Reply, Terms};
use crate::statement::{Heard, Inbox, Running};
use futures::stream::{self, StreamExt};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Notify;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::hearing::{Answered, Channels, Line};
use toroid_common::id::{CatalogVersion, PartitionId, TableId};
use toroid_common::plan::{Act, PointPlan, Verb, partition_of_channel};
use toroid_common::routing::{self, Route};
use toroid_common::row::write_row_slice;
use toroid_common::wire::{Notification, RequestBody};

/// Before a partition is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// Channels that are asked for side by side once lines have changed.
const MENDED_AT_ONCE: usize = 256;

static LISTEN: LazyLock<Arc<PlanHandle>> = LazyLock::new(|| plan(Act::Listen));
static UNLISTEN: LazyLock<Arc<PlanHandle>> = LazyLock::new(|| plan(Act::Unlisten));

fn plan(act: Act) -> Arc<PlanHandle> {
    let (table, table_version) = (TableId(0), CatalogVersion(0));
    let params = act.params().to_vec();
    PlanHandle::new(PointPlan { table, table_version, params, verb: Verb::Act(act), needs_env: false })
}

/// A session that hears.
#[derive(Clone)]
struct Ear(Rc<Inbox>);

impl PartialEq for Ear {
    fn eq(&self, other: &Ear) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// All channels of a thread.
#[derive(Default)]
pub(super) struct Ears {
    channels: RefCell<Channels<Ear>>,
    disturbed: Notify,
}

impl Ears {
    /// A line has ended, or a primary has moved.
    pub(super) fn disturb(&self) {
        self.disturbed.notify_one();
    }

    /// A notification came.
    pub(super) fn hear(&self, notification: &Notification<'_>) {
        let mut channels = self.channels.borrow_mut();
        let mut sessions = channels.hear(notification.channel, notification.number).peekable();
        if sessions.peek().is_none() {
            return;
        }
        let heard = Rc::new(Heard {
            process: notification.process.cast_signed(),
            channel: notification.channel.to_owned(),
            payload: notification.payload.to_owned(),
        });
        sessions.for_each(|Ear(inbox)| inbox.put(&heard));
    }
}

impl Client {
    /// A session listens to a channel from now on: what is sent after this has returned will come, whatever becomes of nodes.
    pub async fn listen(&self, channel: &str, inbox: &Rc<Inbox>) -> SqlResult<()> {
        let seen = self.ears().channels.borrow_mut().begin(channel);
        let last = self.ask_for(channel, seen).await;
        let begun = last.as_ref().ok().copied();
        match self.ears().channels.borrow_mut().begun(channel, Ear(inbox.clone()), begun) {
            true => last.map(|_| ()),
            false => Err(SqlError::internal("a channel is gone")),
        }
    }

    /// A session listens no more.
    pub fn unlisten(&self, channel: &str, inbox: &Rc<Inbox>) {
        if self.ears().channels.borrow_mut().leave(channel, &Ear(inbox.clone())) {
            let (client, channel) = (self.clone(), channel.to_owned());
            tokio::task::spawn_local(async move { client.leave_channel(&channel).await });
        }
    }

    fn ears(&self) -> &Ears {
        &self.inner.ears
    }

    fn partition_of(&self, channel: &str) -> PartitionId {
        partition_of_channel(channel, self.view().map.partitions.len() as u16)
    }

    /// Where a channel would be asked for now.
    fn line_of(&self, channel: &str) -> Option<Line> {
        let Route { worker, epoch } = routing::route(&self.view().map, self.partition_of(channel))?;
        let links = self.inner.links.borrow();
        links.get(&worker).filter(|link| !link.broken.get()).map(|link| (worker, link.number, epoch))
    }

    /// Has the primary tell of a channel, from the notification after this one on; the number of the last one.
    async fn ask_for(&self, channel: &str, seen: Option<u64>) -> SqlResult<u64> {
        let mut bytes = Vec::with_capacity(32 + channel.len());
        let number = seen.map_or(-1, |seen| i64::try_from(seen).unwrap_or(i64::MAX));
        write_row_slice(&mut bytes, &[DatumRef::Int4(0), DatumRef::Text(channel), DatumRef::Int8(number)]);
        loop {
            let before = self.line_of(channel);
            let answer = self.call_act(channel, &LISTEN, &bytes).await?;
            let lines = (before, self.line_of(channel));
            let (last, missed) = match self.ears().channels.borrow_mut().answered(channel, lines, answer) {
                Answered::Again { missed } => (None, missed),
                Answered::Listening { last, missed } => (Some(last), missed),
            };
            if !missed.is_empty() {
                tracing::warn!(channel, "notifications were lost");
            }
            missed.iter().for_each(|Ear(inbox)| inbox.lose());
            if let Some(last) = last {
                return Ok(last);
            }
        }
    }

    async fn call_act(&self, channel: &str, plan: &PlanHandle, params: &[u8]) -> SqlResult<u64> {
        let running = Running::default();
        let terms = Terms { running: &running, lock_timeout_ms: 0, within: None };
        let request = RequestBody::Point { params };
        match self.call(self.partition_of(channel), plan, None, request, terms).await {
            Ok(Reply::Done { count }) => Ok(count),
            Ok(Reply::Rows { .. }) => Err(SqlError::internal("an act was answered with rows")),
            Err(failed) => match CallError::from(failed) {
                CallError::Sql(error) => Err(error),
                CallError::Replan(_) => Err(SqlError::internal("an act is of no catalog")),
            },
        }
    }

    async fn leave_channel(&self, channel: &str) {
        let mut bytes = Vec::with_capacity(16 + channel.len());
        write_row_slice(&mut bytes, &[DatumRef::Int4(0), DatumRef::Text(channel)]);
        // Where it is not heard it goes on telling: nobody minds.
        drop(self.call_act(channel, &UNLISTEN, &bytes).await);
        if self.ears().channels.borrow_mut().left(channel) {
            self.ears().disturb();
        }
    }

    /// Asks again for the channels whose lines have changed; false when some could not be asked for.
    async fn mend(&self) -> bool {
        let stale = self.ears().channels.borrow().stale(|channel| self.line_of(channel));
        let asking = stale.into_iter().map(async |(name, seen)| match self.ask_for(&name, Some(seen)).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(channel = %name, %error, "a channel cannot be listened to");
                false
            }
        });
        // One partition without a primary keeps none of the others waiting.
        stream::iter(asking).buffer_unordered(MENDED_AT_ONCE).fold(true, async |all, one| all & one).await
    }
}

/// Keeps listening, whatever becomes of lines and primaries.
pub(super) async fn keep(ears: Rc<Ears>, client: Weak<Inner>) {
    loop {
        ears.disturbed.notified().await;
        loop {
            let Some(inner) = client.upgrade() else { return };
            if (Client { inner }).mend().await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

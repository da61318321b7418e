//! The channels that sessions of this thread listen to: asked for at their partitions' primaries, again wherever these or the lines to them change.

use super::{CallError, Client, Inner, PlanHandle, Reply, Terms};
use crate::statement::{Heard, Inbox, Running};
use futures::stream::{self, StreamExt};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Notify;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{CatalogVersion, Epoch, PartitionId, TableId, WorkerId};
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

/// The line over which a primary was asked: its worker, the number of the connection, and the epoch, since who was another role's meanwhile has forgotten.
type Line = (WorkerId, u64, Epoch);

#[derive(Default)]
struct Channel {
    /// The number of the last notification that came, or need not come.
    seen: u64,
    /// None while nobody is known to tell of it.
    line: Option<Line>,
    /// Each with the number of the notification after which it began to listen.
    sessions: Vec<(Rc<Inbox>, u64)>,
    /// Sessions that wait to begin.
    beginning: usize,
}

impl Channel {
    fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.beginning == 0
    }
}

/// All channels of a thread.
#[derive(Default)]
pub(super) struct Ears {
    channels: RefCell<BTreeMap<String, Channel>>,
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
        let Some(channel) = channels.get_mut(notification.channel) else { return };
        if notification.number <= channel.seen {
            return;
        }
        channel.seen = notification.number;
        let heard = Rc::new(Heard {
            process: notification.process.cast_signed(),
            channel: notification.channel.to_owned(),
            payload: notification.payload.to_owned(),
        });
        for (inbox, _) in channel.sessions.iter().filter(|(_, from)| *from < notification.number) {
            inbox.put(&heard);
        }
    }
}

impl Client {
    /// A session listens to a channel from now on: what is sent after this has returned will come, whatever becomes of nodes.
    pub async fn listen(&self, channel: &str, inbox: &Rc<Inbox>) -> SqlResult<()> {
        let seen = {
            let mut channels = self.ears().channels.borrow_mut();
            let known = channels.entry(channel.to_owned()).or_default();
            known.beginning += 1;
            // Those who listen already may lack something yet.
            (!known.sessions.is_empty()).then_some(known.seen)
        };
        let last = self.ask_for(channel, seen).await;
        let mut channels = self.ears().channels.borrow_mut();
        let Some(known) = channels.get_mut(channel) else { return Err(SqlError::internal("a channel is gone")) };
        known.beginning -= 1;
        if let Ok(last) = last {
            if known.sessions.is_empty() {
                known.seen = known.seen.max(last);
            }
            if !known.sessions.iter().any(|(listening, _)| Rc::ptr_eq(listening, inbox)) {
                known.sessions.push((inbox.clone(), last));
            }
        }
        if known.is_idle() {
            channels.remove(channel);
        }
        last.map(|_| ())
    }

    /// A session listens no more.
    pub fn unlisten(&self, channel: &str, inbox: &Rc<Inbox>) {
        let mut channels = self.ears().channels.borrow_mut();
        let Some(known) = channels.get_mut(channel) else { return };
        known.sessions.retain(|(listening, _)| !Rc::ptr_eq(listening, inbox));
        if known.is_idle() {
            channels.remove(channel);
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
            // What was asked over a line that ended is forgotten.
            if before.is_none() || self.line_of(channel) != before {
                continue;
            }
            let last = answer / 2;
            if let Some(known) = self.ears().channels.borrow_mut().get_mut(channel) {
                known.line = before;
                if answer % 2 == 1 {
                    tracing::warn!(channel, "notifications were lost");
                    known.sessions.iter().for_each(|(inbox, _)| inbox.lose());
                    known.seen = last;
                }
            }
            return Ok(last);
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
        // Somebody may have begun to listen meanwhile, before or after that.
        if let Some(known) = self.ears().channels.borrow_mut().get_mut(channel) {
            known.line = None;
            self.ears().disturb();
        }
    }

    /// Asks again for the channels whose lines have changed; false when some could not be asked for.
    async fn mend(&self) -> bool {
        let stale: Vec<(String, u64)> = {
            let channels = self.ears().channels.borrow();
            let stale = channels.iter().filter(|(name, known)| {
                !known.sessions.is_empty() && (known.line.is_none() || known.line != self.line_of(name))
            });
            stale.map(|(name, known)| (name.clone(), known.seen)).collect()
        };
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

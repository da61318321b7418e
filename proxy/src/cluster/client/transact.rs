//! The ends of transactions: steps sent side by side, and carried on when nobody waits for them any more.

use super::{Client, Inner};
use crate::statement::Leave;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;
use toroid_common::coordinator::{Commitment, Sends, StepEnd, Transaction, lost};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{PartitionId, TransactionId};
use toroid_common::transaction::Step;

/// Anchors are told together to forget: those of one such time leave at once.
const FORGETTING: Duration = Duration::from_millis(20);
/// How long a client waits until its rollback is known everywhere; the locks of a partition that takes longer go later.
const ROLLING_BACK: Duration = Duration::from_millis(200);

type Ended = (PartitionId, Step, StepEnd);

/// The end of one transaction on its way.
pub(super) struct Course {
    client: Client,
    transaction: TransactionId,
    /// None when it is rolled back.
    commitment: Option<Commitment>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
}

impl Course {
    fn new(client: Client, transaction: TransactionId, commitment: Option<Commitment>, sends: Sends) -> Course {
        let course = Course { client, transaction, commitment, under_way: FuturesUnordered::new() };
        course.send(sends);
        course
    }

    fn send(&self, sends: Sends) {
        for (partition, step) in sends {
            let (client, transaction) = (self.client.clone(), self.transaction);
            self.under_way.push(Box::pin(async move {
                if step == Step::Forget {
                    tokio::time::sleep_until(next_forgetting()).await;
                }
                let end = client.step(partition, transaction, &step).await;
                (partition, step, end)
            }));
        }
    }

    fn outcome(&self) -> Option<SqlResult<()>> {
        self.commitment.as_ref()?.outcome().cloned()
    }

    /// Waits for one step; false when there is none.
    async fn advance(&mut self) -> bool {
        let Some((partition, step, end)) = self.under_way.next().await else { return false };
        if let StepEnd::Error(error) | StepEnd::Unknown(error) = &end {
            tracing::debug!(transaction = %self.transaction, %partition, ?step, %error, "a step failed");
        }
        if let Some(commitment) = &mut self.commitment {
            let sends = commitment.ended(partition, &step, end);
            self.send(sends);
        }
        true
    }

    async fn carry_on(mut self) {
        while self.advance().await {}
    }
}

/// The next moment at which anchors are told to forget.
fn next_forgetting() -> Instant {
    thread_local! {
        static FIRST: Instant = Instant::now();
    }
    let first = FIRST.with(|first| *first);
    let times = first.elapsed().as_millis() / FORGETTING.as_millis() + 1;
    first + FORGETTING * u32::try_from(times).unwrap_or(u32::MAX)
}

/// A course that somebody waits for; what is left of it goes to [`finish`].
struct Watched {
    course: Option<Course>,
    left: UnboundedSender<Course>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(course) = self.course.take()
            && !course.under_way.is_empty()
        {
            // Where nobody takes it the thread ends, and participants will ask.
            drop(self.left.send(course));
        }
    }
}

impl Client {
    fn watched(&self, transaction: TransactionId, commitment: Option<Commitment>, sends: Sends) -> Watched {
        let course = Course::new(self.clone(), transaction, commitment, sends);
        Watched { course: Some(course), left: self.inner.left.clone() }
    }

    /// Commits; returns when the outcome is known, or will never be.
    pub async fn commit(&self, transaction: Transaction) -> SqlResult<()> {
        let id = transaction.id();
        if transaction.is_lost() {
            self.roll_back(transaction).await;
            return Err(lost());
        }
        let (commitment, sends) = transaction.commit();
        let mut watched = self.watched(id, Some(commitment), sends);
        let Some(course) = &mut watched.course else { return Err(no_outcome()) };
        loop {
            if let Some(outcome) = course.outcome() {
                return outcome;
            }
            if !course.advance().await {
                return Err(no_outcome());
            }
        }
    }

    /// Rolls back; returns when that is done, or soon in any case.
    pub async fn roll_back(&self, transaction: Transaction) {
        let id = transaction.id();
        let mut watched = self.watched(id, None, transaction.roll_back());
        let Some(course) = &mut watched.course else { return };
        // What is left of it goes on.
        drop(tokio::time::timeout(ROLLING_BACK, async { while course.advance().await {} }).await);
    }

    /// Undoes a part of a transaction; an error when a partition cannot.
    pub async fn undo(&self, transaction: TransactionId, sends: Sends) -> SqlResult<()> {
        let mut course = Course::new(self.clone(), transaction, None, sends);
        while let Some((_, _, end)) = course.under_way.next().await {
            match end {
                StepEnd::Done(_) => {}
                StepEnd::Error(error) => return Err(error),
                StepEnd::Unknown(_) => return Err(lost()),
            }
        }
        Ok(())
    }
}

fn no_outcome() -> SqlError {
    SqlError::internal("a commitment without an outcome")
}

/// Rolls back transactions that nobody ended.
pub(super) fn leave(client: Weak<Inner>) -> Leave {
    Rc::new(move |transaction: Transaction| {
        let Some(inner) = client.upgrade() else { return };
        let (client, id) = (Client { inner }, transaction.id());
        drop(client.watched(id, None, transaction.roll_back()));
    })
}

/// Carries on what nobody waits for.
pub(super) async fn finish(mut queue: UnboundedReceiver<Course>) {
    let mut courses = FuturesUnordered::new();
    loop {
        tokio::select! {
            course = queue.recv() => match course {
                Some(course) => courses.push(course.carry_on()),
                None => return,
            },
            _ = courses.next(), if !courses.is_empty() => {}
        }
    }
}

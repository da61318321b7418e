//! The ends of transactions: steps sent side by side, and carried on when nobody waits for them any more.

use super::{Client, Inner};
use crate::statement::Leave;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;
use toroid_common::coordinator::{Commitment, Sends, StepEnd, Transaction, lost};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{PartitionId, TransactionId};
use toroid_common::routing;
use toroid_common::transaction::Step;
use toroid_common::wire::{CatalogChange, ChangeError, Forget, Message};

/// What anchors may forget is gathered for so long.
const FORGETTING: Duration = Duration::from_millis(20);
/// How long a client waits until its rollback is known everywhere; the locks of a partition that takes longer go later.
const ROLLING_BACK: Duration = Duration::from_millis(200);

/// Before the metadata group is asked again after another schema change came first.
const AGAIN: Duration = Duration::from_millis(5);

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
            if let Some(anchor) = commitment.forgets() {
                self.client.forget(anchor, self.transaction);
            }
            self.send(sends);
        }
        true
    }

    async fn carry_on(mut self) {
        while self.advance().await {}
    }
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

    /// Everybody has confirmed: the anchor is told soon, together with others.
    fn forget(&self, anchor: PartitionId, transaction: TransactionId) {
        let mut forgotten = self.inner.forgotten.borrow_mut();
        let first = forgotten.is_empty();
        forgotten.entry(anchor).or_default().push(transaction);
        if first {
            let client = self.clone();
            spawn_local(async move {
                tokio::time::sleep(FORGETTING).await;
                client.tell_anchors();
            });
        }
    }

    /// Tells anchors what they may forget. Whom it does not reach finds out by itself.
    fn tell_anchors(&self) {
        let (view, life) = (self.view(), self.incarnation());
        for (partition, transactions) in self.inner.forgotten.take() {
            let numbers = transactions.into_iter().filter(|it| it.proxy == life).map(|it| it.number).collect();
            if let Some(route) = routing::route(&view.map, partition)
                && let Some(link) = self.inner.links.borrow().get(&route.worker)
            {
                Message::Forget(Forget { partition, numbers }).write(&mut link.out.borrow_mut());
                link.flush();
            }
        }
    }

    /// Commits; returns when the outcome is known, or will never be.
    pub async fn commit(&self, transaction: Transaction) -> SqlResult<()> {
        let id = transaction.id();
        if transaction.is_lost() {
            self.roll_back(transaction).await;
            return Err(lost());
        }
        let outside = transaction.changes_schema() && self.has_changed_schema(id)?;
        if outside {
            // Carried to its end, also when nobody waits: participants that are told need not ask.
            let client = self.clone();
            return spawn_local(async move { client.commit_schema(transaction).await })
                .await
                .unwrap_or(Err(no_outcome()));
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

    fn has_changed_schema(&self, id: TransactionId) -> SqlResult<bool> {
        Ok(self.inner.cluster.view()?.catalog.owners().any(|owner| owner == id))
    }

    /// Commits a transaction that has changed the schema; returns when that is in force everywhere.
    async fn commit_schema(&self, transaction: Transaction) -> SqlResult<()> {
        let id = transaction.id();
        let (commitment, sends) = transaction.commit_outside();
        let mut course = Course::new(self.clone(), id, Some(commitment), sends);
        let outcome = loop {
            if let Some(outcome) = course.outcome() {
                break outcome;
            }
            let prepared = course.commitment.as_ref().and_then(Commitment::decides_outside).cloned();
            if let Some(prepared) = prepared {
                let end = self.publish(id, prepared.iter().collect()).await;
                let sends = course.commitment.as_mut().map(|commitment| commitment.decided_outside(end));
                course.send(sends.unwrap_or_default());
            } else if !course.advance().await {
                break Err(no_outcome());
            }
        };
        let mut finished = Vec::new();
        while let Some((partition, step, end)) = course.under_way.next().await {
            if matches!((&step, &end), (Step::Finish { .. }, StepEnd::Done(_))) {
                finished.push(partition);
            }
            if let Some(commitment) = &mut course.commitment {
                let sends = commitment.ended(partition, &step, end);
                course.send(sends);
            }
        }
        match &outcome {
            Ok(()) => self.end_of_changes(CatalogChange::Forget { owner: id, participants: finished }).await,
            Err(_) => self.take_back(id, 0).await,
        }
        outcome
    }

    /// Has the metadata group decide that the transaction is committed.
    async fn publish(&self, owner: TransactionId, participants: Vec<PartitionId>) -> StepEnd {
        let change = CatalogChange::Publish { owner, participants };
        loop {
            let have = match self.inner.cluster.view() {
                Ok(view) => view.catalog.version,
                Err(error) => return StepEnd::Unknown(error),
            };
            match self.inner.cluster.change(have, change.clone()).await {
                Ok(Ok(_)) => return StepEnd::Done(0),
                Ok(Err(ChangeError::Sql(error))) => return StepEnd::Error(error),
                // Nothing of it has happened.
                Ok(Err(ChangeError::Conflict { .. } | ChangeError::Blocked { .. })) => tokio::time::sleep(AGAIN).await,
                Err(error) => return StepEnd::Unknown(error),
            }
        }
    }

    /// Takes back what a transaction changed in the schema under this number and later. Where that fails the metadata group will do it.
    pub async fn take_back(&self, owner: TransactionId, number: u32) {
        self.end_of_changes(CatalogChange::TakeBack { owner, number }).await;
    }

    async fn end_of_changes(&self, change: CatalogChange) {
        let cluster = &self.inner.cluster;
        loop {
            let Ok(view) = cluster.view() else { return };
            match cluster.change(view.catalog.version, change.clone()).await {
                Ok(Ok(version)) => return drop(cluster.catalog(version).await),
                Ok(Err(ChangeError::Conflict { .. } | ChangeError::Blocked { .. })) => tokio::time::sleep(AGAIN).await,
                Ok(Err(ChangeError::Sql(error))) | Err(error) => {
                    return tracing::warn!(%error, "the end of a transaction's schema changes was not heard of");
                }
            }
        }
    }

    /// Rolls back; returns when that is done, or soon in any case.
    pub async fn roll_back(&self, transaction: Transaction) {
        let (id, changes) = (transaction.id(), transaction.changes_schema());
        let mut watched = self.watched(id, None, transaction.roll_back());
        let Some(course) = &mut watched.course else { return };
        // What is left of it goes on.
        drop(tokio::time::timeout(ROLLING_BACK, async { while course.advance().await {} }).await);
        if changes {
            let client = self.clone();
            // Also when nobody waits.
            drop(spawn_local(async move { client.take_back(id, 0).await }).await);
        }
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
        if transaction.changes_schema() {
            let client = client.clone();
            spawn_local(async move { client.take_back(id, 0).await });
        }
        drop(client.watched(id, None, transaction.roll_back()));
    })
}

/// Carries on what nobody waits for: each in a task of its own, because they are many, and none may wait until others have had their turns.
pub(super) async fn finish(mut queue: UnboundedReceiver<Course>) {
    while let Some(course) = tokio::task::unconstrained(queue.recv()).await {
        spawn_local(course.carry_on());
    }
}

//! Cuts: what queries read that need the rows of several workers at one moment.

use super::Cluster;
use super::metadata::Requests;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CutId, MapVersion};
use toroid_common::wire::{ControlBody, NoticeBody};

/// How long a query waits for its cut: for a node that was lost to be replaced.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cut that can be read while this is held; the last who lets go of it says so to the metadata leader.
pub struct HeldCut {
    id: CutId,
    map: MapVersion,
    requests: Requests,
}

impl HeldCut {
    pub fn id(&self) -> CutId {
        self.id
    }

    /// The map in which its partitions were captured.
    pub fn map(&self) -> MapVersion {
        self.map
    }
}

impl Drop for HeldCut {
    fn drop(&mut self) {
        self.requests.tell(ControlBody::CloseCut(self.id));
    }
}

type Answer = oneshot::Sender<SqlResult<Arc<HeldCut>>>;

/// Where those who want a cut ask for it.
pub(super) type Desk = mpsc::UnboundedSender<Answer>;

/// The desk, and who stands at it: everybody who has come by the time a request leaves shares what comes of it, nobody who comes later.
pub(super) fn desk() -> (Desk, mpsc::UnboundedReceiver<Answer>) {
    mpsc::unbounded_channel()
}

/// Opens cuts for as long as the cluster handle lives.
pub(super) async fn serve(mut asking: mpsc::UnboundedReceiver<Answer>, cluster: Weak<Cluster>) {
    while let Some(first) = asking.recv().await {
        let mut together = vec![first];
        while let Ok(next) = asking.try_recv() {
            together.push(next);
        }
        let Some(cluster) = cluster.upgrade() else { return };
        let requests = cluster.requests().clone();
        tokio::spawn(async move {
            let opened = open(requests).await;
            // Whoever is gone leaves it to the others; the last share closes it.
            together.into_iter().for_each(|answer| drop(answer.send(opened.clone())));
        });
    }
}

async fn open(requests: Requests) -> SqlResult<Arc<HeldCut>> {
    match requests.ask(ControlBody::OpenCut).await? {
        NoticeBody::Cut { cut, map } => Ok(Arc::new(HeldCut { id: cut, map, requests })),
        other => Err(super::metadata::unexpected(&other)),
    }
}

impl Cluster {
    /// A cut of all partitions, of a moment after this call.
    pub async fn open_cut(&self) -> SqlResult<Arc<HeldCut>> {
        let (answer, opened) = oneshot::channel();
        let unavailable =
            || SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the cluster could not make a cut of all partitions");
        self.desk().send(answer).map_err(|_| unavailable())?;
        match tokio::time::timeout(PATIENCE, opened).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }
}

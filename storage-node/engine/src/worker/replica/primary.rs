//! The primary's role: orders entries, applies them at once, and knows which of them all replicas hold.

use super::super::event::{Actions, ConnectionId};
use super::super::listeners::Listeners;
use super::super::transaction::Transactions;
use super::departed::Departed;
use super::progress::{Following, Progress, REPEAT_MICROS};
use super::sending::Sending;
use crate::gate::{Gate, Time};
use crate::log::{Entry, Executed, Tail};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::Root;
use bytes::Bytes;
use toroid_common::error::SqlError;
use toroid_common::id::{Epoch, Lsn, MapVersion, PartitionId, WorkerId};
use toroid_common::map::{Assignment, Successor};
use toroid_common::wire::EntriesHead;

/// Bytes of entries that backups have not acknowledged, and of answers that wait for it, above which a partition takes no more requests.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Bytes of acknowledged entries that are kept for a joining replica: one that needs more gets another root.
const MAX_JOINING_BYTES: usize = 128 << 20;
/// Bytes of acknowledged entries that are kept for followers that were lost: whoever needs more gets a root.
const MAX_DEPARTED_BYTES: usize = 16 << 20;
/// Bytes of notifications that backups have not acknowledged, above which a partition takes no more.
const MAX_UNHEARD_BYTES: usize = 2 << 20;
/// A joining replica that lacks no more bytes than this has caught up.
const CAUGHT_UP_BYTES: usize = 256 << 10;
/// Bytes of entries that one follower is sent of one partition in one turn, about.
const SENT_BYTES: usize = 2 << 20;

#[derive(Debug)]
pub(in super::super) struct Primary {
    pub epoch: Epoch,
    pub origin: Epoch,
    /// The epoch in which it became the primary; it has been ever since.
    pub since: Epoch,
    /// The state after the last appended entry: entries are applied at once.
    pub root: Root,
    /// All replicas of the epoch hold the log up to here.
    acknowledged: Lsn,
    /// It serves once the log up to here is acknowledged: what it held when it was promoted.
    established: Lsn,
    /// Entries that are not acknowledged, or that a joining replica lacks, or one that may come back.
    tail: Tail,
    pub followers: Vec<Progress>,
    departed: Departed,
    /// For whom answers wait.
    pub gate: Gate<ConnectionId>,
    /// A hand-over is planned: nothing is executed or appended any more.
    pub successor: Option<Successor>,
    /// When the hand-over was proposed last.
    handed_over: Option<Time>,
    /// The entry that brought the present catalog, or a later one.
    pub catalog: Lsn,
    /// Why its indexes are not built here.
    pub unbuilt: Option<SqlError>,
    pub transactions: Transactions,
    pub listeners: Listeners,
}

impl Primary {
    /// The first primary of a partition.
    pub(in super::super) fn first(assignment: &Assignment, root: Root, now: Time) -> Primary {
        let tail = Tail::after(root.lsn(), None);
        Primary::with(assignment, root, Lsn(0), tail, Departed::default(), now)
    }

    /// A backup that is promoted, after this primary. It has applied all that it holds, `acknowledged` of which is known to be.
    pub(super) fn promoted(
        assignment: &Assignment,
        former: Option<WorkerId>,
        (root, acknowledged, tail): (Root, Lsn, Tail),
        now: Time,
    ) -> Primary {
        assert_eq!(tail.last(), root.lsn(), "a promoted backup has applied its whole log");
        assert!(acknowledged <= root.lsn(), "what is acknowledged is held");
        let mut departed = Departed::default();
        if let Some(former) = former {
            // It held what is known here to be acknowledged, and may still do so.
            departed.note(former, acknowledged, now);
        }
        Primary::with(assignment, root, acknowledged, tail, departed, now)
    }

    fn with(
        assignment: &Assignment,
        root: Root,
        acknowledged: Lsn,
        tail: Tail,
        departed: Departed,
        now: Time,
    ) -> Primary {
        let mut primary = Primary {
            epoch: assignment.epoch,
            origin: assignment.origin,
            since: assignment.epoch,
            acknowledged,
            established: root.lsn(),
            tail,
            followers: Vec::new(),
            departed,
            gate: Gate::default(),
            successor: None,
            handed_over: None,
            catalog: root.lsn(),
            unbuilt: None,
            transactions: Transactions::default(),
            listeners: Listeners::default(),
            root,
        };
        let gone = primary.enter(assignment, now);
        assert!(gone.is_empty(), "a new primary sends no roots");
        primary
    }

    /// Goes on as primary under a new assignment. Roots that nobody is sent any more come back.
    #[must_use]
    pub(in super::super) fn enter(&mut self, assignment: &Assignment, now: Time) -> Vec<Sending> {
        assert!(assignment.epoch >= self.epoch, "epochs ascend: {} after {}", assignment.epoch, self.epoch);
        let new_epoch = assignment.epoch > self.epoch;
        self.epoch = assignment.epoch;
        let mut gone = Vec::new();
        let mut former = std::mem::take(&mut self.followers);
        let backups = assignment.backups.iter().map(|worker| (*worker, Following::Backup));
        let joining = Following::Joining { counted: false, proposed: false };
        for (worker, following) in backups.chain(assignment.joining.iter().map(|worker| (*worker, joining))) {
            let found = former.iter().position(|progress| progress.worker == worker);
            let mut progress = match found {
                Some(at) => former.swap_remove(at),
                // At the very beginning every replica holds the whole log: nothing.
                None => Progress::new(worker, following, Lsn(0), now),
            };
            if new_epoch {
                if following != Following::Backup {
                    self.depart(&progress, now);
                }
                progress.enter(following, now);
                gone.extend(progress.unhear());
            }
            self.followers.push(progress);
        }
        for mut progress in former {
            self.depart(&progress, now);
            gone.extend(progress.unhear());
        }
        if self.successor != assignment.successor {
            self.successor = assignment.successor;
            self.handed_over = None;
        }
        self.recount();
        gone
    }

    /// A follower is lost, and may come back with what it has.
    fn depart(&mut self, progress: &Progress, now: Time) {
        if let Some(confirmed) = progress.holds_log() {
            self.departed.note(progress.worker, confirmed, now);
        }
    }

    /// The connection to a follower is lost. What it was sent of a root comes back.
    pub(in super::super) fn lost(&mut self, worker: WorkerId, now: Time) -> Option<Sending> {
        let progress = self.followers.iter_mut().find(|progress| progress.worker == worker)?;
        // Of a backup nothing is dropped that it has not confirmed.
        let confirmed = progress.holds_log().filter(|_| !progress.is_backup());
        let sending = progress.unhear();
        if let Some(confirmed) = confirmed {
            self.departed.note(worker, confirmed, now);
        }
        sending
    }

    /// Nobody who was lost is waited for any more, or nobody who stayed away for too long.
    pub(in super::super) fn forget_departed(&mut self, now: Option<Time>) {
        let forgot = match now {
            Some(now) => self.departed.expire(now),
            None => {
                self.departed.clear();
                true
            }
        };
        if forgot {
            self.drop_entries();
        }
    }

    pub(in super::super) fn is_missed(&self) -> bool {
        !self.departed.is_empty()
    }

    /// Bytes of acknowledged entries that are kept.
    pub(in super::super) fn kept_bytes(&self) -> usize {
        self.tail.bytes() - self.tail.bytes_after(self.acknowledged)
    }

    pub(in super::super) fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// No requests are ever taken: it only keeps what it holds.
    pub(in super::super) fn never_serve(&mut self) {
        self.established = Lsn(u64::MAX);
    }

    /// Whether requests are taken.
    pub(in super::super) fn serves(&self) -> bool {
        self.acknowledged >= self.established && self.successor.is_none()
    }

    /// Whether an answer that saw the current state could leave now, as far as this partition is concerned.
    pub(in super::super) fn is_open(&self) -> bool {
        self.acknowledged == self.root.lsn() && self.gate.is_empty() && !self.gate.is_barred()
    }

    /// Tells listeners of what they may hear: nothing of what came after a capture that is under way. The caller has checked the lease at this moment.
    pub(in super::super) fn announce(&mut self, actions: &mut Actions) {
        if self.listeners.is_empty() {
            return;
        }
        let notices = self.root.notices();
        match self.gate.barred_at() {
            None => self.listeners.announce(notices, self.acknowledged, actions),
            // What is missed is told with the rest.
            Some(_) if self.listeners.misses(notices) => {}
            Some(last) => self.listeners.announce(notices, last.min(self.acknowledged), actions),
        }
    }

    /// Whether so many notifications wait for the backups that listeners may come to miss some.
    pub(in super::super) fn is_noisy(&self) -> bool {
        self.root.notices().bytes_after(self.acknowledged) > MAX_UNHEARD_BYTES
    }

    /// Whether too much waits for the backups.
    pub(in super::super) fn is_choked(&self) -> bool {
        self.tail.bytes_after(self.acknowledged) + self.gate.bytes() > MAX_WAITING_BYTES
    }

    /// The log, for comparing it with a follower's.
    pub(in super::super) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(in super::super) fn follower(&mut self, worker: WorkerId) -> Option<&mut Progress> {
        self.followers.iter_mut().find(|progress| progress.worker == worker)
    }

    /// Appends checked changes as the next entry and applies them.
    pub(in super::super) fn append(
        &mut self,
        executed: Option<Executed<'_>>,
        changes: &[Change<'_>],
        account: &mut Account,
    ) -> Lsn {
        assert!(self.successor.is_none(), "nothing is appended once a hand-over is planned");
        let lsn = self.root.lsn().next();
        if self.followers.is_empty() {
            self.drop_entries();
        }
        if self.followers.is_empty() && self.departed.is_empty() {
            self.tail.pass(self.epoch);
        } else {
            self.tail.push(self.epoch, |out| {
                Entry::write(out, executed.as_ref(), |out| changes.iter().for_each(|change| change.write(out)));
            });
        }
        assert_eq!(self.tail.last(), lsn, "a primary's log and state go together");
        self.root.apply(changes, lsn, account);
        if let Some(executed) = executed {
            self.root.answers.insert(executed.request, Bytes::copy_from_slice(executed.outcome));
            self.root.answers.forget_below(executed.request.proxy, executed.low);
        }
        if !self.followers.iter().any(Progress::counts) {
            self.acknowledged = lsn;
        }
        lsn
    }

    /// Whether a confirmation may lead to a change of configuration.
    pub(in super::super) fn is_changing(&self) -> bool {
        self.successor.is_some() || !self.followers.iter().all(Progress::is_backup)
    }

    /// Whether the successor may take over, which is to be proposed now: all is acknowledged and answered. The map in which it was named; counts
    /// as proposed.
    pub(in super::super) fn may_hand_over(&mut self, now: Time) -> Option<MapVersion> {
        let successor = self.successor?;
        let due = self.handed_over.is_none_or(|at| now >= at.after(REPEAT_MICROS));
        if !self.is_open() || self.acknowledged < self.established || !due {
            return None;
        }
        self.handed_over = Some(now);
        Some(successor.since)
    }

    /// A follower says how far its log goes. True when more is acknowledged now.
    pub(in super::super) fn appended_at(&mut self, worker: WorkerId, lsn: Lsn) -> Result<bool, String> {
        let last = self.root.lsn();
        let Some(progress) = self.followers.iter_mut().find(|progress| progress.worker == worker) else {
            return Ok(false);
        };
        if !progress.heard {
            // Confirmed in this epoch over an older connection, which has ended.
            return Ok(false);
        }
        if lsn > progress.sent {
            return Err(format!(
                "{worker} confirms entry {lsn}, it was sent the log up to {} of {last}",
                progress.sent
            ));
        }
        progress.appended = progress.appended.max(lsn);
        if let Following::Joining { counted, .. } = &mut progress.following
            && !*counted
        {
            *counted = self.tail.bytes_after(progress.appended) <= CAUGHT_UP_BYTES;
        }
        Ok(self.recount())
    }

    /// A follower's log agrees with this one up to `common`: it gets what comes after.
    pub(in super::super) fn begin(&mut self, worker: WorkerId, common: Lsn) -> Result<bool, String> {
        let Some(progress) = self.follower(worker) else { return Ok(false) };
        if common < progress.appended {
            return Err(format!("{worker} had confirmed entry {} and has the log up to {common}", progress.appended));
        }
        progress.appended = common;
        progress.sent = common;
        progress.heard_at = common;
        progress.told = Lsn(0);
        (progress.heard, progress.begins, progress.unable, progress.started) = (true, true, false, true);
        self.departed.back(worker);
        Ok(self.recount())
    }

    /// A joining replica is to get the present state whole, and what comes after it then.
    pub(in super::super) fn send_root(&mut self, worker: WorkerId) {
        let (root, created) = (self.root.clone(), self.tail.created(self.root.lsn()));
        if let Some(progress) = self.follower(worker) {
            progress.sending = Some(Box::new(Sending::new(root, created)));
            progress.started = true;
            self.departed.back(worker);
        }
        self.recount();
    }

    /// A backup cannot follow: it is to be dropped.
    pub(in super::super) fn give_up(&mut self, worker: WorkerId) {
        if let Some(progress) = self.follower(worker) {
            progress.unable = true;
        }
    }

    /// Up to where all that answer hold the log: a root that goes no further may be had whole. Where it goes further than what is acknowledged, its receiver can
    /// only take the place of who does not answer.
    pub(in super::super) fn held_by_present(&self) -> Lsn {
        let present = self.followers.iter().filter(|progress| progress.counts() && !progress.missing);
        present.map(|progress| progress.appended).min().unwrap_or(self.root.lsn())
    }

    /// The backup that does not answer, where it alone lacks the log up to here.
    pub(in super::super) fn missing_alone(&self, lsn: Lsn) -> Option<WorkerId> {
        let mut lacking = self.followers.iter().filter(|progress| progress.counts() && progress.appended < lsn);
        let alone = lacking.next().filter(|progress| progress.missing && lacking.next().is_none())?;
        Some(alone.worker)
    }

    /// Replicas that entries are acknowledged by and that answer, this one among them.
    pub(in super::super) fn present(&self) -> usize {
        1 + self.followers.iter().filter(|progress| progress.is_backup() && !progress.missing).count()
    }

    /// Sees what is acknowledged by now, and drops what nobody needs. True when more is acknowledged.
    pub(in super::super) fn recount(&mut self) -> bool {
        let counted = self.followers.iter().filter(|progress| progress.counts()).map(|progress| progress.appended);
        let held = counted.min().unwrap_or(self.root.lsn());
        assert!(held <= self.root.lsn(), "followers hold no more than their primary");
        let advanced = held > self.acknowledged;
        if advanced {
            self.acknowledged = held;
        }
        self.drop_entries();
        advanced
    }

    /// Drops the entries that nobody needs.
    fn drop_entries(&mut self) {
        if !self.departed.is_empty() && self.kept_bytes() > MAX_DEPARTED_BYTES {
            self.departed.clear();
        }
        let needed = self.followers.iter().filter_map(Progress::holds).chain(self.departed.holds()).min();
        self.tail.drop_to(needed.map_or(self.acknowledged, |needed| needed.min(self.acknowledged)));
    }

    /// Looks whether there is anything new from the followers, which may take so many microseconds longer than usual.
    pub(in super::super) fn listen(&mut self, late: bool, allowance: u64, now: Time) {
        for progress in &mut self.followers {
            let bytes = self.tail.bytes_after(progress.appended);
            progress.listen((self.root.lsn(), bytes), late, allowance, now);
        }
    }

    /// A joining replica for which too much is kept is to get another root.
    pub(in super::super) fn lagging(&self) -> Option<WorkerId> {
        let joining = self.followers.iter().filter(|progress| !progress.counts() && progress.holds().is_some());
        joining
            .min_by_key(|progress| progress.holds())
            .filter(|_| self.kept_bytes() > MAX_JOINING_BYTES)
            .map(|p| p.worker)
    }

    /// What a follower has not been sent yet, a stretch of it, which counts as sent from now on. `None` when there is nothing, not even news of
    /// what is acknowledged.
    pub(in super::super) fn unsent(
        &mut self,
        worker: WorkerId,
        partition: PartitionId,
    ) -> Option<(EntriesHead, impl ExactSizeIterator<Item = &[u8]>)> {
        let progress = self.followers.iter_mut().find(|progress| progress.worker == worker)?;
        let news = progress.begins || progress.told != self.acknowledged;
        if !progress.heard || (progress.sent == self.root.lsn() && !news) {
            return None;
        }
        let stretch = self.tail.stretch(progress.sent, SENT_BYTES);
        let (created, last) = stretch.unwrap_or((self.epoch, progress.sent));
        let sent = std::mem::replace(&mut progress.sent, last);
        progress.told = self.acknowledged;
        let head = EntriesHead {
            partition,
            epoch: self.epoch,
            created,
            begins: std::mem::take(&mut progress.begins),
            first: sent.next(),
            acknowledged: self.acknowledged,
        };
        Some((head, self.tail.between(sent, last)))
    }

    /// Whether a follower has been sent the whole log.
    pub(in super::super) fn has_all(&self, worker: WorkerId) -> bool {
        let progress = self.followers.iter().find(|progress| progress.worker == worker);
        progress.is_none_or(|progress| !progress.heard || progress.sent == self.root.lsn())
    }

    /// Takes the primary apart: its state, its log, and the roots that it was sending. What only it knew of transactions is lost.
    pub(in super::super) fn into_parts(self, account: &mut Account) -> (Root, Tail, Vec<Sending>) {
        self.transactions.finish(account);
        let sending = self.followers.into_iter().filter_map(|mut progress| progress.unhear()).collect();
        (self.root, self.tail, sending)
    }
}

//! A follower as its primary knows it: what it holds, what it was sent, and whether it still answers.

use super::sending::Sending;
use crate::gate::Time;
use toroid_common::id::{Lsn, WorkerId};

/// A backup, or a joining replica that is counted, that confirms nothing of what it should for so long is to be dropped.
const SILENCE_MICROS: u64 = 300_000;
/// So many bytes give it a millisecond more: a large entry is confirmed when it is there whole.
const BYTES_PER_MILLISECOND: usize = 32 << 10;
/// The same for a joining replica that nobody waits for: it may be about to begin, or be busy with a root.
const JOINING_SILENCE_MICROS: u64 = 2_000_000;
/// A proposal that had no effect is made again after this time.
pub(super) const REPEAT_MICROS: u64 = 100_000;

/// As what it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Following {
    /// Entries are acknowledged when it has confirmed them.
    Backup,
    /// It is catching up.
    Joining {
        /// It has caught up: entries wait for it as for a backup.
        counted: bool,
        /// The metadata group was asked to admit it. Until the epoch ends it may be so, and so it stays counted.
        proposed: bool,
    },
}

#[derive(Debug)]
pub(in super::super) struct Progress {
    pub worker: WorkerId,
    pub following: Following,
    /// It has said that it holds the log up to here.
    pub appended: Lsn,
    /// It has been sent the log up to here, since it was `heard`.
    pub sent: Lsn,
    /// It has been told that the log is acknowledged up to here.
    pub told: Lsn,
    /// It has said in this epoch, on the present connection, where its log ends.
    pub heard: bool,
    /// The end of its log when it was heard: a joining replica may have applied all of it, because a root is ahead of what is acknowledged.
    pub heard_at: Lsn,
    /// The next entries are the first since it was heard.
    pub begins: bool,
    /// The root that it is being sent.
    pub sending: Option<Box<Sending>>,
    /// It joined with what it still held, or was sent a root.
    pub started: bool,
    /// It said that it cannot follow.
    pub unable: bool,
    /// As a backup it does not answer, as far as was known when the followers were looked after last.
    pub missing: bool,
    /// What it had confirmed, log and root, when something was confirmed last, and since when there is more to confirm.
    confirmed: (Lsn, u32),
    silent_since: Time,
    /// For so many microseconds it may be silent.
    patience: u64,
    proposed: Option<Time>,
}

impl Progress {
    pub(super) fn new(worker: WorkerId, following: Following, appended: Lsn, now: Time) -> Progress {
        Progress {
            worker,
            following,
            appended,
            sent: appended,
            told: Lsn(0),
            heard: false,
            heard_at: Lsn(0),
            begins: false,
            sending: None,
            started: false,
            unable: false,
            missing: false,
            confirmed: (appended, 0),
            silent_since: now,
            patience: JOINING_SILENCE_MICROS,
            proposed: None,
        }
    }

    /// Whether entries are acknowledged only when it has them.
    pub(in super::super) fn counts(&self) -> bool {
        match self.following {
            Following::Backup => true,
            Following::Joining { counted, .. } => counted,
        }
    }

    pub(in super::super) fn is_backup(&self) -> bool {
        self.following == Following::Backup
    }

    /// The last entry that it needs no more, as far as that concerns nobody but it.
    pub(super) fn holds(&self) -> Option<Lsn> {
        match &self.sending {
            Some(sending) => Some(sending.root.lsn()),
            None => self.heard.then_some(self.appended),
        }
    }

    /// Up to where it is known to hold the log: what comes after is all that it needs when it is lost and comes back.
    pub(super) fn holds_log(&self) -> Option<Lsn> {
        (self.counts() || (self.heard && self.sending.is_none())).then_some(self.appended)
    }

    /// Everything must be agreed on again, in a new epoch or on a new connection. A root that is half sent comes back.
    #[must_use]
    pub(in super::super) fn unhear(&mut self) -> Option<Sending> {
        (self.heard, self.begins) = (false, false);
        self.start_over();
        self.sending.take().map(|sending| *sending)
    }

    /// Nobody waits for a joining replica that has to begin again; but one whose admission was proposed may be a backup already, and that has to
    /// be settled first.
    pub(in super::super) fn start_over(&mut self) {
        if let Following::Joining { counted, proposed } = &mut self.following {
            *counted = *proposed;
            self.unable = *proposed;
        }
    }

    /// Looks whether there is anything new from it, if there is something to come: so many bytes up to the entry `last`. `late` when nobody looked
    /// for long, so that silence means nothing.
    pub(super) fn listen(&mut self, (last, bytes): (Lsn, usize), late: bool, allowance: u64, now: Time) {
        let patience = if self.counts() { SILENCE_MICROS } else { JOINING_SILENCE_MICROS };
        self.patience = patience + (bytes / BYTES_PER_MILLISECOND) as u64 * 1_000 + allowance;
        let taken = self.sending.as_ref().map_or(0, |sending| sending.taken);
        let waits = self.appended < last || self.sending.is_some();
        if late || !waits || self.confirmed != (self.appended, taken) {
            self.confirmed = (self.appended, taken);
            self.silent_since = now;
        }
    }

    /// It has not confirmed for long what it should.
    pub(in super::super) fn is_silent(&self, now: Time) -> bool {
        now >= self.silent_since.after(self.patience)
    }

    /// Whether to ask the metadata group now; counts as asked.
    pub(in super::super) fn may_propose(&mut self, now: Time) -> bool {
        let may = self.proposed.is_none_or(|at| now >= at.after(REPEAT_MICROS));
        if may {
            self.proposed = Some(now);
        }
        may
    }

    /// The epoch is a new one: what was proposed in the last one has come too late or done its work.
    pub(super) fn enter(&mut self, following: Following, now: Time) {
        // Who was a backup has been lost in between.
        self.started &= !self.is_backup() || following == Following::Backup;
        self.following = following;
        self.silent_since = now;
        self.proposed = None;
        (self.unable, self.missing) = (false, false);
    }
}

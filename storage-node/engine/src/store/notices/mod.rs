//! Notifications of a partition's channels: the last ones, numbered, so that listeners that lose their primary get what they missed.

mod evicted;

use crate::store::account::{Account, Reserve};
use evicted::Evicted;
use std::sync::Arc;
use toroid_common::id::Lsn;

/// Older ones go when there are more bytes than this.
const MAX_BYTES: usize = 4 << 20;
/// What a notification takes beside its texts, about.
const NOTICE_BYTES: usize = 128;

/// A notification as its transaction sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Counts up over all channels of the partition, from 1.
    pub number: u64,
    /// The entry that brought it.
    pub lsn: Lsn,
    /// The session that sent it.
    pub process: u32,
    pub channel: Arc<str>,
    pub payload: Arc<str>,
}

impl Notice {
    fn bytes(&self) -> usize {
        NOTICE_BYTES + self.channel.len() + self.payload.len()
    }
}

#[derive(Debug)]
struct Kept {
    notice: Notice,
    charge: Arc<Reserve>,
}

#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// The number of the last one ever.
    last: u64,
    ring: imbl::Vector<Arc<Kept>>,
    bytes: usize,
    evicted: Evicted,
    /// Those of the last entry: a transaction sends each once.
    fresh: imbl::OrdSet<(Arc<str>, Arc<str>)>,
}

impl Notices {
    /// Bytes that one takes.
    pub fn bytes_of(channel: &str, payload: &str) -> usize {
        NOTICE_BYTES + channel.len() + payload.len()
    }

    /// The number of the last one ever.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number of the last one that is not kept any more.
    pub fn gone(&self) -> u64 {
        self.last - self.ring.len() as u64
    }

    /// The number of the last one of this channel that is not kept any more. It may be too high: who has seen less may have missed one.
    pub fn gone_of(&self, channel: &str) -> u64 {
        self.evicted.last_of(channel)
    }

    /// Those that came after this number, as far as they are kept.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Notice> {
        let skip = usize::try_from(number.saturating_sub(self.gone())).unwrap_or(usize::MAX);
        let skip = skip.min(self.ring.len());
        self.ring.focus().narrow(skip..).into_iter().map(|kept| &kept.notice)
    }

    /// Bytes of those that later entries than this brought.
    pub fn bytes_after(&self, lsn: Lsn) -> usize {
        let later = self.ring.iter().rev().take_while(|kept| kept.notice.lsn > lsn);
        later.map(|kept| kept.notice.bytes()).sum()
    }

    pub(in crate::store) fn memory(&self) -> usize {
        self.bytes + self.evicted.memory()
    }

    pub(in crate::store) fn push(
        &mut self,
        (channel, payload): (&str, &str),
        process: u32,
        lsn: Lsn,
        account: &mut Account,
    ) {
        let (channel, payload): (Arc<str>, Arc<str>) = (channel.into(), payload.into());
        if self.ring.back().is_none_or(|kept| kept.notice.lsn != lsn) {
            self.fresh.clear();
        }
        if self.fresh.insert((Arc::clone(&channel), Arc::clone(&payload))).is_some() {
            return;
        }
        let notice = Notice { number: self.last + 1, lsn, process, channel, payload };
        self.keep(notice, account);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.ring.pop_front()
        {
            self.bytes -= oldest.notice.bytes();
            let notice = &oldest.notice;
            self.evicted.note(&notice.channel, notice.number, account);
            if notice.lsn == lsn {
                self.fresh.remove(&(Arc::clone(&notice.channel), Arc::clone(&notice.payload)));
            }
            let charge = Arc::clone(&oldest.charge);
            drop(oldest);
            account.give_back(charge);
        }
    }

    fn keep(&mut self, notice: Notice, account: &mut Account) {
        self.last = notice.number;
        self.bytes += notice.bytes();
        let charge = account.reserve(notice.bytes());
        self.ring.push_back(Arc::new(Kept { notice, charge }));
    }

    /// Puts one back that comes next; false when it does not.
    #[must_use]
    pub(in crate::store) fn restore(&mut self, notice: Notice, account: &mut Account) -> bool {
        let next = self.ring.is_empty() || notice.number == self.last + 1;
        let fits = next && notice.number > 0 && self.bytes + notice.bytes() <= MAX_BYTES;
        if fits {
            self.keep(notice, account);
        }
        fits
    }

    /// Before any is put back: the number of the last one, of which none may be kept.
    pub(in crate::store) fn restore_last(&mut self, last: u64) {
        self.last = last;
    }

    /// What [`Notices::gone_of`] knows, by hash of channels from one on.
    pub(in crate::store) fn evicted_from(&self, slot: u16) -> impl Iterator<Item = (u16, u64)> {
        self.evicted.from(slot)
    }

    /// Puts a part of that back, after the notices; false when it cannot be.
    #[must_use]
    pub(in crate::store) fn restore_evicted(&mut self, (slot, number): (u16, u64), account: &mut Account) -> bool {
        number > 0 && number <= self.gone() && self.evicted.restore((slot, number), account)
    }

    /// Gives the memory back, as far as no other root shares it.
    pub(in crate::store) fn finish(self, account: &mut Account) {
        let charges: Vec<Arc<Reserve>> = self.ring.iter().map(|kept| Arc::clone(&kept.charge)).collect();
        drop((self.ring, self.fresh));
        self.evicted.finish(account);
        charges.into_iter().for_each(|charge| account.give_back(charge));
    }
}

impl PartialEq for Notices {
    fn eq(&self, other: &Notices) -> bool {
        self.last == other.last && self.after(0).eq(other.after(0)) && self.evicted_from(0).eq(other.evicted_from(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_once_for_each_entry_and_paid_for() {
        let mut account = Account::new(usize::MAX);
        let mut notices = Notices::default();
        let push = |notices: &mut Notices, payload: &str, lsn, account: &mut Account| {
            notices.push(("c", payload), 7, Lsn(lsn), account);
        };
        for (payload, lsn) in [("a", 1), ("b", 1), ("a", 1), ("a", 2)] {
            push(&mut notices, payload, lsn, &mut account);
        }
        let seen: Vec<(u64, &str)> = notices.after(1).map(|notice| (notice.number, &*notice.payload)).collect();
        assert_eq!(seen, [(2, "b"), (3, "a")]);
        assert_eq!((notices.after(3).count(), notices.after(9).count(), notices.gone()), (0, 0, 0));
        notices.push(("quiet", ""), 7, Lsn(2), &mut account);
        let before = notices.clone();
        let large = "x".repeat(8_000);
        for number in 0..2_000 {
            push(&mut notices, &format!("{large}{number}"), 3, &mut account);
        }
        assert_eq!(notices.last(), 2_004);
        assert_eq!((notices.gone_of("c"), notices.gone_of("quiet"), notices.gone_of("other")), (notices.gone(), 4, 0));
        assert!(notices.bytes <= MAX_BYTES && notices.bytes > MAX_BYTES - 10_000);
        assert_eq!(notices.after(0).next().unwrap().number, notices.gone() + 1);
        assert_eq!(account.used(), notices.memory() + before.memory());
        before.finish(&mut account);
        assert_eq!(account.used(), notices.memory());
        notices.finish(&mut account);
        assert_eq!(account.used(), 0);
    }
}

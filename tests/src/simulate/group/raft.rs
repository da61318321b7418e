//! A small Raft, as the metadata group's members run it in the simulator: what openraft promises the product, with disks and messages that fail. Pure.
//!
//! Messages may be lost, doubled and overtaken. What must be on disk before a message leaves is said with it. Members change one at a time.

use super::super::clock::{Instant, MILLISECOND};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use toroid_storage_node::metadata::state::Command;

/// A member; one that lost its disk comes back as another.
pub type Id = u32;

const BEAT: Instant = 40 * MILLISECOND;
/// Who has heard a leader so lately elects no other.
const LOYAL: Instant = 200 * MILLISECOND;
const LONGEST_SILENCE: Instant = 400 * MILLISECOND;
/// Entries in one message.
const BATCH: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub term: u64,
    pub payload: Payload,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A new leader's first.
    Blank,
    Command {
        ticket: u64,
        command: Box<Command>,
    },
    /// Who votes from now on.
    Voters(BTreeSet<Id>),
}

/// What a member must not forget.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Identity(Id),
    Vote {
        term: u64,
        voted: Option<Id>,
    },
    Entry(Entry),
    /// Only so many entries are left.
    Truncated(u64),
}

#[derive(Clone, Debug)]
pub enum Note {
    /// A candidate asks for a vote; `forced` where it was told to stand.
    Stand {
        term: u64,
        last: (u64, u64),
        forced: bool,
    },
    Voted {
        term: u64,
        granted: bool,
    },
    Append {
        term: u64,
        before: (u64, u64),
        entries: Vec<Entry>,
        committed: u64,
        round: u64,
    },
    /// The follower holds so many entries as the leader has them; or `before` was not there.
    Appended {
        term: u64,
        fits: bool,
        holds: u64,
        round: u64,
    },
    /// A member that is none yet wants to be one.
    Knock,
}

#[derive(Debug)]
pub enum Output {
    Write(Record),
    /// Leaves once all that was written before is on disk.
    Send {
        to: Id,
        note: Note,
    },
    /// Leaves at once.
    SendNow {
        to: Id,
        note: Note,
    },
}

#[derive(Debug)]
enum Role {
    Follower { leader: Option<Id> },
    Candidate { votes: BTreeSet<Id> },
    Leader(Leading),
}

#[derive(Debug, Default)]
struct Leading {
    followers: BTreeMap<Id, Follower>,
    /// Counts what is sent to all: who has answered a round knew this leader then.
    round: u64,
    beat_at: Instant,
}

#[derive(Debug, Default)]
struct Follower {
    /// The entry that is sent next.
    next: u64,
    holds: u64,
    round: u64,
}

#[derive(Debug)]
pub struct Raft {
    pub id: Id,
    pub term: u64,
    voted: Option<Id>,
    /// From index 1.
    log: Vec<Entry>,
    /// Who votes, and since which entry.
    voters: (u64, BTreeSet<Id>),
    /// So many entries are on disk.
    durable: u64,
    pub committed: u64,
    role: Role,
    heard: Instant,
    stand_at: Instant,
}

impl Raft {
    /// As its disk has it.
    #[must_use]
    pub fn open(id: Id, records: Vec<Record>, now: Instant, random: &mut Random) -> Raft {
        let mut raft = Raft {
            id,
            term: 0,
            voted: None,
            log: Vec::new(),
            voters: (0, BTreeSet::new()),
            durable: 0,
            committed: 0,
            role: Role::Follower { leader: None },
            heard: 0,
            stand_at: now + patience(random),
        };
        for record in records {
            match record {
                Record::Identity(id) => raft.id = id,
                Record::Vote { term, voted } => (raft.term, raft.voted) = (term, voted),
                Record::Entry(entry) => raft.push(entry),
                Record::Truncated(left) => raft.truncate(left),
            }
        }
        raft.durable = raft.log.len() as u64;
        raft
    }

    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.log.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    #[must_use]
    pub fn last(&self) -> u64 {
        self.log.len() as u64
    }

    fn term_at(&self, index: u64) -> u64 {
        self.entry(index).map_or(0, |entry| entry.term)
    }

    /// Who votes, as the last entry has it that says so, acknowledged or not.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<Id> {
        &self.voters.1
    }

    fn push(&mut self, entry: Entry) {
        self.log.push(entry);
        if let Some(Entry { payload: Payload::Voters(voters), .. }) = self.log.last() {
            self.voters = (self.last(), voters.clone());
        }
    }

    fn truncate(&mut self, left: u64) {
        self.log.truncate(left as usize);
        self.durable = self.durable.min(left);
        if self.voters.0 > left {
            let voters = self.log.iter().enumerate().rev().find_map(|(index, entry)| match &entry.payload {
                Payload::Voters(voters) => Some((index as u64 + 1, voters.clone())),
                Payload::Blank | Payload::Command { .. } => None,
            });
            self.voters = voters.unwrap_or_default();
        }
    }

    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<Id> {
        match self.role {
            Role::Follower { leader } => leader,
            Role::Candidate { .. } => None,
            Role::Leader(_) => Some(self.id),
        }
    }

    /// Its next timer.
    #[must_use]
    pub fn wakes_at(&self) -> Instant {
        match &self.role {
            Role::Leader(leading) => leading.beat_at,
            Role::Follower { .. } | Role::Candidate { .. } => self.stand_at,
        }
    }

    pub fn tick(&mut self, now: Instant, random: &mut Random, out: &mut Vec<Output>) {
        if now < self.wakes_at() {
            return;
        }
        match &self.role {
            Role::Leader(_) => drop(self.beat(now, out)),
            Role::Follower { .. } | Role::Candidate { .. } => {
                self.stand_at = now + patience(random);
                if self.voters().contains(&self.id) {
                    self.stand(false, now, out);
                }
            }
        }
    }

    /// Stands for election.
    pub fn stand(&mut self, forced: bool, now: Instant, out: &mut Vec<Output>) {
        let voters = self.voters().clone();
        if self.leads() || !voters.contains(&self.id) {
            return;
        }
        self.term += 1;
        self.voted = Some(self.id);
        self.role = Role::Candidate { votes: BTreeSet::from([self.id]) };
        out.push(Output::Write(Record::Vote { term: self.term, voted: self.voted }));
        let last = self.end();
        for to in voters.into_iter().filter(|to| *to != self.id) {
            out.push(Output::Send { to, note: Note::Stand { term: self.term, last, forced } });
        }
        self.count_votes(now, out);
    }

    fn count_votes(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Role::Candidate { votes } = &self.role else { return };
        if !is_majority(votes, self.voters()) {
            return;
        }
        self.role = Role::Leader(Leading::default());
        self.append(Payload::Blank, out);
        self.beat(now, out);
    }

    fn append(&mut self, payload: Payload, out: &mut Vec<Output>) -> u64 {
        let entry = Entry { term: self.term, payload };
        out.push(Output::Write(Record::Entry(entry.clone())));
        self.push(entry);
        self.last()
    }

    /// A leader appends something, which is sent at once; false when it is none.
    pub fn propose(&mut self, payload: Payload, now: Instant, out: &mut Vec<Output>) -> bool {
        if self.leads() {
            self.append(payload, out);
            self.beat(now, out);
        }
        self.leads()
    }

    /// Sends all what they lack. Who answers this round knows this leader still.
    pub fn beat(&mut self, now: Instant, out: &mut Vec<Output>) -> u64 {
        let (last, me) = (self.last(), self.id);
        let Role::Leader(leading) = &mut self.role else { return 0 };
        leading.round += 1;
        leading.beat_at = now + BEAT;
        for voter in self.voters.1.iter().filter(|voter| **voter != me) {
            leading.followers.entry(*voter).or_insert(Follower { next: last, ..Follower::default() });
        }
        let round = leading.round;
        let followers: Vec<Id> = leading.followers.keys().copied().collect();
        followers.into_iter().for_each(|to| self.send_lack(to, out));
        round
    }

    /// Sends a follower what it lacks, as far as one message holds it.
    fn send_lack(&self, to: Id, out: &mut Vec<Output>) {
        let Role::Leader(leading) = &self.role else { return };
        let Some(follower) = leading.followers.get(&to) else { return };
        let last = follower.next.max(1) - 1;
        let before = (last, self.term_at(last));
        let entries = self.log.iter().skip(last as usize).take(BATCH).cloned().collect();
        let (term, committed, round) = (self.term, self.committed, leading.round);
        out.push(Output::SendNow { to, note: Note::Append { term, before, entries, committed, round } });
    }

    /// Whether a majority has answered this round.
    #[must_use]
    pub fn is_confirmed(&self, round: u64) -> bool {
        let Role::Leader(leading) = &self.role else { return false };
        let known = leading.followers.iter().filter(|(_, follower)| follower.round >= round).map(|(id, _)| *id);
        let known: BTreeSet<Id> = known.chain([self.id]).collect();
        is_majority(&known, self.voters()) && self.term_at(self.committed) == self.term
    }

    /// The last entry, by which it can be told again.
    #[must_use]
    pub fn end(&self) -> (u64, u64) {
        (self.last(), self.term_at(self.last()))
    }

    /// All entries up to this one are on disk here, if it is still there.
    pub fn synced(&mut self, (index, term): (u64, u64)) {
        if self.term_at(index) == term {
            self.durable = self.durable.max(index.min(self.last()));
            self.commit();
        }
    }

    fn commit(&mut self) {
        let Role::Leader(leading) = &self.role else { return };
        let voters = self.voters();
        let held = |voter: &Id| match *voter == self.id {
            true => self.durable,
            false => leading.followers.get(voter).map_or(0, |follower| follower.holds),
        };
        let mut holds: Vec<u64> = voters.iter().map(held).collect();
        holds.sort_unstable_by(|a, b| b.cmp(a));
        let by_most = holds.get(holds.len() / 2).copied().unwrap_or(0);
        if by_most > self.committed && self.term_at(by_most) == self.term {
            self.committed = by_most;
        }
    }

    /// Members that want to be some, are none and hold all that is committed; and whether a change may begin.
    #[must_use]
    pub fn applicants(&self) -> Vec<Id> {
        let Role::Leader(leading) = &self.role else { return Vec::new() };
        let voters = self.voters();
        if self.voters.0 > self.committed || self.term_at(self.committed) != self.term {
            return Vec::new();
        }
        let ready = |(id, follower): &(&Id, &Follower)| !voters.contains(id) && follower.holds >= self.committed;
        leading.followers.iter().filter(ready).map(|(id, _)| *id).collect()
    }

    /// Takes a message.
    pub fn hear(&mut self, from: Id, note: Note, now: Instant, random: &mut Random, out: &mut Vec<Output>) {
        let term = match &note {
            Note::Stand { term, .. }
            | Note::Voted { term, .. }
            | Note::Append { term, .. }
            | Note::Appended { term, .. } => *term,
            Note::Knock => self.term,
        };
        let loyal = self.leads() || now < self.heard + LOYAL;
        if matches!(note, Note::Stand { forced: false, .. }) && loyal && self.leader().is_some() {
            return;
        }
        if term > self.term {
            (self.term, self.voted) = (term, None);
            self.role = Role::Follower { leader: None };
            out.push(Output::Write(Record::Vote { term, voted: None }));
        }
        match note {
            Note::Stand { term, last, .. } => {
                let granted = term == self.term && self.is_fresh(last) && self.voted.is_none_or(|voted| voted == from);
                if granted && self.voted.is_none() {
                    self.voted = Some(from);
                    self.stand_at = now + patience(random);
                    out.push(Output::Write(Record::Vote { term, voted: self.voted }));
                }
                out.push(Output::Send { to: from, note: Note::Voted { term: self.term, granted } });
            }
            Note::Voted { term, granted } => {
                if let (Role::Candidate { votes }, true) = (&mut self.role, granted && term == self.term) {
                    votes.insert(from);
                    self.count_votes(now, out);
                }
            }
            Note::Append { term, .. } if term < self.term => {
                let refusal = Note::Appended { term: self.term, fits: false, holds: 0, round: 0 };
                out.push(Output::Send { to: from, note: refusal });
            }
            Note::Append { before, entries, committed, round, .. } => {
                self.role = Role::Follower { leader: Some(from) };
                self.heard = now;
                self.stand_at = now + patience(random);
                let (fits, holds) = self.take(before, entries, committed, out);
                let note = Note::Appended { term: self.term, fits, holds, round };
                out.push(Output::Send { to: from, note });
            }
            Note::Appended { term, fits, holds, round } => {
                let Role::Leader(leading) = &mut self.role else { return };
                let Some(follower) = leading.followers.get_mut(&from).filter(|_| term == self.term) else { return };
                follower.round = follower.round.max(round);
                if fits {
                    follower.holds = follower.holds.max(holds);
                    follower.next = follower.next.max(holds + 1);
                } else {
                    follower.next = (holds + 1).max(follower.holds + 1);
                }
                // More than one message may be lacking; what is under way comes again with the next beat at most.
                let behind = follower.next + BATCH as u64 <= self.log.len() as u64 || !fits;
                self.commit();
                if behind {
                    self.send_lack(from, out);
                }
            }
            Note::Knock => {
                if let Role::Leader(leading) = &mut self.role {
                    leading.followers.entry(from).or_insert(Follower { next: 1, ..Follower::default() });
                }
            }
        }
    }

    /// Whether a log that ends so lacks nothing that this one has.
    fn is_fresh(&self, (index, term): (u64, u64)) -> bool {
        (term, index) >= (self.term_at(self.last()), self.last())
    }

    /// Takes entries of the leader: whether they fit, and how many are held as the leader has them, or might be.
    fn take(&mut self, before: (u64, u64), entries: Vec<Entry>, committed: u64, out: &mut Vec<Output>) -> (bool, u64) {
        if before.0 > self.last() || self.term_at(before.0) != before.1 {
            return (false, self.committed.min(before.0.saturating_sub(1)));
        }
        let mut index = before.0;
        for entry in entries {
            index += 1;
            if self.entry(index).is_some_and(|held| held.term == entry.term) {
                continue;
            }
            if index <= self.last() {
                assert!(index > self.committed, "an entry that is committed is to be cut");
                self.truncate(index - 1);
                out.push(Output::Write(Record::Truncated(self.last())));
            }
            out.push(Output::Write(Record::Entry(entry.clone())));
            self.push(entry);
        }
        self.committed = self.committed.max(committed.min(index));
        (true, index)
    }
}

fn is_majority(some: &BTreeSet<Id>, of: &BTreeSet<Id>) -> bool {
    some.intersection(of).count() * 2 > of.len()
}

fn patience(random: &mut Random) -> Instant {
    random.between(LONGEST_SILENCE * 4 / 5, LONGEST_SILENCE)
}

//! The log as Raft sees it: entries in memory, and a thread that writes them down, many with one flush.

use super::disk::{Disk, LogFile, Record, Unreplaced, encode};
use super::types::{Entry, LogId, MemberId, StorageError, Types, Vote};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use tokio::sync::oneshot;

/// What the log says now.
#[derive(Debug, Default)]
struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// What the writing thread is to do, in order.
enum Job {
    Write {
        records: Vec<Vec<u8>>,
        then: Then,
    },
    /// The log is written anew, without what was purged.
    Rewrite(Vec<Record>),
}

enum Then {
    Flushed(LogFlushed<Types>),
    Tell(oneshot::Sender<io::Result<()>>),
}

impl Then {
    fn say(self, result: io::Result<()>) {
        match self {
            Then::Flushed(callback) => callback.log_io_completed(result),
            // Who does not wait any more needs no answer.
            Then::Tell(waiting) => drop(waiting.send(result)),
        }
    }
}

/// Raft's log. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    identity: u32,
    memory: Arc<Mutex<Memory>>,
    jobs: mpsc::Sender<Job>,
}

impl Log {
    /// Reads what the directory holds, and starts to write there. `identity` is for a new log only.
    pub(super) fn open(dir: &Path, identity: u32) -> io::Result<Log> {
        let disk = Disk::open(dir)?;
        let (records, file) = disk.read_log(identity)?;
        let mut memory = Memory::default();
        let mut known = None;
        for record in records {
            match record {
                Record::Identity(id) => known = Some(id),
                Record::Vote(vote) => memory.vote = Some(vote),
                Record::Entry(entry) => drop(memory.entries.insert(entry.log_id.index, *entry)),
                Record::Truncated(index) => drop(memory.entries.split_off(&index)),
                Record::Purged(to) => {
                    memory.entries = memory.entries.split_off(&(to.index + 1));
                    memory.purged = Some(to);
                }
            }
        }
        let no_identity = || io::Error::new(io::ErrorKind::InvalidData, "the metadata log does not say whose it is");
        let identity = known.ok_or_else(no_identity)?;
        let (jobs, queue) = mpsc::channel();
        std::thread::Builder::new().name("metadata-log".to_owned()).spawn(move || write(&disk, file, &queue))?;
        Ok(Log { identity, memory: Arc::new(Mutex::new(memory)), jobs })
    }

    /// Who this member is.
    pub(super) fn identity(&self) -> u32 {
        self.identity
    }

    /// Whether the member has never voted nor heard of anything.
    pub(super) fn is_empty(&self) -> bool {
        let memory = self.memory();
        memory.vote.is_none() && memory.purged.is_none() && memory.entries.is_empty()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::Error::other("the metadata log is not written any more"))
    }

    /// Writes one record, and waits until it is on disk.
    async fn keep(&self, record: &Record) -> io::Result<()> {
        let records = vec![encode(record)?];
        let (sender, written) = oneshot::channel();
        self.job(Job::Write { records, then: Then::Tell(sender) })?;
        written.await.map_err(io::Error::other)?
    }
}

/// The writing thread: gathers what waits, writes it, flushes once.
fn write(disk: &Disk, mut file: LogFile, queue: &mpsc::Receiver<Job>) {
    let mut broken = false;
    while let Ok(first) = queue.recv() {
        let mut waiting = Vec::new();
        let mut gathered = Vec::new();
        let mut rewrite = None;
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::Write { records, then } => {
                    gathered.extend(records);
                    waiting.push(then);
                }
                Job::Rewrite(records) => {
                    rewrite = Some(records);
                    break;
                }
            }
        }
        let result = match broken {
            true => Err(io::Error::other("the metadata log could not be written before")),
            false => file.append(&gathered),
        };
        if let Err(error) = &result {
            // What is on disk is not known any more: nothing may be confirmed after it.
            broken = true;
            tracing::error!(%error, "the metadata log cannot be written");
        }
        for then in waiting {
            then.say(result.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string())));
        }
        match rewrite.filter(|_| !broken).map(|records| disk.rewrite_log(&records, file.next())) {
            Some(Ok(next)) => file = next,
            Some(Err(Unreplaced { error, is_sure: true })) => {
                tracing::warn!(%error, "the metadata log cannot be shortened");
            }
            Some(Err(Unreplaced { error, is_sure: false })) => {
                // The file that is open may be nobody's log any more.
                broken = true;
                tracing::error!(%error, "the metadata log is lost sight of");
            }
            None => {}
        }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        // An empty range may have its end before its start, which maps do not take.
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let memory = self.memory();
        Ok(memory
            .entries
            .range(start..)
            .map(|(_, e)| e)
            .take_while(|e| range.contains(&e.log_id.index))
            .cloned()
            .collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let memory = self.memory();
        let last = memory.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.keep(&Record::Vote(*vote)).await.map_err(|error| StorageIOError::write_vote(&error))?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.memory().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut memory = self.memory();
        for entry in entries {
            let index = entry.log_id.index;
            let record = Record::Entry(Box::new(entry));
            let body = encode(&record).map_err(|error| StorageIOError::write_logs(&error))?;
            records.push(body);
            if let Record::Entry(entry) = record {
                memory.entries.insert(index, *entry);
            }
        }
        drop(memory);
        self.job(Job::Write { records, then: Then::Flushed(callback) })
            .map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        drop(self.memory().entries.split_off(&from.index));
        self.keep(&Record::Truncated(from.index)).await.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn purge(&mut self, to: LogId) -> Result<(), StorageError> {
        let mut memory = self.memory();
        memory.entries = memory.entries.split_off(&(to.index + 1));
        memory.purged = Some(to);
        let mut records = vec![Record::Identity(self.identity), Record::Purged(to)];
        records.extend(memory.vote.map(Record::Vote));
        records.extend(memory.entries.values().cloned().map(Box::new).map(Record::Entry));
        drop(memory);
        self.job(Job::Rewrite(records)).map_err(|error| StorageIOError::write_logs(&error).into())
    }
}

/// Raft's identity of a member.
pub(super) fn member_id(identity: u32) -> MemberId {
    MemberId::from(identity)
}

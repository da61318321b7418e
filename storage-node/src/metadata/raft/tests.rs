//! Raft's storage: its own suite of requirements, and what files hold after a crash.

use super::disk::{Disk, Record};
use super::log::Log;
use super::machine::Machine;
use super::types::{LogId, StorageError, Types, Vote};
use openraft::CommittedLeaderId;
use openraft::storage::{RaftLogReaderExt, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite, blank_ent};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc::unbounded_channel;

/// A directory that goes with its owner.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("toroid-metadata-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, Directory> for Builder {
    async fn build(&self) -> Result<(Directory, Log, Machine), StorageError> {
        let directory = Directory::new();
        let (sender, committed) = unbounded_channel();
        // The suite looks at the machine alone.
        drop(committed);
        let log = Log::open(&directory.0, 1).unwrap();
        let machine = Machine::open(&directory.0, sender).unwrap();
        Ok((directory, log, machine))
    }
}

#[test]
fn raft_finds_in_it_what_it_requires() {
    Suite::test_all(Builder).unwrap();
}

fn vote() -> Vote {
    Vote::new(3, 7)
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

/// A log on disk with a vote and three entries; the length of its file.
fn written(directory: &Directory) -> u64 {
    let disk = Disk::open(&directory.0).unwrap();
    let mut records = vec![Record::Identity(9), Record::Vote(vote())];
    records.extend((1..=3).map(|index| Record::Entry(Box::new(blank_ent::<Types>(1, 1, index)))));
    disk.rewrite_log(&records).unwrap();
    fs::metadata(directory.0.join("log")).unwrap().len()
}

#[tokio::test]
async fn a_log_is_found_again_as_it_was() {
    let directory = Directory::new();
    written(&directory);
    {
        let mut log = Log::open(&directory.0, 5).unwrap();
        assert_eq!(log.identity(), 9, "it stays who it is");
        assert_eq!(log.read_vote().await.unwrap(), Some(vote()));
        log.truncate(log_id(3)).await.unwrap();
        log.save_vote(&Vote::new(4, 7)).await.unwrap();
        log.purge(log_id(1)).await.unwrap();
    }
    // The writing thread ends after its last job.
    let found = || {
        let log = Log::open(&directory.0, 5).unwrap();
        (!log.is_empty()).then_some(log)
    };
    let mut log = found().unwrap();
    for _ in 0..100 {
        if log.get_log_state().await.unwrap().last_purged_log_id.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        log = found().unwrap();
    }
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1)), Some(log_id(2))));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(4, 7)));
}

#[tokio::test]
async fn a_torn_end_is_cut_off_wherever_it_is() {
    let directory = Directory::new();
    let whole = written(&directory);
    let path = directory.0.join("log");
    let bytes = fs::read(&path).unwrap();
    for kept in 0..whole {
        fs::write(&path, &bytes[..kept as usize]).unwrap();
        match Log::open(&directory.0, 9) {
            Ok(mut log) => {
                let state = log.get_log_state().await.unwrap();
                assert!(state.last_log_id.is_none_or(|last| last.index < 3), "{kept} bytes");
                assert!(fs::metadata(&path).unwrap().len() <= kept);
            }
            Err(error) => assert!(error.to_string().contains("whose it is"), "{kept} bytes: {error}"),
        }
    }
}

#[tokio::test]
async fn what_was_torn_is_written_anew() {
    let directory = Directory::new();
    written(&directory);
    let path = directory.0.join("log");
    fs::File::options().append(true).open(&path).unwrap().write_all(&[77, 0, 0, 0, 1, 2]).unwrap();
    Log::open(&directory.0, 9).unwrap().save_vote(&Vote::new(5, 7)).await.unwrap();
    let mut log = Log::open(&directory.0, 9).unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(5, 7)));
    assert_eq!(log.get_log_entries(1..=3).await.unwrap().len(), 3);
}

#[test]
fn a_byte_that_changed_amid_the_log_is_no_torn_end() {
    let directory = Directory::new();
    written(&directory);
    let path = directory.0.join("log");
    let bytes = fs::read(&path).unwrap();
    for changed in [1, 9, 12, 20] {
        let mut bytes = bytes.clone();
        bytes[changed] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = Log::open(&directory.0, 9).unwrap_err().to_string();
        assert!(error.contains("damaged at byte"), "{error}");
    }
}

//! Raft's storage: its own suite of requirements, and what files hold after a crash.

use super::disk::{Disk, Record, encode};
use super::log::Log;
use super::machine::Machine;
use super::types::{LogId, StorageError, Types, Vote};
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite, blank_ent};
use openraft::{CommittedLeaderId, RaftSnapshotBuilder};
use std::fs;
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

/// A log on disk with a vote and three entries, each written after the one before was flushed; the file's length before each of them, and at the end.
fn written(directory: &Directory) -> Vec<usize> {
    let disk = Disk::open(&directory.0).unwrap();
    let length = || fs::metadata(directory.0.join("log")).unwrap().len() as usize;
    let mut file = disk.rewrite_log(&[Record::Identity(9), Record::Vote(vote())], 0).unwrap();
    let mut ends = vec![length()];
    for index in 1..=3 {
        file.append(&[entry(index)]).unwrap();
        ends.push(length());
    }
    ends
}

/// The same with three entries in one write: its beginning, the beginnings of its second and third record, its end.
fn written_at_once(directory: &Directory) -> Vec<usize> {
    let ends = written(directory);
    let mut file =
        Disk::open(&directory.0).unwrap().rewrite_log(&[Record::Identity(9), Record::Vote(vote())], 0).unwrap();
    file.append(&[entry(1), entry(2), entry(3)]).unwrap();
    assert_eq!(fs::metadata(directory.0.join("log")).unwrap().len() as usize, ends[3]);
    ends
}

fn entry(index: u64) -> Vec<u8> {
    encode(&Record::Entry(Box::new(blank_ent::<Types>(1, 1, index)))).unwrap()
}

/// Opens a log with these bytes: the last entry that it has, or why it cannot be read.
async fn last_of(directory: &Directory, bytes: &[u8]) -> Result<Option<u64>, String> {
    fs::write(directory.0.join("log"), bytes).unwrap();
    let mut log = Log::open(&directory.0, 5).map_err(|error| error.to_string())?;
    assert_eq!((log.identity(), log.read_vote().await.unwrap()), (9, Some(vote())));
    let last = log.get_log_state().await.unwrap().last_log_id.map(|id| id.index);
    // It can be gone on with, and is whole.
    log.save_vote(&Vote::new(5, 7)).await.unwrap();
    drop(log);
    let mut log = Log::open(&directory.0, 5).unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(5, 7)));
    assert_eq!(log.get_log_state().await.unwrap().last_log_id.map(|id| id.index), last);
    Ok(last)
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
async fn a_log_that_cannot_be_shortened_goes_on_as_it_is() {
    let directory = Directory::new();
    written(&directory);
    // Nothing can be drafted there.
    fs::create_dir(directory.0.join("log.new")).unwrap();
    let mut log = Log::open(&directory.0, 5).unwrap();
    log.purge(log_id(1)).await.unwrap();
    log.save_vote(&Vote::new(4, 7)).await.unwrap();
    let mut found = Log::open(&directory.0, 5).unwrap();
    assert_eq!(found.read_vote().await.unwrap(), Some(Vote::new(4, 7)));
    assert_eq!(found.get_log_state().await.unwrap().last_purged_log_id, None);
}

#[tokio::test]
async fn nothing_is_confirmed_into_a_file_that_may_have_lost_its_name() {
    let directory = Directory::new();
    written(&directory);
    let mut log = Log::open(&directory.0, 5).unwrap();
    log.save_vote(&Vote::new(4, 7)).await.unwrap();
    let path = directory.0.join("log");
    fs::rename(&path, directory.0.join("elsewhere")).unwrap();
    fs::create_dir_all(path.join("full")).unwrap();
    log.purge(log_id(1)).await.unwrap();
    assert!(log.save_vote(&Vote::new(5, 7)).await.is_err());
    assert!(log.save_vote(&Vote::new(6, 7)).await.is_err(), "nor anything after it");
}

#[tokio::test]
async fn a_log_that_was_shortened_goes_on_at_its_end() {
    let directory = Directory::new();
    written(&directory);
    let mut log = Log::open(&directory.0, 5).unwrap();
    log.purge(log_id(2)).await.unwrap();
    for term in 5..9 {
        log.save_vote(&Vote::new(term, 7)).await.unwrap();
    }
    let mut found = Log::open(&directory.0, 5).unwrap();
    assert_eq!(found.read_vote().await.unwrap(), Some(Vote::new(8, 7)));
    let state = found.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(2)), Some(log_id(3))));
}

#[tokio::test]
async fn a_torn_end_is_cut_off_wherever_it_is() {
    for layout in [written, written_at_once] {
        let directory = Directory::new();
        let ends = layout(&directory);
        let bytes = fs::read(directory.0.join("log")).unwrap();
        for kept in ends[0]..=ends[3] {
            let mut zeros = bytes.clone();
            zeros[kept..].fill(0);
            // The end of a record may be zeros by itself.
            let whole = (1..=3).rev().find(|index| zeros[..ends[*index]] == bytes[..ends[*index]]);
            zeros.extend_from_slice(&[0; 5_000]);
            assert_eq!(last_of(&directory, &zeros).await, Ok(whole.map(|index| index as u64)), "zeros after {kept}");
            let whole = (1..=3).rev().find(|index| kept >= ends[*index]).map(|index| index as u64);
            assert_eq!(last_of(&directory, &bytes[..kept]).await, Ok(whole), "{kept} bytes");
        }
    }
}

#[tokio::test]
async fn garbage_at_the_end_is_a_torn_end() {
    let directory = Directory::new();
    let ends = written(&directory);
    let bytes = fs::read(directory.0.join("log")).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for length in [1, 3, 8, 17, 100, 4_096, 20_000] {
        let garbage = (0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as u8
        });
        let bytes: Vec<u8> = bytes[..ends[2]].iter().copied().chain(garbage).collect();
        assert_eq!(last_of(&directory, &bytes).await, Ok(Some(2)), "{length} bytes");
    }
    // What an older file had there is no later write.
    let older: Vec<u8> = bytes[..ends[3]].iter().chain(&[7; 9]).chain(&bytes[ends[0]..ends[2]]).copied().collect();
    assert_eq!(last_of(&directory, &older).await, Ok(Some(3)));
}

/// Pages of one write reach the disk in any order.
#[tokio::test]
async fn a_write_of_which_only_later_pages_are_there_is_a_torn_end() {
    let directory = Directory::new();
    let ends = written_at_once(&directory);
    let bytes = fs::read(directory.0.join("log")).unwrap();
    for (lost, left) in [(0, None), (1, Some(1)), (2, Some(2))] {
        let mut bytes = bytes.clone();
        bytes[ends[lost]..ends[lost + 1]].fill(0);
        assert_eq!(last_of(&directory, &bytes).await, Ok(left), "entry {} is missing", lost + 1);
    }
}

#[tokio::test]
async fn what_a_later_write_stands_behind_is_no_torn_end() {
    let directory = Directory::new();
    let ends = written(&directory);
    let bytes = fs::read(directory.0.join("log")).unwrap();
    for (lost, torn) in [(0, false), (1, false), (2, true)] {
        let mut bytes = bytes.clone();
        bytes[ends[lost]..ends[lost + 1]].fill(0);
        let found = last_of(&directory, &bytes).await;
        match torn {
            true => assert_eq!(found, Ok(Some(2))),
            false => assert!(found.clone().is_err_and(|error| error.contains("written later")), "{found:?}"),
        }
    }
}

#[tokio::test]
async fn a_byte_that_changed_in_what_was_flushed_is_no_torn_end() {
    let directory = Directory::new();
    let ends = written(&directory);
    let bytes = fs::read(directory.0.join("log")).unwrap();
    for changed in 0..ends[2] {
        let mut bytes = bytes.clone();
        bytes[changed] ^= 1;
        let error = last_of(&directory, &bytes).await.unwrap_err();
        assert!(error.contains("damaged at byte"), "{error}");
    }
    for kept in 0..ends[0] {
        let error = last_of(&directory, &bytes[..kept]).await.unwrap_err();
        assert!(error.contains("whole when it was made"), "{kept} bytes: {error}");
    }
}

#[tokio::test]
async fn an_older_snapshot_does_not_take_the_place_of_a_later_one() {
    let directory = Directory::new();
    let (sender, _committed) = unbounded_channel();
    let mut machine = Machine::open(&directory.0, sender).unwrap();
    machine.apply([blank_ent::<Types>(1, 1, 5)]).await.unwrap();
    let mut older = machine.get_snapshot_builder().await;
    machine.apply([blank_ent::<Types>(1, 1, 9)]).await.unwrap();
    let mut later = machine.get_snapshot_builder().await;
    later.build_snapshot().await.unwrap();
    older.build_snapshot().await.unwrap();
    let present = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(present.meta.last_log_id, Some(log_id(9)));
    let stored = Disk::open(&directory.0).unwrap().read_snapshot().unwrap().unwrap();
    assert_eq!(stored.meta.last_log_id, Some(log_id(9)));
}

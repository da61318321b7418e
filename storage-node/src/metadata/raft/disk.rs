//! The member's files: a log of records, each with its length and CRC-32C, and one snapshot. What is cut off at the end was never confirmed.

use super::types::{Entry, LogId, SnapshotMeta, Vote};
use crate::checksum::crc32c;
use crate::metadata::state::State;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const LOG: &str = "log";
const SNAPSHOT: &str = "snapshot";
const HEAD_BYTES: usize = 8;

/// One thing that the member must not forget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The first: who this member is.
    Identity(u32),
    Vote(Vote),
    Entry(Box<Entry>),
    /// Entries from this index on are gone.
    Truncated(u64),
    /// Entries up to this one are gone: the snapshot has them.
    Purged(LogId),
}

/// What a snapshot file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub meta: SnapshotMeta,
    pub state: State,
}

/// Appends one record as it stands in the file.
pub(super) fn frame(out: &mut Vec<u8>, record: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// The record at the beginning of `bytes`, and how many of them it takes; `None` when they are not as they were written.
fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..length).filter(|body| !body.is_empty())?;
    (crc32c(body) == u32::from_le_bytes(*sum)).then_some((body, HEAD_BYTES + length))
}

/// Whether `bytes`, which begin with no record, are what a write left that was not finished: no record stands behind, which might have been confirmed.
fn is_torn(bytes: &[u8]) -> bool {
    !(1..bytes.len()).any(|at| bytes.get(at..).and_then(split).is_some())
}

/// The member's directory.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(super) fn open(dir: &Path) -> io::Result<Disk> {
        fs::create_dir_all(dir)?;
        Ok(Disk { dir: dir.to_owned() })
    }

    /// All records, after a torn end is cut off; and the file, to go on with. The directory's first log begins with `identity`.
    pub(super) fn read_log(&self, identity: u32) -> io::Result<(Vec<Record>, File)> {
        let path = self.dir.join(LOG);
        if !path.exists() {
            self.rewrite_log(&[Record::Identity(identity)])?;
        }
        let bytes = fs::read(&path)?;
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some((body, taken)) = split(bytes.get(at..).unwrap_or_default()) {
            records.push(postcard::from_bytes(body).map_err(|error| damaged(&path, at, &error.to_string()))?);
            at += taken;
        }
        if !is_torn(bytes.get(at..).unwrap_or_default()) {
            return Err(damaged(&path, at, "there are records behind it"));
        }
        let file = File::options().append(true).open(&path)?;
        if at < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - at, "the metadata log had a torn end, which is cut off");
            file.set_len(at as u64)?;
            file.sync_all()?;
        }
        Ok((records, file))
    }

    /// Puts a log with these records in the place of the present one; the file to go on with.
    pub(super) fn rewrite_log(&self, records: &[Record]) -> io::Result<File> {
        let mut bytes = Vec::new();
        for record in records {
            frame(&mut bytes, record)?;
        }
        self.replace(LOG, &bytes)?;
        File::options().append(true).open(self.dir.join(LOG))
    }

    pub(super) fn read_snapshot(&self) -> io::Result<Option<Stored>> {
        let path = self.dir.join(SNAPSHOT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (body, _) = split(&bytes).ok_or_else(|| damaged(&path, 0, "its checksum is wrong"))?;
        postcard::from_bytes(body).map(Some).map_err(|error| damaged(&path, 0, &error.to_string()))
    }

    pub(super) fn write_snapshot(&self, stored: &Stored) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, stored)?;
        self.replace(SNAPSHOT, &bytes)
    }

    /// The file has either its old content or all of the new, whatever happens.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn damaged(path: &Path, at: usize, why: &str) -> io::Error {
    let what = format!("{} is damaged at byte {at}: {why}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

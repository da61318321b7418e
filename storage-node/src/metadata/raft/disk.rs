//! The member's files: a log of records, each with its length, CRC-32C and the write that it was part of, and one snapshot.
//!
//! A write is flushed before the next one begins. When power fails, any of its pages may be missing, also the first ones only; what it brought was
//! not confirmed. So what follows a record that cannot be read is a torn end, and is cut off, unless something of a later write stands
//! behind it: then it was once flushed, and has been damaged since. A log that took the place of another was flushed before it did, and has no torn end.

use super::types::{Entry, LogId, SnapshotMeta, Vote};
use crate::checksum::crc32c;
use crate::metadata::state::State;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const LOG: &str = "log";
const SNAPSHOT: &str = "snapshot";
const HEAD_BYTES: usize = 16;

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

/// The write that a record was part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Writes count up.
    write: u64,
    /// It made the file: nobody saw less than all of it.
    made: bool,
    /// The last record of the write.
    last: bool,
}

impl Mark {
    fn to_bytes(self) -> [u8; 8] {
        ((self.write << 2) | (u64::from(self.made) << 1) | u64::from(self.last)).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; 8]) -> Mark {
        let bits = u64::from_le_bytes(bytes);
        Mark { write: bits >> 2, made: bits & 2 != 0, last: bits & 1 != 0 }
    }
}

/// A record's bytes.
pub(super) fn encode(record: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(record).map_err(io::Error::other)
}

/// Appends one record as it stands in the file.
fn frame(out: &mut Vec<u8>, body: &[u8], mark: Mark) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&length.to_le_bytes());
    let sum = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&mark.to_bytes());
    out.extend_from_slice(body);
    let crc = crc32c(out.get(sum + 4..).unwrap_or_default());
    if let Some(place) = out.get_mut(sum..sum + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    Ok(())
}

/// Appends the records of one write.
fn frame_all(out: &mut Vec<u8>, bodies: &[Vec<u8>], write: u64, made: bool) -> io::Result<()> {
    for (index, body) in bodies.iter().enumerate() {
        frame(out, body, Mark { write, made, last: index + 1 == bodies.len() })?;
    }
    Ok(())
}

/// The record at the beginning of `bytes`, and how many of them it takes; `None` when they are not as they were written.
fn split(bytes: &[u8]) -> Option<(Mark, &[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let summed = rest.get(..length.checked_add(8)?).filter(|_| length > 0)?;
    if crc32c(summed) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (mark, body) = summed.split_first_chunk::<8>()?;
    Some((Mark::from_bytes(*mark), body, HEAD_BYTES + length))
}

/// The latest write of which a record stands somewhere in `bytes`, which begin with none.
fn latest_behind(bytes: &[u8]) -> Option<u64> {
    let found = (1..bytes.len()).filter_map(|at| bytes.get(at..).and_then(split));
    found.map(|(mark, ..)| mark.write).max()
}

/// The log's file, to go on with.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// The number of the next write.
    next: u64,
}

impl LogFile {
    /// Writes these records, and waits until they are on disk.
    pub(super) fn append(&mut self, bodies: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame_all(&mut bytes, bodies, self.next, false)?;
        self.next += 1;
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }
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
    pub(super) fn read_log(&self, identity: u32) -> io::Result<(Vec<Record>, LogFile)> {
        let path = self.dir.join(LOG);
        if !path.exists() {
            self.rewrite_log(&[Record::Identity(identity)], 0)?;
        }
        let bytes = fs::read(&path)?;
        let (mut records, mut at, mut last) = (Vec::new(), 0, None);
        while let Some((mark, body, taken)) = split(bytes.get(at..).unwrap_or_default()) {
            records.push(postcard::from_bytes(body).map_err(|error| damaged(&path, at, &error.to_string()))?);
            at += taken;
            last = Some(mark);
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let torn = match last {
            Some(Mark { write, last: true, .. }) if rest.is_empty() => {
                let file = File::options().append(true).open(&path)?;
                return Ok((records, LogFile { file, next: write + 1 }));
            }
            Some(Mark { write, last: true, .. }) => write + 1,
            Some(Mark { write, made: false, last: false }) => write,
            Some(Mark { made: true, last: false, .. }) | None => {
                return Err(damaged(&path, at, "it was whole when it was made"));
            }
        };
        if latest_behind(rest).is_some_and(|write| write > torn) {
            return Err(damaged(&path, at, "what was written later stands behind it"));
        }
        tracing::warn!(path = %path.display(), bytes = rest.len(), "the metadata log had a torn end, which is cut off");
        let file = self.rewrite_log(&records, torn + 1)?;
        Ok((records, file))
    }

    /// Puts a log with these records in the place of the present one, as the write of this number; the file to go on with.
    pub(super) fn rewrite_log(&self, records: &[Record], write: u64) -> Result<LogFile, Unreplaced> {
        let bodies: Vec<Vec<u8>> = records.iter().map(encode).collect::<io::Result<_>>()?;
        let mut bytes = Vec::new();
        frame_all(&mut bytes, &bodies, write, true)?;
        let file = self.replace(LOG, &bytes)?;
        Ok(LogFile { file, next: write + 1 })
    }

    pub(super) fn read_snapshot(&self) -> io::Result<Option<Stored>> {
        let path = self.dir.join(SNAPSHOT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (_, body, _) = split(&bytes).ok_or_else(|| damaged(&path, 0, "its checksum is wrong"))?;
        postcard::from_bytes(body).map(Some).map_err(|error| damaged(&path, 0, &error.to_string()))
    }

    pub(super) fn write_snapshot(&self, stored: &Stored) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame_all(&mut bytes, &[encode(stored)?], 0, true)?;
        self.replace(SNAPSHOT, &bytes)?;
        Ok(())
    }

    /// The file has either its old content or all of the new, whatever happens; the new one, to go on with at its end. All that can be opened is opened
    /// before the name passes to it.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<File, Unreplaced> {
        let draft = self.dir.join(format!("{name}.new"));
        let dir = File::open(&self.dir)?;
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let unknown = |error| Unreplaced { error, is_sure: false };
        fs::rename(&draft, self.dir.join(name)).map_err(unknown)?;
        dir.sync_all().map_err(unknown)?;
        Ok(file)
    }
}

/// Why a file has not been replaced.
#[derive(Debug)]
pub(super) struct Unreplaced {
    pub error: io::Error,
    /// The old file has its name still, and will have it after a failure of power.
    pub is_sure: bool,
}

impl From<io::Error> for Unreplaced {
    fn from(error: io::Error) -> Unreplaced {
        Unreplaced { error, is_sure: true }
    }
}

impl From<Unreplaced> for io::Error {
    fn from(unreplaced: Unreplaced) -> io::Error {
        unreplaced.error
    }
}

fn damaged(path: &Path, at: usize, why: &str) -> io::Error {
    let what = format!("{} is damaged at byte {at}: {why}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

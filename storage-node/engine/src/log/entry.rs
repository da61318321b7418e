//! What one log entry says: the request that was executed, what it was answered, and the changes it made.

use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, RequestId};

/// A request with its answer, as all replicas remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed<'a> {
    pub request: RequestId,
    /// The proxy needs no answers below this sequence any more.
    pub low: u64,
    /// An encoded [`toroid_common::wire::Outcome`].
    pub outcome: &'a [u8],
}

/// An entry, borrowed from a frame or from the tail of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// None in a catalog change.
    pub executed: Option<Executed<'a>>,
    /// Encoded changes ([`crate::store::change::Change::read_all`]).
    pub changes: &'a [u8],
}

const CATALOG_CHANGE: u8 = 0;
const EXECUTED: u8 = 1;

impl<'a> Entry<'a> {
    /// Appends an entry whose changes `changes` appends.
    pub fn write(out: &mut Vec<u8>, executed: Option<&Executed<'_>>, changes: impl FnOnce(&mut Vec<u8>)) {
        match executed {
            None => out.push(CATALOG_CHANGE),
            Some(executed) => {
                out.push(EXECUTED);
                out.extend_from_slice(&executed.request.proxy.0.to_le_bytes());
                out.extend_from_slice(&executed.request.sequence.to_le_bytes());
                out.extend_from_slice(&executed.low.to_le_bytes());
                out.extend_from_slice(&(executed.outcome.len() as u32).to_le_bytes());
                out.extend_from_slice(executed.outcome);
            }
        }
        changes(out);
    }

    /// The entry in these bytes.
    pub fn read(bytes: &'a [u8]) -> SqlResult<Entry<'a>> {
        let mut input = bytes;
        let executed = match take(&mut input)? {
            [CATALOG_CHANGE] => None,
            [EXECUTED] => {
                let proxy = Incarnation(u64::from_le_bytes(take(&mut input)?));
                let sequence = u64::from_le_bytes(take(&mut input)?);
                let low = u64::from_le_bytes(take(&mut input)?);
                let length = u32::from_le_bytes(take(&mut input)?) as usize;
                let (outcome, rest) = input.split_at_checked(length).ok_or_else(malformed)?;
                input = rest;
                Some(Executed { request: RequestId { proxy, sequence }, low, outcome })
            }
            _ => return Err(malformed()),
        };
        Ok(Entry { executed, changes: input })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> SqlResult<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(malformed)?;
    *input = rest;
    Ok(*head)
}

fn malformed() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "malformed log entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let executed =
            Executed { request: RequestId { proxy: Incarnation(3), sequence: 9 }, low: 7, outcome: b"answer" };
        for executed in [Some(executed), None] {
            let mut bytes = Vec::new();
            Entry::write(&mut bytes, executed.as_ref(), |out| out.extend_from_slice(b"changes"));
            assert_eq!(Entry::read(&bytes).unwrap(), Entry { executed, changes: b"changes" });
            let head = bytes.len() - b"changes".len();
            for cut in 0..head {
                assert!(Entry::read(&bytes[..cut]).is_err());
            }
        }
        assert!(Entry::read(&[7]).is_err());
    }
}

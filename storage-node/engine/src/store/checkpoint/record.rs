//! Records: how they are framed, and the numbers in them.

use toroid_common::error::{SqlError, SqlResult, SqlState};

/// What every checkpoint begins with.
pub(super) const FORMAT: &[u8; 8] = b"toroidcp";
/// Version of everything in this folder.
pub(super) const VERSION: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Head = 1,
    Proxies = 2,
    Answers = 3,
    Table = 4,
    Rows = 5,
    End = 6,
    WriteSet = 7,
    Changes = 8,
    Outcomes = 9,
    Advisory = 10,
    Notices = 11,
    Evicted = 12,
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Head,
        Kind::Proxies,
        Kind::Answers,
        Kind::Table,
        Kind::Rows,
        Kind::End,
        Kind::WriteSet,
        Kind::Changes,
        Kind::Outcomes,
        Kind::Advisory,
        Kind::Notices,
        Kind::Evicted,
    ];
}

/// Appends one record, whose body is what `body` appends.
pub(super) fn write_record<T>(out: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.push(kind as u8);
    let field = out.len();
    out.extend_from_slice(&[0; 4]);
    let result = body(out);
    let length = (out.len() - field - 4) as u32;
    if let Some(field) = out.get_mut(field..field + 4) {
        field.copy_from_slice(&length.to_le_bytes());
    }
    result
}

/// Whether `input` begins with a record that ends in it.
pub(super) fn is_whole(input: &[u8]) -> bool {
    let length = input.get(1..).and_then(<[u8]>::first_chunk::<4>).map(|length| u32::from_le_bytes(*length) as usize);
    length.is_some_and(|length| input.len() - 5 >= length)
}

/// Takes one record from the front of `input`.
pub(super) fn read_record<'a>(input: &mut &'a [u8]) -> SqlResult<(Kind, &'a [u8])> {
    let [kind] = take(input)?;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let kind = kind.ok_or_else(|| damaged("a record of unknown kind"))?;
    Ok((kind, take_slice(input)?))
}

pub(super) fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn take<const N: usize>(input: &mut &[u8]) -> SqlResult<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(|| damaged("a record is too short"))?;
    *input = rest;
    Ok(*head)
}

pub(super) fn take_u32(input: &mut &[u8]) -> SqlResult<u32> {
    take(input).map(u32::from_le_bytes)
}

pub(super) fn take_u64(input: &mut &[u8]) -> SqlResult<u64> {
    take(input).map(u64::from_le_bytes)
}

pub(super) fn take_slice<'a>(input: &mut &'a [u8]) -> SqlResult<&'a [u8]> {
    let length = take_u32(input)? as usize;
    let (head, rest) = input.split_at_checked(length).ok_or_else(|| damaged("a record is too short"))?;
    *input = rest;
    Ok(head)
}

pub(super) fn damaged(what: &str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("damaged checkpoint: {what}"))
}

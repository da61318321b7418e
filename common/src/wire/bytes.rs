//! Little-endian fields: appended to a growing buffer, read borrowed from a frame.

use super::WireError;
use crate::id::CutId;
use serde::Serialize;

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_cut(out: &mut Vec<u8>, cut: CutId) {
    put_u64(out, cut.term);
    put_u64(out, cut.round);
}

/// A length and the bytes.
pub(super) fn put_slice(out: &mut Vec<u8>, value: &[u8]) {
    put_u32(out, value.len() as u32);
    out.extend_from_slice(value);
}

/// The rest of the frame is this value.
pub(super) fn put_postcard(out: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = postcard::to_io(value, &mut *out) {
        // Writing to a Vec cannot fail and our types have no serializers that do.
        unreachable!("postcard into memory: {error}");
    }
}

/// What is left of a frame's body.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Input<'a> {
        Input { rest }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Malformed(what))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed(what)),
        }
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn cut(&mut self, what: &'static str) -> Result<CutId, WireError> {
        Ok(CutId { term: self.u64(what)?, round: self.u64(what)? })
    }

    /// So many bytes.
    pub(super) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length and the bytes.
    pub(super) fn slice(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.u32(what)?;
        self.take(length as usize, what)
    }

    /// Everything that is left.
    pub(super) fn remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error if the frame has more than its message.
    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Malformed("end of frame")) }
    }
}

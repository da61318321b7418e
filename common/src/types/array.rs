//! One-dimensional arrays as values: borrowed from owned values or from their encoding.

use super::SqlType;
use super::codec::{malformed, read_value, skip_value, take, take_slice, write_value};
use super::columnar::ColumnReader;
use super::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use arrow::array::Array;

/// A borrowed array. Its encoding is the count of elements as `u32`, a NULL bitmap, and the elements that are not NULL.
#[derive(Clone, Copy, Debug)]
pub enum ArrayRef<'a> {
    Values(&'a [Datum]),
    /// A NULL bitmap and encoded elements, checked when it was read.
    Encoded {
        element: SqlType,
        count: usize,
        bytes: &'a [u8],
    },
    /// A run of an Arrow array.
    Column {
        element: SqlType,
        values: &'a dyn Array,
        start: usize,
        count: usize,
    },
}

impl PartialEq for ArrayRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a> IntoIterator for ArrayRef<'a> {
    type Item = DatumRef<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

impl<'a> ArrayRef<'a> {
    pub fn len(&self) -> usize {
        match self {
            ArrayRef::Values(values) => values.len(),
            ArrayRef::Encoded { count, .. } | ArrayRef::Column { count, .. } => *count,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> ArrayIter<'a> {
        match *self {
            ArrayRef::Values(values) => ArrayIter::Values(values.iter()),
            ArrayRef::Encoded { element, count, bytes } => {
                let (nulls, rest) = bytes.split_at_checked(count.div_ceil(8)).unwrap_or((&[], &[]));
                ArrayIter::Encoded { element, next: 0, count, nulls, rest }
            }
            ArrayRef::Column { element, values, start, count } => {
                let reader = ColumnReader::new(values, element).unwrap_or(ColumnReader::Null);
                ArrayIter::Column { reader, next: start, end: start + count }
            }
        }
    }

    /// About how many bytes its encoding takes.
    pub fn bytes(&self) -> usize {
        match self {
            ArrayRef::Encoded { bytes, .. } => bytes.len(),
            ArrayRef::Values(_) | ArrayRef::Column { .. } => {
                self.iter().map(|element| size_of::<u64>() + element.variable_bytes()).sum()
            }
        }
    }

    /// Owned elements.
    pub fn to_vec(&self) -> Vec<Datum> {
        match self {
            ArrayRef::Values(values) => values.to_vec(),
            ArrayRef::Encoded { .. } | ArrayRef::Column { .. } => self.iter().map(DatumRef::to_owned).collect(),
        }
    }

    pub(crate) fn read(input: &mut &'a [u8], element: SqlType) -> SqlResult<ArrayRef<'a>> {
        let count = u32::from_le_bytes(take(input)?) as usize;
        let whole = *input;
        let nulls = take_slice(input, count.div_ceil(8))?;
        for i in 0..count {
            if !is_null(nulls, i) {
                // Elements are decoded here once, so that iteration can trust them.
                read_value(input, element)?;
            }
        }
        if element == SqlType::Void && count > 0 {
            return Err(malformed("array"));
        }
        let bytes = whole.get(..whole.len() - input.len()).unwrap_or_default();
        Ok(ArrayRef::Encoded { element, count, bytes })
    }

    pub(crate) fn skip(input: &mut &[u8], element: SqlType) -> SqlResult<()> {
        let count = u32::from_le_bytes(take(input)?) as usize;
        let nulls = take_slice(input, count.div_ceil(8))?;
        for i in 0..count {
            if !is_null(nulls, i) {
                skip_value(input, element)?;
            }
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn is_null(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
}

/// Appends a NULL bitmap, then the values that are not NULL.
#[inline]
pub(crate) fn write_nulls_and_values<'a>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = DatumRef<'a>>) {
    let bitmap = out.len();
    out.resize(bitmap + values.len().div_ceil(8), 0);
    for (i, value) in values.enumerate() {
        if value.is_null() {
            if let Some(byte) = out.get_mut(bitmap + i / 8) {
                *byte |= 1 << (i % 8);
            }
        } else {
            write_value(out, value);
        }
    }
}

pub(crate) fn write(out: &mut Vec<u8>, array: ArrayRef<'_>) {
    out.extend_from_slice(&(array.len() as u32).to_le_bytes());
    match array {
        ArrayRef::Values(values) => write_nulls_and_values(out, values.iter().map(Datum::borrow)),
        ArrayRef::Encoded { bytes, .. } => out.extend_from_slice(bytes),
        ArrayRef::Column { .. } => write_nulls_and_values(out, array.iter()),
    }
}

/// Elements of an [`ArrayRef`].
pub enum ArrayIter<'a> {
    Values(std::slice::Iter<'a, Datum>),
    Encoded { element: SqlType, next: usize, count: usize, nulls: &'a [u8], rest: &'a [u8] },
    Column { reader: ColumnReader<'a>, next: usize, end: usize },
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = DatumRef<'a>;

    fn next(&mut self) -> Option<DatumRef<'a>> {
        match self {
            ArrayIter::Values(values) => values.next().map(Datum::borrow),
            ArrayIter::Encoded { next, count, .. } if next == count => None,
            ArrayIter::Column { next, end, .. } if next == end => None,
            ArrayIter::Column { reader, next, .. } => {
                let value = reader.get(*next);
                *next += 1;
                Some(value)
            }
            ArrayIter::Encoded { element, next, nulls, rest, .. } => {
                let null = is_null(nulls, *next);
                *next += 1;
                if null { Some(DatumRef::Null) } else { read_value(rest, *element).ok() }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            ArrayIter::Values(values) => values.len(),
            ArrayIter::Encoded { next, count, .. } => count - next,
            ArrayIter::Column { next, end, .. } => end - next,
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for ArrayIter<'_> {}

//! Row → partition: xxh3-64 with a fixed seed over the canonical encoding of the distribution key. Frozen: placement outlives releases.
//!
//! The canonical encoding of a column: byte 00 for NULL; else byte 01 and the value, whole numbers and times as `i64` little-endian, floats as
//! the `u64` of their order, text and bytea as `u32` length and bytes, numeric as its sort key, interval as its comparable `i128`.

use crate::datum::DatumRef;
use crate::id::PartitionId;
use crate::key::float_order;
use smallvec::SmallVec;
use twox_hash::XxHash3_64;

const SEED: u64 = 0x546f_726f_6964_2031;

/// Keys up to this size are hashed without allocation.
type Encoded = SmallVec<[u8; 128]>;

/// The partition of a row by its distribution key's values, in key order.
#[inline]
pub fn partition_of<'a>(key: impl Iterator<Item = DatumRef<'a>>, partitions: u16) -> PartitionId {
    partition_of_hash(hash_key(key), partitions)
}

/// The partition that holds a hash; `partitions` is a power of two.
#[inline]
pub fn partition_of_hash(hash: u64, partitions: u16) -> PartitionId {
    debug_assert!(partitions.is_power_of_two());
    let bits = partitions.trailing_zeros();
    PartitionId(hash.checked_shr(64 - bits).unwrap_or(0) as u16)
}

/// The hash of a distribution key.
#[inline]
pub fn hash_key<'a>(key: impl Iterator<Item = DatumRef<'a>>) -> u64 {
    let mut bytes = Encoded::new();
    for value in key {
        write_canonical(&mut bytes, value);
    }
    hash_bytes(&bytes)
}

/// The hash of bytes, for everything whose placement is computed.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(SEED, bytes)
}

fn write_canonical(out: &mut Encoded, value: DatumRef<'_>) {
    out.push(u8::from(!value.is_null()));
    match value {
        DatumRef::Null => {}
        DatumRef::Bool(v) => out.push(u8::from(v)),
        DatumRef::Int2(v) => out.extend_from_slice(&i64::from(v).to_le_bytes()),
        DatumRef::Int4(v) | DatumRef::Date(v) => out.extend_from_slice(&i64::from(v).to_le_bytes()),
        DatumRef::Int8(v) | DatumRef::Time(v) | DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        DatumRef::Float4(v) => out.extend_from_slice(&float_order(f64::from(v)).to_le_bytes()),
        DatumRef::Float8(v) => out.extend_from_slice(&float_order(v).to_le_bytes()),
        DatumRef::Oid(v) => out.extend_from_slice(&i64::from(v).to_le_bytes()),
        DatumRef::Interval(v) => out.extend_from_slice(&v.comparable().to_le_bytes()),
        DatumRef::Uuid(v) => out.extend_from_slice(&v),
        DatumRef::Text(v) => write_variable(out, v.as_bytes()),
        DatumRef::Bytea(v) => write_variable(out, v),
        DatumRef::Numeric(v) => {
            let mut key = Vec::with_capacity(16);
            v.write_sort_key(&mut key);
            write_variable(out, &key);
        }
        DatumRef::Array(v) => {
            out.extend_from_slice(&(v.len() as u32).to_le_bytes());
            for element in v.iter() {
                write_canonical(out, element);
            }
        }
    }
}

fn write_variable(out: &mut Encoded, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::interval::Interval;
    use crate::types::numeric::Numeric;

    fn hash(values: &[DatumRef<'_>]) -> u64 {
        hash_key(values.iter().copied())
    }

    /// These vectors never change: they say where the rows of running clusters are.
    #[test]
    fn hashes_are_frozen() {
        let numeric = Numeric::parse("12.50").unwrap();
        let vectors: &[(&[DatumRef<'_>], u64)] = &[
            (&[], 0x53c3_20cc_892a_3c0e),
            (&[DatumRef::Null], 0x8fc1_2d17_4a33_abb1),
            (&[DatumRef::Bool(true)], 0xf069_a080_1d52_e183),
            (&[DatumRef::Int8(0)], 0xd73b_08d9_4b40_6a4c),
            (&[DatumRef::Int4(1)], 0x1d80_39af_3aee_c117),
            (&[DatumRef::Int2(-1)], 0x4ca5_3809_5e97_7802),
            (&[DatumRef::Float8(1.5)], 0x874e_99d0_8b7b_981f),
            (&[DatumRef::Numeric(numeric.borrow())], 0xfb8f_0981_77c8_9d32),
            (&[DatumRef::Text("toroid")], 0x614f_468a_d2c9_3ba5),
            (&[DatumRef::Text("a"), DatumRef::Text("bc")], 0x2fd8_1a52_7a7b_4c9f),
            (&[DatumRef::Bytea(&[0, 255])], 0x524c_0ae1_0d5c_8c0d),
            (&[DatumRef::Interval(Interval { months: 1, days: 2, micros: 3 })], 0x6c2a_c57a_8b98_b28b),
            (&[DatumRef::Uuid([7; 16])], 0x7ed0_fad2_4042_81e7),
            (&[DatumRef::Int8(7), DatumRef::Null, DatumRef::Timestamptz(1)], 0x52f5_6c79_69e7_03bf),
        ];
        let got: Vec<u64> = vectors.iter().map(|(key, _)| hash(key)).collect();
        let wanted: Vec<u64> = vectors.iter().map(|(_, hash)| *hash).collect();
        assert_eq!(got, wanted, "{got:#x?}");
    }

    #[test]
    fn equal_values_hash_alike() {
        let (a, b) = (Numeric::parse("1.1").unwrap(), Numeric::parse("1.100").unwrap());
        let days = |days, micros| DatumRef::Interval(Interval { months: 0, days, micros });
        assert_eq!(hash(&[DatumRef::Int2(5)]), hash(&[DatumRef::Int8(5)]));
        assert_eq!(hash(&[DatumRef::Int4(-5)]), hash(&[DatumRef::Int8(-5)]));
        assert_eq!(hash(&[DatumRef::Float8(-0.0)]), hash(&[DatumRef::Float4(0.0)]));
        assert_eq!(hash(&[DatumRef::Numeric(a.borrow())]), hash(&[DatumRef::Numeric(b.borrow())]));
        assert_eq!(hash(&[days(1, 0)]), hash(&[days(0, 86_400_000_000)]));
        assert_ne!(
            hash(&[DatumRef::Text("a"), DatumRef::Text("bc")]),
            hash(&[DatumRef::Text("ab"), DatumRef::Text("c")])
        );
    }

    #[test]
    fn the_top_bits_pick_the_partition() {
        assert_eq!(partition_of_hash(u64::MAX, 1), PartitionId(0));
        assert_eq!(partition_of_hash(u64::MAX, 64), PartitionId(63));
        assert_eq!(partition_of_hash(1 << 63, 2), PartitionId(1));
        let mut seen = [0; 64];
        for key in 0..6400 {
            seen[usize::from(partition_of([DatumRef::Int4(key)].into_iter(), 64).0)] += 1;
        }
        assert!(seen.iter().all(|n| (50..160).contains(n)), "{seen:?}");
    }
}

//! Rows and keys over random values: what is written is read again, damage is an error, key order is value order.

use std::cmp::Ordering;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::key::write_key;
use toroid_common::row::{RowReader, read_owned, write_row, write_row_slice};
use toroid_common::types::SqlType;
use toroid_common::types::interval::Interval;
use toroid_common::types::numeric::Numeric;

/// A small generator of our own: the same values in every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn integer(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(20) as i64 - 10,
            1 => [i64::MIN, i64::MAX, 0, -1, i64::from(i32::MIN), i64::from(i32::MAX)][self.below(6) as usize],
            _ => self.next() as i64 >> self.below(64),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(12)).map(|_| [0, 1, 255, b'a', b'b'][self.below(5) as usize]).collect()
    }

    fn numeric(&mut self) -> Numeric {
        match self.below(12) {
            0 => Numeric::nan(),
            1 => Numeric::infinity(true),
            2 => Numeric::infinity(false),
            3 => {
                let digits: String = (0..self.below(60) + 1).map(|_| char::from(b'0' + self.below(10) as u8)).collect();
                let sign = ["", "-"][self.below(2) as usize];
                Numeric::parse(&format!("{sign}{digits}e{}", self.below(40) as i64 - 20)).unwrap()
            }
            _ => Numeric::from_parts(i128::from(self.integer()), self.below(12) as u16),
        }
    }

    fn float(&mut self) -> f64 {
        match self.below(8) {
            0 => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MIN_POSITIVE][self.below(6) as usize],
            1 => f64::from_bits(self.next()),
            _ => self.integer() as f64 / 8.0,
        }
    }

    fn value(&mut self, ty: SqlType) -> Datum {
        match ty {
            SqlType::Bool => Datum::Bool(self.below(2) == 1),
            SqlType::Int2 => Datum::Int2(self.integer() as i16),
            SqlType::Int4 => Datum::Int4(self.integer() as i32),
            SqlType::Int8 => Datum::Int8(self.integer()),
            SqlType::Float4 => Datum::Float4(self.float() as f32),
            SqlType::Float8 => Datum::Float8(self.float()),
            SqlType::Numeric => Datum::Numeric(self.numeric()),
            SqlType::Bytea => Datum::Bytea(self.bytes().into()),
            SqlType::Date => Datum::Date(self.integer() as i32),
            SqlType::Time => Datum::Time(self.integer().rem_euclid(86_400_000_001)),
            SqlType::Timestamp => Datum::Timestamp(self.integer()),
            SqlType::Timestamptz => Datum::Timestamptz(self.integer()),
            SqlType::Interval => Datum::Interval(Interval {
                months: self.integer() as i32 % 100,
                days: self.integer() as i32 % 100,
                micros: self.integer() % 1_000_000_000_000,
            }),
            SqlType::Uuid => Datum::Uuid([self.below(256) as u8; 16]),
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Datum::Oid(self.integer() as u32),
            SqlType::Array(element) => {
                let value = |rng: &mut Xorshift| if rng.below(5) == 0 { Datum::Null } else { rng.value(element.ty()) };
                Datum::Array((0..self.below(10)).map(|_| value(self)).collect())
            }
            SqlType::Void => Datum::Null,
            _ => Datum::Text(String::from_utf8_lossy(&self.bytes()).into_owned()),
        }
    }
}

fn types() -> Vec<SqlType> {
    let plain = SqlType::all().filter(|ty| *ty != SqlType::Void && *ty != SqlType::Unknown);
    plain.flat_map(|ty| [Some(ty), ty.array()]).flatten().collect()
}

/// NaN is not equal to itself, so rows are compared as printed.
fn shown<T: std::fmt::Debug>(value: T) -> String {
    format!("{value:?}")
}

#[test]
fn rows_are_read_as_written() {
    let mut rng = Xorshift(1);
    let all = types();
    for _ in 0..2_000 {
        let row: Vec<SqlType> = (0..rng.below(12)).map(|_| all[rng.below(all.len() as u64) as usize]).collect();
        let values: Vec<Datum> =
            row.iter().map(|ty| if rng.below(4) == 0 { Datum::Null } else { rng.value(*ty) }).collect();
        let mut bytes = Vec::new();
        write_row(&mut bytes, values.iter().map(Datum::borrow));
        assert_eq!(shown(read_owned(&bytes, &row).unwrap()), shown(&values));
        let end = bytes.len();
        bytes.extend_from_slice(b"rest");
        let mut reader = RowReader::new(&bytes);
        assert_eq!(reader.skip(&row).unwrap(), &bytes[..end]);
        assert_eq!(reader.rest(), b"rest");
        // What was read borrowed is written again alike.
        let mut borrowed = Vec::new();
        RowReader::new(&bytes).read(&row, &mut borrowed).unwrap();
        let mut again = Vec::new();
        write_row_slice(&mut again, &borrowed);
        assert_eq!(again, &bytes[..end]);
    }
}

#[test]
fn damaged_rows_are_errors_and_never_panic() {
    let mut rng = Xorshift(2);
    let all = types();
    for _ in 0..3_000 {
        let row: Vec<SqlType> = (0..1 + rng.below(6)).map(|_| all[rng.below(all.len() as u64) as usize]).collect();
        let values: Vec<Datum> = row.iter().map(|ty| rng.value(*ty)).collect();
        let mut bytes = Vec::new();
        write_row(&mut bytes, values.iter().map(Datum::borrow));
        let cut = &bytes[..rng.below(bytes.len() as u64) as usize];
        let mut out = Vec::new();
        assert!(RowReader::new(cut).read(&row, &mut out).is_err());
        assert!(RowReader::new(cut).skip(&row).is_err());
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
        if let Ok(values) = read_owned(&bytes, &row) {
            let mut key = Vec::new();
            values.iter().for_each(|value| write_key(&mut key, value.borrow(), false, false));
        }
        let _ = RowReader::new(&bytes).skip(&row);
    }
}

fn compare(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Float4(a), Datum::Float4(b)) => compare(&Datum::Float8(f64::from(*a)), &Datum::Float8(f64::from(*b))),
        (Datum::Float8(a), Datum::Float8(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Datum::Numeric(a), Datum::Numeric(b)) => a.compare(b),
        (Datum::Interval(a), Datum::Interval(b)) => a.comparable().cmp(&b.comparable()),
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int2(a), Datum::Int2(b)) => a.cmp(b),
        (Datum::Int4(a), Datum::Int4(b)) | (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b))
        | (Datum::Time(a), Datum::Time(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b))
        | (Datum::Timestamptz(a), Datum::Timestamptz(b)) => a.cmp(b),
        (Datum::Text(a), Datum::Text(b)) => a.cmp(b),
        (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
        (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
        (Datum::Oid(a), Datum::Oid(b)) => a.cmp(b),
        (Datum::Array(a), Datum::Array(b)) => {
            let element = |(a, b): (&Datum, &Datum)| match (a.is_null(), b.is_null()) {
                (false, false) => compare(a, b),
                (a, b) => a.cmp(&b),
            };
            a.iter().zip(b).map(element).find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        other => panic!("{other:?}"),
    }
}

fn key(values: &[&Datum], descending: bool, nulls_first: bool) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| write_key(&mut out, value.borrow(), descending, nulls_first));
    out
}

#[test]
fn key_order_is_value_order() {
    let mut rng = Xorshift(3);
    for ty in types() {
        for _ in 0..400 {
            let (a, b) = (rng.value(ty), rng.value(ty));
            let wanted = compare(&a, &b);
            assert_eq!(key(&[&a], false, false).cmp(&key(&[&b], false, false)), wanted, "{a:?} {b:?}");
            assert_eq!(key(&[&a], true, false).cmp(&key(&[&b], true, false)), wanted.reverse(), "{a:?} {b:?}");
            // A second column decides only where the first ones are equal.
            let (c, d) = (Datum::Int4(1), Datum::Int4(2));
            let two = key(&[&a, &c], false, false).cmp(&key(&[&b, &d], false, false));
            assert_eq!(two, wanted.then(Ordering::Less), "{a:?} {b:?}");
            for descending in [false, true] {
                assert!(key(&[&Datum::Null], descending, true) < key(&[&a], descending, true));
                assert!(key(&[&Datum::Null], descending, false) > key(&[&a], descending, false));
            }
        }
    }
}

#[test]
fn integers_of_all_widths_have_one_key() {
    for value in [-3, 0, 7, i64::from(i16::MAX)] {
        let wide = key(&[&Datum::Int8(value)], false, false);
        assert_eq!(key(&[&Datum::Int4(value as i32)], false, false), wide);
        assert_eq!(key(&[&Datum::Int2(value as i16)], false, false), wide);
    }
    let mut golden = Vec::new();
    write_key(&mut golden, DatumRef::Int4(-1), false, false);
    write_key(&mut golden, DatumRef::Text("a\0b"), false, false);
    assert_eq!(golden, b"\x01\x7f\xff\xff\xff\xff\xff\xff\xff\x01a\x00\xffb\x00\x00");
}

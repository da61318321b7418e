//! COPY decoding wherever the chunks are cut, and what is wrong with bad data.

use super::*;
use crate::bound::CopyOptions;
use crate::statement::{CopyBatch, CopySink, Fill};
use futures::future::LocalBoxFuture;
use std::sync::Arc;
use toroid_common::catalog::{Column, Distribution, Table, TableState};
use toroid_common::datum::Datum;
use toroid_common::id::{CatalogVersion, ColumnId, TableId};
use toroid_common::row::{RowReader, read_owned};
use toroid_common::types::SqlType;

struct Nowhere(i32);

impl CopySink for Nowhere {
    fn fill(&mut self, _: u16) -> Result<Datum, SqlError> {
        self.0 += 1;
        Ok(Datum::Int4(self.0))
    }

    fn send(&mut self, _: CopyBatch) -> LocalBoxFuture<'_, Result<(), SqlError>> {
        Box::pin(async { Ok(()) })
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SqlError>> {
        Box::pin(async { Ok(()) })
    }

    fn give_up(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

const TYPES: [SqlType; 3] = [SqlType::Int4, SqlType::Text, SqlType::Int4];

/// `t (a int4, b text not null, c int4 default nextval(…))`, filled from (b, a).
fn copy(format: CopyFormat) -> CopyIn {
    let csv = format == CopyFormat::Csv;
    let column = |id: u16, name: &str, ty: SqlType| Column {
        id: ColumnId(id),
        name: name.to_owned(),
        ty: ty.into(),
        not_null: name == "b",
        default: None,
        missing: None,
        hidden: false,
    };
    CopyIn {
        table: Arc::new(Table {
            id: TableId(1),
            schema: "public".to_owned(),
            name: "t".to_owned(),
            version: CatalogVersion(1),
            columns: vec![column(1, "a", TYPES[0]), column(2, "b", TYPES[1]), column(3, "c", TYPES[2])],
            indexes: Vec::new(),
            distribution: Distribution::Hash(vec![0]),
            state: TableState::Open,
            next_column: 4,
            generation: 0,
            checks: Vec::new(),
            options: Vec::new(),
        }),
        targets: vec![1, 0],
        fills: vec![Fill::Value(Datum::Null), Fill::Value(Datum::Null), Fill::PerRow],
        options: CopyOptions {
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { "" } else { "\\N" }.to_owned(),
            header: false,
            quote: b'"',
            escape: b'"',
            force_quote: None,
            force_null: Vec::new(),
            force_not_null: Vec::new(),
        },
        partitions: 4,
        sink: Box::new(Nowhere(0)),
    }
}

/// All rows in the order in which they came (by the per-row fill).
fn decode(mut copy: CopyIn, chunks: &[&[u8]]) -> Result<Vec<(Datum, Datum)>, SqlError> {
    let mut decoder = Decoder::new(&copy, Env::default());
    for chunk in chunks {
        let mut chunk = *chunk;
        while !chunk.is_empty() {
            decoder.decode(&mut chunk, &mut copy)?;
        }
    }
    decoder.finish(&mut copy)?;
    let mut rows = Vec::new();
    while let Some(batch) = decoder.rows.take(true) {
        let mut reader = RowReader::new(&batch.rows);
        for _ in 0..batch.count {
            rows.push(read_owned(reader.skip(&TYPES)?, &TYPES)?);
        }
    }
    rows.sort_by_key(|row| match row[2] {
        Datum::Int4(number) => number,
        _ => 0,
    });
    Ok(rows.into_iter().map(|row| (row[1].clone(), row[0].clone())).collect())
}

fn text(value: &str) -> Datum {
    Datum::Text(value.to_owned())
}

fn everywhere(format: CopyFormat, data: &[u8], expected: &[(Datum, Datum)]) {
    for at in 0..=data.len() {
        let (head, tail) = data.split_at(at);
        assert_eq!(decode(copy(format), &[head, tail]).unwrap(), expected, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(decode(copy(format), &bytes).unwrap(), expected);
}

#[test]
fn text_may_be_cut_anywhere() {
    let data = b"one\t1\na\\tb\\\\\\101\\x42\\n\t-2\n\\\nx\t\\N\n\t4";
    let expected = [
        (text("one"), Datum::Int4(1)),
        (text("a\tb\\AB\n"), Datum::Int4(-2)),
        (text("\nx"), Datum::Null),
        (text(""), Datum::Int4(4)),
    ];
    everywhere(CopyFormat::Text, data, &expected);
}

#[test]
fn csv_may_be_cut_anywhere() {
    let data = b"one,1\r\n\"a,\"\"b\"\"\r\nc\",2\r\n\"\",3\r\nx\"y,z\"w,\r\n\\.\r\nafter,9\r\n";
    let expected = [
        (text("one"), Datum::Int4(1)),
        (text("a,\"b\"\r\nc"), Datum::Int4(2)),
        (text(""), Datum::Int4(3)),
        (text("xy,zw"), Datum::Null),
    ];
    everywhere(CopyFormat::Csv, data, &expected);
}

#[test]
fn binary_may_be_cut_anywhere() {
    let mut data = binary::SIGNATURE.to_vec();
    data.extend_from_slice(
        b"\0\0\0\0\0\0\0\x02xx\0\x02\0\0\0\x01q\0\0\0\x04\0\0\0\x07\0\x02\0\0\0\0\xff\xff\xff\xff\xff\xff",
    );
    everywhere(CopyFormat::Binary, &data, &[(text("q"), Datum::Int4(7)), (text(""), Datum::Null)]);
}

#[test]
fn bad_data_says_where_it_stands() {
    let cases: [(CopyFormat, &[u8], &str, &str); 9] = [
        (CopyFormat::Text, b"x\t1\ny\n", "22P04: missing data for column \"a\"", "COPY t, line 2: \"y\""),
        (CopyFormat::Text, b"x\t1\t2\n", "22P04: extra data after last expected column", "COPY t, line 1: \"x\t1\t2\""),
        (
            CopyFormat::Text,
            b"x\tz\n",
            "22P02: invalid input syntax for type integer: \"z\"",
            "COPY t, line 1, column a: \"z\"",
        ),
        (
            CopyFormat::Text,
            b"x\t9999999999\n",
            "22003: value \"9999999999\" is out of range for type integer",
            "COPY t, line 1, column a: \"9999999999\"",
        ),
        (
            CopyFormat::Text,
            b"\\N\t1\n",
            "23502: null value in column \"b\" of relation \"t\" violates not-null constraint",
            "COPY t, line 1: \"\\N\t1\"",
        ),
        (
            CopyFormat::Text,
            b"\xff\t1\n",
            "22021: invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY t, line 1, column b: \"\u{fffd}\"",
        ),
        (CopyFormat::Text, b"x\t1\ny\t2\r\n", "22P04: literal carriage return found in data", "COPY t, line 1"),
        (CopyFormat::Csv, b"x,1\n\"y", "22P04: unterminated CSV quoted field", "COPY t, line 2: \"\"y\""),
        (
            CopyFormat::Binary,
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01",
            "22P04: row field count is 1, expected 2",
            "COPY t, line 1",
        ),
    ];
    for (format, data, message, context) in cases {
        let error = decode(copy(format), &[data]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.context()), (message, Some(context)));
    }
}

#[test]
fn batches_are_bounded() {
    let mut copy = copy(CopyFormat::Text);
    let mut decoder = Decoder::new(&copy, Env::default());
    let line = format!("{}\t7\n", "x".repeat(1_000)).into_bytes().repeat(2_000);
    let (mut chunk, mut sent) = (line.as_slice(), 0);
    while !chunk.is_empty() {
        decoder.decode(&mut chunk, &mut copy).unwrap();
        while let Some(batch) = decoder.rows.take(false) {
            assert!(batch.rows.len() < toroid_common::limits::BULK_FRAME_BYTES + 2_000);
            sent += batch.count;
        }
    }
    assert!(sent > 1_000 && sent <= 2_000);
    assert_eq!(decoder.rows.count, 2_000);
}

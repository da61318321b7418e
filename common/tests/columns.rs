//! Values into Arrow arrays and out again, for every type.

use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::{ColumnBuilder, ColumnReader, datum_at};
use toroid_common::types::input::parse_text;

fn sample(ty: SqlType) -> &'static str {
    match ty {
        SqlType::Bool => "t",
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => "2024-02-29",
        SqlType::Time => "10:20:30.5",
        SqlType::Interval => "1 mon 2 days 03:04:05",
        SqlType::Uuid => "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        SqlType::Json | SqlType::Jsonb => "{\"a\": [1, 2]}",
        _ => "42",
    }
}

#[test]
fn columns_give_back_what_was_pushed() {
    let env = Env::default();
    for plain in SqlType::all().filter(|ty| *ty != SqlType::Void) {
        for ty in [Some(plain), plain.array()].into_iter().flatten() {
            let one = parse_text(plain, -1, sample(plain), &env).unwrap();
            let value = match ty {
                SqlType::Array(_) => Datum::Array(vec![one, Datum::Null]),
                _ => one,
            };
            let mut builder = ColumnBuilder::new(ty);
            for datum in [&value, &Datum::Null, &value] {
                builder.push(datum.borrow()).unwrap();
            }
            let array = builder.finish();
            assert_eq!(array.data_type(), &ty.arrow());
            let reader = ColumnReader::new(array.as_ref(), ty).unwrap();
            assert_eq!(reader.get(0).to_owned(), value);
            assert_eq!(reader.get(1), DatumRef::Null);
            assert_eq!(datum_at(array.as_ref(), ty, 2).to_owned(), value);
            assert_eq!(reader.get(3), DatumRef::Null);
        }
    }
    let mut builder = ColumnBuilder::new(SqlType::Int4);
    assert!(builder.push(DatumRef::Text("no number")).is_err());
}

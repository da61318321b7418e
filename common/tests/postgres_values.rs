//! Values through text, binary and casts, compared with what PostgreSQL 15 answered.
//!
//! A line of `vectors/values.tsv` is: time zone, type, modifier, text, target of a cast or nothing, and `OK text|hex of the binary form` or
//! `ERR sqlstate message | detail ! hint`.

use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::types::binary::{read_binary, write_binary};
use toroid_common::types::cast::{CastContext, cast};
use toroid_common::types::input::{parse_text, type_by_name};
use toroid_common::types::output::to_text;
use toroid_common::zone::Zone;

fn answer(fields: &[&str]) -> SqlResult<String> {
    let env = Env { time_zone: Zone::parse(fields[0]).unwrap(), ..Env::default() };
    let (mut ty, mut modifier) = (type_by_name(fields[1]).unwrap(), fields[2].parse().unwrap());
    let text = fields[3].replace("\\n", "\n");
    let mut value = parse_text(ty, modifier, &text, &env)?;
    let mut bytes = Vec::new();
    write_binary(&mut bytes, ty, modifier, value.borrow());
    let again = read_binary(ty, modifier, &bytes).unwrap();
    assert_eq!(to_text(ty, modifier, again.borrow(), &env), to_text(ty, modifier, value.borrow(), &env), "{fields:?}");
    if let Some(target) = type_by_name(fields[4]) {
        value = cast(value, ty, target, -1, CastContext::Explicit, &env)?;
        (ty, modifier) = (target, -1);
    }
    if value == Datum::Null {
        return Ok("NULL".to_owned());
    }
    bytes.clear();
    write_binary(&mut bytes, ty, modifier, value.borrow());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}|{hex}", to_text(ty, modifier, value.borrow(), &env).replace('\n', "\\n")))
}

fn shown(error: &SqlError) -> String {
    let detail = error.detail().map(|detail| format!(" | {detail}")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!(" ! {hint}")).unwrap_or_default();
    format!("ERR {} {}{detail}{hint}", error.state(), error.message())
}

#[test]
fn values_are_postgresqls() {
    for line in include_str!("vectors/values.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let got = match answer(&fields) {
            Ok(text) => format!("OK {text}"),
            Err(error) => shown(&error),
        };
        assert_eq!(got, fields[5], "{line}");
    }
}

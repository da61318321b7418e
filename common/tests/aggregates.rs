//! Result types of aggregates against PostgreSQL 15: `aggregates.txt` holds `name|argument type|result type or SQLSTATE`.

use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;
use toroid_common::types::input::type_by_name;

#[test]
fn aggregates_resolve_as_in_postgresql() {
    let mut wrong = Vec::new();
    for line in include_str!("aggregates.txt").lines() {
        let mut fields = line.split('|');
        let (name, arg, expected) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let ty = if arg == "unknown" { SqlType::Unknown } else { type_by_name(arg).unwrap_or_else(|| panic!("{arg}")) };
        let found = match Aggregate::resolve(name, &[ty]) {
            Ok(Some((_, _, result))) => result.to_string(),
            Ok(None) => "no aggregate".to_owned(),
            Err(error) => error.state().to_string(),
        };
        if found != expected {
            wrong.push(format!("{line}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

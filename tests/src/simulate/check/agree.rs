//! Whether the replicas of a partition are the same: rows at the same positions, indexes by the rows, answers, catalog, and the end of the log.

use super::super::workload::table;
use std::fmt::Write;
use toroid_common::datum::Datum;
use toroid_common::id::{Lsn, RequestId};
use toroid_engine::store::root::Root;

/// What differs between two replicas, if anything. `requests` are those whose answers are compared.
#[must_use]
pub fn difference<'r>(
    (a, a_end): (&Root, Lsn),
    (b, b_end): (&Root, Lsn),
    requests: impl Iterator<Item = &'r RequestId>,
) -> Option<String> {
    if (a.lsn(), a_end) != (b.lsn(), b_end) {
        return Some(format!("applied and appended: {} and {a_end}, {} and {b_end}", a.lsn(), b.lsn()));
    }
    if a.catalog() != b.catalog() {
        return Some(format!("catalog versions {} and {}", a.catalog().version, b.catalog().version));
    }
    let (rows, others) = (rows(a), rows(b));
    if rows != others {
        return Some(format!("rows\n{rows}\nand\n{others}"));
    }
    if let Some(what) = table::unsound(a) {
        return Some(what);
    }
    for request in requests {
        let (one, other) = (a.answers.get(*request), b.answers.get(*request));
        if one != other {
            return Some(format!("answers to {request:?}: {one:?} and {other:?}"));
        }
    }
    None
}

/// All rows with their positions, and what each unique index finds for them.
fn rows(root: &Root) -> String {
    let mut out = String::new();
    for table in root.tables() {
        for position in table.positions() {
            let mut values = Vec::new();
            table.row(position, &mut values);
            let found = table.indexes().iter().all(|index| {
                let defined = table.definition().indexes.iter().find(|defined| defined.id == index.id());
                let columns = defined.map(|defined| &defined.columns[..]).unwrap_or_default();
                let key = index.key(columns.iter().filter_map(|c| values.get(usize::from(c.column)).copied()));
                key.is_none_or(|key| table.find(index, &key).any(|at| at == position))
            });
            let row: Vec<Datum> = values.into_iter().map(|value| value.to_owned()).collect();
            let _ = writeln!(out, "{position:?} {row:?}{}", if found { "" } else { " NOT IN AN INDEX" });
        }
    }
    out
}

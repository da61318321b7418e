//! Whether each change of the table was made once, or not at all, as its client was told.

use super::super::history::changes::{Change, Told};
use toroid_common::catalog::Table;

/// What is wrong with the table in the end, if anything.
pub fn judge(changes: &[Change], table: &Table) -> Result<(), String> {
    let columns = table.columns.iter().map(|column| column.name.as_str());
    let names: Vec<&str> = columns.chain(table.indexes.iter().map(|index| index.name.as_str())).collect();
    for change in changes {
        let dropped = |name: &String| {
            let asked = changes.iter().filter(|other| other.drops.contains(name));
            asked.map(|other| other.told).filter(|told| *told != Told::Never).max_by_key(|told| *told == Told::Done)
        };
        let Some(name) = &change.makes else { continue };
        let times = names.iter().filter(|known| *known == name).count();
        let right = match (change.told, dropped(name)) {
            (_, Some(Told::Done)) | (Told::Never, _) => times == 0,
            (Told::Done, None | Some(Told::Never)) => times == 1,
            (Told::Unknown, _) | (Told::Done, Some(Told::Unknown)) => times <= 1,
        };
        if !right {
            let how = dropped(name);
            return Err(format!("{name} is there {times} times, of {change:?}; it was dropped: {how:?}: {names:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::workload::alteration::{Alteration, resolve};
    use crate::simulate::workload::table;
    use toroid_common::wire::CatalogChange;

    fn altered(table: &Table, what: Alteration, name: &str) -> Table {
        match resolve(table, what, name.to_owned()).map(|resolved| resolved.change) {
            Some(CatalogChange::AlterTable(table)) => table,
            other => panic!("{other:?}"),
        }
    }

    fn change(makes: Option<&str>, drops: Option<&str>, told: Told) -> Change {
        Change { makes: makes.map(str::to_owned), drops: drops.map(str::to_owned).into_iter().collect(), told }
    }

    #[test]
    fn what_was_made_is_there_once_until_it_is_dropped() {
        let without = table::table();
        let with = altered(&without, Alteration::AddColumn, "x");
        let twice = altered(&with, Alteration::AddColumn, "x");
        let judged = |changes: &[Change]| [&without, &with, &twice].map(|table| judge(changes, table).is_ok());
        assert_eq!(judged(&[change(Some("x"), None, Told::Done)]), [false, true, false]);
        assert_eq!(judged(&[change(Some("x"), None, Told::Never)]), [true, false, false]);
        assert_eq!(judged(&[change(Some("x"), None, Told::Unknown)]), [true, true, false]);
        for (told, right) in [(Told::Done, [true, false, false]), (Told::Unknown, [true, true, false])] {
            let drops = change(None, Some("x"), told);
            assert_eq!(judged(&[change(Some("x"), None, Told::Done), drops]), right);
        }
        let drops = [change(None, Some("x"), Told::Never), change(None, Some("x"), Told::Done)];
        assert_eq!(judged(&[&[change(Some("x"), None, Told::Unknown)], &drops[..]].concat()), [true, false, false]);
    }

    #[test]
    fn a_dropped_column_takes_its_indexes_along() {
        let mut now = altered(&table::table(), Alteration::AddColumn, "x");
        now = altered(&now, Alteration::IndexOnAdded, "on x");
        now = altered(&now, Alteration::AddColumn, "y");
        now = altered(&now, Alteration::IndexOnAdded, "on y");
        let resolved = resolve(&now, Alteration::DropColumn, String::new()).expect("one was added");
        assert_eq!(resolved.drops, ["x", "on x"]);
        let CatalogChange::AlterTable(left) = resolved.change else { panic!("no change of the table") };
        let keys: Vec<u16> = left.indexes.iter().map(|index| index.columns[0].column).collect();
        assert_eq!((left.columns.len(), keys), (3, vec![0, 2]));
    }
}

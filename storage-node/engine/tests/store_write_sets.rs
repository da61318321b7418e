//! Write sets: what a transaction sees, what it touches, and that it is applied the same way everywhere.

mod fixture;

use fixture::{T, catalog, column, content, delete, encode, index, insert, table, text, update};
use toroid_common::catalog::IndexState;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Incarnation, IndexId, Lsn, PartitionId, TransactionId};
use toroid_common::transaction::Fate;
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::{Change, Participants};
use toroid_engine::store::fence::Fence;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;
use toroid_engine::store::write_set::{Overlay, Side, Touch, WriteSet, touches_of};

const X: TransactionId = TransactionId { proxy: Incarnation(4), number: 9 };
const ANCHOR: PartitionId = PartitionId(3);

fn row(id: i32, name: &str) -> Vec<Datum> {
    vec![Datum::Int4(id), text(name)]
}

/// A table with the rows 0, 1, 2 …
fn store(rows: i32) -> (Root, Account) {
    let mut account = Account::new(usize::MAX);
    let columns = vec![column(1, "id", SqlType::Int4), column(2, "name", SqlType::Text)];
    let definition = table(columns, vec![index(1, "pkey", &[0], true), index(2, "names", &[1], false)]);
    let mut root = Root::new(catalog(&definition), &mut account);
    let bytes = encode(&(0..rows).map(|id| row(id, "old")).collect::<Vec<_>>());
    root.apply(&[insert(rows as usize, &bytes)], Lsn(1), &mut account);
    (root, account)
}

fn drained(account: &mut Account) -> usize {
    while !account.is_clean() {
        account.drop_some(100);
    }
    account.used()
}

/// The statement's changes, by position on the overlay, checked there and taken into the write set.
fn write(
    root: &Root,
    write_set: &mut WriteSet,
    overlay: &mut Overlay,
    changes: Vec<Change<'_>>,
    account: &mut Account,
) {
    overlay.lay(root, write_set, T, account).unwrap();
    overlay.root().check(&changes, account).unwrap();
    let named: Vec<Change<'_>> = changes.into_iter().map(|change| overlay.name(change)).collect();
    write_set.push(&named, root, account).unwrap();
    overlay.lay(root, write_set, T, account).unwrap();
}

fn commit(root: &mut Root, write_set: WriteSet, account: &mut Account) {
    write_set.check(root, account).unwrap();
    let lsn = root.lsn().next();
    root.apply(&write_set.commit(X).unwrap(), lsn, account);
    write_set.finish(account);
}

fn rows(root: &Root) -> Vec<(Position, Vec<Datum>)> {
    content(root.table(T).unwrap())
}

#[test]
fn a_transaction_names_its_own_rows_by_number_and_sees_them() {
    let (mut root, mut account) = store(3);
    let before = account.used();
    let mut write_set = WriteSet::default();
    let mut overlay = Overlay::new(&root);
    let new = encode(&[row(10, "new"), row(11, "new"), row(12, "new")]);
    write(&root, &mut write_set, &mut overlay, vec![delete(Position(1))], &mut account);
    write(&root, &mut write_set, &mut overlay, vec![insert(3, &new)], &mut account);
    assert_eq!(overlay.number(T, Position(1)), Some(0), "its first row stands where it deleted one");
    let name = encode(&[vec![text("changed")]]);
    write(&root, &mut write_set, &mut overlay, vec![update(Position(1), &[1], &name)], &mut account);
    write(
        &root,
        &mut write_set,
        &mut overlay,
        vec![delete(Position(3)), update(Position(2), &[1], &name)],
        &mut account,
    );
    let changes: Vec<Change<'_>> = write_set.changes().map(Result::unwrap).collect();
    assert!(
        matches!(changes[2], Change::UpdateOwn { own: 0, .. })
            && matches!(changes[3], Change::DeleteOwn { own: 1, .. })
    );
    // Meanwhile others take the places.
    let other = encode(&[row(20, "other"), row(21, "other")]);
    root.apply(&[insert(2, &other)], Lsn(2), &mut account);
    overlay.lay(&root, &write_set, T, &mut account).unwrap();
    let expected =
        vec![row(0, "old"), row(10, "changed"), row(2, "changed"), row(20, "other"), row(21, "other"), row(12, "new")];
    assert_eq!(rows(overlay.root()).into_iter().map(|(_, row)| row).collect::<Vec<_>>(), expected);
    assert_eq!(overlay.root().lsn(), Lsn(2));
    assert_eq!(rows(&root).len(), 5, "nobody else sees it");
    commit(&mut root, write_set, &mut account);
    assert_eq!(rows(&root), rows(overlay.root()));
    overlay.finish(&mut account);
    assert_eq!(drained(&mut account), root.bytes());
    assert!(root.bytes() > before);
}

#[test]
fn cutting_back_takes_changes_from_the_overlay_too() {
    let (mut root, mut account) = store(2);
    let mut write_set = WriteSet::default();
    let mut overlay = Overlay::new(&root);
    let (one, two) = (encode(&[row(10, "one")]), encode(&[row(11, "two")]));
    write(&root, &mut write_set, &mut overlay, vec![insert(1, &one)], &mut account);
    let mark = write_set.mark();
    write(&root, &mut write_set, &mut overlay, vec![insert(1, &two)], &mut account);
    let lsn = root.lsn().next();
    root.apply(&[write_set.chunk(X)], lsn, &mut account);
    write_set.chunked(X, &root, &mut account);
    assert_eq!((write_set.unreplicated(), root.transactions().chunks(X).unwrap().bytes()), (0, write_set.bytes()));
    write_set.cut(mark, &mut account).unwrap();
    let three = encode(&[row(12, "three")]);
    write(&root, &mut write_set, &mut overlay, vec![insert(1, &three)], &mut account);
    let expected = [row(0, "old"), row(1, "old"), row(10, "one"), row(12, "three")];
    assert!(rows(overlay.root()).into_iter().map(|(_, row)| row).eq(expected.clone()));
    commit(&mut root, write_set, &mut account);
    assert!(rows(&root).into_iter().map(|(_, row)| row).eq(expected));
    assert!(root.transactions().is_empty());
    overlay.finish(&mut account);
    assert_eq!(drained(&mut account), root.bytes());
}

#[test]
fn what_is_prepared_waits_for_its_outcome() {
    let (mut root, mut account) = store(2);
    for outcome in [Change::Abort { transaction: X }, Change::Commit { transaction: X }] {
        let before = drained(&mut account);
        let mut write_set = WriteSet::default();
        let new = encode(&[row(10, "new")]);
        write_set.push(&[delete(Position(0)), insert(1, &new)], &root, &mut account).unwrap();
        let reserve = write_set.check(&root, &account).unwrap();
        let lsn = root.lsn().next();
        root.apply(&[write_set.prepare(X, ANCHOR, reserve)], lsn, &mut account);
        write_set.finish(&mut account);
        assert_eq!(drained(&mut account), root.bytes());
        assert!(account.used() >= before + reserve as usize, "room for applying it is kept");
        assert_eq!(rows(&root).len(), 2);
        let prepared = root.transactions().prepared(X).unwrap();
        assert_eq!((prepared.anchor, prepared.tables()), (ANCHOR, &[T][..]));
        let cut = root.with_committed(&[X], &mut account);
        assert_eq!(rows(&cut)[0].1, row(10, "new"));
        cut.finish(&mut account);
        let mut altered = (**root.table(T).unwrap().definition()).clone();
        altered.version = CatalogVersion(3);
        assert!(root.waits_for_prepared(&catalog(&altered)) && !root.waits_for_prepared(root.catalog()));
        root.apply(&[outcome], lsn.next(), &mut account);
        assert!(root.transactions().is_empty() && !root.waits_for_prepared(&catalog(&altered)));
        assert_eq!(drained(&mut account), root.bytes());
    }
    assert_eq!(rows(&root)[0].1, row(10, "new"));
}

#[test]
fn an_altered_table_is_a_serialization_failure() {
    let (mut root, mut account) = store(1);
    let mut write_set = WriteSet::default();
    write_set.push(&[delete(Position(0))], &root, &mut account).unwrap();
    let mut altered = (**root.table(T).unwrap().definition()).clone();
    altered.version = CatalogVersion(3);
    assert_eq!(write_set.expect_catalog(root.catalog()), Ok(()));
    root.apply(&[Change::Catalog(catalog(&altered))], Lsn(2), &mut account);
    assert_eq!(write_set.check(&root, &account).unwrap_err().state(), SqlState::SERIALIZATION_FAILURE);
    assert_eq!(write_set.expect_catalog(root.catalog()).unwrap_err().state(), SqlState::SERIALIZATION_FAILURE);
    let mut overlay = Overlay::new(&root);
    let laid = overlay.lay(&root, &write_set, T, &mut account);
    assert_eq!(laid.unwrap_err().state(), SqlState::SERIALIZATION_FAILURE);
}

#[test]
fn an_index_that_was_completed_beside_a_prepared_equal_key_is_faulty() {
    let (mut root, mut account) = store(0);
    let names: Vec<Vec<Datum>> = (0..100).map(|id| row(id, &format!("name {id}"))).collect();
    root.apply(&[insert(100, &encode(&names))], Lsn(2), &mut account);
    let mut altered = (**root.table(T).unwrap().definition()).clone();
    altered.version = CatalogVersion(3);
    altered.indexes.push(index(3, "unique_names", &[1], true));
    altered.indexes[2].state = IndexState::Building;
    root.apply(&[Change::Catalog(catalog(&altered))], Lsn(3), &mut account);
    let mut write_set = WriteSet::default();
    let new = encode(&[row(200, "name 5")]);
    assert_eq!(write_set.check_insert(&insert(1, &new), &root, &mut account), Ok(true), "nothing forbids it yet");
    write_set.push(&[insert(1, &new)], &root, &mut account).unwrap();
    let reserve = write_set.check(&root, &account).unwrap();
    root.apply(&[write_set.prepare(X, ANCHOR, reserve)], Lsn(4), &mut account);
    write_set.finish(&mut account);
    root.finish_building(&mut account);
    assert!(root.index_fault(T, IndexId(3)).is_none());
    altered.version = CatalogVersion(4);
    altered.indexes[2].state = IndexState::Ready;
    assert!(root.waits_for_prepared(&catalog(&altered)), "it does not become ready before the outcome is known");
    root.apply(&[Change::Commit { transaction: X }], Lsn(5), &mut account);
    let change = Change::Catalog(catalog(&altered));
    assert_eq!(root.check(&[change], &account).unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
}

#[test]
fn without_room_nothing_is_added_or_prepared() {
    let (root, _) = store(1);
    let new = encode(&[row(10, &"long ".repeat(1_000))]);
    let mut small = Account::new(1 << 20);
    // What the root takes is accounted for elsewhere.
    let mut write_set = WriteSet::default();
    write_set.push(&[insert(1, &new)], &root, &mut small).unwrap();
    let before = (write_set.mark(), small.used());
    assert!(before.1 >= new.len());
    let mut tight = Account::new(100);
    let mut other = WriteSet::default();
    assert_eq!(other.push(&[insert(1, &new)], &root, &mut tight).unwrap_err().state(), SqlState::OUT_OF_MEMORY);
    assert!(other.is_empty());
    other.finish(&mut tight);
    assert_eq!(tight.used(), 0);
    assert_eq!(write_set.check(&root, &tight).unwrap_err().state(), SqlState::OUT_OF_MEMORY);
    let reserve = write_set.check(&root, &small).unwrap();
    let prepare = write_set.prepare(X, ANCHOR, reserve);
    assert_eq!(root.check(std::slice::from_ref(&prepare), &tight).unwrap_err().state(), SqlState::OUT_OF_MEMORY);
    drop(prepare);
    write_set.finish(&mut small);
    assert_eq!(small.used(), 0);
}

#[test]
fn keys_and_rows_that_changes_touch() {
    let (root, mut account) = store(2);
    let mut write_set = WriteSet::default();
    let mut overlay = Overlay::new(&root);
    let (new, name, id) = (encode(&[row(10, "new")]), encode(&[vec![text("x")]]), encode(&[vec![Datum::Int4(7)]]));
    write(&root, &mut write_set, &mut overlay, vec![insert(1, &new), update(Position(0), &[1], &name)], &mut account);
    write(&root, &mut write_set, &mut overlay, vec![update(Position(2), &[0], &id), delete(Position(1))], &mut account);
    let mut changed = root.clone();
    changed.apply(&[write_set.prepare(X, ANCHOR, 0)], Lsn(9), &mut account);
    let list = changed.transactions().prepared(X).unwrap().changes();
    let mut touched = Vec::new();
    let key = |index: usize, value: Datum| root.table(T).unwrap().indexes()[index].key([value.borrow()]).unwrap();
    touches_of(list, &root, &mut account, |touch| {
        touched.push(match touch {
            Touch::Row { position, exclusive, .. } => format!("row {} {exclusive}", position.0),
            Touch::Key { index: IndexId(1), key: bytes, unique: true, side, .. } => {
                let id = (0..20).find(|id| key(0, Datum::Int4(*id)) == bytes).unwrap();
                format!("{side:?} id {id}")
            }
            Touch::Key { index: IndexId(2), key: bytes, unique: false, side, .. } => {
                let name = ["old", "new", "x"].into_iter().find(|name| key(1, text(name)) == bytes).unwrap();
                format!("{side:?} name {name}")
            }
            other @ Touch::Key { .. } => panic!("{other:?}"),
        });
    })
    .unwrap();
    let expected = [
        "New id 10",
        "New name new",
        "Both id 0",
        "Old name old",
        "New name x",
        "row 0 false",
        "Old id 10",
        "New id 7",
        "Both name new",
        "Old id 1",
        "Old name old",
        "row 1 true",
    ];
    assert_eq!(touched, expected);
    assert_eq!(Side::Old.cmp(&Side::Both), std::cmp::Ordering::Less);
}

#[test]
fn outcomes_are_kept_until_all_have_confirmed() {
    let (mut root, mut account) = store(0);
    let mut lsn = root.lsn();
    let mut apply = |root: &mut Root, change: Change<'_>| {
        lsn = lsn.next();
        root.check(std::slice::from_ref(&change), &account).unwrap();
        root.apply(&[change], lsn, &mut account);
        root.transactions().all_outcomes().map(|(_, known)| known.waiting.len()).collect::<Vec<_>>()
    };
    let participants = |numbers: &[u16]| -> Participants { numbers.iter().copied().map(PartitionId).collect() };
    let outcome = |fate, numbers: &[u16]| Change::Outcome { transaction: X, fate, participants: participants(numbers) };
    let confirmed = |number| Change::Confirmed { transaction: X, participant: PartitionId(number) };
    assert_eq!(apply(&mut root, outcome(Fate::Committed, &[1, 2])), [2]);
    assert_eq!(apply(&mut root, confirmed(1)), [1]);
    assert_eq!(apply(&mut root, confirmed(1)), [1]);
    assert_eq!(apply(&mut root, confirmed(2)), [0; 0]);
    assert_eq!(apply(&mut root, outcome(Fate::Committed, &[])), [0; 0], "nobody is to be told");
    apply(&mut root, outcome(Fate::Committed, &[1]));
    assert_eq!(apply(&mut root, Change::Forget { transaction: X }), [0; 0]);
    // An aborted one could still be decided otherwise, until its proxy is fenced.
    assert_eq!(apply(&mut root, outcome(Fate::Aborted, &[1])), [1]);
    assert_eq!(apply(&mut root, outcome(Fate::Aborted, &[1, 2])), [2]);
    apply(&mut root, confirmed(1));
    assert_eq!(apply(&mut root, confirmed(2)), [0]);
    assert!(root.check(&[outcome(Fate::Committed, &[])], &Account::new(usize::MAX)).is_err());
    assert_eq!(apply(&mut root, Change::Fence(Fence { below: Incarnation(5), alive: [].into() })), [0; 0]);
    assert_eq!(apply(&mut root, outcome(Fate::Aborted, &[1])), [1]);
    assert_eq!(apply(&mut root, confirmed(1)), [0; 0]);
}

//! Random transactions over a partition and a plain map beside it: what each sees, and what the primary, a backup that is behind and a replica
//! that joined by checkpoint have in the end.

mod fixture;

use fixture::{Random, T, catalog, column, content, delete, encode, index, insert, table, text, update};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Incarnation, IndexId, PartitionId, TransactionId};
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::Change;
use toroid_engine::store::checkpoint::{Reader, Writer};
use toroid_engine::store::root::Root;
use toroid_engine::store::table::{Position, TableRows};
use toroid_engine::store::write_set::{Mark, Overlay, Touch, WriteSet, touches_of};

/// Rows by their primary key.
type Rows = BTreeMap<i32, Vec<Datum>>;

/// What a transaction changed: none is a row that it deleted.
type Changed = BTreeMap<i32, Option<Vec<Datum>>>;

/// What a transaction holds until its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Row(Position),
    Key(IndexId, Vec<u8>),
}

/// An open or prepared transaction.
struct Open {
    transaction: TransactionId,
    write_set: WriteSet,
    mine: Changed,
    locks: BTreeSet<Lock>,
    savepoints: Vec<(Mark, Changed)>,
    overlay: Option<Overlay>,
    prepared: bool,
}

/// A replica that applies what it is sent, sometimes late.
struct Backup {
    root: Root,
    account: Account,
    waiting: VecDeque<Vec<u8>>,
}

struct Run {
    random: Random,
    root: Root,
    account: Account,
    backup: Backup,
    committed: Rows,
    definition: Table,
    open: Vec<Open>,
    number: u64,
    /// How often what happened.
    seen: BTreeMap<&'static str, u32>,
}

fn definition() -> Table {
    let columns = vec![
        column(1, "id", SqlType::Int4),
        column(2, "code", SqlType::Text),
        column(3, "n", SqlType::Int8),
        column(4, "note", SqlType::Varchar),
    ];
    table(columns, vec![index(1, "pkey", &[0], true), index(2, "codes", &[1], true), index(3, "n", &[2], false)])
}

fn id_of(row: &[Datum]) -> i32 {
    match row[0] {
        Datum::Int4(id) => id,
        _ => panic!("{row:?}"),
    }
}

fn by_id(table: &TableRows) -> Rows {
    content(table).into_iter().map(|(_, row)| (id_of(&row), row)).collect()
}

fn position_of(table: &TableRows, id: i32) -> Position {
    let index = &table.indexes()[0];
    table.get(index, &index.key([Datum::Int4(id).borrow()]).unwrap()).unwrap()
}

/// Puts a row into the model; false when a unique key is there already.
fn enter(rows: &mut Rows, row: &[Datum]) -> bool {
    let taken = |other: &Vec<Datum>| !row[1].is_null() && other[1] == row[1];
    if rows.contains_key(&id_of(row)) || rows.values().any(taken) {
        return false;
    }
    rows.insert(id_of(row), row.to_vec());
    true
}

fn drained(account: &mut Account) -> usize {
    while !account.is_clean() {
        account.drop_some(1000);
    }
    account.used()
}

/// A statement: what it does to the store, where rows are found by their key, and what the model says to it.
struct Statement {
    inserted: Vec<Vec<Datum>>,
    updated: Option<(i32, Vec<u16>, Vec<Datum>)>,
    deleted: Vec<i32>,
}

impl Statement {
    /// The model's rows after it; none when a unique key is broken.
    fn after(&self, view: &Rows) -> Option<Rows> {
        let mut rows = view.clone();
        self.deleted.iter().for_each(|id| drop(rows.remove(id)));
        if let Some((id, columns, values)) = &self.updated {
            let mut row = rows.remove(id).unwrap();
            columns.iter().zip(values).for_each(|(column, value)| row[usize::from(*column)] = value.clone());
            if !enter(&mut rows, &row) {
                return None;
            }
        }
        self.inserted.iter().all(|row| enter(&mut rows, row)).then_some(rows)
    }

    fn changes<'a>(&self, root: &Root, bytes: &'a [u8]) -> Vec<Change<'a>> {
        let table = root.table(T).unwrap();
        let mut changes: Vec<Change<'a>> = self.deleted.iter().map(|id| delete(position_of(table, *id))).collect();
        if let Some((id, columns, _)) = &self.updated {
            changes.push(update(position_of(table, *id), columns, bytes));
        }
        if !self.inserted.is_empty() {
            changes.push(insert(self.inserted.len(), bytes));
        }
        changes
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.updated {
            Some((_, _, values)) => encode(std::slice::from_ref(values)),
            None => encode(&self.inserted),
        }
    }
}

impl Run {
    fn new(seed: u64) -> Run {
        let (mut account, mut other) = (Account::new(usize::MAX), Account::new(usize::MAX));
        let root = Root::new(catalog(&definition()), &mut account);
        let backup = Root::new(catalog(&definition()), &mut other);
        Run {
            random: Random(seed),
            root,
            account,
            backup: Backup { root: backup, account: other, waiting: VecDeque::new() },
            committed: Rows::new(),
            definition: definition(),
            open: Vec::new(),
            number: 0,
            seen: BTreeMap::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn append(&mut self, changes: &[Change<'_>]) {
        let mut bytes = Vec::new();
        changes.iter().for_each(|change| change.write(&mut bytes));
        let lsn = self.root.lsn().next();
        self.root.apply(changes, lsn, &mut self.account);
        self.backup.waiting.push_back(bytes);
    }

    fn row(&mut self) -> Vec<Datum> {
        let code = match self.random.below(3) {
            0 => Datum::Null,
            _ => text(&format!("code number {}", self.random.below(2_000))),
        };
        let note = text(&"note ".repeat(self.random.below(6) as usize));
        let id = Datum::Int4(self.random.below(3_000) as i32);
        vec![id, code, Datum::Int8(self.random.below(20) as i64), note]
    }

    fn some_id(&mut self, rows: &Rows) -> Option<i32> {
        let start = self.random.below(3_000) as i32;
        rows.range(start..).next().or_else(|| rows.iter().next()).map(|(id, _)| *id)
    }

    fn statement(&mut self, view: &Rows) -> Statement {
        let mut statement = Statement { inserted: vec![], updated: None, deleted: vec![] };
        match (self.random.below(10), self.some_id(view)) {
            (0..6, _) | (_, None) => {
                let count = if self.random.below(12) == 0 { 60 } else { 1 + self.random.below(3) };
                statement.inserted = (0..count).map(|_| self.row()).collect();
                if count > 3 {
                    // Of many rows one is always there already.
                    let mut rows = view.clone();
                    statement.inserted.retain(|row| enter(&mut rows, row));
                }
            }
            (6..8, Some(id)) => {
                let new = self.row();
                let columns: Vec<u16> = (0..4).filter(|_| self.random.below(3) == 0).collect();
                let values = columns.iter().map(|column| new[usize::from(*column)].clone()).collect();
                statement.updated = Some((id, columns, values));
            }
            (_, Some(id)) => {
                let count = if self.random.below(12) == 0 { 50 } else { 1 + self.random.below(3) };
                statement.deleted = view.range(id..).map(|(id, _)| *id).take(count as usize).collect();
            }
        }
        statement
    }

    /// Whether somebody else holds what these changes touch; what that is otherwise.
    fn locks(
        &self,
        changes: &[Change<'_>],
        at: &Root,
        overlay: Option<&Overlay>,
        me: TransactionId,
    ) -> Option<BTreeSet<Lock>> {
        let mut wanted = BTreeSet::new();
        for change in changes {
            let visit = |touch: Touch<'_>| wanted.extend(lock_of(touch));
            match overlay {
                Some(overlay) => overlay.touches(&overlay.name(change.clone()), visit).unwrap(),
                None => at.touches(change, visit).unwrap(),
            }
        }
        let mut others = self.open.iter().filter(|open| open.transaction != me);
        others.all(|open| open.locks.is_disjoint(&wanted)).then_some(wanted)
    }

    /// A statement of its own, by which others find another root.
    fn autocommit(&mut self) {
        let view = self.committed.clone();
        let statement = self.statement(&view);
        let bytes = statement.bytes();
        let changes = statement.changes(&self.root, &bytes);
        let expected = statement.after(&view);
        if self.locks(&changes, &self.root, None, TransactionId::default()).is_none() {
            return self.saw("autocommit waits");
        }
        let checked = self.root.check(&changes, &self.account);
        match expected {
            Some(rows) => {
                checked.unwrap();
                self.committed = rows;
                self.append(&changes);
                self.saw("autocommit");
            }
            None => assert_eq!(checked.unwrap_err().state(), SqlState::UNIQUE_VIOLATION),
        }
    }

    fn view(&self, open: &Open) -> Rows {
        let mut rows = self.committed.clone();
        for (id, row) in &open.mine {
            match row {
                Some(row) => drop(rows.insert(*id, row.clone())),
                None => drop(rows.remove(id)),
            }
        }
        rows
    }

    fn step_of(&mut self, mut open: Open) -> Option<Open> {
        if open.prepared {
            if self.random.below(6) > 0 {
                return Some(open);
            }
            self.decide(open);
            return None;
        }
        match self.random.below(20) {
            0 => {
                self.saw("savepoint");
                open.savepoints.push((open.write_set.mark(), open.mine.clone()));
            }
            1 => {
                if let Some((mark, mine)) = open.savepoints.pop() {
                    self.saw("rollback to savepoint");
                    open.write_set.cut(mark, &mut self.account).unwrap();
                    open.mine = mine;
                }
            }
            2 => return self.end(open),
            3 if open.write_set.unreplicated() > 0 => {
                self.saw("chunk");
                let transaction = open.transaction;
                self.root.check(&[open.write_set.chunk(transaction)], &self.account).unwrap();
                self.append(&[open.write_set.chunk(transaction)]);
                open.write_set.chunked(transaction, &self.root, &mut self.account);
                assert_eq!(open.write_set.unreplicated(), 0);
            }
            _ => self.write(&mut open),
        }
        Some(open)
    }

    /// A statement of a transaction, as a worker goes about it.
    fn write(&mut self, open: &mut Open) {
        let view = self.view(open);
        let statement = self.statement(&view);
        let bytes = statement.bytes();
        let mut overlay = open.overlay.take().unwrap_or_else(|| Overlay::new(&self.root));
        overlay.lay(&self.root, &open.write_set, T, &mut self.account).unwrap();
        if self.random.below(4) == 0 {
            assert!(by_id(overlay.root().table(T).unwrap()) == view, "the transaction sees what it should");
        }
        let changes = statement.changes(overlay.root(), &bytes);
        match self.locks(&changes, overlay.root(), Some(&overlay), open.transaction) {
            None => self.saw("statement waits"),
            Some(locks) => {
                let checked = overlay.root().check(&changes, &self.account);
                if let [change @ Change::Insert { .. }] = &changes[..] {
                    let quick = open.write_set.check_insert(change, &self.root, &mut self.account);
                    if quick != Ok(false) {
                        assert_eq!(quick.map(|_| ()), checked, "judged without an overlay it is the same");
                        self.saw(if open.write_set.is_empty() { "first insert" } else { "insert without overlay" });
                    }
                }
                match statement.after(&view) {
                    Some(rows) => {
                        checked.unwrap();
                        let named: Vec<Change<'_>> = changes.into_iter().map(|change| overlay.name(change)).collect();
                        open.write_set.push(&named, &self.root, &mut self.account).unwrap();
                        open.locks.extend(locks);
                        open.mine.extend(view.keys().filter(|id| !rows.contains_key(id)).map(|id| (*id, None)));
                        let changed = rows.into_iter().filter(|(id, row)| view.get(id) != Some(row));
                        open.mine.extend(changed.map(|(id, row)| (id, Some(row))));
                        self.saw(if named.iter().any(Change::names_own) {
                            "statement on own rows"
                        } else {
                            "statement"
                        });
                    }
                    None => {
                        assert_eq!(checked.unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
                        self.saw("violation");
                    }
                }
            }
        }
        // Sometimes it is kept for the next statement.
        match self.random.below(2) {
            0 => open.overlay = Some(overlay),
            _ => overlay.finish(&mut self.account),
        }
    }

    /// The end of a transaction, or its preparation.
    fn end(&mut self, mut open: Open) -> Option<Open> {
        if let Some(overlay) = open.overlay.take() {
            overlay.finish(&mut self.account);
        }
        let transaction = open.transaction;
        match self.random.below(8) {
            0 => {
                if open.write_set.is_chunked() {
                    self.append(&[Change::Abort { transaction }]);
                }
                open.write_set.finish(&mut self.account);
                self.saw("rollback");
                None
            }
            1..4 => {
                open.write_set.check(&self.root, &self.account).unwrap();
                let changes = open.write_set.commit(transaction).unwrap();
                self.append(&changes);
                drop(changes);
                self.committed = self.view(&open);
                self.saw(if open.write_set.is_chunked() { "commit with chunks" } else { "commit" });
                open.write_set.finish(&mut self.account);
                None
            }
            _ => {
                let reserve = open.write_set.check(&self.root, &self.account).unwrap();
                let prepare = open.write_set.prepare(transaction, PartitionId(5), reserve);
                self.root.check(std::slice::from_ref(&prepare), &self.account).unwrap();
                self.append(&[prepare]);
                std::mem::take(&mut open.write_set).finish(&mut self.account);
                open.prepared = true;
                self.saw("prepare");
                Some(open)
            }
        }
    }

    fn decide(&mut self, open: Open) {
        let transaction = open.transaction;
        let list = self.root.transactions().prepared(transaction).unwrap().changes().clone();
        let mut touched = BTreeSet::new();
        touches_of(&list, &self.root.clone(), &mut self.account, |touch| touched.extend(lock_of(touch))).unwrap();
        assert!(touched.is_subset(&open.locks), "a new primary takes the same locks again");
        assert_eq!(list.pieces().map(<[u8]>::len).sum::<usize>() as u64, list.bytes());
        drop(list);
        if self.random.below(4) == 0 {
            self.append(&[Change::Abort { transaction }]);
            return self.saw("abort of a prepared one");
        }
        let cut = self.root.with_committed(&[transaction], &mut self.account);
        self.committed = self.view(&open);
        self.append(&[Change::Commit { transaction }]);
        assert!(by_id(cut.table(T).unwrap()) == self.committed);
        cut.finish(&mut self.account);
        self.saw("commit of a prepared one");
    }

    /// Makes an index or drops it: what is prepared comes first, what is not is lost.
    fn alter(&mut self) {
        let mut altered = self.definition.clone();
        altered.version = CatalogVersion(altered.version.0 + 1);
        match altered.indexes.len() {
            3 => altered.indexes.push(index(9, "notes", &[3], false)),
            _ => drop(altered.indexes.pop()),
        }
        let next = catalog(&altered);
        if self.root.waits_for_prepared(&next) {
            return self.saw("catalog waits");
        }
        self.append(&[Change::Catalog(next)]);
        self.definition = altered;
        self.saw("catalog");
        for mut open in std::mem::take(&mut self.open) {
            if open.write_set.is_empty() {
                self.open.push(open);
                continue;
            }
            assert!(!open.prepared);
            let error = open.write_set.check(&self.root, &self.account).unwrap_err();
            assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
            if let Some(mut overlay) = open.overlay.take() {
                assert_eq!(overlay.lay(&self.root, &open.write_set, T, &mut self.account), Err(error));
                overlay.finish(&mut self.account);
            }
            if open.write_set.is_chunked() {
                self.append(&[Change::Abort { transaction: open.transaction }]);
            }
            open.write_set.finish(&mut self.account);
            self.saw("lost to a catalog");
        }
    }

    fn step(&mut self) {
        if self.random.below(150) == 0 {
            self.alter();
        }
        match self.random.below(12) {
            0..3 => self.autocommit(),
            3 if self.open.len() < 6 => {
                self.number += 1;
                self.open.push(Open {
                    transaction: TransactionId { proxy: Incarnation(1 + self.number % 3), number: self.number },
                    write_set: WriteSet::default(),
                    mine: BTreeMap::new(),
                    locks: BTreeSet::new(),
                    savepoints: Vec::new(),
                    overlay: None,
                    prepared: false,
                });
            }
            _ if !self.open.is_empty() => {
                let at = self.random.below(self.open.len() as u64) as usize;
                let open = self.open.swap_remove(at);
                let next = self.step_of(open);
                self.open.extend(next);
            }
            _ => {}
        }
        self.replicate();
        self.account.drop_some(5);
    }

    /// The backup applies some entries, or is replaced by one that gets the present state whole.
    fn replicate(&mut self) {
        if self.random.below(200) == 0 {
            self.saw("checkpoint");
            let mut account = Account::new(usize::MAX);
            let (mut writer, mut reader) = (Writer::new(None), Reader::default());
            let mut last = false;
            while !last {
                let mut piece = Vec::new();
                last = writer.piece(&self.root, 1 << self.random.below(16), true, &mut piece);
                reader.take(&piece, &mut account).unwrap();
            }
            let (root, _) = reader.finish(&mut account).unwrap();
            assert_eq!(root.transactions(), self.root.transactions());
            assert_eq!(account.used(), root.bytes());
            self.backup = Backup { root, account, waiting: VecDeque::new() };
        }
        for _ in 0..self.random.below(3) {
            self.backup.apply();
        }
    }

    fn finish(mut self) -> BTreeMap<&'static str, u32> {
        while let Some(open) = self.open.pop() {
            let next = match open.prepared {
                true => {
                    self.decide(open);
                    None
                }
                false => self.end(open),
            };
            self.open.extend(next);
        }
        while !self.backup.waiting.is_empty() {
            self.backup.apply();
        }
        let (one, other) = (self.root.table(T).unwrap(), self.backup.root.table(T).unwrap());
        assert!(by_id(one) == self.committed);
        assert!(content(one) == content(other), "the same rows at the same positions");
        assert!(one.positions().all(|position| one.changed(position) == other.changed(position)));
        for (one, other) in one.indexes().iter().zip(other.indexes()) {
            assert_eq!(one.len(), self.committed.len());
            assert!(one.find(&[]).eq(other.find(&[])));
        }
        assert!(self.root.transactions().is_empty() && self.backup.root.transactions().is_empty());
        for (root, mut account) in [(self.root, self.account), (self.backup.root, self.backup.account)] {
            assert_eq!(drained(&mut account), root.bytes(), "only the last root is left");
            root.finish(&mut account);
            assert_eq!(drained(&mut account), 0);
        }
        self.seen
    }
}

impl Backup {
    fn apply(&mut self) {
        let Some(entry) = self.waiting.pop_front() else { return };
        let lsn = self.root.lsn().next();
        self.root.apply(&Change::read_all(&entry).unwrap(), lsn, &mut self.account);
    }
}

fn lock_of(touch: Touch<'_>) -> Option<Lock> {
    match touch {
        Touch::Row { position, .. } => Some(Lock::Row(position)),
        Touch::Key { index, key, unique: true, .. } => Some(Lock::Key(index, key.to_vec())),
        Touch::Key { unique: false, .. } => None,
    }
}

#[test]
fn random_transactions_end_alike_on_all_replicas() {
    let mut seen: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in 1..=4 {
        let mut run = Run::new(seed * 6_700_417);
        for _ in 0..1_500 {
            run.step();
        }
        for (what, count) in run.finish() {
            *seen.entry(what).or_default() += count;
        }
    }
    assert_eq!(seen.len(), 21, "{seen:?}");
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
}

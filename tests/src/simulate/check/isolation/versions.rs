//! The order of each row's values: who made which, who replaced it, and which transactions happened at all.

use super::super::super::history::transaction::{Change, Did, Fate, Transaction};
use std::collections::{BTreeMap, BTreeSet};

/// So many additions that nobody was told of are tried in a row.
const MOST_IN_A_ROW: usize = 12;

/// Something of others that a statement saw, or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    pub transaction: usize,
    pub statement: usize,
    pub key: i32,
    pub value: Option<i64>,
    pub writes: bool,
    /// It stays as it is until the transaction has ended.
    pub locked: bool,
}

/// How a value was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Last,
    /// Its maker replaced it itself.
    Between,
    /// Its maker rolled it back.
    Undone,
    /// The outcome of its maker was lost, and it was taken back, after this.
    TakenBack(u64),
}

/// What became of a row of a transaction whose outcome was lost.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub lost: u64,
    /// From when on the anchor says that there was no outcome.
    pub anew: u64,
    pub taken_back: bool,
}

/// By transaction and key.
pub type Lost = BTreeMap<(usize, i32), Part>;

#[derive(Clone, Copy, Debug)]
struct Made {
    transaction: usize,
    kind: Kind,
}

/// What a transaction leaves of a row when it commits.
#[derive(Clone, Copy, Debug)]
struct Net {
    transaction: usize,
    key: i32,
    from: Option<i64>,
    to: Option<i64>,
}

#[derive(Debug)]
pub struct Versions {
    makers: BTreeMap<(i32, i64), Made>,
    /// By the value that is replaced.
    next: BTreeMap<(i32, Option<i64>), usize>,
    externals: Vec<External>,
    happened: Vec<bool>,
    /// Rows that somebody deleted, or may have.
    deleted: BTreeSet<i32>,
}

impl Versions {
    pub fn of(transactions: &[Transaction], lost: &Lost) -> Result<Versions, String> {
        let happened = transactions.iter().map(|it| it.fate == Fate::Committed).collect();
        let mut versions = Versions {
            makers: BTreeMap::new(),
            next: BTreeMap::new(),
            externals: Vec::new(),
            happened,
            deleted: BTreeSet::new(),
        };
        let mut nets = Vec::new();
        let mut unclear = Vec::new();
        for (index, transaction) in transactions.iter().enumerate() {
            versions.take(index, transaction, &mut nets, &mut unclear)?;
        }
        versions.take_back(transactions, lost, &mut nets);
        versions.resolve(unclear, &mut nets);
        versions.find_happened(transactions, &nets)?;
        versions.order(transactions, &nets)?;
        Ok(versions)
    }

    /// Takes in what one transaction saw and did, and judges what it saw of itself.
    fn take(
        &mut self,
        index: usize,
        it: &Transaction,
        nets: &mut Vec<Net>,
        unclear: &mut Vec<(usize, i32, Change)>,
    ) -> Result<(), String> {
        // Per row: what it was before, and is now for this transaction.
        let mut last: BTreeMap<i32, (Option<i64>, Option<i64>)> = BTreeMap::new();
        for (number, statement) in it.statements.iter().enumerate() {
            let stands = |other: usize| it.statements[other].undone.is_none_or(|at| at > number);
            let mut own: BTreeMap<i32, Option<i64>> = BTreeMap::new();
            for did in (0..number).filter(|other| stands(*other)).flat_map(|other| &it.statements[other].did) {
                if let Did::Made { key, to, .. } = did {
                    own.insert(*key, *to);
                }
            }
            for did in &statement.did {
                let (key, value, writes, locked) = match *did {
                    Did::Saw { key, value } => (key, value, false, false),
                    Did::Locked { key, value } => (key, Some(value), false, statement.undone.is_none()),
                    Did::Made { key, from, .. } => (key, from, true, false),
                    Did::May { key, change } => {
                        if change == Change::Delete {
                            self.deleted.insert(key);
                        }
                        if it.fate != Fate::Aborted {
                            unclear.push((index, key, change));
                        }
                        continue;
                    }
                };
                match own.get(&key) {
                    Some(mine) if *mine == value => {}
                    Some(mine) => {
                        return Err(format!("{} does not see its own {mine:?} of key {key}: {it:?}", it.name));
                    }
                    None => self.externals.push(External {
                        transaction: index,
                        statement: number,
                        key,
                        value,
                        writes,
                        locked,
                    }),
                }
                if let Did::Made { from, to, .. } = *did {
                    own.insert(key, to);
                    if to.is_none() && it.fate != Fate::Aborted {
                        self.deleted.insert(key);
                    }
                    let kind = if statement.undone.is_some() { Kind::Undone } else { Kind::Last };
                    self.made(key, to, Made { transaction: index, kind }, it)?;
                    if statement.undone.is_none() {
                        let before = last.get(&key).map_or(from, |(before, _)| *before);
                        if let Some((_, Some(own))) = last.insert(key, (before, to))
                            && let Some(made) = self.makers.get_mut(&(key, own))
                        {
                            made.kind = Kind::Between;
                        }
                    }
                }
            }
        }
        nets.extend(last.into_iter().map(|(key, (from, to))| Net { transaction: index, key, from, to }));
        Ok(())
    }

    /// What of transactions was taken back replaces nothing; and cuts do not see what they prepared while the anchor is lost, even if it is committed then.
    fn take_back(&mut self, transactions: &[Transaction], lost: &Lost, nets: &mut Vec<Net>) {
        let Versions { makers, externals, .. } = self;
        nets.retain(|net| {
            let Some(part) = lost.get(&(net.transaction, net.key)) else { return true };
            if !part.taken_back {
                externals.retain(|seen| {
                    let locks = seen.writes || seen.locked || seen.transaction == net.transaction;
                    let ended = transactions[seen.transaction].statements[seen.statement].ended;
                    locks || (seen.key, seen.value) != (net.key, net.from) || ended < part.lost
                });
            } else if let Some(made) = net.to.and_then(|to| makers.get_mut(&(net.key, to))) {
                made.kind = Kind::TakenBack(part.anew);
            }
            !part.taken_back
        });
    }

    fn made(&mut self, key: i32, to: Option<i64>, made: Made, it: &Transaction) -> Result<(), String> {
        let Some(value) = to else { return Ok(()) };
        match self.makers.insert((key, value), made) {
            Some(other) if other.transaction != made.transaction => {
                Err(format!("{value} of key {key} was made twice, the second time by {}", it.name))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What nobody was told of was done if its value was seen and nobody else made that.
    fn resolve(&mut self, mut unclear: Vec<(usize, i32, Change)>, nets: &mut Vec<Net>) {
        let seen: BTreeSet<(i32, i64)> =
            self.externals.iter().filter_map(|external| Some((external.key, external.value?))).collect();
        loop {
            let before = unclear.len();
            unclear.retain(|(transaction, key, change)| {
                let (from, to) = match change {
                    Change::Insert(value) => (None, *value),
                    Change::Add(by) => {
                        let unmade = |to: &&i64| !self.makers.contains_key(&(*key, **to));
                        let of_key: Vec<i64> =
                            seen.range((*key, i64::MIN)..=(*key, i64::MAX)).map(|(_, value)| *value).collect();
                        let known = |value: i64| self.makers.contains_key(&(*key, value));
                        // What it made need not have been seen itself, but by whoever replaced it then.
                        let Some(to) = of_key.iter().filter(unmade).find(|to| known(**to - by)) else { return true };
                        (Some(to - by), *to)
                    }
                    Change::Delete => return true,
                };
                let made = Made { transaction: *transaction, kind: Kind::Last };
                self.makers.entry((*key, to)).or_insert(made);
                nets.push(Net { transaction: *transaction, key: *key, from, to: Some(to) });
                false
            });
            if unclear.len() == before && !self.resolve_row(&mut unclear, &seen, nets) {
                return;
            }
        }
    }

    /// Several of those may have added to a value one after the other, and nobody saw what was between: their sum tells. In which order they did it does not
    /// matter: nobody was told that one of them had ended.
    fn resolve_row(
        &mut self,
        unclear: &mut Vec<(usize, i32, Change)>,
        seen: &BTreeSet<(i32, i64)>,
        nets: &mut Vec<Net>,
    ) -> bool {
        for (key, value) in seen.iter().filter(|seen| !self.makers.contains_key(seen)) {
            let adds = unclear.iter().filter_map(|(transaction, of, change)| match change {
                Change::Add(by) if of == key => Some((*transaction, *by)),
                Change::Add(_) | Change::Insert(_) | Change::Delete => None,
            });
            let adds: Vec<(usize, i64)> = adds.take(MOST_IN_A_ROW).collect();
            let chosen = |set: &u32| {
                let row = adds.iter().enumerate().filter(move |(at, _)| set & (1 << at) != 0);
                row.map(|(_, add)| *add).collect::<Vec<_>>()
            };
            let before = |row: &[(usize, i64)]| value - row.iter().map(|(_, by)| by).sum::<i64>();
            let fits = |row: &Vec<(usize, i64)>| self.makers.contains_key(&(*key, before(row)));
            let Some(row) = (1_u32..1 << adds.len()).map(|set| chosen(&set)).find(fits) else { continue };
            let mut from = before(&row);
            for (transaction, by) in row {
                let made = Made { transaction, kind: Kind::Last };
                self.makers.entry((*key, from + by)).or_insert(made);
                nets.push(Net { transaction, key: *key, from: Some(from), to: Some(from + by) });
                from += by;
                unclear.retain(|it| *it != (transaction, *key, Change::Add(by)));
            }
            return true;
        }
        false
    }

    /// Judges what was seen, and finds out who must have committed.
    fn find_happened(&mut self, transactions: &[Transaction], nets: &[Net]) -> Result<(), String> {
        for external in &self.externals {
            let Some(value) = external.value else { continue };
            let reader = &transactions[external.transaction];
            let key = external.key;
            let Some(made) = self.makers.get(&(key, value)) else {
                return Err(format!("{} sees {value} of key {key}, which nobody made: {reader:?}", reader.name));
            };
            let maker = &transactions[made.transaction];
            let wrong = match (made.kind, maker.fate) {
                _ if made.transaction == external.transaction => "that it had rolled back",
                (Kind::Undone, _) => "rolled back to a savepoint",
                (Kind::Between, _) => "replaced by its maker",
                (Kind::TakenBack(_), _) if external.writes || external.locked => "which was taken back",
                (Kind::TakenBack(anew), _) if reader.began > anew => "which had been taken back",
                (Kind::Last | Kind::TakenBack(_), Fate::Aborted) => "of an aborted transaction",
                (Kind::Last | Kind::TakenBack(_), Fate::Committed | Fate::Unknown) => {
                    self.happened[made.transaction] = true;
                    continue;
                }
            };
            return Err(format!("{} sees {value} of key {key}, {wrong}: {reader:?}\n{maker:?}", reader.name));
        }
        // What was replaced had been committed.
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for net in nets.iter().filter(|net| self.happened[net.transaction]).copied().collect::<Vec<_>>() {
                let maker = net.from.and_then(|from| self.makers.get(&(net.key, from)));
                if let Some(made) = maker.filter(|made| made.transaction != net.transaction) {
                    changed |= !std::mem::replace(&mut self.happened[made.transaction], true);
                }
            }
        }
        Ok(())
    }

    /// A value is replaced once at most; a row that is never deleted is inserted once.
    fn order(&mut self, transactions: &[Transaction], nets: &[Net]) -> Result<(), String> {
        for net in nets.iter().filter(|net| self.happened[net.transaction] && net.from != net.to) {
            if net.from.is_none() && self.deleted.contains(&net.key) {
                continue;
            }
            if let Some(other) = self.next.insert((net.key, net.from), net.transaction) {
                let [one, two] = [other, net.transaction].map(|index| &transactions[index]);
                return Err(format!(
                    "both {} and {} replace {:?} of key {}: {one:?}\n{two:?}",
                    one.name, two.name, net.from, net.key
                ));
            }
        }
        Ok(())
    }

    pub fn happened(&self, transaction: usize) -> bool {
        self.happened[transaction]
    }

    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    pub fn maker(&self, key: i32, value: Option<i64>) -> Option<usize> {
        self.makers.get(&(key, value?)).map(|made| made.transaction)
    }

    /// Who replaced a value; of nothing only where that means one thing.
    pub fn next(&self, key: i32, value: Option<i64>) -> Option<usize> {
        self.next.get(&(key, value)).copied()
    }
}

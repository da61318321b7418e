//! Reading a checkpoint back: the root grows with each piece, and its memory is accounted for as it grows.

use super::record::{FORMAT, Kind, VERSION, damaged, is_whole, read_record, take, take_slice, take_u32, take_u64};
use super::sessions::{read_advisory, read_evicted, read_notices};
use super::transactions::{Coming, read_outcomes};
use crate::store::account::Account;
use crate::store::index::KeyBytes;
use crate::store::position::Position;
use crate::store::root::{Answers, Root};
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::decode::decode;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{Epoch, Incarnation, IndexId, Lsn, RequestId, TableId};
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::row::RowReader;

#[derive(Debug, Default)]
pub struct Reader {
    root: Option<Root>,
    created: Option<Epoch>,
    table: Option<TableProgress>,
    /// A write set whose pieces are coming.
    coming: Option<Coming>,
    records: u64,
    ended: bool,
    /// The beginning of a record whose end is in a later piece.
    begun: Vec<u8>,
}

/// A table whose rows are coming.
#[derive(Debug)]
struct TableProgress {
    id: TableId,
    /// Indexes in which rows may be equal.
    faulty: Vec<IndexId>,
    /// Rows that are still to come.
    missing: u64,
    /// Where the next one may stand, at the least and at the most.
    next: u64,
    end: u64,
}

impl Reader {
    /// Takes the next piece. After an error the reader is good for [`Reader::abandon`] alone.
    pub fn take(&mut self, piece: &[u8], account: &mut Account) -> SqlResult<()> {
        let joined;
        let mut input = piece;
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(piece);
            if !is_whole(&self.begun) {
                return Ok(());
            }
            joined = std::mem::take(&mut self.begun);
            input = &joined;
        }
        while is_whole(input) {
            let (kind, body) = read_record(&mut input)?;
            self.record(kind, body, account)?;
            self.records += 1;
        }
        self.begun = input.to_vec();
        Ok(())
    }

    /// The root, and the epoch that made its last entry, once all pieces were taken.
    pub fn finish(self, account: &mut Account) -> SqlResult<(Root, Option<Epoch>)> {
        match self {
            Reader { root: Some(mut root), ended: true, created, begun, .. } if begun.is_empty() => {
                root.restored(account);
                Ok((root, created))
            }
            unfinished => {
                unfinished.abandon(account);
                Err(damaged("it does not end"))
            }
        }
    }

    /// Gives back the memory of what has come so far.
    pub fn abandon(self, account: &mut Account) {
        if let Some(coming) = self.coming {
            coming.abandon(account);
        }
        if let Some(root) = self.root {
            root.finish(account);
        }
    }

    fn record(&mut self, kind: Kind, body: &[u8], account: &mut Account) -> SqlResult<()> {
        if self.ended {
            return Err(damaged("records come after its end"));
        }
        if self.coming.is_some() != (kind == Kind::Changes) {
            return Err(damaged("a write set is not complete"));
        }
        match (kind, &mut self.root) {
            (Kind::Head, None) => self.head(body, account),
            (Kind::Head, Some(_)) => Err(damaged("it begins twice")),
            (_, None) => Err(damaged("it does not begin")),
            (Kind::Proxies, Some(root)) => root.answers.read_proxies(body),
            (Kind::Answers, Some(root)) => answers(body, &mut root.answers),
            (Kind::WriteSet, Some(root)) => {
                self.coming = Coming::begin(body)?.settle(root, account)?;
                Ok(())
            }
            (Kind::Changes, Some(root)) => {
                let Some(coming) = self.coming.as_mut() else { return Ok(()) };
                coming.take(body, account)?;
                self.coming = match self.coming.take() {
                    Some(coming) => coming.settle(root, account)?,
                    None => None,
                };
                Ok(())
            }
            (Kind::Outcomes, Some(root)) => read_outcomes(body, root),
            (Kind::Advisory, Some(root)) => read_advisory(body, root, account),
            (Kind::Notices, Some(root)) => read_notices(body, root, account),
            (Kind::Evicted, Some(root)) => read_evicted(body, root, account),
            (Kind::Table, Some(_)) => self.table(body, account),
            (Kind::Rows, Some(root)) => {
                let table = self.table.as_mut().ok_or_else(|| damaged("rows of no table"))?;
                rows(body, root, table, account)
            }
            (Kind::End, Some(_)) => {
                self.end_table()?;
                let mut body = body;
                self.ended = take_u64(&mut body)? == self.records && body.is_empty();
                if self.ended { Ok(()) } else { Err(damaged("records are missing")) }
            }
        }
    }

    fn head(&mut self, mut body: &[u8], account: &mut Account) -> SqlResult<()> {
        if take(&mut body)? != *FORMAT {
            return Err(damaged("it is none"));
        }
        let version = u16::from_le_bytes(take(&mut body)?);
        if version != VERSION {
            return Err(damaged(&format!("its version is {version}, not {VERSION}")));
        }
        let lsn = Lsn(take_u64(&mut body)?);
        let created = Epoch(take_u32(&mut body)?);
        self.created = (created != Epoch(0)).then_some(created);
        let catalog: Catalog = decode(take_slice(&mut body)?).map_err(|_| damaged("its catalog cannot be read"))?;
        let forbidden: Option<SqlError> =
            decode(take_slice(&mut body)?).map_err(|_| damaged("its catalog's fault cannot be read"))?;
        if catalog.tables.iter().any(|(id, table)| *id != table.id) {
            return Err(damaged("its catalog has a table under another identity"));
        }
        let mut root = Root::new(Arc::new(catalog), account);
        root.restore_head(lsn, forbidden);
        self.root = Some(root);
        Ok(())
    }

    fn table(&mut self, mut body: &[u8], account: &mut Account) -> SqlResult<()> {
        let after = self.table.as_ref().map(|table| table.id);
        self.end_table()?;
        let id = TableId(take_u32(&mut body)?);
        let missing = take_u64(&mut body)?;
        let chunks = u64::from(take_u32(&mut body)?);
        let Some(root) = self.root.as_mut().filter(|root| root.table(id).is_some() && Some(id) > after) else {
            return Err(damaged("a table that is not in its catalog"));
        };
        root.restore(id, account, |table, _| {
            table.restore_building();
            Ok(())
        })?;
        let mut faulty = Vec::new();
        while !body.is_empty() {
            faulty.push(IndexId(take_u32(&mut body)?));
        }
        self.table = Some(TableProgress { id, faulty, missing, next: 0, end: chunks * CHUNK_ROWS as u64 });
        Ok(())
    }

    fn end_table(&mut self) -> SqlResult<()> {
        match self.table.take() {
            Some(table) if table.missing > 0 => Err(damaged("rows are missing")),
            Some(_) | None => Ok(()),
        }
    }
}

fn answers(mut body: &[u8], answers: &mut Answers) -> SqlResult<()> {
    while !body.is_empty() {
        let proxy = Incarnation(take_u64(&mut body)?);
        let request = RequestId { proxy, sequence: take_u64(&mut body)? };
        answers.insert(request, Bytes::copy_from_slice(take_slice(&mut body)?));
    }
    Ok(())
}

fn rows(mut body: &[u8], root: &mut Root, coming: &mut TableProgress, account: &mut Account) -> SqlResult<()> {
    account.room(body.len())?;
    root.restore(coming.id, account, |table, cost| {
        let types = table.shared_types();
        let mut key = KeyBytes::new();
        let mut row = Vec::with_capacity(types.len());
        while !body.is_empty() {
            let position = take_u32(&mut body)?;
            let lsn = Lsn(take_u64(&mut body)?);
            if u64::from(position) < coming.next || u64::from(position) >= coming.end || coming.missing == 0 {
                return Err(damaged("a row stands where it cannot"));
            }
            let mut reader = RowReader::new(body);
            row.clear();
            reader.read(&types, &mut row)?;
            if !table.restore_row(Position(position), &row, lsn, (&mut key, &coming.faulty), cost) {
                return Err(damaged("two rows have one key"));
            }
            body = reader.rest();
            coming.next = u64::from(position) + 1;
            coming.missing -= 1;
        }
        Ok(())
    })
}

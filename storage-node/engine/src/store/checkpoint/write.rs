//! Writing a root, piece by piece. Between pieces only the place is kept: the root is lent each time.

use super::record::{FORMAT, Kind, VERSION, put_slice, write_record};
use super::sessions;
use super::transactions::{Place, outcomes, write_set};
use crate::store::position::Position;
use crate::store::root::Root;
use crate::store::table::TableRows;
use toroid_common::id::{Epoch, RequestId, TableId, TransactionId};
use toroid_common::row::write_row_slice;

/// What is to be written next.
#[derive(Debug)]
enum Next {
    Head,
    Proxies,
    /// Answers of requests from this one on.
    Answers(RequestId),
    /// Write sets that are not applied, from here on.
    WriteSet(Place),
    /// Outcomes of transactions from this one on.
    Outcomes(TransactionId),
    /// What sessions hold, from here on.
    Advisory(sessions::Place),
    /// Notifications from this number on.
    Notices(u64),
    /// What is known of notifications that are not kept, from this hash of channels on.
    Evicted(u16),
    /// The first table from this identity on.
    Table(TableId),
    /// Rows of this table from this position on.
    Rows(TableId, Position),
    End,
    Nothing,
}

#[derive(Debug)]
pub struct Writer {
    next: Next,
    /// The epoch that made the root's last entry; none before the first.
    created: Option<Epoch>,
    records: u64,
}

impl Writer {
    pub fn new(created: Option<Epoch>) -> Writer {
        Writer { next: Next::Head, created, records: 0 }
    }

    /// Whether only the end is missing.
    pub fn is_at_end(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Appends the next piece: records until it has `bytes`, or all there are, without the end unless it may `finish`. Always of the same root.
    /// True when it is the last piece.
    pub fn piece(&mut self, root: &Root, bytes: usize, finish: bool, out: &mut Vec<u8>) -> bool {
        let end = out.len().saturating_add(bytes);
        loop {
            if self.is_at_end() && !finish {
                return false;
            }
            self.next = self.record(root, end, out);
            self.records += 1;
            match self.next {
                Next::Nothing => return true,
                _ if out.len() >= end => return false,
                _ => {}
            }
        }
    }

    /// Appends the next record, which goes up to `end` in `out` if it can be parted, and says what comes then.
    fn record(&self, root: &Root, end: usize, out: &mut Vec<u8>) -> Next {
        match self.next {
            Next::Head => {
                write_record(out, Kind::Head, |out| self.head(root, out));
                Next::Proxies
            }
            Next::Proxies => {
                write_record(out, Kind::Proxies, |out| root.answers.write_proxies(out));
                Next::Answers(RequestId::default())
            }
            Next::Answers(from) => {
                let next = write_record(out, Kind::Answers, |out| answers(root, from, end, out));
                next.map_or(Next::WriteSet(Place::default()), Next::Answers)
            }
            Next::WriteSet(place) => match write_set(root.transactions(), place, out) {
                Some(place) => Next::WriteSet(place),
                // Nothing was written.
                None => write_outcomes(root, TransactionId::default(), end, out),
            },
            Next::Outcomes(from) => write_outcomes(root, from, end, out),
            Next::Advisory(from) => write_sessions(root, from, end, out),
            Next::Notices(from) => write_sent(root, from, end, out),
            Next::Evicted(from) => write_evicted(root, from, end, out),
            Next::Table(id) => {
                if let Some(table) = root.table(id) {
                    write_record(out, Kind::Table, |out| head_of(table, out));
                }
                Next::Rows(id, Position(0))
            }
            Next::Rows(id, from) => {
                let next =
                    write_record(out, Kind::Rows, |out| root.table(id).and_then(|table| rows(table, from, end, out)));
                next.map_or_else(|| next_table(root, TableId(id.0 + 1)), |position| Next::Rows(id, position))
            }
            Next::End => {
                write_record(out, Kind::End, |out| out.extend_from_slice(&self.records.to_le_bytes()));
                Next::Nothing
            }
            Next::Nothing => Next::Nothing,
        }
    }

    fn head(&self, root: &Root, out: &mut Vec<u8>) {
        out.extend_from_slice(FORMAT);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&root.lsn().0.to_le_bytes());
        out.extend_from_slice(&self.created.unwrap_or_default().0.to_le_bytes());
        // Writing to memory fails only for types that postcard cannot represent, and neither catalogs nor errors have any.
        put_slice(out, &postcard::to_stdvec(&**root.catalog()).unwrap_or_default());
        put_slice(out, &postcard::to_stdvec(&root.forbidden()).unwrap_or_default());
    }
}

fn next_table(root: &Root, from: TableId) -> Next {
    root.tables().map(|table| table.definition().id).find(|id| *id >= from).map_or(Next::End, Next::Table)
}

fn write_outcomes(root: &Root, from: TransactionId, end: usize, out: &mut Vec<u8>) -> Next {
    let next = write_record(out, Kind::Outcomes, |out| outcomes(root.transactions(), from, end, out));
    match next {
        Some(transaction) => Next::Outcomes(transaction),
        None if root.advisory().is_empty() => next_notices(root),
        None => Next::Advisory(sessions::FIRST),
    }
}

fn write_sessions(root: &Root, from: sessions::Place, end: usize, out: &mut Vec<u8>) -> Next {
    let next = write_record(out, Kind::Advisory, |out| sessions::write_advisory(root.advisory(), from, end, out));
    next.map_or_else(|| next_notices(root), Next::Advisory)
}

fn next_notices(root: &Root) -> Next {
    match root.notices().last() {
        0 => next_table(root, TableId(0)),
        _ => Next::Notices(0),
    }
}

fn write_sent(root: &Root, from: u64, end: usize, out: &mut Vec<u8>) -> Next {
    let next = write_record(out, Kind::Notices, |out| sessions::write_notices(root.notices(), from, end, out));
    match next {
        Some(number) => Next::Notices(number),
        None if root.notices().gone() == 0 => next_table(root, TableId(0)),
        None => Next::Evicted(0),
    }
}

fn write_evicted(root: &Root, from: u16, end: usize, out: &mut Vec<u8>) -> Next {
    let next = write_record(out, Kind::Evicted, |out| sessions::write_evicted(root.notices(), from, end, out));
    next.map_or_else(|| next_table(root, TableId(0)), Next::Evicted)
}

/// Writes answers from a request on; the first that has no room.
fn answers(root: &Root, from: RequestId, end: usize, out: &mut Vec<u8>) -> Option<RequestId> {
    for (at, (request, answer)) in root.answers.from(from).enumerate() {
        if at > 0 && out.len() >= end {
            return Some(request);
        }
        out.extend_from_slice(&request.proxy.0.to_le_bytes());
        out.extend_from_slice(&request.sequence.to_le_bytes());
        put_slice(out, answer);
    }
    None
}

/// Identity, number of rows, of chunks, and the indexes that cannot be used.
fn head_of(table: &TableRows, out: &mut Vec<u8>) {
    out.extend_from_slice(&table.definition().id.0.to_le_bytes());
    out.extend_from_slice(&table.len().to_le_bytes());
    out.extend_from_slice(&(table.chunks() as u32).to_le_bytes());
    for index in table.indexes().iter().filter(|index| index.is_faulty()) {
        out.extend_from_slice(&index.id().0.to_le_bytes());
    }
}

/// Writes rows from a position on; the first that has no room.
fn rows(table: &TableRows, from: Position, end: usize, out: &mut Vec<u8>) -> Option<Position> {
    let mut row = Vec::with_capacity(table.types().len());
    for (at, position) in table.positions_from(from).enumerate() {
        if at > 0 && out.len() >= end {
            return Some(position);
        }
        out.extend_from_slice(&position.0.to_le_bytes());
        out.extend_from_slice(&table.changed(position).0.to_le_bytes());
        row.clear();
        table.row(position, &mut row);
        write_row_slice(out, &row);
    }
    None
}

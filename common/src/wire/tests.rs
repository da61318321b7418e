//! Every message survives the way; no damaged frame panics or is taken for a whole one.

use super::*;
use crate::catalog::Catalog;
use crate::error::{SqlError, SqlState};
use crate::id::{
    CatalogVersion, ClusterId, CutId, Epoch, Incarnation, Lsn, MapVersion, PartitionId, TableId, TransactionId,
    WorkerId,
};
use crate::transaction::{Fate, InquiryBody, Level, Step};

fn samples() -> Vec<Vec<u8>> {
    let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "duplicate key").with_detail("Key (a)=(1) already exists.");
    let mut messages = vec![
        Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            cluster: Some(ClusterId(7)),
            role: Role::Proxy { incarnation: Incarnation(3) },
        }),
        Message::Welcome(Welcome {
            cluster: ClusterId(7),
            worker: Some(WorkerId::default()),
            incarnation: Incarnation(1),
        }),
        Message::Refused(Refused { reason: "another cluster".to_owned() }),
        Message::Plan(PlanMessage { id: PlanId(4), bytes: &[1, 2, 3] }),
        Message::ForgetPlan(PlanId(9)),
        Message::Request(Request {
            sequence: 12,
            low: 10,
            partition: PartitionId(63),
            epoch: Epoch(2),
            plan: PlanId(4),
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body: RequestBody::Point { params: &[0, 1, 0, 0, 0] },
        }),
        Message::Request(Request {
            sequence: 13,
            low: 13,
            partition: PartitionId(0),
            epoch: Epoch(1),
            plan: PlanId(4),
            within: Some(Within {
                number: 5,
                earlier: 2,
                level: Level::Serializable,
                cut: Some(CutId { term: 3, round: 9 }),
                process: 77,
                prepares: Some(PartitionId(9)),
            }),
            lock_timeout_ms: 1_500,
            env: Some(&[5, 6]),
            body: RequestBody::Insert { rows: 2, bytes: &[0, 1, 0, 2] },
        }),
        Message::Request(Request {
            sequence: 13,
            low: 13,
            partition: PartitionId(0),
            epoch: Epoch(1),
            plan: PlanId(0),
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body: RequestBody::Withdraw,
        }),
        Message::Fragment(Fragment {
            sequence: 14,
            credit: 4,
            cut: Some(CutId { term: 3, round: 9 }),
            within: Some(Within {
                number: 5,
                earlier: 0,
                level: Level::ReadCommitted,
                cut: None,
                process: 77,
                prepares: None,
            }),
            coordinator: Incarnation(9),
            earlier: vec![2, 0],
            partitions: vec![(PartitionId(1), Epoch(1)), (PartitionId(2), Epoch(3))],
            tables: vec![(TableId(16_384), CatalogVersion(8))],
            env: &[1],
            plan: &[9, 9],
        }),
        Message::Transact(Transact {
            sequence: 15,
            low: 11,
            partition: PartitionId(2),
            epoch: Epoch(1),
            number: 5,
            step: Step::Decide { requests: 3, participants: vec![PartitionId(4), PartitionId(9)] },
        }),
        Message::Cancel { sequence: 15 },
        Message::Answered(Answered { partition: PartitionId(7), below: 90, but: vec![3, 89] }),
        Message::Answered(Answered { partition: PartitionId(7), below: 1, but: Vec::new() }),
        Message::Forget(Forget { partition: PartitionId(7), numbers: vec![3, 1, 1 << 40] }),
        Message::Inquiry(Inquiry {
            transaction: TransactionId { proxy: Incarnation(3), number: 5 },
            to: PartitionId(2),
            from: PartitionId(4),
            body: InquiryBody::Tell(Fate::Committed),
        }),
        Message::FragmentCredit { sequence: 14, batches: 2 },
        Message::FragmentCancel { sequence: 14 },
        Message::FragmentBatch(FragmentBatch { sequence: 14, bytes: &[1; 100] }),
        Message::Follow(Follow {
            parts: vec![FollowPart {
                partition: PartitionId(5),
                epoch: Epoch(4),
                log: Some(LogEnd { last: Lsn(20), runs: vec![(Epoch(2), Lsn(9)), (Epoch(4), Lsn(17))] }),
            }],
        }),
        Message::RootPiece(RootPiece {
            partition: PartitionId(5),
            epoch: Epoch(4),
            number: 3,
            last: true,
            bytes: &[8],
        }),
        Message::RootTaken { partition: PartitionId(5), epoch: Epoch(4), number: 3 },
        Message::Control(Control { number: 1, body: ControlBody::Watch }),
        Message::Control(Control {
            number: 2,
            body: ControlBody::Propose(Proposal {
                partition: PartitionId(5),
                epoch: Epoch(4),
                change: Reconfigure::Admit { worker: WorkerId::default(), incarnation: Incarnation(9) },
            }),
        }),
        Message::Notice(Notice { number: 0, body: NoticeBody::Catalog(Catalog::empty()) }),
    ];
    for outcome in [
        FragmentOutcome::Done { rows: 5 },
        FragmentOutcome::Error(error.clone()),
        FragmentOutcome::Refused(Refusal::Busy),
    ] {
        messages.push(Message::FragmentEnd(FragmentEnd { sequence: 14, outcome }));
    }
    for outcome in [
        Outcome::Rows { count: 1, bytes: &[0, 7] },
        Outcome::Done { count: 1 << 40 },
        Outcome::Error(error),
        Outcome::Refused(Refusal::StaleCatalog { have: CatalogVersion(3) }),
        Outcome::Refused(Refusal::BehindCatalog { have: CatalogVersion(3) }),
        Outcome::Refused(Refusal::StaleMap { have: MapVersion(3) }),
        Outcome::Refused(Refusal::UnknownPlan),
        Outcome::Refused(Refusal::BelowMark),
        Outcome::Refused(Refusal::Busy),
        Outcome::Refused(Refusal::Moving { have: CatalogVersion(1) }),
        Outcome::Refused(Refusal::Fenced),
        Outcome::Refused(Refusal::NoCut),
        Outcome::Refused(Refusal::Withdrawn),
        Outcome::Refused(Refusal::TableLocked),
        Outcome::Refused(Refusal::Deposed { have: MapVersion(3) }),
    ] {
        messages.push(Message::Answer(Answer { sequence: 12, outcome }));
    }
    let mut frames = vec![append_frame(), appended_frame()];
    for message in messages {
        let mut out = Vec::new();
        message.write(&mut out);
        let (frame, used) = RawFrame::split(&out).unwrap().unwrap();
        assert_eq!(used, out.len());
        assert_eq!(Message::decode(frame).unwrap(), message);
        frames.push(out);
    }
    frames
}

fn append_frame() -> Vec<u8> {
    let mut writer = AppendWriter::default();
    let head = EntriesHead {
        partition: PartitionId(3),
        epoch: Epoch(2),
        created: Epoch(1),
        begins: true,
        first: Lsn(5),
        acknowledged: Lsn(4),
    };
    writer.part(head, [&b"one"[..], b"", b"three"].into_iter());
    writer.part(EntriesHead { partition: PartitionId(4), begins: false, ..head }, std::iter::empty());
    let mut out = Vec::new();
    writer.finish(&mut out);
    assert!(writer.is_empty());
    out
}

fn appended_frame() -> Vec<u8> {
    let mut out = Vec::new();
    let part = AppendedPart { partition: PartitionId(3), epoch: Epoch(1), lsn: Lsn(7) };
    write_appended(&mut out, [part, part].into_iter());
    out
}

#[test]
fn messages_survive_the_way() {
    assert!(samples().len() > 25);
}

#[test]
fn appended_entries_come_in_order() {
    let out = append_frame();
    let (frame, _) = RawFrame::split(&out).unwrap().unwrap();
    let Message::Append(append) = Message::decode(frame).unwrap() else { panic!("not Append") };
    let parts: Vec<_> = append.parts().map(Result::unwrap).collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(
        (parts[0].head.partition, parts[0].head.first, parts[0].head.acknowledged),
        (PartitionId(3), Lsn(5), Lsn(4))
    );
    let entries: Vec<_> = parts[0].entries().map(Result::unwrap).collect();
    assert_eq!(entries, [&b"one"[..], b"", b"three"]);
    assert_eq!((parts[1].count, parts[1].entries().count()), (0, 0));
    let out = appended_frame();
    let (frame, _) = RawFrame::split(&out).unwrap().unwrap();
    let Message::Appended(appended) = Message::decode(frame).unwrap() else { panic!("not Appended") };
    assert_eq!(appended.parts().map(|part| part.lsn).collect::<Vec<_>>(), [Lsn(7), Lsn(7)]);
}

/// Reads everything that a receiver would read.
fn read_all(bytes: &[u8]) {
    let Ok(Some((frame, _))) = RawFrame::split(bytes) else { return };
    match Message::decode(frame) {
        Ok(Message::Append(append)) => {
            for part in append.parts().flatten() {
                part.entries().for_each(drop);
            }
        }
        Ok(Message::Appended(appended)) => appended.parts().for_each(drop),
        Ok(_) | Err(_) => {}
    }
}

#[test]
fn damaged_frames_are_errors() {
    for frame in samples() {
        for cut in 0..frame.len() {
            assert!(!matches!(RawFrame::split(&frame[..cut]), Ok(Some(_))), "cut at {cut} of {frame:?}");
            // The same bytes with a length that fits them: the message itself is cut.
            if cut > LENGTH_BYTES {
                let mut short = frame[..cut].to_vec();
                short[..LENGTH_BYTES].copy_from_slice(&((cut - LENGTH_BYTES) as u32).to_le_bytes());
                read_all(&short);
            }
        }
        for position in 0..frame.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = frame.clone();
                damaged[position] = value;
                read_all(&damaged);
            }
        }
    }
}

#[test]
fn impossible_lengths_are_refused() {
    assert_eq!(RawFrame::split(&[0, 0, 0, 0, 1]), Err(WireError::Length(0)));
    assert_eq!(RawFrame::split(&[0xff; 5]), Err(WireError::Length(u32::MAX)));
    assert_eq!(RawFrame::split(&[1, 0, 0]), Ok(None));
    assert_eq!(Message::decode(RawFrame { kind: 200, body: &[] }), Err(WireError::Kind(200)));
    assert_eq!(RawFrame::needed(&[10, 0, 0, 0]), Some(14));
}

#[test]
fn an_answer_written_row_by_row_is_the_same() {
    let mut whole = vec![7];
    Message::Answer(Answer { sequence: 5, outcome: Outcome::Rows { count: 2, bytes: &[1, 2, 3] } }).write(&mut whole);
    let mut pieces = vec![7];
    let open = OpenAnswer::begin(&mut pieces, 5);
    pieces.extend_from_slice(&[1, 2, 3]);
    assert!(open.finish(&mut pieces, 2));
    assert_eq!(pieces, whole);
    OpenAnswer::begin(&mut pieces, 6).abandon(&mut pieces);
    assert_eq!(pieces, whole);
}

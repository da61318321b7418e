//! Checkpoints: any root that is written and read back is equal, and stays so under the same entries.

mod fixture;
mod model;

use fixture::{Random, T, catalog, column, content, encode, index, insert, table, text};
use model::{Run, value};
use toroid_common::catalog::IndexState;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Epoch, Incarnation, IndexId, Lsn, PartitionId, RequestId, TransactionId};
use toroid_common::plan::AdvisoryKey;
use toroid_common::transaction::Fate;
use toroid_common::types::SqlType;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::Change;
use toroid_engine::store::checkpoint::{Reader, Writer};
use toroid_engine::store::fence::Fence;
use toroid_engine::store::root::Root;

fn pieces(root: &Root, created: Option<Epoch>, bytes: usize) -> Vec<Vec<u8>> {
    let mut writer = Writer::new(created);
    let mut pieces = vec![];
    loop {
        let mut piece = Vec::new();
        let last = writer.piece(root, bytes, true, &mut piece);
        pieces.push(piece);
        if last {
            return pieces;
        }
    }
}

fn read(pieces: &[Vec<u8>], account: &mut Account) -> Result<(Root, Option<Epoch>), SqlState> {
    let mut reader = Reader::default();
    for piece in pieces {
        if let Err(error) = reader.take(piece, account) {
            reader.abandon(account);
            return Err(error.state());
        }
    }
    reader.finish(account).map_err(|error| error.state())
}

fn assert_equal(one: &Root, other: &Root) {
    assert_eq!((one.lsn(), one.catalog(), &one.answers), (other.lsn(), other.catalog(), &other.answers));
    assert_eq!(one.transactions(), other.transactions());
    assert_eq!((one.advisory(), one.notices()), (other.advisory(), other.notices()));
    assert_eq!(one.tables().count(), other.tables().count());
    for (one, other) in one.tables().zip(other.tables()) {
        assert_eq!(one.definition(), other.definition());
        assert!(content(one) == content(other));
        assert_eq!((one.len(), one.next_position()), (other.len(), other.next_position()));
        assert!(one.positions().all(|position| one.changed(position) == other.changed(position)));
        for (one, other) in one.indexes().iter().zip(other.indexes()) {
            assert_eq!((one.id(), one.len(), one.is_faulty()), (other.id(), other.len(), other.is_faulty()));
            assert!(one.find(&[]).eq(other.find(&[])));
        }
    }
}

fn drained(account: &mut Account) -> usize {
    while !account.is_clean() {
        account.drop_some(100);
    }
    account.used()
}

#[test]
fn roots_come_back_equal_in_pieces_of_any_size_and_stay_equal() {
    for seed in 1..=2 {
        let mut run = Run::new(seed * 104_729);
        let mut copies: Vec<(Root, Account)> = Vec::new();
        for step in 0..400 {
            run.step();
            let proxy = Incarnation(1 + run.random.below(4));
            let request = RequestId { proxy, sequence: step };
            run.root.answers.insert(request, bytes::Bytes::from(vec![step as u8; run.random.below(300) as usize]));
            run.root.answers.forget_below(proxy, step.saturating_sub(30));
            for (root, account) in &mut copies {
                if let Some(entry) = run.last.as_ref().filter(|_| root.lsn() < run.root.lsn()) {
                    root.apply(&Change::read_all(entry).unwrap(), run.root.lsn(), account);
                }
                root.answers = run.root.answers.clone();
            }
            if step % 80 == 79 {
                let bytes = [1, 100, 5_000, 64 << 10, usize::MAX][run.random.below(5) as usize];
                let mut account = Account::new(usize::MAX);
                let (root, created) = read(&pieces(&run.root, Some(Epoch(3)), bytes), &mut account).unwrap();
                assert_equal(&root, &run.root);
                assert_eq!((created, account.used()), (Some(Epoch(3)), root.bytes()));
                copies.push((root, account));
            }
        }
        for (root, mut account) in copies {
            assert_equal(&root, &run.root);
            assert_eq!(drained(&mut account), root.bytes());
            root.finish(&mut account);
            assert_eq!(drained(&mut account), 0);
        }
    }
}

/// A table with rows here and there, answers, a fence, an index in the making and one that cannot be.
fn sample(rows: i32) -> (Root, Account) {
    let mut account = Account::new(usize::MAX);
    let columns = vec![column(1, "id", SqlType::Int4), column(2, "name", SqlType::Text)];
    let mut definition = table(columns, vec![index(1, "pkey", &[0], true)]);
    let mut root = Root::new(catalog(&definition), &mut account);
    let rows: Vec<Vec<Datum>> = (0..rows).map(|id| vec![Datum::Int4(id), text("equal")]).collect();
    let bytes = encode(&rows);
    root.apply(&[insert(rows.len(), &bytes)], Lsn(1), &mut account);
    let gone: Vec<Change<'_>> =
        [0, 7, 8, 59].map(|at| fixture::delete(toroid_engine::store::table::Position(at))).into();
    root.apply(&gone, Lsn(2), &mut account);
    definition.version = CatalogVersion(3);
    let mut names = index(2, "names", &[1], true);
    names.state = IndexState::Building;
    definition.indexes.push(names);
    root.apply(&[Change::Catalog(catalog(&definition))], Lsn(3), &mut account);
    let fence = Fence { below: Incarnation(5), alive: [Incarnation(2)].into() };
    root.apply(&[Change::Fence(fence)], Lsn(4), &mut account);
    let request = RequestId { proxy: Incarnation(2), sequence: 8 };
    root.answers.insert(request, bytes::Bytes::from_static(b"answer"));
    root.answers.forget_below(request.proxy, 4);
    let transactions = transactions();
    root.apply(&transactions, Lsn(5), &mut account);
    root.apply(&advisory(), Lsn(6), &mut account);
    let notify = |payload| Change::Notify { channel: "channel", payload, process: 7 };
    root.apply(&[notify("first"), notify("second"), notify("first"), notify("")], Lsn(7), &mut account);
    assert_eq!(root.notices().last(), 3);
    (root, account)
}

/// Sessions with advisory locks; the last one gives its own back.
fn advisory() -> Vec<Change<'static>> {
    let take = |process, key, shared| Change::Advise {
        session: TransactionId::of_session(Incarnation(2), process),
        key,
        shared,
        takes: true,
    };
    let (one, pair) = (AdvisoryKey { pair: false, key: i64::MIN }, AdvisoryKey::of_pair(-1, 2));
    vec![take(1, one, false), take(1, one, false), take(1, pair, true), take(2, pair, true), take(3, one, false)]
        .into_iter()
        .chain([Change::Dismiss { session: TransactionId::of_session(Incarnation(2), 3) }])
        .collect()
}

/// Two that are prepared, one without changes; one in chunks; two outcomes.
fn transactions() -> Vec<Change<'static>> {
    static DELETE: [u8; 9] = [3, 32, 78, 0, 0, 20, 0, 0, 0];
    let name = |number| TransactionId { proxy: Incarnation(2), number };
    let chunk = |number, keep| Change::Chunk { transaction: name(number), keep, changes: &DELETE };
    let outcome = |number, fate, participants: &[u16]| Change::Outcome {
        transaction: name(number),
        fate,
        participants: participants.iter().copied().map(PartitionId).collect(),
    };
    let prepare = |number, keep, changes| Change::Prepare {
        transaction: name(number),
        anchor: PartitionId(7),
        reserve: 100,
        keep,
        changes,
    };
    vec![
        chunk(1, 0),
        chunk(1, 9),
        prepare(1, 18, &DELETE),
        prepare(2, 0, &[]),
        chunk(3, 0),
        chunk(3, 9),
        outcome(4, Fate::Committed, &[1, 2]),
        outcome(5, Fate::Aborted, &[]),
    ]
}

#[test]
fn an_index_in_the_making_is_made_anew_and_a_faulty_one_stays_so() {
    let (mut root, mut account) = sample(5_000);
    let (mut copy, _) = read(&pieces(&root, None, 100), &mut account).unwrap();
    assert_eq!((root.is_building(), copy.is_building(), account.is_building()), (true, true, true));
    root.build_some(20, &mut account);
    root.finish_building(&mut account);
    copy.finish_building(&mut account);
    assert_equal(&copy, &root);
    assert!(copy.index_fault(T, IndexId(2)).is_some());
    // It becomes ready all the same, and its rows go on being equal.
    let mut definition = (**root.table(T).unwrap().definition()).clone();
    definition.version = CatalogVersion(4);
    definition.indexes[1].state = IndexState::Ready;
    let change = [Change::Catalog(catalog(&definition))];
    let prepared = [1, 2].map(|number| TransactionId { proxy: Incarnation(2), number });
    let aborted = prepared.map(|transaction| Change::Abort { transaction });
    root.apply(&aborted, Lsn(8), &mut account);
    root.apply(&change, Lsn(9), &mut account);
    let (mut copy, _) = read(&pieces(&root, None, 100), &mut account).unwrap();
    assert_equal(&copy, &root);
    let rows = encode(&[vec![Datum::Int4(10_000), text("equal")]]);
    for root in [&mut root, &mut copy] {
        root.apply(&[insert(1, &rows)], Lsn(10), &mut account);
    }
    assert_equal(&copy, &root);
}

#[test]
fn damaged_pieces_are_errors() {
    let (root, mut account) = sample(60);
    let before = account.used();
    let whole = pieces(&root, Some(Epoch(1)), 200);
    assert!(whole.len() > 5);
    for missing in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged.remove(missing);
        assert_eq!(read(&damaged, &mut account).err(), Some(SqlState::DATA_CORRUPTED), "without piece {missing}");
        damaged.insert(missing, whole[missing].clone());
        damaged.insert(missing, whole[missing].clone());
        assert!(read(&damaged, &mut account).is_err(), "piece {missing} comes twice");
    }
    let mut wrong = 0;
    let mut random = Random(99);
    for (number, piece) in whole.iter().enumerate() {
        for length in 0..piece.len() {
            let mut damaged = whole.clone();
            damaged[number].truncate(length);
            assert!(read(&damaged, &mut account).is_err(), "piece {number} of {length} bytes");
            damaged[number] = piece.clone();
            damaged[number][length] ^= 1 << random.below(8);
            // A value may be another one: then it is a root like any other.
            match read(&damaged, &mut account) {
                Ok((root, _)) => root.finish(&mut account),
                Err(_) => wrong += 1,
            }
        }
        drained(&mut account);
    }
    assert!(wrong > 300, "{wrong}");
    assert_eq!(drained(&mut account), before, "what was read in vain is given back");
    let mut version = whole.clone();
    version[0][13] += 1;
    assert!(read(&version, &mut account).is_err());
}

#[test]
fn rows_of_all_types_come_back() {
    let types = [SqlType::Int8, SqlType::Numeric, SqlType::Bool, SqlType::Uuid, SqlType::Text];
    let mut random = Random(5);
    let mut columns = vec![column(1, "id", SqlType::Int4)];
    columns.extend(types.iter().enumerate().map(|(at, ty)| column(at as u16 + 2, &format!("c{at}"), *ty)));
    let mut account = Account::new(usize::MAX);
    let mut root = Root::new(catalog(&table(columns, vec![index(1, "pkey", &[0], true)])), &mut account);
    let rows: Vec<Vec<Datum>> = (0..5_000)
        .map(|id| std::iter::once(Datum::Int4(id)).chain(types.map(|ty| value(&mut random, ty))).collect())
        .collect();
    let bytes = encode(&rows);
    root.apply(&[insert(rows.len(), &bytes)], Lsn(10), &mut account);
    let (copy, _) = read(&pieces(&root, None, 64 << 10), &mut account).unwrap();
    assert_equal(&copy, &root);
}

#[test]
fn what_is_known_of_notifications_that_are_gone_comes_back() {
    let mut account = Account::new(usize::MAX);
    let columns = vec![column(1, "id", SqlType::Int4)];
    let mut root = Root::new(catalog(&table(columns, vec![index(1, "pkey", &[0], true)])), &mut account);
    let large = "x".repeat(1 << 20);
    for (lsn, channel) in [(1, "quiet"), (2, "loud"), (3, "loud"), (4, "loud"), (5, "loud"), (6, "loud")] {
        let payload = if channel == "loud" { &*large } else { "" };
        root.apply(&[Change::Notify { channel, payload, process: 7 }], Lsn(lsn), &mut account);
    }
    for bytes in [1, 100, usize::MAX] {
        let mut own = Account::new(usize::MAX);
        let (copy, _) = read(&pieces(&root, None, bytes), &mut own).unwrap();
        assert_equal(&copy, &root);
        let notices = copy.notices();
        let gone = ["quiet", "loud", "other"].map(|channel| notices.gone_of(channel));
        assert_eq!((gone, notices.gone()), ([1, 3, 0], 3));
        assert_eq!(own.used(), copy.bytes());
        copy.finish(&mut own);
        assert_eq!(drained(&mut own), 0);
    }
}

//! Schema changes of transactions: seen by nobody else, published together, or taken back.

use super::super::state::{Command, Reply};
use super::schema::{PROXY, Service, change_id, done, table};
use toroid_common::catalog::{PUBLIC_SCHEMA, Table, TableState};
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, TableId, TransactionId};
use toroid_common::transaction::{Fate, Inquiry, InquiryBody};
use toroid_common::wire::{CatalogChange, ChangeError, ControlBody, NoticeBody};

/// The client that the first node is.
const NODE: u64 = 11;
const PARTICIPANT: PartitionId = PartitionId(3);

/// A service with the tables `a` and `b`, and a transaction of a proxy that lives.
fn begun() -> (Service, TransactionId) {
    let mut service = Service::formed();
    let NoticeBody::Incarnation(proxy) = service.ask(PROXY, ControlBody::AllocateIncarnation).remove(0) else {
        panic!()
    };
    service.change(CatalogChange::CreateTable(table("a")));
    service.change(CatalogChange::CreateTable(table("b")));
    (service, TransactionId { proxy, number: 1 })
}

fn other(of: TransactionId) -> TransactionId {
    TransactionId { number: of.number + 1, ..of }
}

fn provide(owner: TransactionId, number: u32, replaces: &[TableId], creates: &[&str]) -> CatalogChange {
    let creates = creates.iter().map(|name| table(name)).collect();
    CatalogChange::Provide { owner, number, replaces: replaces.to_vec(), creates }
}

/// The tables that a transaction sees, or everybody who has changed nothing.
fn seen(service: &Service, by: Option<TransactionId>) -> Vec<(String, TableId)> {
    let catalog = by.map_or_else(|| service.catalog.clone(), |by| service.catalog.seen_by(by));
    let public = catalog.tables.values().filter(|table| table.state.is_public());
    let mut seen: Vec<_> = public.map(|table| (table.name.clone(), table.id)).collect();
    seen.sort();
    seen
}

fn names(service: &Service, by: Option<TransactionId>) -> String {
    seen(service, by).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

fn own(service: &Service, owner: TransactionId, name: &str) -> Table {
    Table::clone(service.catalog.seen_by(owner).find(PUBLIC_SCHEMA, name).unwrap())
}

fn refused(replies: &[NoticeBody]) -> SqlState {
    let [NoticeBody::Changed(Err(ChangeError::Sql(error)))] = replies else { panic!("{replies:?}") };
    error.state()
}

fn is_blocked(service: &mut Service, change: CatalogChange) -> bool {
    let have = service.catalog.version;
    let replies = service.begin(change);
    replies == [NoticeBody::Changed(Err(ChangeError::Blocked { have }))]
}

#[test]
fn a_transaction_alone_sees_what_it_changes() {
    let (mut service, owner) = begun();
    let (a, b) = (service.table("a"), service.table("b"));
    service.change(provide(owner, 1, &[a.id], &["a"]));
    service.change(provide(owner, 2, &[], &["c"]));
    service.change(provide(owner, 3, &[b.id], &[]));
    assert_eq!((names(&service, None), names(&service, Some(owner))), ("a b".to_owned(), "a c".to_owned()));
    assert_eq!(names(&service, Some(other(owner))), "a b");
    let mine = own(&service, owner, "a");
    assert!(mine.id != a.id && mine.state == TableState::Open && mine.version == CatalogVersion(4));
    let claimed = service.table("a");
    assert_eq!((claimed.id, claimed.version), (a.id, a.version), "plans of others stay good");
    assert!(claimed.state.takes_writes_of(Some(owner)) && !claimed.state.takes_writes_of(None));
    // Its own change of a table of its own.
    service.change(provide(owner, 4, &[mine.id], &["renamed"]));
    assert_eq!(names(&service, Some(owner)), "c renamed");
    assert_eq!(names(&service, None), "a b");
}

#[test]
fn a_commitment_publishes_all_at_once() {
    let (mut service, owner) = begun();
    let (a, b) = (service.table("a"), service.table("b"));
    service.change(provide(owner, 1, &[a.id], &["a"]));
    let first = own(&service, owner, "a").id;
    service.change(provide(owner, 2, &[first], &["a", "c"]));
    service.change(provide(owner, 3, &[b.id], &[]));
    let expected = seen(&service, Some(owner));
    let participants = vec![PARTICIPANT];
    let publish = CatalogChange::Publish { owner, participants: participants.clone() };
    assert_eq!(service.begin(publish), done(7), "at once, workers follow");
    assert_eq!(seen(&service, None), expected);
    assert!(service.catalog.tables.values().all(|t| t.state == TableState::Open && t.version == CatalogVersion(7)));
    // The end of it is answered when they have.
    assert_eq!(service.begin(CatalogChange::Forget { owner, participants }), []);
    assert_eq!(service.confirm(Ok(())), done(7));
    assert_eq!(
        refused(&service.begin(CatalogChange::Publish { owner, participants: Vec::new() })),
        SqlState::SERIALIZATION_FAILURE
    );
}

#[test]
fn a_commitment_is_not_undone_by_a_worker() {
    let (mut service, owner) = begun();
    service.change(provide(owner, 1, &[], &["c"]));
    service.begin(CatalogChange::Publish { owner, participants: Vec::new() });
    service.confirm(Err(toroid_common::error::SqlError::internal("no")));
    assert_eq!(names(&service, None), "a b c");
    assert!(!service.metadata.state().is_changing());
}

#[test]
fn changes_are_taken_back_from_the_last() {
    let (mut service, owner) = begun();
    let before = service.catalog.tables.clone();
    let a = service.table("a").id;
    service.change(provide(owner, 1, &[a], &["a"]));
    let first = own(&service, owner, "a").id;
    service.change(provide(owner, 2, &[], &["c"]));
    service.change(provide(owner, 3, &[first], &["d"]));
    let take_back = |number| CatalogChange::TakeBack { owner, number };
    service.change(take_back(3));
    assert_eq!((names(&service, Some(owner)), own(&service, owner, "a").id), ("a b c".to_owned(), first));
    let version = service.catalog.version;
    assert_eq!(service.begin(take_back(3)), done(version.0), "nothing is left to take back");
    service.change(take_back(2));
    assert_eq!(names(&service, Some(owner)), "a b");
    service.change(take_back(0));
    assert_eq!(service.catalog.tables, before);
    let publish = CatalogChange::Publish { owner, participants: Vec::new() };
    assert_eq!(refused(&service.begin(publish)), SqlState::SERIALIZATION_FAILURE);
}

#[test]
fn who_wants_the_same_table_or_name_waits() {
    let (mut service, owner) = begun();
    let (a, b) = (service.table("a"), service.table("b"));
    service.change(provide(owner, 1, &[a.id], &["a"]));
    service.change(provide(owner, 2, &[], &["c"]));
    for change in [
        CatalogChange::AlterTable(a.clone()),
        CatalogChange::DropTables(vec![b.id, a.id]),
        CatalogChange::DropIndexes(vec![a.indexes[0].id]),
        CatalogChange::Truncate(vec![a.id]),
        CatalogChange::StartMove { from: a.id, to: table("a") },
        CatalogChange::CreateTable(table("c")),
        CatalogChange::CreateTable(table("c_pkey")),
        CatalogChange::AlterTable(Table { name: "c".to_owned(), ..b.clone() }),
        provide(other(owner), 1, &[a.id], &[]),
        provide(other(owner), 1, &[], &["c"]),
    ] {
        assert!(is_blocked(&mut service, change.clone()), "{change:?}");
    }
    assert_eq!(refused(&service.begin(CatalogChange::CreateTable(table("b")))), SqlState::DUPLICATE_TABLE);
    assert_eq!(refused(&service.begin(provide(owner, 3, &[], &["b"]))), SqlState::DUPLICATE_TABLE);
    assert_eq!(refused(&service.begin(provide(owner, 3, &[], &["c"]))), SqlState::DUPLICATE_TABLE);
    service.change(CatalogChange::TakeBack { owner, number: 0 });
    service.change(provide(other(owner), 1, &[a.id], &["c"]));
    assert_eq!(names(&service, Some(other(owner))), "b c");
}

#[test]
fn nothing_is_left_of_a_dead_proxy() {
    let (mut service, owner) = begun();
    let before = service.catalog.tables.clone();
    let a = service.table("a").id;
    service.change(provide(owner, 1, &[a], &["a", "c"]));
    let mut next = service.metadata.state().clone();
    next.apply(Command::Fence { incarnation: owner.proxy });
    let back = CatalogChange::TakeBack { owner, number: 0 };
    assert_eq!(next.due(), Some(back.clone()), "the leader takes it back");
    let id = change_id(Incarnation(owner.proxy.0), 1, 1);
    let expected = next.catalog().version;
    let publish = CatalogChange::Publish { owner, participants: Vec::new() };
    let late = next.apply(Command::Change { id: None, expected, change: publish });
    assert!(matches!(late, Reply::Published(Err(ChangeError::Sql(_)))), "{late:?}");
    let more = next.apply(Command::Change { id: None, expected, change: provide(owner, 2, &[], &["d"]) });
    assert!(matches!(more, Reply::Changing(Err(ChangeError::Sql(_)))), "{more:?}");
    assert!(id.is_some());
    next.apply(Command::Change { id: None, expected, change: back });
    assert_eq!((next.catalog().tables.clone(), next.due()), (before, None));
}

fn inquire(service: &mut Service, transaction: TransactionId, body: InquiryBody) -> Vec<InquiryBody> {
    let inquiry = Inquiry { transaction, to: PartitionId::METADATA, from: PARTICIPANT, body };
    service.ask(NODE, ControlBody::Inquiry(inquiry));
    let told = service.take(|to, _| to == NODE);
    service.pushed();
    let of_it = |body| match body {
        NoticeBody::Inquiry(inquiry) => Some(inquiry.body),
        _ => None,
    };
    told.into_iter().filter_map(of_it).collect()
}

#[test]
fn participants_are_told_what_became_of_a_transaction() {
    let (mut service, owner) = begun();
    service.change(provide(owner, 1, &[], &["c"]));
    service.begin(CatalogChange::Publish { owner, participants: vec![PARTICIPANT] });
    service.take(|_, _| true);
    for _ in 0..2 {
        assert_eq!(inquire(&mut service, owner, InquiryBody::Ask), [InquiryBody::Tell(Fate::Committed)]);
    }
    assert_eq!(inquire(&mut service, owner, InquiryBody::Confirm), []);
    // Nobody is left who could not know.
    assert_eq!(inquire(&mut service, owner, InquiryBody::Ask), [InquiryBody::Tell(Fate::Aborted)]);
}

#[test]
fn a_participant_that_asks_first_makes_the_transaction_aborted() {
    for beside in [false, true] {
        let (mut service, owner) = begun();
        let before = service.catalog.tables.clone();
        let a = service.table("a").id;
        service.change(provide(owner, 1, &[a], &["c"]));
        if beside {
            service.begin(CatalogChange::CreateTable(table("z")));
        }
        assert_eq!(inquire(&mut service, owner, InquiryBody::Ask), [InquiryBody::Tell(Fate::Aborted)]);
        let publish = CatalogChange::Publish { owner, participants: vec![PARTICIPANT] };
        assert_eq!(refused(&service.begin(publish)), SqlState::SERIALIZATION_FAILURE);
        if beside {
            assert_eq!(service.confirm(Ok(())), done(5), "the other change");
        }
        service.confirm(Ok(()));
        let left = service.catalog.tables.iter().filter(|(_, table)| table.name != "z");
        assert!(left.eq(before.iter()));
    }
}

#[test]
fn a_commitment_does_not_wait_for_other_changes() {
    let (mut service, owner) = begun();
    let b = service.table("b");
    service.change(provide(owner, 1, &[], &["c"]));
    // This one may wait for the participants of the transaction.
    assert_eq!(service.begin(CatalogChange::Truncate(vec![b.id])), []);
    let participants = vec![PARTICIPANT];
    let publish = CatalogChange::Publish { owner, participants: participants.clone() };
    assert_eq!(service.begin(publish), done(5));
    assert_eq!(inquire(&mut service, owner, InquiryBody::Ask), [InquiryBody::Tell(Fate::Committed)]);
    assert_eq!(service.metadata.state().committed().collect::<Vec<_>>(), [owner]);
    service.begin(CatalogChange::TakeBack { owner, number: 0 });
    service.begin(CatalogChange::Forget { owner, participants });
    assert_eq!(names(&service, None), "a b");
    assert_eq!(service.confirm(Ok(())), done(5), "the other one");
    assert_eq!(names(&service, None), "a b c");
    let [NoticeBody::Changed(Ok(_)), NoticeBody::Changed(Ok(_))] = &service.confirm(Ok(()))[..] else { panic!() };
    assert_eq!(service.metadata.state().committed().count(), 0);
    assert_eq!(names(&service, None), "a b c");
}

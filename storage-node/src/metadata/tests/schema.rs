//! The metadata service's state machine by itself: forming, changing the catalog, taking changes back.

use super::super::change;
use super::super::solo::{Outbox, Solo};
use super::super::state::{Command, Founding, Reply};
use toroid_common::catalog::{Catalog, Distribution, Index, IndexColumn, IndexState, PUBLIC_SCHEMA, Table, TableState};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{
    CatalogVersion, ClusterId, Incarnation, IndexId, MapVersion, NodeId, RequestId, TableId, TransactionId, WorkerId,
};
use toroid_common::wire::{CatalogChange, ChangeError, ChangeId, Control, ControlBody, NodeAnnouncement, NoticeBody};
use toroid_engine::gate::Time;

pub(super) const PROXY: u64 = 1;

/// The service with two nodes (clients 11 and 12) and a watching proxy.
pub(super) struct Service {
    pub(super) metadata: Solo,
    now: Time,
    out: Outbox,
    pub(super) catalog: Catalog,
    number: u32,
}

impl Service {
    pub(super) fn formed() -> Service {
        let founding = Founding { cluster: ClusterId(5), nodes: 2, copies: 2, min_copies: 1, partitions: 8 };
        let mut service = Service {
            metadata: Solo::new(founding, Time(0)),
            now: Time(0),
            out: Vec::new(),
            catalog: Catalog::empty(),
            number: 0,
        };
        service.ask(PROXY, ControlBody::Watch);
        for node in [1, 2] {
            let announcement = NodeAnnouncement {
                node: NodeId(node),
                process: u64::from(node),
                control: ([127, 0, 0, 1], 1).into(),
                workers: vec![([127, 0, 0, 1], 100 + node as u16).into()],
                zone: String::new(),
                capacity: 1,
                member: None,
            };
            service.ask(10 + u64::from(node), ControlBody::Watch);
            let joined = service.ask(10 + u64::from(node), ControlBody::Join(announcement));
            assert!(matches!(joined[..], [NoticeBody::Joined { .. }]));
        }
        let map = service.pushed().into_iter().find_map(|body| match body {
            NoticeBody::Map(map) => Some(map),
            _ => None,
        });
        assert!(map.unwrap().partitions.iter().all(|partition| partition.backups.len() == 1));
        let applied = ControlBody::MapApplied { version: MapVersion(1) };
        service.ask(11, applied.clone());
        assert!(!service.pushed().contains(&NoticeBody::Ready));
        service.ask(12, applied);
        assert!(service.pushed().contains(&NoticeBody::Ready));
        service
    }

    /// Asks; returns the replies to that client that came at once.
    pub(super) fn ask(&mut self, client: u64, body: ControlBody) -> Vec<NoticeBody> {
        self.number += 1;
        self.metadata.control(client, Control { number: self.number, body }, self.now, &mut self.out);
        let number = self.number;
        self.take(|to, n| to == client && n == number)
    }

    pub(super) fn take(&mut self, wanted: impl Fn(u64, u32) -> bool) -> Vec<NoticeBody> {
        let taken: Vec<_> = self.out.extract_if(.., |(to, notice)| wanted(*to, notice.number)).collect();
        taken.into_iter().map(|(_, notice)| notice.body).collect()
    }

    /// What the proxy was pushed.
    pub(super) fn pushed(&mut self) -> Vec<NoticeBody> {
        let pushed = self.take(|to, number| to == PROXY && number == 0);
        for body in &pushed {
            if let NoticeBody::Catalog(catalog) = body {
                self.catalog = catalog.clone();
            }
        }
        pushed
    }

    pub(super) fn begin(&mut self, change: CatalogChange) -> Vec<NoticeBody> {
        let expected = self.catalog.version;
        let replies = self.ask(PROXY, ControlBody::Change { id: None, expected, change });
        self.pushed();
        replies
    }

    /// Both nodes confirm the present catalog, the second with this result; returns the replies to the proxy.
    pub(super) fn confirm(&mut self, result: Result<(), SqlError>) -> Vec<NoticeBody> {
        let version = self.catalog.version;
        let applied = |node, result| {
            let worker = WorkerId { node: NodeId(node), index: 0 };
            ControlBody::CatalogApplied { worker, version, map: MapVersion(1), result }
        };
        self.ask(11, applied(1, Ok(())));
        assert_eq!(self.take(|to, number| to == PROXY && number != 0), [], "one node is not all");
        self.ask(12, applied(2, result));
        self.pushed();
        self.take(|to, number| to == PROXY && number != 0)
    }

    pub(super) fn change(&mut self, change: CatalogChange) -> Vec<NoticeBody> {
        assert_eq!(self.begin(change), []);
        self.confirm(Ok(()))
    }

    pub(super) fn table(&self, name: &str) -> Table {
        Table::clone(self.catalog.find(PUBLIC_SCHEMA, name).unwrap())
    }
}

pub(super) fn index(name: &str) -> Index {
    Index {
        id: IndexId(0),
        name: name.to_owned(),
        columns: vec![IndexColumn { column: 0, descending: false, nulls_first: false }],
        unique: true,
        primary: false,
        constraint: false,
        state: IndexState::Ready,
    }
}

pub(super) fn table(name: &str) -> Table {
    Table {
        id: TableId(0),
        schema: PUBLIC_SCHEMA.to_owned(),
        name: name.to_owned(),
        version: CatalogVersion(0),
        columns: Vec::new(),
        indexes: vec![index(&format!("{name}_pkey"))],
        distribution: Distribution::Hash(vec![0]),
        state: TableState::Open,
        next_column: 1,
        generation: 0,
        checks: Vec::new(),
        options: Vec::new(),
    }
}

pub(super) fn done(version: u64) -> [NoticeBody; 1] {
    [NoticeBody::Changed(Ok(CatalogVersion(version)))]
}

#[test]
fn a_change_is_answered_when_all_nodes_have_it() {
    let mut service = Service::formed();
    assert_eq!(service.change(CatalogChange::CreateTable(table("a"))), done(2));
    let a = service.table("a");
    assert_eq!((a.version, a.indexes[0].state), (CatalogVersion(2), IndexState::Ready));
    assert!(a.id != TableId(0) && a.indexes[0].id.0 != a.id.0);
    assert_eq!(service.change(CatalogChange::Truncate(vec![a.id])), done(3));
    assert_eq!(service.table("a").generation, 1);
    assert_eq!(service.change(CatalogChange::DropTables(vec![a.id])), done(4));
    assert!(service.catalog.tables.is_empty());
    assert_eq!(service.change(CatalogChange::CreateTable(table("a"))), done(5));
    assert!(service.table("a").id > a.id, "identities are never used twice");
}

#[test]
fn of_two_changes_against_one_version_the_second_conflicts_if_the_first_concerns_it() {
    for (second, conflicts) in [("a", true), ("a_pkey", true), ("b", false)] {
        let mut service = Service::formed();
        let expected = service.catalog.version;
        assert_eq!(service.begin(CatalogChange::CreateTable(table("a"))), []);
        let change = CatalogChange::CreateTable(table(second));
        let asked = service.ask(PROXY, ControlBody::Change { id: None, expected, change });
        assert_eq!(asked, [], "it waits for the first");
        let have = CatalogVersion(2);
        let mut replies = vec![NoticeBody::Changed(Ok(have))];
        replies.extend(conflicts.then_some(NoticeBody::Changed(Err(ChangeError::Conflict { have }))));
        assert_eq!(service.confirm(Ok(())), replies, "{second}");
        if !conflicts {
            service.pushed();
            assert_eq!(service.confirm(Ok(())), done(3));
        }
    }
}

#[test]
fn a_change_holds_while_its_tables_are_as_they_were_and_its_names_free() {
    let mut service = Service::formed();
    for name in ["a", "b", "gone"] {
        service.change(CatalogChange::CreateTable(table(name)));
    }
    let [a, b, gone] = ["a", "b", "gone"].map(|name| service.table(name));
    let resolved = service.catalog.version;
    service.change(CatalogChange::DropTables(vec![gone.id]));
    let mut altered = a.clone();
    altered.indexes.push(index("more"));
    assert_eq!(service.begin(CatalogChange::AlterTable(altered)), []);
    service.confirm(Ok(()));
    service.confirm(Ok(()));
    let holds = |change| change::still_holds(&service.catalog, resolved, &change);
    let owner = TransactionId { proxy: Incarnation(1), number: 1 };
    let provide = |replaces: &[TableId], creates: &[&str]| CatalogChange::Provide {
        owner,
        number: 1,
        replaces: replaces.to_vec(),
        creates: creates.iter().map(|name| table(name)).collect(),
    };
    let with = |table: &Table, name| {
        let mut table = table.clone();
        table.indexes.push(index(name));
        CatalogChange::AlterTable(table)
    };
    assert!(holds(with(&b, "other")) && !holds(with(&b, "more")) && !holds(with(&a, "other")));
    assert!(holds(CatalogChange::Truncate(vec![b.id])) && !holds(CatalogChange::Truncate(vec![b.id, a.id])));
    assert!(holds(CatalogChange::DropTables(vec![b.id])) && !holds(CatalogChange::DropTables(vec![gone.id])));
    let (of_a, of_b) = (a.indexes[0].id, b.indexes[0].id);
    assert!(holds(CatalogChange::DropIndexes(vec![of_b])) && !holds(CatalogChange::DropIndexes(vec![of_b, of_a])));
    assert!(holds(provide(&[b.id], &["b", "c"])) && holds(provide(&[], &["gone"])));
    assert!(!holds(provide(&[a.id], &["c"])) && !holds(provide(&[b.id], &["more"])));
    let moves = |from: &Table, to| CatalogChange::StartMove { from: from.id, to: table(to) };
    assert!(holds(moves(&b, "c")) && !holds(moves(&a, "c")) && !holds(moves(&b, "more")));
    assert!(holds(CatalogChange::FinishMove { from: b.id }), "nobody else changes what is being moved");
}

#[test]
fn a_new_index_is_built_and_then_ready() {
    let mut service = Service::formed();
    service.change(CatalogChange::CreateTable(table("a")));
    let mut altered = service.table("a");
    altered.indexes.push(index("more"));
    assert_eq!(service.begin(CatalogChange::AlterTable(altered)), []);
    assert_eq!(service.table("a").indexes[1].state, IndexState::Building);
    assert_eq!(service.confirm(Ok(())), [], "being built is not enough");
    assert_eq!(service.table("a").indexes[1].state, IndexState::Ready);
    assert_eq!(service.confirm(Ok(())), done(4));
}

#[test]
fn an_index_that_rows_violate_is_taken_back() {
    let mut service = Service::formed();
    service.change(CatalogChange::CreateTable(table("a")));
    service.change(CatalogChange::CreateTable(table("b")));
    let (before, other) = (service.table("a"), service.table("b"));
    let mut altered = before.clone();
    altered.indexes.push(index("more"));
    assert_eq!(service.begin(CatalogChange::AlterTable(altered)), []);
    let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "could not create unique index \"more\"");
    assert_eq!(service.confirm(Err(error.clone())), []);
    let after = service.table("a");
    assert_eq!((after.indexes.len(), after.version), (1, CatalogVersion(5)));
    assert_eq!(service.table("b"), other, "what was not changed keeps its version");
    assert_eq!(service.confirm(Ok(())), [NoticeBody::Changed(Err(ChangeError::Sql(error)))]);
}

#[test]
fn a_move_ends_with_the_destination_under_the_old_name_or_not_at_all() {
    for finished in [true, false] {
        let mut service = Service::formed();
        service.change(CatalogChange::CreateTable(table("a")));
        let from = service.table("a").id;
        service.change(CatalogChange::StartMove { from, to: table("a") });
        let TableState::Moving { to } = service.table("a").state else { panic!() };
        assert_eq!(service.catalog.table(to).unwrap().state, TableState::Filling { from });
        let twice = service.begin(CatalogChange::StartMove { from, to: table("a") });
        assert!(matches!(&twice[..], [NoticeBody::Changed(Err(ChangeError::Sql(_)))]));
        match finished {
            true => service.change(CatalogChange::FinishMove { from }),
            false => service.change(CatalogChange::AbandonMove { from }),
        };
        assert_eq!(service.catalog.tables.len(), 1);
        let left = service.table("a");
        assert_eq!((left.id, left.state), (if finished { to } else { from }, TableState::Open));
    }
}

#[test]
fn a_name_is_given_once() {
    let mut service = Service::formed();
    service.change(CatalogChange::CreateTable(table("a")));
    let replies = service.begin(CatalogChange::CreateTable(table("a")));
    let [NoticeBody::Changed(Err(ChangeError::Sql(error)))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((error.state(), error.message()), (SqlState::DUPLICATE_TABLE, "relation \"a\" already exists"));
}

#[test]
fn only_the_process_that_joined_has_a_lease() {
    let mut service = Service::formed();
    let incarnation = toroid_common::id::Incarnation(2);
    let renew = |incarnation| ControlBody::RenewLease { node: NodeId(1), incarnation };
    assert_eq!(service.ask(11, renew(incarnation)), [NoticeBody::LeaseRenewed { term: 1 }]);
    let later = toroid_common::id::Incarnation(99);
    assert!(matches!(service.ask(11, renew(later))[..], [NoticeBody::Failed { .. }]));
}

/// An identity of this proxy's change, with what it may be told again.
pub(super) fn change_id(proxy: Incarnation, sequence: u64, low: u64) -> Option<ChangeId> {
    Some(ChangeId { request: RequestId { proxy, sequence }, low })
}

#[test]
fn a_change_that_is_asked_for_again_happens_once_and_is_answered_as_it_went() {
    let mut service = Service::formed();
    let NoticeBody::Incarnation(proxy) = service.ask(PROXY, ControlBody::AllocateIncarnation).remove(0) else {
        panic!()
    };
    let expected = service.catalog.version;
    let ask = |service: &mut Service, client, id, change| {
        let got = service.ask(client, ControlBody::Change { id, expected, change });
        service.pushed();
        got
    };
    let create = || CatalogChange::CreateTable(table("a"));
    let id = change_id(proxy, 1, 1);
    assert_eq!(ask(&mut service, PROXY, id, create()), []);
    // The connection is lost; another one asks while it is under way, and a third one afterwards.
    service.metadata.closed(PROXY, service.now, &mut service.out);
    const AGAIN: u64 = 2;
    service.ask(PROXY, ControlBody::Watch);
    assert_eq!(ask(&mut service, AGAIN, id, create()), []);
    service.confirm(Ok(()));
    assert_eq!(service.take(|to, number| to == AGAIN && number != 0), done(2));
    assert_eq!(ask(&mut service, AGAIN, id, create()), done(2));
    assert_eq!((service.catalog.version, service.catalog.tables.len()), (CatalogVersion(2), 1));
    // Another one is another one.
    let conflict = [NoticeBody::Changed(Err(ChangeError::Conflict { have: CatalogVersion(2) }))];
    assert_eq!(ask(&mut service, AGAIN, change_id(proxy, 2, 1), create()), conflict);
    assert_eq!(ask(&mut service, AGAIN, id, create()), done(2));
    // What the proxy does not wait for is forgotten.
    ask(&mut service, AGAIN, change_id(proxy, 3, 2), create());
    assert_eq!(
        ask(&mut service, AGAIN, id, create()),
        conflict,
        "its table is newer than what it was resolved against"
    );
    // Of a proxy that is not known to live nobody can tell.
    let unknown = ask(&mut service, AGAIN, change_id(Incarnation(99), 1, 1), create());
    let [NoticeBody::Changed(Err(ChangeError::Sql(error)))] = &unknown[..] else { panic!("{unknown:?}") };
    assert_eq!(error.state(), SqlState::STATEMENT_COMPLETION_UNKNOWN);
}

#[test]
fn the_next_leader_knows_how_a_change_ended() {
    let mut service = Service::formed();
    let NoticeBody::Incarnation(proxy) = service.ask(PROXY, ControlBody::AllocateIncarnation).remove(0) else {
        panic!()
    };
    let (id, expected) = (change_id(proxy, 1, 1), service.catalog.version);
    let again = || Command::Change { id, expected, change: CatalogChange::CreateTable(table("a")) };
    service.ask(PROXY, ControlBody::Change { id, expected, change: CatalogChange::CreateTable(table("a")) });
    service.pushed();
    // Whoever leads next has the state and nothing else.
    let mut under_way = service.metadata.state().clone();
    assert_eq!(under_way.apply(again()), Reply::Changing(Ok(CatalogVersion(2))));
    let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "no");
    service.confirm(Err(error.clone()));
    service.confirm(Ok(()));
    let mut ended = service.metadata.state().clone();
    assert_eq!(ended.apply(again()), Reply::Changed(Err(error)));
    ended.apply(Command::Fence { incarnation: proxy });
    assert!(
        matches!(ended.apply(again()), Reply::Changed(Err(error)) if error.state() == SqlState::STATEMENT_COMPLETION_UNKNOWN)
    );
}

//! Rounds of cuts: who shares them, what voids them, how long what was captured is kept.

use super::cluster::Cluster;
use std::collections::BTreeSet;
use toroid_common::id::{CutId, MapVersion, TransactionId, WorkerId};
use toroid_common::id::{Incarnation, PartitionId};
use toroid_common::wire::{Captured, ControlBody, LockWaits, NoticeBody};

const PROXY: u64 = 10;
const OTHER: u64 = 11;

/// What was pushed to a node about cuts since the last call.
fn pushed(cluster: &mut Cluster, node: u32) -> Vec<NoticeBody> {
    let (client, _) = cluster.nodes[&node];
    let taken: Vec<_> = cluster.out.extract_if(.., |(to, notice)| *to == client && notice.number == 0).collect();
    let about_cuts = |body: &NoticeBody| {
        matches!(
            body,
            NoticeBody::Capture { .. } | NoticeBody::Release { .. } | NoticeBody::DropCut(_) | NoticeBody::Cuts { .. }
        )
    };
    taken.into_iter().map(|(_, notice)| notice.body).filter(about_cuts).collect()
}

/// The cuts that a client was given since the last call.
fn given(cluster: &mut Cluster, client: u64) -> Vec<CutId> {
    let taken: Vec<_> = cluster.out.extract_if(.., |(to, _)| *to == client).collect();
    let cut = |body| if let NoticeBody::Cut { cut, .. } = body { Some(cut) } else { None };
    taken.into_iter().filter_map(|(_, notice)| cut(notice.body)).collect()
}

fn open(cluster: &mut Cluster, client: u64) {
    let replies = cluster.ask(client, ControlBody::OpenCut);
    assert_eq!(replies, [], "a cut takes a round");
}

/// The capture that a node was told of last.
fn capture(cluster: &mut Cluster, node: u32) -> (CutId, MapVersion) {
    match pushed(cluster, node)[..] {
        [.., NoticeBody::Capture { cut, map }] => (cut, map),
        ref other => panic!("{other:?}"),
    }
}

fn workers(cluster: &Cluster, node: u32) -> BTreeSet<WorkerId> {
    let primaries = cluster.map().partitions.iter().filter_map(|a| a.primary);
    primaries.filter(|worker| worker.node.0 == node).collect()
}

fn captured(cluster: &Cluster, worker: WorkerId, cut: CutId) -> Captured {
    let partitions = Some(cluster.map().primaries_of(worker).collect());
    Captured { worker, cut, partitions, pending: vec![], committed: vec![] }
}

fn say(cluster: &mut Cluster, captured: Captured) {
    let (client, _) = cluster.nodes[&captured.worker.node.0];
    cluster.ask(client, ControlBody::Captured(Box::new(captured)));
}

fn refuse(cluster: &mut Cluster, worker: WorkerId, cut: CutId) {
    say(cluster, Captured { worker, cut, partitions: None, pending: vec![], committed: vec![] });
}

/// All workers of these nodes have captured what they should.
fn answer(cluster: &mut Cluster, nodes: &[u32], cut: CutId) {
    for worker in nodes.iter().flat_map(|node| workers(cluster, *node)).collect::<Vec<_>>() {
        let captured = captured(cluster, worker, cut);
        say(cluster, captured);
    }
}

fn three_nodes() -> Cluster {
    let mut cluster = Cluster::of(3, 2, 16);
    (1..=3).for_each(|node| drop(pushed(&mut cluster, node)));
    cluster
}

fn release(cut: CutId) -> NoticeBody {
    NoticeBody::Release { cut, committed: Some(vec![]) }
}

fn void(cut: CutId) -> NoticeBody {
    NoticeBody::Release { cut, committed: None }
}

#[test]
fn whoever_asked_before_a_round_shares_it_and_others_wait_for_the_next() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (first, map) = capture(&mut cluster, 1);
    assert_eq!(map, cluster.map().version);
    // The round is under way: these share the next.
    open(&mut cluster, PROXY);
    open(&mut cluster, OTHER);
    assert_eq!((capture(&mut cluster, 2).0, capture(&mut cluster, 3).0), (first, first));
    answer(&mut cluster, &[1, 2], first);
    assert_eq!((given(&mut cluster, PROXY), pushed(&mut cluster, 1)), (vec![], vec![]));
    answer(&mut cluster, &[3], first);
    assert_eq!(given(&mut cluster, PROXY), [first]);
    let told = pushed(&mut cluster, 2);
    let [NoticeBody::Release { .. }, NoticeBody::Capture { cut: second, .. }] = told[..] else { panic!("{told:?}") };
    assert!(second > first);
    answer(&mut cluster, &[1, 2, 3], second);
    assert_eq!((given(&mut cluster, PROXY), given(&mut cluster, OTHER)), (vec![second], vec![second]));
}

#[test]
fn a_cut_is_kept_until_its_last_reader_lets_go_or_is_gone() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2, 3], cut);
    open(&mut cluster, PROXY);
    open(&mut cluster, PROXY);
    open(&mut cluster, OTHER);
    let (shared, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2, 3], shared);
    let (next, _) = capture(&mut cluster, 1);
    // Whoever asked for this one goes before it is there.
    assert_eq!(given(&mut cluster, PROXY), [cut, shared]);
    cluster.group.closed(OTHER, cluster.now, &mut cluster.out);
    answer(&mut cluster, &[1, 2, 3], next);
    assert_eq!(given(&mut cluster, PROXY), [next]);
    pushed(&mut cluster, 1);
    cluster.ask(OTHER, ControlBody::CloseCut(cut));
    assert_eq!(pushed(&mut cluster, 1), []);
    cluster.ask(PROXY, ControlBody::CloseCut(cut));
    assert_eq!(pushed(&mut cluster, 1), [NoticeBody::DropCut(cut)]);
    cluster.ask(PROXY, ControlBody::CloseCut(cut));
    assert_eq!(pushed(&mut cluster, 1), []);
    cluster.group.closed(PROXY, cluster.now, &mut cluster.out);
    assert_eq!(pushed(&mut cluster, 1), [NoticeBody::DropCut(shared), NoticeBody::DropCut(next)]);
}

#[test]
fn transactions_belong_to_a_cut_whose_anchor_knew_that_they_are_committed() {
    let mut cluster = three_nodes();
    let name = |number| TransactionId { proxy: Incarnation(9), number };
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    let all: Vec<WorkerId> = (1..=3).flat_map(|node| workers(&cluster, node)).collect();
    for (at, worker) in all.iter().enumerate() {
        let mut captured = captured(&cluster, *worker, cut);
        match at {
            0 => captured.pending = (1..=3).map(|number| (name(number), PartitionId(0))).collect(),
            1 => captured.committed = vec![name(2), name(7)],
            2 => captured.pending = vec![(name(2), PartitionId(0)), (name(4), PartitionId(1))],
            _ => captured.committed = vec![name(4)],
        }
        say(&mut cluster, captured);
    }
    assert_eq!(
        pushed(&mut cluster, 3).last(),
        Some(&NoticeBody::Release { cut, committed: Some(vec![name(2), name(4)]) })
    );
}

#[test]
fn what_the_metadata_group_decides_leaves_no_cut_in_doubt() {
    let mut cluster = three_nodes();
    open(&mut cluster, 50);
    let (cut, _) = capture(&mut cluster, 1);
    let undecided = TransactionId { proxy: Incarnation(40), number: 1 };
    for node in 1..=3 {
        for worker in workers(&cluster, node) {
            let held = captured(&cluster, worker, cut);
            say(&mut cluster, Captured { pending: vec![(undecided, PartitionId::METADATA)], ..held });
        }
    }
    assert!(pushed(&mut cluster, 1).contains(&release(cut)), "it is complete, without the transaction");
}

#[test]
fn a_round_that_a_worker_refuses_is_void_and_made_again() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2], cut);
    let third: Vec<WorkerId> = workers(&cluster, 3).into_iter().collect();
    refuse(&mut cluster, third[0], cut);
    assert_eq!(pushed(&mut cluster, 1), [void(cut)]);
    // The others of that node say what becomes of it, too.
    for worker in &third[1..] {
        refuse(&mut cluster, *worker, cut);
    }
    cluster.pass(50);
    let (again, _) = capture(&mut cluster, 1);
    // Other partitions, or one in another epoch, are not what is needed.
    let mut wrong = captured(&cluster, third[0], again);
    wrong.partitions.as_mut().unwrap()[0].1.0 += 1;
    say(&mut cluster, wrong);
    assert_eq!(pushed(&mut cluster, 1), [void(again)]);
    assert_eq!(given(&mut cluster, PROXY), []);
}

#[test]
fn a_round_that_takes_long_is_void_and_the_next_waits_for_the_silent_worker() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    let silent = workers(&cluster, 3).into_iter().next().unwrap();
    answer(&mut cluster, &[1, 2], cut);
    workers(&cluster, 3).into_iter().skip(1).for_each(|worker| {
        let captured = captured(&cluster, worker, cut);
        say(&mut cluster, captured);
    });
    cluster.pass(50);
    assert_eq!(pushed(&mut cluster, 1), []);
    cluster.pass(50);
    assert_eq!(pushed(&mut cluster, 1), [void(cut)]);
    cluster.pass(300);
    assert_eq!(pushed(&mut cluster, 1), []);
    // It is back. What it captured is of no use any more.
    let late = captured(&cluster, silent, cut);
    say(&mut cluster, late);
    let (again, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2, 3], again);
    assert_eq!(given(&mut cluster, PROXY), [again]);
}

#[test]
fn a_leader_that_was_stopped_for_long_does_not_complete_its_round() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2], cut);
    cluster.now = cluster.now.after(150_000);
    answer(&mut cluster, &[3], cut);
    assert_eq!((pushed(&mut cluster, 1), given(&mut cluster, PROXY)), (vec![void(cut)], vec![]));
}

#[test]
fn a_new_map_voids_the_round_and_the_next_is_made_with_it() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, before) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2], cut);
    cluster.kill(3);
    // Its line is gone: it cannot answer, and no round begins without it.
    assert_eq!(pushed(&mut cluster, 1), [void(cut)]);
    workers(&cluster, 2).into_iter().for_each(|worker| refuse(&mut cluster, worker, cut));
    cluster.pass(200);
    assert_eq!(pushed(&mut cluster, 1), []);
    // Maps follow each other until all has been repaired.
    let again = (0..40).find_map(|_| {
        cluster.pass(50);
        for body in pushed(&mut cluster, 1) {
            if let NoticeBody::Capture { cut, map } = body {
                assert!(map > before && workers(&cluster, 3).is_empty());
                answer(&mut cluster, &[1, 2], cut);
            }
        }
        given(&mut cluster, PROXY).pop()
    });
    assert!(again.is_some_and(|again| again > cut));
}

#[test]
fn lost_partitions_belong_to_no_cut() {
    let mut cluster = Cluster::of(3, 1, 16);
    cluster.kill(3);
    cluster.pass(1_000);
    assert!(cluster.map().partitions.iter().any(|a| cluster.state().is_lost(a)));
    (1..=2).for_each(|node| drop(pushed(&mut cluster, node)));
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2], cut);
    assert_eq!(given(&mut cluster, PROXY), [cut]);
    // What happened to a transaction that a lost partition should know of cannot be told.
    let lost = cluster.map().partitions.iter().position(|a| cluster.state().is_lost(a)).unwrap();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    let first = workers(&cluster, 1).into_iter().next().unwrap();
    let mut doubtful = captured(&cluster, first, cut);
    let name = TransactionId { proxy: Incarnation(9), number: 1 };
    doubtful.pending = vec![(name, PartitionId(lost as u16))];
    say(&mut cluster, doubtful);
    answer(&mut cluster, &[1, 2], cut);
    assert_eq!(pushed(&mut cluster, 1), [void(cut)]);
}

#[test]
fn a_cut_is_given_at_once_while_every_partition_is_lost() {
    let mut cluster = Cluster::of(3, 1, 16);
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.pass(1_000);
    assert!(cluster.map().partitions.iter().all(|a| cluster.state().is_lost(a)));
    let replies = cluster.ask(PROXY, ControlBody::OpenCut);
    assert!(matches!(replies[..], [NoticeBody::Cut { .. }]), "{replies:?}");
}

#[test]
fn a_new_leader_knows_of_no_reader_and_says_so_to_the_nodes() {
    let mut cluster = three_nodes();
    open(&mut cluster, PROXY);
    let (cut, _) = capture(&mut cluster, 1);
    answer(&mut cluster, &[1, 2, 3], cut);
    let (client, _) = cluster.nodes[&1];
    pushed(&mut cluster, 1);
    // Over a new line the node hears which cuts are read.
    cluster.ask(client, ControlBody::Watch);
    assert_eq!(pushed(&mut cluster, 1), [NoticeBody::Cuts { term: 1, read: vec![cut] }]);
    cluster.group.elect(cluster.now);
    let nodes: Vec<u32> = cluster.nodes.keys().copied().collect();
    let processes: Vec<u64> =
        nodes.iter().map(|node| cluster.state().members()[&toroid_common::id::NodeId(*node)].process).collect();
    for (node, process) in nodes.iter().zip(processes) {
        cluster.join(*node, process).unwrap();
        let told = pushed(&mut cluster, *node);
        assert_eq!(told, [NoticeBody::Cuts { term: 2, read: vec![] }]);
    }
    open(&mut cluster, PROXY);
    let (later, _) = capture(&mut cluster, 1);
    assert!(later.term == 2 && later > cut);
    // The former leader's cut is not this one's to drop.
    cluster.ask(PROXY, ControlBody::CloseCut(cut));
    assert_eq!(pushed(&mut cluster, 1), []);
    answer(&mut cluster, &[1, 2, 3], later);
    assert_eq!(pushed(&mut cluster, 1), [release(later)]);
}

#[test]
fn a_circle_of_waits_is_told_to_the_node_of_its_victim() {
    let mut cluster = three_nodes();
    let name = |number| TransactionId { proxy: Incarnation(9), number };
    let wait = |number: u64, holder: u64| {
        let holders = vec![(name(holder), holder as u32)];
        LockWaits { transaction: name(number), process: number as u32, wait: 5, yields: false, holders }
    };
    let worker = |node| WorkerId { node: toroid_common::id::NodeId(node), index: 1 };
    let clients = [cluster.nodes[&1].0, cluster.nodes[&2].0];
    for _ in 0..2 {
        cluster.ask(clients[0], ControlBody::Waits { worker: worker(1), waits: vec![wait(1, 2)] });
        // Nobody speaks for another node.
        cluster.ask(clients[0], ControlBody::Waits { worker: worker(2), waits: vec![] });
        cluster.ask(clients[1], ControlBody::Waits { worker: worker(2), waits: vec![wait(2, 1)] });
    }
    let told: Vec<_> = cluster.out.extract_if(.., |(_, n)| matches!(n.body, NoticeBody::Deadlock { .. })).collect();
    let [(client, notice)] = &told[..] else { panic!("{told:?}") };
    let NoticeBody::Deadlock { worker: at, transaction, wait, .. } = &notice.body else { unreachable!() };
    assert_eq!((*client, *at, *transaction, *wait), (clients[1], worker(2), name(2), 5));
}

//! What the planner makes of a cluster that grows, shrinks and breaks: bounded, repair first, nothing that the ring does not require.

use super::cluster::{Cluster, OPERATOR, golden};
use toroid_common::id::{NodeId, PartitionId};
use toroid_common::map::NodeState;
use toroid_common::wire::{ControlBody, NodeLife, NodeLoad, NoticeBody, Reconfigure};

fn primaries(cluster: &Cluster, node: u32) -> usize {
    cluster.map().partitions.iter().filter(|a| a.primary.is_some_and(|p| p.node.0 == node)).count()
}

fn done(replies: Vec<NoticeBody>) {
    assert_eq!(replies, [NoticeBody::Done]);
}

#[test]
fn three_nodes_become_four_and_three_again() {
    let mut cluster = Cluster::of(3, 2, 16);
    cluster.assert_settled();
    assert_eq!(cluster.state().moves(), Default::default(), "forming moves nothing");
    cluster.note("node 4 joins");
    cluster.start(4);
    cluster.pass(5_000);
    cluster.assert_settled();
    let grown = cluster.state().moves();
    assert!(grown.required > 0 && grown.moved == grown.required && grown.repaired == 0, "{grown:?}");
    assert!(primaries(&cluster, 4) >= 3);
    cluster.note("node 4 is drained");
    done(cluster.ask(OPERATOR, ControlBody::Drain { node: NodeId(4) }));
    assert!(matches!(&cluster.ask(OPERATOR, ControlBody::Remove { node: NodeId(4) })[..], [NoticeBody::Failed { .. }]));
    cluster.pass(5_000);
    cluster.assert_settled();
    assert!(!cluster.state().names(NodeId(4)));
    let shrunk = cluster.state().moves();
    assert!(shrunk.moved == shrunk.required && shrunk.repaired == 0, "{shrunk:?}");
    assert!(cluster.most.0 <= 2, "{} replicas joined at a time", cluster.most.0);
    assert!(cluster.most.1 <= 2, "{} primaries handed over at a time", cluster.most.1);
    cluster.note("node 4 is removed");
    done(cluster.ask(OPERATOR, ControlBody::Remove { node: NodeId(4) }));
    assert!(cluster.map().node(NodeId(4)).is_none());
    let (client, _) = cluster.nodes.remove(&4).unwrap();
    let renew = ControlBody::RenewLease { node: NodeId(4), incarnation: Default::default() };
    assert!(matches!(&cluster.ask(client, renew)[..], [NoticeBody::Failed { .. }]));
    golden("three_four_three", &cluster.trace);
}

#[test]
fn lost_replicas_are_made_again_where_they_were_when_the_node_returns_in_time() {
    let mut cluster = Cluster::of(3, 2, 8);
    cluster.note("node 2 dies");
    cluster.kill(2);
    cluster.pass(700);
    assert!(!cluster.state().names(NodeId(2)));
    let status = cluster.status();
    assert!(!status.under_replicated.is_empty() && status.lost.is_empty() && status.joining.is_empty());
    cluster.note("node 2 is back");
    cluster.start(2);
    cluster.pass(3_000);
    cluster.assert_settled();
    let moves = cluster.state().moves();
    assert!(moves.required == 0 && moves.moved == 0 && moves.repaired > 0, "{moves:?}");
    golden("back_in_time", &cluster.trace);
}

#[test]
fn a_node_that_stays_away_is_replaced_and_repair_comes_before_balance() {
    let mut cluster = Cluster::of(4, 2, 16);
    cluster.obedient = false;
    cluster.start(5);
    cluster.pass(300);
    let moving = |cluster: &Cluster| cluster.map().partitions.iter().map(|a| a.joining.len()).sum::<usize>();
    assert_eq!(moving(&cluster), 1, "a new node takes one replica at a time");
    cluster.kill(2);
    cluster.pass(3_500);
    let joining =
        |cluster: &Cluster| cluster.map().partitions.iter().flat_map(|a| a.joining.clone()).collect::<Vec<_>>();
    assert!(
        joining(&cluster).iter().all(|worker| worker.node.0 == 5),
        "it is waited for, but where the ring had left it"
    );
    let before = moving(&cluster);
    cluster.pass(1_000);
    assert_eq!(cluster.state().member(NodeId(2)).unwrap().life, NodeLife::Away);
    assert!(moving(&cluster) > before + 1, "repair has wider bounds");
    cluster.obedient = true;
    cluster.pass(8_000);
    cluster.assert_settled();
    let moves = cluster.state().moves();
    assert!(moves.moved == moves.required, "{moves:?}");
}

#[test]
fn copies_are_changed_up_and_down() {
    let mut cluster = Cluster::of(3, 2, 8);
    cluster.note("three copies");
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 3, min_copies: None }));
    cluster.pass(3_000);
    cluster.assert_settled();
    assert!(cluster.partitions().all(|p| cluster.copies_of(p).len() == 3));
    cluster.note("one copy");
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 1, min_copies: None }));
    cluster.pass(4_000);
    cluster.assert_settled();
    assert!(cluster.partitions().all(|p| cluster.copies_of(p).len() == 1));
    let moves = cluster.state().moves();
    assert_eq!((moves.moved, moves.required), (8, 8));
    golden("copies", &cluster.trace);
    for copies in [0, 4, 9] {
        let reply = cluster.ask(OPERATOR, ControlBody::SetCopies { copies, min_copies: None });
        assert!(matches!(&reply[..], [NoticeBody::Failed { .. }]), "{copies}: {reply:?}");
    }
}

#[test]
fn a_node_is_only_drained_where_others_can_take_over() {
    let mut cluster = Cluster::of(2, 2, 4);
    for node in [1, 9] {
        let reply = cluster.ask(OPERATOR, ControlBody::Drain { node: NodeId(node) });
        assert!(matches!(&reply[..], [NoticeBody::Failed { .. }]), "{reply:?}");
    }
    assert!(cluster.map().nodes.iter().all(|node| node.state == NodeState::Serving));
}

#[test]
fn a_node_that_stops_hands_its_primaries_over_and_is_let_go() {
    let mut cluster = Cluster::of(3, 2, 8);
    let had = primaries(&cluster, 1);
    let (client, incarnation) = cluster.nodes[&1];
    cluster.note("node 1 is to stop");
    assert_eq!(cluster.ask(client, ControlBody::Leave { node: NodeId(1), incarnation }), []);
    let named = cluster.map().partitions.iter().filter(|a| a.successor.is_some()).count();
    assert_eq!(named, had, "all at once");
    cluster.out.clear();
    cluster.pass(200);
    assert!(cluster.out.iter().any(|(to, notice)| *to == client && notice.body == NoticeBody::Done));
    assert!(!cluster.state().names(NodeId(1)));
    assert!(cluster.status().lost.is_empty());
    golden("leave", &cluster.trace);
    let renew = ControlBody::RenewLease { node: NodeId(1), incarnation };
    assert!(matches!(&cluster.ask(client, renew)[..], [NoticeBody::Failed { .. }]), "its lease is over");
    assert_eq!(cluster.state().member(NodeId(1)).unwrap().life, NodeLife::Down);
    cluster.kill(1);
    cluster.start(1);
    cluster.pass(3_000);
    cluster.assert_settled();
}

/// What the node was told that waits to stop.
fn told(cluster: &Cluster, client: u64) -> Option<NoticeBody> {
    let told = |body: &NoticeBody| matches!(body, NoticeBody::Done | NoticeBody::GivenUp(_));
    cluster.out.iter().find(|(to, notice)| *to == client && told(&notice.body)).map(|(_, notice)| notice.body.clone())
}

fn leave(cluster: &mut Cluster, node: u32) -> u64 {
    let (client, incarnation) = cluster.nodes[&node];
    cluster.out.clear();
    assert_eq!(cluster.ask(client, ControlBody::Leave { node: NodeId(node), incarnation }), []);
    client
}

/// Node 1 is back as a new process, and has nothing yet of what only node 2 has.
fn with_a_newcomer(nodes: u32) -> Cluster {
    let mut cluster = Cluster::of(nodes, 2, 8);
    cluster.obedient = false;
    cluster.kill(1);
    cluster.pass(700);
    cluster.start(1);
    cluster.pass(300);
    assert!(cluster.map().partitions.iter().any(|a| a.backups.is_empty() && a.joining.iter().any(|w| w.node.0 == 1)));
    cluster
}

#[test]
fn a_node_that_alone_has_rows_stays_until_a_joining_replica_has_them() {
    let mut cluster = with_a_newcomer(3);
    let client = leave(&mut cluster, 2);
    cluster.pass(5_000);
    assert_eq!(told(&cluster, client), None);
    cluster.obedient = true;
    cluster.pass(1_000);
    assert_eq!(told(&cluster, client), Some(NoticeBody::Done));
    cluster.kill(2);
    cluster.start(2);
    cluster.pass(3_000);
    assert!(cluster.status().lost.is_empty());
    cluster.assert_settled();
}

#[test]
fn what_only_a_node_has_that_stops_goes_wherever_there_is_room() {
    let mut cluster = Cluster::of(3, 2, 8);
    cluster.silence(1);
    cluster.pass(700);
    let client = leave(&mut cluster, 2);
    cluster.pass(1_000);
    assert_eq!(told(&cluster, client), Some(NoticeBody::Done), "node 3 takes what the ring wants on 1 and 2");
    assert!(cluster.partitions().all(|p| cluster.copies_of(p) == [3].into()));
    let moves = cluster.state().moves();
    assert!(moves.moved == moves.required && moves.repaired > 0, "{moves:?}");
    let mut single = Cluster::of(2, 1, 8);
    let client = leave(&mut single, 1);
    single.pass(1_000);
    assert_eq!(told(&single, client), Some(NoticeBody::Done));
    assert!(single.status().lost.is_empty() && !single.state().names(NodeId(1)));
}

#[test]
fn patience_with_a_node_that_nobody_relieves_ends_and_says_what_is_given_up() {
    let mut cluster = with_a_newcomer(2);
    let client = leave(&mut cluster, 2);
    let alone = cluster.partitions().filter(|p| cluster.copies_of(*p) == [2].into()).map(PartitionId).collect();
    cluster.pass(9_800);
    assert_eq!(told(&cluster, client), None);
    cluster.pass(400);
    assert_eq!(told(&cluster, client), Some(NoticeBody::GivenUp(alone)));
}

#[test]
fn progress_prolongs_patience_but_not_for_ever() {
    let mut cluster = with_a_newcomer(2);
    let client = leave(&mut cluster, 2);
    let (joining, incarnation) = cluster.nodes[&1];
    for second in 1..=61 {
        assert_eq!(told(&cluster, client), None, "after {second} s");
        cluster.pass(1_000);
        let arrived = cluster.partitions().map(|p| (PartitionId(p), second)).collect();
        let load = NodeLoad { memory: 0, limit: 0, arrived };
        cluster.ask(joining, ControlBody::Load { node: NodeId(1), incarnation, load });
        if second == 60 {
            break;
        }
    }
    cluster.pass(200);
    assert!(matches!(told(&cluster, client), Some(NoticeBody::GivenUp(_))));
}

#[test]
fn a_cluster_that_stops_as_a_whole_waits_for_nobody() {
    let mut cluster = Cluster::of(3, 2, 8);
    let clients: Vec<u64> = (1..=3).map(|node| cluster.nodes[&node].0).collect();
    cluster.obedient = false;
    let mut last = Vec::new();
    for node in 1..=3 {
        let (client, incarnation) = cluster.nodes[&node];
        last = cluster.ask(client, ControlBody::Leave { node: NodeId(node), incarnation });
    }
    assert_eq!(last.len(), 1, "the last is told at once");
    assert!(clients.iter().take(2).all(|client| told(&cluster, *client).is_some()), "and so are the others");
    // None of them has ended yet, and each may answer under its lease.
    let before: Vec<_> = (0..8).map(|partition| cluster.assignment(partition).primary).collect();
    cluster.silence(1);
    cluster.pass(500);
    assert!((0..8).all(|partition| cluster.assignment(partition).primary == before[usize::from(partition)]));
    cluster.pass(300);
    assert!((0..8).all(|p| cluster.assignment(p).primary.is_none_or(|primary| primary.node != NodeId(1))));
}

#[test]
fn no_backup_is_dropped_below_the_floor() {
    let mut cluster = Cluster::of(4, 3, 8);
    let refused = cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 3, min_copies: Some(4) });
    assert!(matches!(&refused[..], [NoticeBody::Failed { reason }] if reason.contains("from 1 to 3")), "{refused:?}");
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 3, min_copies: Some(2) }));
    assert_eq!((cluster.status().copies, cluster.status().min_copies), (3, 2));
    cluster.obedient = false;
    let backups = cluster.assignment(0).backups.clone();
    let drop = |cluster: &mut Cluster, at: usize| {
        cluster.propose(0, Reconfigure::DropBackup { worker: backups[at] });
        cluster.assignment(0).backups.len()
    };
    assert_eq!(drop(&mut cluster, 0), 1);
    assert_eq!(drop(&mut cluster, 1), 1, "writes wait instead");
    // A silent backup is not given up either where too few others are heard of.
    cluster.silence(backups[1].node.0);
    cluster.pass(700);
    assert_eq!(cluster.assignment(0).backups, backups[1..]);
    cluster.obedient = true;
    cluster.pass(8_000);
    assert_eq!(cluster.copies_of(0).len(), 3, "others have taken their places");
    // A floor that was not named goes down with the copies.
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 1, min_copies: None }));
    assert_eq!(cluster.status().min_copies, 1);
}

#[test]
fn a_silent_backup_that_the_floor_keeps_is_replaced_and_then_removed() {
    let mut cluster = Cluster::of(3, 2, 8);
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 2, min_copies: Some(2) }));
    cluster.obedient = false;
    let silent = cluster.assignment(0).backups[0];
    cluster.silence(silent.node.0);
    cluster.pass(1_000);
    let refused = cluster.ask(OPERATOR, ControlBody::Remove { node: silent.node });
    assert!(matches!(&refused[..], [NoticeBody::Failed { reason }] if reason.contains("too few")), "{refused:?}");
    for _ in 0..100 {
        cluster.pass(100);
        for partition in 0..8 {
            let assignment = cluster.assignment(partition).clone();
            let Some(by) = assignment.joining.first().copied() else { continue };
            let incarnation = cluster.nodes[&by.node.0].1;
            cluster.propose(
                partition,
                match assignment.backups.first() {
                    Some(backup) => Reconfigure::Replace { silent: *backup, by, incarnation },
                    None => Reconfigure::Admit { worker: by, incarnation },
                },
            );
            assert_eq!(cluster.assignment(partition).copies(), 2);
        }
    }
    assert!((0..8).all(|partition| cluster.copies_of(partition).len() == 2));
    done(cluster.ask(OPERATOR, ControlBody::Remove { node: silent.node }));
}

//! What the planner makes of a cluster that grows, shrinks and breaks: bounded, repair first, nothing that the ring does not require.

use super::cluster::{Cluster, OPERATOR, golden};
use toroid_common::id::NodeId;
use toroid_common::map::NodeState;
use toroid_common::wire::{ControlBody, NodeLife, NoticeBody};

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
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 3 }));
    cluster.pass(3_000);
    cluster.assert_settled();
    assert!(cluster.partitions().all(|p| cluster.copies_of(p).len() == 3));
    cluster.note("one copy");
    done(cluster.ask(OPERATOR, ControlBody::SetCopies { copies: 1 }));
    cluster.pass(4_000);
    cluster.assert_settled();
    assert!(cluster.partitions().all(|p| cluster.copies_of(p).len() == 1));
    let moves = cluster.state().moves();
    assert_eq!((moves.moved, moves.required), (8, 8));
    golden("copies", &cluster.trace);
    for copies in [0, 4, 9] {
        let reply = cluster.ask(OPERATOR, ControlBody::SetCopies { copies });
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

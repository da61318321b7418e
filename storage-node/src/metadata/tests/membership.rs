//! Who is primary when nodes fall silent, come back, or come twice; what primaries may ask for.

use super::cluster::{Cluster, OPERATOR, announcement, text};
use toroid_common::id::{Epoch, MapVersion, NodeId, PartitionId, WorkerId};
use toroid_common::wire::{ControlBody, NodeLife, NoticeBody, Proposal, Reconfigure};

fn only_backup(cluster: &Cluster, partition: u16) -> WorkerId {
    cluster.assignment(partition).backups[0]
}

/// A partition whose primary is on this node.
fn primary_of(cluster: &Cluster, node: u32) -> u16 {
    let on = |a: &&toroid_common::map::Assignment| a.primary.is_some_and(|p| p.node.0 == node);
    cluster.map().partitions.iter().position(|a| on(&a)).unwrap() as u16
}

#[test]
fn the_first_map_waits_for_the_nodes_that_are_named_but_not_for_ever() {
    let mut cluster = Cluster::founded(3, 2, 8);
    cluster.start(1);
    cluster.pass(11_000);
    assert!(cluster.state().map().is_none(), "one node is too few for two copies");
    cluster.start(2);
    cluster.pass(100);
    assert_eq!(cluster.map().nodes.len(), 2, "ten seconds are over");
    let mut cluster = Cluster::founded(3, 2, 8);
    (1..=2).for_each(|node| cluster.start(node));
    cluster.pass(9_000);
    assert!(cluster.state().map().is_none());
    cluster.start(3);
    cluster.pass(100);
    assert_eq!(cluster.map().nodes.len(), 3);
    assert!(cluster.state().is_ready());
}

#[test]
fn nodes_without_a_number_get_the_next() {
    let mut cluster = Cluster::founded(2, 1, 4);
    cluster.start(7);
    cluster.join(0, 55).unwrap();
    cluster.join(0, 55).unwrap();
    assert!(cluster.state().members().keys().copied().eq([NodeId(7), NodeId(8)]));
}

#[test]
fn a_backup_takes_over_after_the_grace_period_and_not_before() {
    let mut cluster = Cluster::of(3, 2, 8);
    let partition = primary_of(&cluster, 1);
    let (before, backup) = (cluster.assignment(partition).clone(), only_backup(&cluster, partition));
    cluster.silence(1);
    cluster.pass(550);
    assert_eq!(*cluster.assignment(partition), before);
    cluster.pass(100);
    let after = cluster.assignment(partition);
    assert_eq!((after.primary, after.epoch), (Some(backup), before.epoch.next()));
    assert!(!cluster.state().names(NodeId(1)), "it is nobody's backup, either");
}

#[test]
fn the_last_replica_is_waited_for_until_its_process_is_known_to_have_ended() {
    let mut cluster = Cluster::of(2, 1, 4);
    let partition = primary_of(&cluster, 1);
    let before = cluster.assignment(partition).clone();
    let paused = cluster.silence(1);
    cluster.pass(5_000);
    assert_eq!(*cluster.assignment(partition), before);
    assert!(cluster.status().lost.contains(&PartitionId(partition)), "it says so");
    cluster.nodes.insert(1, paused);
    cluster.pass(300);
    assert!(cluster.status().lost.is_empty(), "it had only been paused");
    cluster.kill(1);
    cluster.pass(1_000);
    cluster.start(1);
    assert_eq!(cluster.assignment(partition).primary, None, "{}", text(cluster.assignment(partition)));
    cluster.pass(5_000);
    assert_eq!(cluster.assignment(partition).primary, None, "it never comes back empty on its own");
    let recovered = cluster.ask(OPERATOR, ControlBody::Recover { id: 1 });
    let [NoticeBody::Recovered(partitions)] = &recovered[..] else { panic!("{recovered:?}") };
    assert!(partitions.contains(&PartitionId(partition)));
    let after = cluster.assignment(partition);
    assert!(after.primary.is_some() && after.origin == after.epoch && after.epoch > before.epoch);
    let epoch = after.epoch;
    let again = cluster.ask(OPERATOR, ControlBody::Recover { id: 1 });
    assert_eq!(again, recovered, "who asks again, because the answer was lost, is told what was lost");
    assert_eq!(cluster.assignment(partition).epoch, epoch, "and nothing is lost twice");
    let another = cluster.ask(OPERATOR, ControlBody::Recover { id: 2 });
    assert_eq!(another, [NoticeBody::Recovered(Vec::new())]);
}

#[test]
fn a_process_that_comes_back_waits_until_nothing_names_its_former_life() {
    let mut cluster = Cluster::of(3, 2, 8);
    let former = cluster.nodes[&1].1;
    let backed = (0..8).find(|p| cluster.assignment(*p).backups.iter().any(|w| w.node.0 == 1)).unwrap();
    cluster.kill(1);
    let wait = cluster.join(1, 77).unwrap_err();
    assert!(wait.contains("try again"), "{wait}");
    assert!(!cluster.copies_of(backed).contains(&1), "its backups are gone at once");
    assert!(cluster.map().partitions.iter().any(|a| a.primary.is_some_and(|p| p.node.0 == 1)), "its primaries wait");
    assert_eq!(cluster.map().node(NodeId(1)).unwrap().incarnation, former);
    cluster.pass(700);
    assert!(!cluster.state().names(NodeId(1)));
    cluster.join(1, 77).unwrap();
    assert!(cluster.map().node(NodeId(1)).unwrap().incarnation > former);
}

#[test]
fn of_two_processes_with_one_number_the_first_lives_on() {
    let mut cluster = Cluster::of(3, 2, 8);
    let before = cluster.map().partitions.clone();
    for _ in 0..20 {
        let refused = cluster.join(2, 99).unwrap_err();
        assert!(refused.contains("another process is node 2"), "{refused}");
        cluster.pass(100);
    }
    assert_eq!(cluster.map().partitions, before);
    // After an election nobody's connection is known: the first must not be taken for dead.
    let now = cluster.now;
    cluster.group.elect(now);
    cluster.join(2, 99).unwrap_err();
    assert_eq!(cluster.map().partitions, before);
}

#[test]
fn the_same_process_over_a_new_connection_keeps_its_incarnation() {
    let mut cluster = Cluster::founded(1, 1, 4);
    cluster.join(1, 5).unwrap();
    let first = cluster.nodes[&1].1;
    cluster.join(1, 5).unwrap();
    assert_eq!(cluster.nodes[&1].1, first);
}

#[test]
fn a_backup_is_dropped_at_its_primarys_wish_but_not_below_the_floor() {
    let mut cluster = Cluster::of(3, 2, 8);
    cluster.obedient = false;
    let worker = only_backup(&cluster, 0);
    let epoch = cluster.assignment(0).epoch;
    cluster.propose(0, Reconfigure::DropBackup { worker });
    assert!(cluster.assignment(0).backups.is_empty() && cluster.assignment(0).epoch == epoch.next());
    cluster.pass(200);
    assert!(cluster.assignment(0).joining.is_empty(), "it needs a moment");
    cluster.pass(500);
    let joining = cluster.assignment(0).joining[0];
    assert_eq!(joining.node, worker.node);
    let epoch = cluster.assignment(0).epoch;
    cluster.propose(0, Reconfigure::DropJoining { worker: joining });
    assert!(cluster.assignment(0).joining.is_empty() && cluster.assignment(0).epoch == epoch.next());
}

#[test]
fn proposals_of_others_of_other_epochs_and_of_other_lives_do_nothing() {
    let mut cluster = Cluster::of(3, 2, 8);
    cluster.obedient = false;
    let before = cluster.assignment(0).clone();
    let (primary, backup) = (before.primary.unwrap(), before.backups[0]);
    let mut propose = |node: u32, epoch: Epoch, change: Reconfigure| {
        let client = cluster.nodes[&node].0;
        cluster.ask(client, ControlBody::Propose(Proposal { partition: PartitionId(0), epoch, change }));
        assert_eq!(*cluster.assignment(0), before);
    };
    let drop = Reconfigure::DropBackup { worker: backup };
    propose(backup.node.0, before.epoch, drop);
    propose(primary.node.0, before.epoch.next(), drop);
    propose(primary.node.0, before.epoch, Reconfigure::DropBackup { worker: primary });
    propose(primary.node.0, before.epoch, Reconfigure::HandOver { since: MapVersion(1) });
    let incarnation = cluster.nodes[&backup.node.0].1;
    let mut propose = |node: u32, change: Reconfigure| {
        let client = cluster.nodes[&node].0;
        let proposal = Proposal { partition: PartitionId(0), epoch: before.epoch, change };
        cluster.ask(client, ControlBody::Propose(proposal));
        assert_eq!(*cluster.assignment(0), before);
    };
    propose(primary.node.0, Reconfigure::Admit { worker: backup, incarnation });
}

#[test]
fn a_node_that_was_silent_is_used_again_when_it_is_heard_of() {
    let mut cluster = Cluster::of(3, 2, 8);
    let paused = cluster.silence(3);
    cluster.pass(1_000);
    assert_eq!(cluster.state().member(NodeId(3)).unwrap().life, NodeLife::Down);
    cluster.nodes.insert(3, paused);
    cluster.pass(3_000);
    assert_eq!(cluster.state().member(NodeId(3)).unwrap().life, NodeLife::Up);
    assert_eq!(cluster.map().node(NodeId(3)).unwrap().incarnation, paused.1);
    cluster.assert_settled();
    let status = cluster.status();
    assert_eq!((status.expired, status.returned), (1, 1));
}

/// Both nodes of a partition fall silent; the primary's is gone for good, its backup's was cut off.
#[test]
fn a_backup_that_comes_back_alone_is_promoted_however_it_comes_back() {
    for by_join in [false, true] {
        let mut cluster = Cluster::of(3, 2, 8);
        let of_both = |a: &toroid_common::map::Assignment| {
            a.primary.is_some_and(|p| p.node.0 == 1) && a.backups.iter().all(|b| b.node.0 == 2)
        };
        let partition = cluster.partitions().find(|p| of_both(cluster.assignment(*p))).unwrap();
        let process = cluster.state().member(NodeId(2)).unwrap().process;
        cluster.silence(1);
        let cut_off = cluster.silence(2);
        cluster.pass(700);
        assert!(cluster.status().lost.contains(&PartitionId(partition)));
        assert_eq!(cluster.assignment(partition).primary.unwrap().node, NodeId(1), "nobody is heard of who could be");
        match by_join {
            // Over a new connection, before any renewal.
            true => cluster.join(2, process).unwrap(),
            false => drop(cluster.nodes.insert(2, cut_off)),
        }
        cluster.pass(300);
        assert_eq!(cluster.nodes[&2].1, cut_off.1, "it is the same life");
        assert_eq!(cluster.assignment(partition).primary.unwrap().node, NodeId(2), "joined: {by_join}");
        cluster.pass(5_000);
        let status = cluster.status();
        assert!(status.lost.is_empty() && status.under_replicated.is_empty(), "node 1 never returns");
        assert_eq!((status.expired, status.returned), (2, 1));
    }
}

#[test]
fn a_new_leader_counts_grace_for_all_from_its_election() {
    let mut cluster = Cluster::of(3, 2, 8);
    let partition = primary_of(&cluster, 1);
    let before = cluster.assignment(partition).clone();
    cluster.silence(1);
    cluster.pass(550);
    let now = cluster.now;
    cluster.group.elect(now);
    cluster.pass(550);
    assert_eq!(*cluster.assignment(partition), before);
    cluster.pass(100);
    assert_ne!(cluster.state().member(NodeId(1)).unwrap().life, NodeLife::Up);
}

#[test]
fn a_removed_process_is_refused_and_a_new_one_is_not() {
    let mut cluster = Cluster::founded(3, 1, 4);
    (1..=3).for_each(|node| cluster.join(node, u64::from(node)).unwrap());
    cluster.pass(200);
    cluster.ask(OPERATOR, ControlBody::Drain { node: NodeId(3) });
    cluster.pass(3_000);
    assert_eq!(cluster.ask(OPERATOR, ControlBody::Remove { node: NodeId(3) }), [NoticeBody::Done]);
    let client = cluster.nodes.remove(&3).unwrap().0;
    let refused = cluster.ask(client, ControlBody::Join(announcement(3, 3)));
    assert!(matches!(&refused[..], [NoticeBody::Failed { .. }]), "{refused:?}");
    cluster.join(3, 4).unwrap();
}

#[test]
fn a_silent_node_that_alone_has_rows_is_not_removed_until_their_loss_is_accepted() {
    let mut cluster = Cluster::of(3, 1, 4);
    let partition = primary_of(&cluster, 3);
    cluster.silence(3);
    cluster.pass(10_000);
    let refused = cluster.ask(OPERATOR, ControlBody::Remove { node: NodeId(3) });
    assert!(matches!(&refused[..], [NoticeBody::Failed { reason }] if reason.contains("accept-loss")), "{refused:?}");
    assert_eq!(cluster.assignment(partition).primary.map(|worker| worker.node), Some(NodeId(3)));
    let recovered = cluster.ask(OPERATOR, ControlBody::Recover { id: 1 });
    assert!(
        matches!(&recovered[..], [NoticeBody::Recovered(lost)] if lost.contains(&PartitionId(partition))),
        "{recovered:?}"
    );
    assert_eq!(cluster.ask(OPERATOR, ControlBody::Remove { node: NodeId(3) }), [NoticeBody::Done]);
}

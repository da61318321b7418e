//! Which nodes should decide by majority: one, three or five of those that keep the group's log. Pure.

use super::types::{MemberId, Peer};
use crate::metadata::state::{Member, State};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::wire::NodeLife;

/// The members that the group should have, given those that it has; `leader` stays. The same set when nothing is to be changed.
pub(super) fn wanted(state: &State, have: &BTreeSet<MemberId>, leader: MemberId) -> BTreeSet<MemberId> {
    let candidates: BTreeMap<MemberId, &Member> =
        state.members().values().filter_map(|member| Some((MemberId::from(member.group_member?), member))).collect();
    if !candidates.contains_key(&leader) && state.map().is_none() {
        // Who makes the cluster may be the last to join it.
        return have.clone();
    }
    let size = match candidates.len() {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    };
    // The leader first, then who is a member already, then who is there; who is away only where there is nobody else.
    let mut ranked: Vec<(bool, bool, bool, MemberId)> = candidates
        .iter()
        .map(|(id, member)| (*id != leader, member.life == NodeLife::Away, !have.contains(id), *id))
        .filter(|(_, away, new, id)| !new || (!away && candidates.get(id).is_some_and(|member| member.is_up())))
        .collect();
    ranked.sort_unstable();
    let mut wanted: BTreeSet<MemberId> = ranked.into_iter().map(|(_, _, _, id)| id).take(size).collect();
    // A group of two is worse than one of one, and one of four than one of three.
    if wanted.len().is_multiple_of(2) {
        let kept: BTreeSet<MemberId> = wanted.intersection(have).copied().collect();
        wanted = if kept.len() % 2 == 1 { kept } else { BTreeSet::from([leader]) };
    }
    wanted
}

/// Where the members are, as the nodes have announced it.
pub(super) fn peers(state: &State) -> BTreeMap<MemberId, Peer> {
    let peer = |member: &Member| {
        let id = MemberId::from(member.group_member?);
        Some((id, Peer { node: member.entry.id, control: member.entry.control }))
    };
    state.members().values().filter_map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::state::{Command, Founding};
    use toroid_common::id::{ClusterId, Incarnation, NodeId};
    use toroid_common::wire::NodeAnnouncement;

    fn nodes(count: u32) -> State {
        let mut state = State::default();
        state.apply(Command::Found(Founding {
            cluster: ClusterId(1),
            nodes: 1,
            copies: 1,
            min_copies: 1,
            partitions: 1,
        }));
        (1..=count).for_each(|node| join(&mut state, node, Some(node * 10)));
        state
    }

    fn join(state: &mut State, node: u32, member: Option<u32>) {
        let address = ([127, 0, 0, 1], node as u16).into();
        let announcement = NodeAnnouncement {
            node: NodeId(node),
            process: u64::from(node),
            control: address,
            workers: vec![address],
            zone: String::new(),
            capacity: 1,
            member,
        };
        state.apply(Command::Join { announcement, dead: None });
    }

    fn set(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().collect()
    }

    fn away(state: &mut State, node: u32) {
        let (node, incarnation) = (NodeId(node), state.member(NodeId(node)).unwrap().entry.incarnation);
        state.apply(Command::Expire { node, incarnation, others: Vec::new() });
        state.apply(Command::Abandon { node, incarnation });
        assert_ne!(incarnation, Incarnation(0));
    }

    #[test]
    fn the_group_grows_with_the_cluster() {
        for (count, members) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)] {
            let wanted = wanted(&nodes(count), &set(&[10]), 10);
            assert!(wanted.len() == members && wanted.contains(&10), "{count} nodes: {wanted:?}");
        }
        let mut state = nodes(2);
        join(&mut state, 3, None);
        assert_eq!(wanted(&state, &set(&[10]), 10), set(&[10]), "who keeps no log is no member");
    }

    #[test]
    fn members_are_replaced_when_somebody_else_is_there_and_only_then() {
        let mut state = nodes(3);
        let have = set(&[10, 20, 30]);
        away(&mut state, 2);
        assert_eq!(wanted(&state, &have, 10), have, "nobody else is there");
        join(&mut state, 4, Some(40));
        assert_eq!(wanted(&state, &have, 10), set(&[10, 30, 40]));
        let mut state = nodes(4);
        assert_eq!(wanted(&state, &set(&[20, 30, 40]), 30), set(&[20, 30, 40]), "nothing changes without need");
        state.apply(Command::Remove { node: NodeId(2) });
        assert_eq!(wanted(&state, &set(&[20, 30, 40]), 30), set(&[10, 30, 40]));
        state.apply(Command::Remove { node: NodeId(4) });
        assert_eq!(wanted(&state, &set(&[10, 30, 40]), 30), set(&[30]), "of two nodes, one decides");
    }
}

//! What operators ask for while clients work and things go wrong: nodes come and go, copies change, what is lost is given up.

use super::clock::Instant;
use super::faults::Hosts;
use crate::random::Random;

/// Something that an operator wants, and asks for until it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Another number of copies.
    SetCopies { copies: u8 },
    /// A node that was not there before.
    Add { node: u8 },
    /// This node is to be emptied.
    Drain { node: u8 },
    /// This node is to be emptied and forgotten; its process ends then.
    Remove { node: u8 },
    /// What has no living replica is to begin again, empty.
    AcceptLoss,
}

/// An errand of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub at: Instant,
    pub errand: Errand,
}

/// Errands between `from` and `end`; nodes that are added get the numbers after those that are there.
#[must_use]
pub fn plan(random: &mut Random, hosts: Hosts, copies: u8, from: Instant, end: Instant) -> Vec<Planned> {
    let mut next = hosts.nodes;
    let mut planned: Vec<Planned> = (0..random.below(4))
        .map(|_| {
            let node = random.below(u64::from(hosts.nodes)) as u8;
            let errand = match random.below(100) {
                0..35 => {
                    next += 1;
                    Errand::Add { node: next - 1 }
                }
                35..50 => Errand::Drain { node },
                50..75 => Errand::Remove { node },
                75..90 => Errand::SetCopies { copies: random.between(2, 3) as u8 },
                _ => Errand::AcceptLoss,
            };
            Planned { at: random.between(from, end), errand }
        })
        .collect();
    // Who has as many nodes as copies can spare none.
    if hosts.nodes <= copies && !planned.iter().any(|planned| matches!(planned.errand, Errand::Add { .. })) {
        planned.retain(|planned| !matches!(planned.errand, Errand::Drain { .. } | Errand::Remove { .. }));
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// How many nodes there may be in the end.
#[must_use]
pub fn most_nodes(nodes: u8, errands: &[Planned]) -> u8 {
    let added = |planned: &Planned| match planned.errand {
        Errand::Add { node } => Some(node + 1),
        Errand::SetCopies { .. } | Errand::Drain { .. } | Errand::Remove { .. } | Errand::AcceptLoss => None,
    };
    errands.iter().filter_map(added).max().map_or(nodes, |most| most.max(nodes))
}

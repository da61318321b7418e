//! What is done to the processes. After each fault the cluster has all its copies again before the next begins: with two copies it promises no more.

use super::deployment::Deployment;
use crate::random::Random;
use std::io;
use std::time::Duration;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new process after this time.
    Kill { node: usize, away: Duration },
    /// SIGSTOP for this long.
    Pause { node: usize, away: Duration },
    /// The node's link is down for this long.
    Split { node: usize, away: Duration },
    /// Every node is asked to end and started again, one after the other.
    RollingRestart,
    /// SIGKILL of a proxy, and a new process at once.
    KillProxy { proxy: usize },
}

fn away(random: &mut Random, least: u64, most: u64) -> Duration {
    Duration::from_millis(least + random.below(most - least))
}

/// The next fault for a cluster of so many nodes.
pub fn draw(random: &mut Random, nodes: usize, can_split: bool) -> Fault {
    let node = random.below(nodes as u64) as usize;
    match random.below(10) {
        0..=3 => Fault::Kill { node, away: away(random, 100, 4_000) },
        // Shorter than the lease, about as long, and far longer.
        4..=6 => Fault::Pause { node, away: away(random, 50, 3_000) },
        7..=8 if can_split => Fault::Split { node, away: away(random, 50, 3_000) },
        7..=8 => Fault::Pause { node, away: away(random, 300, 900) },
        _ => Fault::RollingRestart,
    }
}

/// Does it, and waits until the cluster has healed; tells how long the healing took.
pub fn inflict(deployment: &mut Deployment, fault: Fault) -> io::Result<Duration> {
    match fault {
        Fault::Kill { node, away } => {
            deployment.nodes[node].kill()?;
            std::thread::sleep(away);
            deployment.start_node(node)?;
        }
        Fault::Pause { node, away } => {
            deployment.nodes[node].signal("STOP")?;
            std::thread::sleep(away);
            deployment.nodes[node].signal("CONT")?;
        }
        Fault::Split { node, away } => {
            deployment.nodes[node].site.set_link(false)?;
            std::thread::sleep(away);
            deployment.nodes[node].site.set_link(true)?;
        }
        Fault::RollingRestart => {
            for node in 0..deployment.nodes.len() {
                deployment.nodes[node].stop()?;
                deployment.start_node(node)?;
                deployment.wait_healed()?;
            }
        }
        Fault::KillProxy { proxy } => {
            deployment.proxies[proxy].kill()?;
            deployment.restart_proxy(proxy)?;
        }
    }
    // The group notices first.
    std::thread::sleep(Duration::from_millis(200));
    deployment.wait_healed()
}

//! Faults as they are done to the parts of a run.

use super::super::clock::SECOND;
use super::super::context::{Context, Happening};
use super::super::faults::{Fault, Planned};
use super::super::network::Host;
use super::super::node::Node;
use super::super::proxy::{Stall, TheEnd};
use super::World;
use toroid_common::id::{PartitionId, WorkerId};

impl World<'_> {
    pub(super) fn fault(&mut self, index: usize, begins: bool) {
        let Some(Planned { until, fault, .. }) = self.scenario.faults.get(index).copied() else { return };
        if begins && !self.may_begin(fault) {
            self.tally.skipped_faults += 1;
            return;
        }
        self.begun_faults += usize::from(begins);
        self.context.note(|| format!("FAULT {} {fault:?}", if begins { "begins" } else { "ends" }));
        let context = &mut self.context;
        match fault {
            Fault::Reset { .. } if begins => self.flaw(index),
            Fault::Reset { .. } => {}
            Fault::Split { a, b, one_way } => self.split(a, b, one_way, begins),
            Fault::Isolate { host } => {
                for other in self.scenario.hosts().others(host) {
                    self.split(host, other, false, begins);
                }
            }
            Fault::SlowLink { a, b, extra } => {
                let extra = if begins { extra } else { 0 };
                context.network.slow_down(a, b, extra);
                context.network.slow_down(b, a, extra);
            }
            Fault::Pause { host } if begins => match host {
                Host::Node(index) => {
                    let paused = &mut self.nodes[usize::from(index)].condition.paused_until;
                    *paused = (*paused).max(until);
                }
                Host::Proxy(index) => self.proxies[usize::from(index)].pause(until, context),
                Host::Group(index) => self.group.pause(index, until, context),
            },
            Fault::Pause { .. } => {}
            Fault::SlowNode { node, turn } => {
                self.nodes[usize::from(node)].condition.turn = if begins { turn } else { 60 };
            }
            Fault::Drift { node, per_mille } | Fault::LawlessClock { node, per_mille } => {
                let usual = self.scenario.rates.get(usize::from(node)).copied().unwrap_or(1_000);
                let rate = if begins { per_mille } else { usual };
                self.nodes[usize::from(node)].condition.clock.set_rate(rate, context.agenda.now());
            }
            Fault::Crash { host, told } => self.crash(host, told, begins),
            Fault::Halfway { proxy, decided, dies } => {
                let stall = Stall { decided, dies, until };
                self.proxies[usize::from(proxy)].stall(begins.then_some(stall));
                if !begins {
                    self.crash(Host::Proxy(proxy), false, false);
                }
            }
            Fault::Election { to } if begins => self.group.stand(to, context),
            Fault::Election { .. } => {}
            Fault::LoseDisk { member } if begins => self.group.crash(member, true, true, context),
            Fault::LoseDisk { member } => self.group.restart(member, context),
            Fault::SlowDisk { member, extra } => self.group.slow_disk(member, if begins { extra } else { 0 }),
            Fault::Leave { node } => self.leave(node, index, begins),
            Fault::Disaster { partition } => self.disaster(partition, begins),
        }
    }

    /// Breaks connections, and will do it again.
    pub(super) fn flaw(&mut self, index: usize) {
        let Some(Planned { until, fault: Fault::Reset { a, b, every }, .. }) = self.scenario.faults.get(index) else {
            return;
        };
        let context = &mut self.context;
        for wire in context.network.between(*a, *b) {
            context.network.reset(wire, &mut context.agenda);
        }
        let next = context.now() + 1 + context.random.below(*every);
        if next < *until {
            context.agenda.at(next, Happening::Flaw(index));
        }
    }

    fn leave(&mut self, index: u8, fault: usize, begins: bool) {
        let context = &mut self.context;
        let node = &mut self.nodes[usize::from(index)];
        if begins {
            return node.leave(context);
        }
        if node.is_leaving() {
            // It stops when it may.
            return context.agenda.after(SECOND / 2, Happening::Fault { index: fault, begins: false });
        }
        if !node.up && !node.away {
            context.network.revive(Host::Node(index), &mut context.agenda);
            node.start(context);
        }
    }

    /// Proxies that have come to their end by themselves.
    pub(super) fn bury(&mut self) {
        for index in 0..self.proxies.len() {
            let host = Host::Proxy(index as u8);
            match self.proxies[index].takes_end() {
                None => {}
                Some(TheEnd::Dies) => self.crash(host, false, true),
                Some(TheEnd::Fenced) => {
                    self.crash(host, true, true);
                    self.crash(host, true, false);
                }
            }
        }
    }

    fn split(&mut self, a: Host, b: Host, one_way: bool, begins: bool) {
        let Context { network, agenda, .. } = &mut self.context;
        let ways = [Some((a, b)), (!one_way).then_some((b, a))];
        for (from, to) in ways.into_iter().flatten() {
            if begins {
                network.block(from, to);
            } else {
                network.unblock(from, to, agenda);
            }
        }
    }

    fn crash(&mut self, host: Host, told: bool, begins: bool) {
        let context = &mut self.context;
        match host {
            Host::Node(index) => {
                let node = &mut self.nodes[usize::from(index)];
                if begins {
                    node.crash(told, context);
                } else if !node.up && !node.away {
                    context.network.revive(host, &mut context.agenda);
                    node.start(context);
                }
            }
            Host::Proxy(index) => {
                let proxy = &mut self.proxies[usize::from(index)];
                if begins {
                    let sessions = proxy.crash(told, &mut self.history, context);
                    self.rest(&sessions);
                } else if !proxy.up {
                    context.network.revive(host, &mut context.agenda);
                    proxy.start(context);
                }
            }
            Host::Group(index) if begins => self.group.crash(index, told, false, context),
            Host::Group(index) => self.group.restart(index, context),
        }
    }

    /// All that hold a partition go at once; who is gone at the end comes back.
    fn disaster(&mut self, partition: u16, begins: bool) {
        let partition = PartitionId(partition % self.scenario.partitions);
        let holders: Vec<u32> = self
            .group
            .map()
            .into_iter()
            .filter_map(|map| map.assignment(partition))
            .flat_map(|assignment| assignment.primary.iter().chain(&assignment.backups).map(|worker| worker.node.0))
            .collect();
        for node in &mut self.nodes {
            if begins && node.up && holders.contains(&node.id().0) {
                node.crash(true, &mut self.context);
            } else if !begins && !node.up && !node.away {
                self.context.network.revive(Host::Node(node.index), &mut self.context.agenda);
                node.start(&mut self.context);
            }
        }
    }

    /// A crash that would destroy the last replica of something teaches nothing: with k + 1 copies, k are spared.
    fn may_begin(&self, fault: Fault) -> bool {
        let host = match fault {
            Fault::Crash { host: Host::Group(index), .. } => return self.group.may_crash(index, false),
            Fault::LoseDisk { member } => return self.group.may_crash(member, true),
            Fault::Crash { host, .. } => host,
            // It has to see itself to it that others have its rows.
            Fault::Leave { node } => {
                let others = self.nodes.iter().filter(|other| other.index != node);
                return self.nodes[usize::from(node)].up
                    && others.clone().any(|other| other.up)
                    && others.into_iter().all(|other| other.up || other.away)
                    && !self.nodes.iter().any(Node::is_leaving);
            }
            Fault::Disaster { .. } => return !self.nodes.iter().any(Node::is_leaving),
            _ => return true,
        };
        if self.nodes.iter().any(Node::is_leaving) {
            return false;
        }
        match host {
            Host::Proxy(index) => self.proxies[usize::from(index)].up,
            Host::Group(_) => false,
            Host::Node(index) => {
                let Some(map) = self.group.map() else { return false };
                self.nodes[usize::from(index)].up
                    && map.partitions.iter().all(|assignment| {
                        let mut holders = assignment.primary.iter().chain(&assignment.backups);
                        assignment.primary.is_none()
                            || holders.any(|worker| worker.node.0 != u32::from(index) + 1 && self.lives(*worker))
                    })
            }
        }
    }

    /// Whether the process that the map means still runs.
    fn lives(&self, worker: WorkerId) -> bool {
        let entry = self.group.map().and_then(|map| map.node(worker.node));
        let node = self.nodes.get(worker.node.0 as usize - 1);
        match (entry, node) {
            (Some(entry), Some(node)) => node.up && node.incarnation() == Some(entry.incarnation),
            _ => false,
        }
    }
}

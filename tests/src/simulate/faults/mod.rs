//! What goes wrong, and when: drawn from the seed before anything runs, so that a failing scenario can be shortened fault by fault.

use super::clock::{Instant, MILLISECOND, SECOND};
use super::network::{Host, MEMBERS};
use crate::random::Random;

/// After so long a proxy of which nothing is heard is fenced.
const FENCED: Instant = 10_500 * MILLISECOND;

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All connections between two hosts break, again and again after at most so long.
    Reset { a: Host, b: Host, every: Instant },
    /// Nothing passes from a to b, nor back unless `one_way`.
    Split { a: Host, b: Host, one_way: bool },
    /// The host reaches nobody and is reached by nobody.
    Isolate { host: Host },
    /// What passes between two hosts takes so much longer.
    SlowLink { a: Host, b: Host, extra: Instant },
    /// The process is stopped, and goes on as if nothing had been.
    Pause { host: Host },
    /// Each turn of the node's workers takes up to so long.
    SlowNode { node: u8, turn: Instant },
    /// The process is killed, and with it all it held; a new one starts afterwards. `told`: its machine still runs and closes its connections.
    Crash { host: Host, told: bool },
    /// All processes that hold a partition are killed at once: its rows are gone.
    Disaster { partition: u16 },
    /// As soon as the proxy has asked for a transaction to be prepared, or its anchor to decide one, it stands still until the end, or dies.
    Halfway { proxy: u8, decided: bool, dies: bool },
    /// A member stands for election though its leader lives.
    Election { to: u8 },
    /// A member's disk is lost with its process; another member comes in its place.
    LoseDisk { member: u8 },
    /// What a member writes takes so much longer to be on its disk.
    SlowDisk { member: u8, extra: Instant },
    /// The node stops as it should, after others have taken over; a new process starts afterwards.
    Leave { node: u8 },
    /// The node's clock runs at another rate, still within the bound.
    Drift { node: u8, per_mille: u64 },
    /// The node's clock runs so slowly that leases mean nothing.
    LawlessClock { node: u8, per_mille: u64 },
}

/// A fault of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub at: Instant,
    pub until: Instant,
    pub fault: Fault,
}

/// Who is there to suffer.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    pub nodes: u8,
    pub proxies: u8,
}

impl Hosts {
    fn node(self, random: &mut Random) -> u8 {
        random.below(u64::from(self.nodes)) as u8
    }

    fn proxy(self, random: &mut Random) -> u8 {
        random.below(u64::from(self.proxies)) as u8
    }

    fn member(self, random: &mut Random) -> u8 {
        random.below(u64::from(MEMBERS)) as u8
    }

    fn any(self, random: &mut Random) -> Host {
        match random.below(10) {
            0 => Host::Group(self.member(random)),
            1..5 => Host::Proxy(self.proxy(random)),
            _ => Host::Node(self.node(random)),
        }
    }

    fn pair(self, random: &mut Random) -> (Host, Host) {
        let a = Host::Node(self.node(random));
        loop {
            let b = self.any(random);
            if a != b {
                return if random.percent(50) { (a, b) } else { (b, a) };
            }
        }
    }

    /// Everybody but one.
    pub fn others(self, host: Host) -> impl Iterator<Item = Host> {
        let nodes = (0..self.nodes).map(Host::Node);
        let proxies = (0..self.proxies).map(Host::Proxy);
        nodes.chain(proxies).chain((0..MEMBERS).map(Host::Group)).filter(move |other| *other != host)
    }
}

/// Faults between `from` and `end`, all of them over at `end`.
#[must_use]
pub fn plan(random: &mut Random, count: usize, hosts: Hosts, from: Instant, end: Instant) -> Vec<Planned> {
    let mut planned: Vec<Planned> = (0..count)
        .map(|_| {
            let at = random.between(from, end - SECOND);
            // Short ones, those of about a lease or grace, and long ones.
            let lasts = match random.below(3) {
                0 => random.between(5 * MILLISECOND, 300 * MILLISECOND),
                1 => random.between(300 * MILLISECOND, 1_200 * MILLISECOND),
                _ => random.between(SECOND, 5 * SECOND),
            };
            Planned { at, until: (at + lasts).min(end), fault: draw(random, hosts) }
        })
        .collect();
    planned.sort_by_key(|planned| planned.at);
    planned
}

fn draw(random: &mut Random, hosts: Hosts) -> Fault {
    match random.below(100) {
        0..18 => {
            let (a, b) = hosts.pair(random);
            Fault::Reset { a, b, every: random.pick(&[MILLISECOND, 20 * MILLISECOND, SECOND]).unwrap_or(SECOND) }
        }
        18..34 => {
            let (a, b) = hosts.pair(random);
            Fault::Split { a, b, one_way: random.percent(40) }
        }
        34..42 => Fault::Isolate { host: hosts.any(random) },
        42..50 => {
            let (a, b) = hosts.pair(random);
            Fault::SlowLink { a, b, extra: random.between(MILLISECOND, 250 * MILLISECOND) }
        }
        50..64 => Fault::Pause { host: hosts.any(random) },
        64..70 => Fault::SlowNode { node: hosts.node(random), turn: random.between(MILLISECOND, 60 * MILLISECOND) },
        70..73 => Fault::Election { to: hosts.member(random) },
        73..77 => Fault::Leave { node: hosts.node(random) },
        77 => Fault::Disaster { partition: random.below(8) as u16 },
        78..86 => Fault::Crash { host: Host::Node(hosts.node(random)), told: random.percent(60) },
        86..88 => Fault::Crash { host: Host::Proxy(hosts.proxy(random)), told: random.percent(60) },
        88..92 => Fault::Crash { host: Host::Group(hosts.member(random)), told: random.percent(60) },
        92 => Fault::LoseDisk { member: hosts.member(random) },
        93..95 => {
            Fault::SlowDisk { member: hosts.member(random), extra: random.between(MILLISECOND, 300 * MILLISECOND) }
        }
        95..98 => Fault::Drift { node: hosts.node(random), per_mille: random.between(900, 1_100) },
        _ => Fault::LawlessClock { node: hosts.node(random), per_mille: random.between(100, 600) },
    }
}

/// Proxies that die or stand still in the middle of transactions.
#[must_use]
pub fn of_proxies(random: &mut Random, hosts: Hosts, from: Instant, end: Instant) -> Vec<Planned> {
    let some = |random: &mut Random| {
        let at = random.between(from, end);
        let mut until = at + random.between(200 * MILLISECOND, 4 * SECOND);
        let proxy = hosts.proxy(random);
        let host = Host::Proxy(proxy);
        let fault = match random.below(100) {
            0..24 => Fault::Pause { host },
            24..48 => Fault::Isolate { host },
            48..66 => Fault::Crash { host, told: random.percent(60) },
            66..90 => {
                until = at + random.between(SECOND, 5 * SECOND);
                Fault::Halfway { proxy, decided: random.percent(50), dies: random.percent(40) }
            }
            // For longer than its lease: what it had sent before comes after its fence.
            kind => {
                until = at + random.between(FENCED, FENCED + 3 * SECOND);
                if kind < 95 { Fault::Pause { host } } else { Fault::Isolate { host } }
            }
        };
        Planned { at, until, fault }
    };
    let planned: Vec<Planned> = (0..random.below(5)).map(|_| some(random)).collect();
    planned.into_iter().filter(|planned| planned.until <= end + 4 * SECOND).collect()
}

/// Lines between proxies and storage nodes that break again and again: requests are sent again, and meet another catalog than they were planned for.
#[must_use]
pub fn of_lines(random: &mut Random, hosts: Hosts, from: Instant, end: Instant) -> Vec<Planned> {
    let some = |random: &mut Random| {
        let at = random.between(from, end - 4 * SECOND);
        let (a, b) = (Host::Proxy(hosts.proxy(random)), Host::Node(hosts.node(random)));
        let fault = match random.percent(70) {
            true => Fault::Reset { a, b, every: random.pick(&[5, 20, 200]).unwrap_or(20) * MILLISECOND },
            false => Fault::SlowLink { a, b, extra: random.between(5 * MILLISECOND, 250 * MILLISECOND) },
        };
        Planned { at, until: at + random.between(300 * MILLISECOND, 4 * SECOND), fault }
    };
    (0..random.below(4)).map(|_| some(random)).collect()
}

/// Coordinators that stop halfway through commitments, one after the other, while other things go wrong in half of the scenarios: anchors and participants
/// move between two steps.
#[must_use]
pub fn of_commitments(random: &mut Random, hosts: Hosts, from: Instant, end: Instant) -> Vec<Planned> {
    let mut planned = Vec::new();
    for proxy in 0..hosts.proxies {
        let mut at = from + random.below(2 * SECOND);
        while at + 4 * SECOND < end {
            let until = at + random.between(1_500 * MILLISECOND, 4 * SECOND);
            let fault = Fault::Halfway { proxy, decided: random.percent(50), dies: random.percent(25) };
            planned.push(Planned { at, until, fault });
            at = until + random.below(SECOND);
        }
    }
    if random.percent(50) {
        let count = random.between(2, 6) as usize;
        planned.extend(plan(random, count, hosts, from, end));
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// A fault as it is shown.
#[must_use]
pub fn show(planned: &Planned) -> String {
    let seconds = |at: Instant| at as f64 / SECOND as f64;
    format!("{:>9.3} – {:>9.3} s  {:?}", seconds(planned.at), seconds(planned.until), planned.fault)
}

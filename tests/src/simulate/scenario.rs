//! Everything that a seed decides before a run: the cluster, what clients do, and what goes wrong.

use super::clock::{Instant, MILLISECOND, SECOND};
use super::errands;
use super::faults::{self, Fault, Hosts, Planned};
use super::network::{Host, Pace};
use super::workload::{self, Kind, Operation, alteration, deed};
use crate::random::Random;

/// Faults are over by then.
pub const CALM: Instant = 25 * SECOND;
/// No run is shorter than this.
pub const LEAST: Instant = 30 * SECOND;
/// A run that has not settled by then has failed.
pub const PATIENCE: Instant = 75 * SECOND;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub nodes: u8,
    pub workers: u16,
    pub proxies: u8,
    pub sessions: u16,
    pub copies: u8,
    pub partitions: u16,
    pub pace: Pace,
    /// Local microseconds in a thousand true ones, by node.
    pub rates: Vec<u64>,
    /// Whether a new process takes other ports than the one before.
    pub moving_ports: bool,
    pub kind: Kind,
    /// Write sets above so many bytes are replicated before they are prepared.
    pub chunk_bytes: usize,
    /// So many rows are entered into new indexes in one turn.
    pub built_rows: usize,
    /// Whether columns and indexes come and go.
    pub alters: bool,
    /// Rows have keys below this.
    pub keys: u64,
    pub operations: Vec<Operation>,
    pub faults: Vec<Planned>,
    /// What operators want meanwhile.
    pub errands: Vec<errands::Planned>,
    /// Whether an operator gives up in the end what has no living replica.
    pub accepts_loss: bool,
}

/// Which faults may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    Nothing,
    /// Nothing that needs another primary.
    Connections,
    Everything,
    /// Coordinators that stop halfway, again and again, and transactions on few rows.
    Commitments,
    /// Everything, and what sessions do beside tables.
    Sessions,
    /// Everything, and changes of the table: columns and indexes come and go.
    Schema,
}

impl Menu {
    /// Everything, and perhaps more.
    fn is_full(self) -> bool {
        match self {
            Menu::Everything | Menu::Sessions | Menu::Schema => true,
            Menu::Nothing | Menu::Connections | Menu::Commitments => false,
        }
    }
}

impl Scenario {
    #[must_use]
    pub fn draw(seed: u64, menu: Menu) -> Scenario {
        let random = Random::new(seed);
        let mut shape = random.apart(1);
        let (nodes, workers) = (shape.between(3, 5) as u8, shape.between(1, 2) as u16);
        let proxies = shape.between(2, 3) as u8;
        let sessions = u16::from(proxies) * shape.between(2, 6) as u16;
        let copies = shape.between(2, 3) as u8;
        let partitions = shape.pick(&[2, 4, 8]).unwrap_or(4);
        let pace = Pace { least: shape.between(20, 200), jitter: shape.pick(&[50, 200, 2_000]).unwrap_or(200) };
        let mut wishes = random.apart(4);
        let errands = if menu.is_full() && wishes.percent(50) {
            errands::plan(&mut wishes, Hosts { nodes, proxies }, copies, 2 * SECOND, CALM - 3 * SECOND)
        } else {
            Vec::new()
        };
        let accepts_loss = wishes.percent(50);
        let rates = (0..errands::most_nodes(nodes, &errands)).map(|_| shape.between(970, 1_030)).collect();
        let moving_ports = shape.percent(50);
        let (keys, count, hosts) = (shape.between(6, 40), shape.between(200, 320) as usize, Hosts { nodes, proxies });
        let (kind, keys) = match menu {
            Menu::Commitments => (Kind::Values { transactions: 60 }, keys.min(10)),
            Menu::Sessions => (Kind::Values { transactions: random.apart(5).between(10, 60) }, keys),
            Menu::Nothing | Menu::Connections | Menu::Everything | Menu::Schema => (kind(&mut random.apart(5)), keys),
        };
        let faults = faults_of(&random, menu, kind, hosts);
        let troubled: Vec<(Instant, Instant)> = faults.iter().map(|planned| (planned.at, planned.until)).collect();
        let end = CALM + 2 * SECOND;
        let amounts = (if menu == Menu::Sessions { count / 2 } else { count }, sessions, keys);
        let mut operations = workload::operations(&mut random.apart(2), kind, amounts, end, &troubled);
        if menu == Menu::Sessions {
            deed::mix(&mut random.apart(8), sessions, end, &troubled, &mut operations);
            deed::speak(&mut random.apart(9), sessions, end, &troubled, &mut operations);
        }
        if menu == Menu::Schema {
            let mut random = random.apart(10);
            alteration::mix(&mut random, sessions, end, &troubled, &mut operations);
            if random.percent(50) {
                workload::fill(&mut random, (partitions, sessions), &mut operations);
            }
            alteration::crowd(&mut random, &mut operations);
        }
        Scenario {
            seed,
            nodes,
            workers,
            proxies,
            sessions,
            copies,
            partitions,
            pace,
            rates,
            moving_ports,
            kind,
            built_rows: random.apart(15).pick(&[1, 5, 256]).unwrap_or(5),
            alters: menu == Menu::Schema,
            chunk_bytes: random.apart(7).pick(&[20, 60, 1 << 20]).unwrap_or(60),
            keys,
            operations,
            faults,
            errands,
            // What a transaction came to whose anchor is lost nobody will ever know, and the rows that it has prepared stay locked, until somebody says so.
            accepts_loss: accepts_loss || matches!(kind, Kind::Values { transactions: 1.. }),
        }
    }

    #[must_use]
    pub fn hosts(&self) -> Hosts {
        Hosts { nodes: self.most_nodes(), proxies: self.proxies }
    }

    /// How many nodes there may be in the end.
    #[must_use]
    pub fn most_nodes(&self) -> u8 {
        errands::most_nodes(self.nodes, &self.errands)
    }

    /// Whether some clock runs beyond the bound within which leases hold.
    #[must_use]
    pub fn is_lawless(&self) -> bool {
        self.faults.iter().any(|planned| matches!(planned.fault, Fault::LawlessClock { .. }))
    }

    /// The cluster in one line.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "seed {}: {:?}, {} nodes of {} workers, {} proxies, {} sessions, {} partitions of {} copies, {} operations, {} faults, {} errands",
            self.seed,
            self.kind,
            self.nodes,
            self.workers,
            self.proxies,
            self.sessions,
            self.partitions,
            self.copies,
            self.operations.len(),
            self.faults.len(),
            self.errands.len()
        )
    }
}

fn faults_of(random: &Random, menu: Menu, kind: Kind, hosts: Hosts) -> Vec<Planned> {
    let mut faults = match menu {
        Menu::Nothing => Vec::new(),
        Menu::Commitments => faults::of_commitments(&mut random.apart(6), hosts, 2 * SECOND, CALM),
        Menu::Connections | Menu::Everything | Menu::Sessions | Menu::Schema => {
            let mut random = random.apart(3);
            let count = random.between(3, 9) as usize;
            faults::plan(&mut random, count, hosts, 2 * SECOND, CALM)
        }
    };
    if menu == Menu::Connections {
        faults.iter_mut().for_each(soften);
    }
    if menu.is_full() && matches!(kind, Kind::Values { transactions: 1.. }) {
        faults.extend(faults::of_proxies(&mut random.apart(6), hosts, 2 * SECOND, CALM - 5 * SECOND));
        faults.sort_by_key(|planned| planned.at);
    }
    if menu == Menu::Schema {
        faults.extend(faults::of_lines(&mut random.apart(16), hosts, 2 * SECOND, CALM));
        faults.sort_by_key(|planned| planned.at);
    }
    faults
}

/// Leaves of a fault what needs no other primary.
fn soften(planned: &mut Planned) {
    if matches!(planned.fault, Fault::Crash { .. } | Fault::Disaster { .. } | Fault::LawlessClock { .. }) {
        planned.fault = Fault::Reset { a: Host::Node(0), b: Host::Proxy(1), every: 5 * MILLISECOND };
    }
    planned.until = planned.until.min(planned.at + 500 * MILLISECOND);
}

fn kind(random: &mut Random) -> Kind {
    match random.below(100) {
        0..35 => Kind::Statements,
        35..50 => Kind::Values { transactions: 0 },
        _ => Kind::Values { transactions: random.between(20, 90) },
    }
}

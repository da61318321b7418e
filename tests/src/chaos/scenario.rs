//! Whole runs, with the figures that they print.
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

use super::bank;
use super::deployment::{Deployment, Shape, folder};
use super::faults::{self, Fault, inflict};
use super::load::{self, Load, Tolerance};
use super::migrations;
use super::network::Network;
use super::transactor::{Audit, Clients, Ledger};
use super::verdict;
use crate::client::Address;
use crate::random::Random;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub shape: Shape,
    pub clients: u64,
    pub seconds: u64,
    pub seed: u64,
    pub rounds: u64,
}

fn start(name: &str, run: &Run, bridge: bool) -> io::Result<Deployment> {
    let network = if bridge { Network::bridge()? } else { Network::Loopback };
    let deployment = Deployment::start(run.shape, network, &folder(name)?)?;
    deployment.wait_healed()?;
    let address = deployment.addresses.first().ok_or_else(|| io::Error::other("a cluster needs a proxy"))?;
    load::prepare(address)?;
    Ok(deployment)
}

/// Ends the load, checks all that it knows, and prints it; an error when something was lost, doubled or wrong.
fn judge(deployment: &Deployment, load: Load, longest: Duration) -> io::Result<()> {
    let account = load.stop();
    let longest = longest.max(account.take_slowest());
    let address = deployment.addresses.first().ok_or_else(|| io::Error::other("no proxy"))?;
    let verdict = verdict::check(address, &account)?;
    for fault in verdict.faults.iter().take(10) {
        println!("FAULT: {fault}");
    }
    println!(
        "{} operations, {} acknowledged writes checked: {} lost, {} doubled, {} unknown, {} errors; longest stall {} ms",
        account.operations.load(Ordering::SeqCst),
        verdict.checked,
        verdict.lost,
        verdict.doubled,
        verdict.unknown,
        verdict.faults.len(),
        longest.as_millis()
    );
    if verdict.is_good() {
        return Ok(());
    }
    println!("{}", deployment.logs());
    Err(io::Error::other("the cluster broke its promises"))
}

/// Random faults for so many seconds.
pub fn mixed(run: &Run, bridge: bool) -> io::Result<()> {
    let mut deployment = start("chaos", run, bridge)?;
    let load = Load::start(&deployment.addresses, run.clients, Tolerance::None);
    let mut random = Random::new(run.seed);
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(run.seconds) {
        std::thread::sleep(Duration::from_millis(500));
        longest = longest.max(load.account.take_slowest());
        let fault = faults::draw(&mut random, deployment.nodes.len(), bridge);
        let healed = match inflict(&mut deployment, fault) {
            Ok(healed) => healed,
            Err(error) => {
                println!("{fault:?}: {error}\n{}", deployment.logs());
                return Err(error);
            }
        };
        let stall = load.account.take_slowest();
        println!(
            "{:6.1} s  {fault:?}: stall {} ms, healed after {} ms",
            begun.elapsed().as_secs_f64(),
            stall.as_millis(),
            healed.as_millis()
        );
        longest = longest.max(stall);
    }
    judge(&deployment, load, longest)
}

/// How long statements wait after SIGKILL of a storage node, and during a planned stop.
pub fn stalls(run: &Run, planned: bool) -> io::Result<()> {
    let mut deployment = start("stalls", run, false)?;
    let load = Load::start(&deployment.addresses, run.clients, Tolerance::None);
    let mut stalls = Vec::new();
    for round in 0..run.rounds {
        std::thread::sleep(Duration::from_millis(500));
        load.account.take_slowest();
        let node = ((round + 1) % deployment.nodes.len() as u64) as usize;
        if planned {
            deployment.nodes[node].stop()?;
            std::thread::sleep(Duration::from_millis(300));
        } else {
            deployment.nodes[node].kill()?;
            std::thread::sleep(Duration::from_millis(3_000));
        }
        let stall = load.account.take_slowest();
        deployment.start_node(node)?;
        let healed = deployment.wait_healed()?;
        println!("node {}: stall {} ms, healed {} ms after its start", node + 1, stall.as_millis(), healed.as_millis());
        stalls.push(stall);
    }
    stalls.sort();
    let worst = stalls.last().copied().unwrap_or_default();
    let median = stalls.get(stalls.len() / 2).copied().unwrap_or_default();
    let what = if planned { "planned stop" } else { "SIGKILL" };
    println!(
        "stall at {what}, {} rounds: median {} ms, worst {} ms",
        stalls.len(),
        median.as_millis(),
        worst.as_millis()
    );
    judge(&deployment, load, worst)
}

/// One node more, then one node less, while the load goes on.
pub fn grow(run: &Run) -> io::Result<()> {
    let mut deployment = start("grow", run, false)?;
    let load = Load::start(&deployment.addresses, run.clients, Tolerance::None);
    std::thread::sleep(Duration::from_secs(1));
    load.account.take_slowest();
    let moved = |deployment: &Deployment| -> io::Result<(u64, u64)> {
        let status = deployment.status()?;
        Ok((status["moved"].as_u64().unwrap_or(0), status["required"].as_u64().unwrap_or(0)))
    };
    let added = deployment.add_node()?;
    let begun = Instant::now();
    let number = (added + 1) as u64;
    let holds = move |status: &serde_json::Value| {
        let node = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["node"] == number));
        node.map_or(0, |node| node["primaries"].as_u64().unwrap_or(0) + node["backups"].as_u64().unwrap_or(0))
    };
    deployment.wait("the new node takes its share", move |status| {
        holds(status) > 0
            && status["moved"] == status["required"]
            && status["joining"].as_array().is_some_and(Vec::is_empty)
    })?;
    deployment.wait_healed()?;
    let (first, required) = moved(&deployment)?;
    println!(
        "{} to {} nodes: {} ms, moved {first} of {required} required; longest stall {} ms",
        added,
        number,
        begun.elapsed().as_millis(),
        load.account.take_slowest().as_millis()
    );
    let begun = Instant::now();
    deployment.ask(&["node", "drain", &number.to_string()])?;
    deployment.wait("the node is empty", move |status| holds(status) == 0)?;
    deployment.wait_healed()?;
    let (second, required_then) = moved(&deployment)?;
    println!(
        "{} to {} nodes: {} ms, moved {} of {} required; longest stall {} ms",
        number,
        added,
        begun.elapsed().as_millis(),
        second - first,
        required_then - required,
        load.account.take_slowest().as_millis()
    );
    deployment.nodes[added].stop()?;
    deployment.ask(&["node", "remove", &number.to_string()])?;
    judge(&deployment, load, Duration::ZERO)
}

/// Operations per second with one, two and three copies.
pub fn copies(run: &Run) -> io::Result<()> {
    let mut first = None;
    for copies in 1..=3 {
        let run = Run { shape: Shape { copies, ..run.shape }, ..*run };
        let deployment = start(&format!("copies-{copies}"), &run, false)?;
        let load = Load::start(&deployment.addresses, run.clients, Tolerance::None);
        std::thread::sleep(Duration::from_secs(1));
        let before = load.account.operations.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(run.seconds));
        let rate = (load.account.operations.load(Ordering::SeqCst) - before) as f64 / run.seconds as f64;
        let ratio = rate / *first.get_or_insert(rate);
        println!("copies {copies}: {rate:.0} operations/s, ratio {ratio:.2}");
        judge(&deployment, load, Duration::ZERO)?;
    }
    Ok(())
}

/// What clients do in transactions while nodes and proxies are killed.
struct Trade {
    prepare: fn(&Address, u64) -> io::Result<()>,
    open: fn(&[Address], u64, u64, Tolerance) -> Clients,
    audit: fn(&Address, &Ledger) -> io::Result<Audit>,
}

/// Transfers and list appends.
pub fn bank(run: &Run, bridge: bool) -> io::Result<()> {
    transactions("bank", run, bridge, Trade { prepare: bank::prepare, open: bank::open, audit: bank::audit })
}

/// Schema changes.
pub fn migrations(run: &Run, bridge: bool) -> io::Result<()> {
    let prepare = |address: &Address, _| migrations::prepare(address);
    transactions("migrations", run, bridge, Trade { prepare, open: migrations::open, audit: migrations::audit })
}

fn transactions(name: &str, run: &Run, bridge: bool, trade: Trade) -> io::Result<()> {
    let network = if bridge { Network::bridge()? } else { Network::Loopback };
    let mut deployment = Deployment::start(run.shape, network, &folder(name)?)?;
    deployment.wait_healed()?;
    let address = deployment.addresses.first().ok_or_else(|| io::Error::other("a cluster needs a proxy"))?.clone();
    (trade.prepare)(&address, run.seconds)?;
    let clients = (trade.open)(&deployment.addresses, run.clients, run.seed, Tolerance::LostConnections);
    let mut random = Random::new(run.seed);
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(run.seconds) {
        std::thread::sleep(Duration::from_millis(500));
        let fault = match random.percent(30) {
            true => Fault::KillProxy { proxy: random.below(deployment.proxies.len() as u64) as usize },
            false => faults::draw(&mut random, deployment.nodes.len(), bridge),
        };
        let healed = inflict(&mut deployment, fault)?;
        let stall = clients.ledger.take_slowest();
        let (at, stalled, healed) = (begun.elapsed().as_secs_f64(), stall.as_millis(), healed.as_millis());
        println!("{at:6.1} s  {fault:?}: stall {stalled} ms, healed after {healed} ms");
        longest = longest.max(stall);
    }
    let ledger = clients.close();
    let audit = (trade.audit)(&address, &ledger)?;
    audit.faults.iter().take(10).for_each(|fault| println!("FAULT: {fault}"));
    println!(
        "{} transactions, {} reads, {} told to try again; {} acknowledged checked: {} lost, {} out of nowhere, {} unknown, {} faults; longest {} ms",
        ledger.committed.load(Ordering::SeqCst),
        ledger.reads.load(Ordering::SeqCst),
        ledger.again.load(Ordering::SeqCst),
        audit.checked,
        audit.lost,
        audit.strange,
        ledger.unknown.load(Ordering::SeqCst),
        audit.faults.len(),
        longest.as_millis()
    );
    if audit.lost + audit.strange == 0 && audit.faults.is_empty() {
        return Ok(());
    }
    println!("{}", deployment.logs());
    Err(io::Error::other("the cluster broke its promises"))
}

/// Kills a proxy now and then, besides the nodes: what clients had under way there is unknown, and nothing else.
pub fn proxies(run: &Run) -> io::Result<()> {
    let mut deployment = start("proxies", run, false)?;
    let load = Load::start(&deployment.addresses, run.clients, Tolerance::LostConnections);
    let mut longest = Duration::ZERO;
    for round in 0..run.rounds {
        std::thread::sleep(Duration::from_millis(500));
        let proxy = (round % deployment.proxies.len() as u64) as usize;
        inflict(&mut deployment, Fault::KillProxy { proxy })?;
        longest = longest.max(load.account.take_slowest());
    }
    judge(&deployment, load, longest)
}

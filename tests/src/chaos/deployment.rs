//! The processes of one cluster: started, killed, paused and watched.

use super::network::{Network, Site};
use crate::client::Address;
use crate::server;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start, an end or a healing may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node that was heard so lately is not about to be given up.
const HEARD_MS: i64 = 300;
const LOOK: Duration = Duration::from_millis(20);

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: u8,
    pub proxies: u8,
    pub copies: u8,
    pub partitions: u16,
    pub workers: u16,
}

/// One process and its place.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    pub site: Site,
    arguments: Vec<String>,
    child: Option<Child>,
    log: PathBuf,
}

/// A running cluster.
#[derive(Debug)]
pub struct Deployment {
    pub shape: Shape,
    network: Network,
    pub nodes: Vec<Process>,
    pub proxies: Vec<Process>,
    /// Where clients connect.
    pub addresses: Vec<Address>,
    folder: PathBuf,
    base_port: u16,
}

impl Deployment {
    /// Starts everything; returns when the proxies serve.
    pub fn start(shape: Shape, network: Network, folder: &Path) -> io::Result<Deployment> {
        let base_port = match network {
            Network::Loopback => free_ports()?,
            Network::Bridge => 5500,
        };
        let mut deployment = Deployment {
            shape,
            network,
            nodes: Vec::new(),
            proxies: Vec::new(),
            addresses: Vec::new(),
            folder: folder.to_owned(),
            base_port,
        };
        for number in 1..=shape.nodes {
            let process = deployment.new_node(number)?;
            deployment.nodes.push(process);
        }
        deployment.begin()?;
        Ok(deployment)
    }

    fn begin(&mut self) -> io::Result<()> {
        let others: Vec<String> = self.nodes.iter().skip(1).map(|node| node.control()).collect();
        let first = self.nodes.first_mut().ok_or_else(|| io::Error::other("a cluster needs a node"))?;
        let mut once = vec!["--bootstrap".to_owned(), "--copies".to_owned(), self.shape.copies.to_string()];
        once.extend(["--partitions".to_owned(), self.shape.partitions.to_string()]);
        if !others.is_empty() {
            once.extend(["--join".to_owned(), others.join(",")]);
        }
        first.start_with(&once)?;
        for number in 1..self.nodes.len() {
            self.start_node(number)?;
        }
        for number in 0..self.shape.proxies {
            let site = self.network.site(200 + number)?;
            let listen = format!("{}:{}", site.host, self.base_port + 200 + u16::from(number));
            let arguments = ["proxy", "--listen", &listen, "--join", &self.join()].map(str::to_owned).to_vec();
            let mut proxy = Process::new(format!("proxy {}", number + 1), site, arguments, &self.folder);
            proxy.start_with(&[])?;
            let url = proxy.line("ready: ")?;
            self.addresses.push(Address::parse(&url).ok_or_else(|| io::Error::other(url))?);
            self.proxies.push(proxy);
        }
        Ok(())
    }

    /// Starts a proxy again where it was; returns when it serves.
    pub fn restart_proxy(&mut self, at: usize) -> io::Result<()> {
        self.proxies[at].start_with(&[])?;
        self.proxies[at].line("ready: ").map(drop)
    }

    fn new_node(&self, number: u8) -> io::Result<Process> {
        let site = self.network.site(number)?;
        let listen = format!("{}:{}", site.host, self.base_port + u16::from(number));
        let data = self.folder.join(format!("node-{number}"));
        let workers = self.shape.workers.to_string();
        let mut arguments: Vec<String> =
            ["storage-node", "--listen", &listen, "--workers", &workers, "--data-dir"].map(str::to_owned).to_vec();
        arguments.push(data.display().to_string());
        Ok(Process::new(format!("node {number}"), site, arguments, &self.folder))
    }

    /// The control addresses of all nodes.
    pub fn join(&self) -> String {
        self.nodes.iter().map(Process::control).collect::<Vec<_>>().join(",")
    }

    /// Starts a node, again or for the first time.
    pub fn start_node(&mut self, at: usize) -> io::Result<()> {
        let join = self.join();
        self.nodes[at].start_with(&["--join".to_owned(), join])
    }

    /// One node more.
    pub fn add_node(&mut self) -> io::Result<usize> {
        let node = self.new_node(self.nodes.len() as u8 + 1)?;
        self.nodes.push(node);
        self.start_node(self.nodes.len() - 1)?;
        Ok(self.nodes.len() - 1)
    }

    /// What `toroid` prints when it is asked to do this.
    pub fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(server::binary()).args(arguments).args(["--join", &self.join()]).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn status(&self) -> io::Result<Value> {
        serde_json::from_str(&self.ask(&["status", "--json"])?).map_err(io::Error::other)
    }

    /// Waits until `enough` says so of the status; tells how long that took.
    pub fn wait(&self, what: &str, enough: impl Fn(&Value) -> bool) -> io::Result<Duration> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            match self.status() {
                Ok(status) if enough(&status) => return Ok(begun.elapsed()),
                Ok(status) => last = status.to_string(),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(LOOK);
        }
        Err(io::Error::other(format!("{what}: not within {} s; the last status: {last}", PATIENCE.as_secs())))
    }

    /// Waits until every partition has all its copies, nothing moves, and every node is heard: one whose link was down for a moment may have to be given up
    /// later, when its connections have not come to life in time, and until then looks whole.
    pub fn wait_healed(&self) -> io::Result<Duration> {
        self.wait("every partition has all its copies", |status| {
            let empty = |name: &str| status[name].as_array().is_some_and(Vec::is_empty);
            let heard = |node: &Value| {
                let (silent, leased) = (node["heard_ms"].as_i64(), node["lease_ms"].as_i64());
                node["life"] != "Up" || silent.is_some_and(|ms| ms < HEARD_MS) && leased.is_some_and(|ms| ms > 0)
            };
            let whole = empty("under_replicated") && empty("joining") && empty("lost") && status["hand_overs"] == 0;
            whole && status["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(heard))
        })
    }

    /// The last lines of every log, for a failure.
    pub fn logs(&self) -> String {
        self.nodes.iter().chain(&self.proxies).map(Process::tail).collect::<Vec<_>>().join("\n")
    }
}

impl Process {
    fn new(name: String, site: Site, arguments: Vec<String>, folder: &Path) -> Process {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        Process { name, site, arguments, child: None, log }
    }

    fn control(&self) -> String {
        self.arguments.get(2).cloned().unwrap_or_default()
    }

    fn start_with(&mut self, further: &[String]) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = self.site.command(&server::binary());
        if std::env::var_os("TOROID_LOG").is_none() {
            command.env("TOROID_LOG", "info,openraft=error");
        }
        let child = command.args(&self.arguments).args(further).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        self.child = Some(child.spawn()?);
        Ok(())
    }

    /// The rest of the first line of output that begins so.
    fn line(&mut self, beginning: &str) -> io::Result<String> {
        let output = self.child.as_mut().and_then(|child| child.stdout.take());
        let mut lines = BufReader::new(output.ok_or_else(|| io::Error::other("no output"))?).lines();
        for line in lines.by_ref() {
            if let Some(rest) = line?.strip_prefix(beginning) {
                return Ok(rest.to_owned());
            }
        }
        Err(io::Error::other(format!("{} ended before it was ready: {}", self.name, self.tail())))
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{} got no SIG{name}", self.name))) }
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end, and waits; tells how long that took.
    pub fn stop(&mut self) -> io::Result<Duration> {
        self.signal("TERM")?;
        let begun = Instant::now();
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        while begun.elapsed() < PATIENCE {
            if child.try_wait()?.is_some() {
                return Ok(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill()?;
        Err(io::Error::other(format!("{} does not end: {}", self.name, self.tail())))
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        format!("--- {} ({})\n{}", self.name, self.log.display(), last.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that was stopped by a signal must go on to die; errors mean that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A range of 256 ports that nobody uses now, by trying.
fn free_ports() -> io::Result<u16> {
    for base in (20_000..32_000_u16).step_by(256) {
        let taken = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
        if !(base..base + 8).chain(base + 200..base + 204).any(taken) {
            return Ok(base);
        }
    }
    Err(io::Error::other("no free ports"))
}

/// A folder for logs and data of one run, made anew.
pub fn folder(name: &str) -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("toroid-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

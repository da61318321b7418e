//! Where processes live: each in a network namespace of its own, joined by a bridge, so that links can be cut; loopback where that is not allowed.
//!
//! The whole run happens inside one private namespace (`unshare --net`), so nothing of the host's network is touched and all of it ends with the run.

use std::io;
use std::process::{Child, Command, Stdio};

const BRIDGE: &str = "br0";
const PREFIX: &str = "10.77.0";
const HUB: u8 = 254;

/// The network of one run.
#[derive(Debug)]
pub enum Network {
    /// All on 127.0.0.1: links cannot be cut.
    Loopback,
    /// Inside a private namespace with a bridge.
    Bridge,
}

/// A place for one process, which may come and go.
#[derive(Debug)]
pub struct Site {
    /// The address that the process listens on.
    pub host: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Loopback,
    /// Keeps the namespace while no process is in it.
    Namespace {
        holder: Child,
        link: String,
    },
}

impl Network {
    /// Whether this process may make namespaces.
    pub fn can_bridge() -> bool {
        let made = quiet("unshare", &["--net", "ip", "link", "add", "probe", "type", "bridge"]);
        made.is_ok()
    }

    /// Makes the bridge; the process must be in a private namespace already.
    pub fn bridge() -> io::Result<Network> {
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{PREFIX}.{HUB}/24"), "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Network::Bridge)
    }

    /// A new place; `number` is below 250 and given once.
    pub fn site(&self, number: u8) -> io::Result<Site> {
        match self {
            Network::Loopback => Ok(Site { host: "127.0.0.1".to_owned(), place: Place::Loopback }),
            Network::Bridge => {
                let holder = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn()?;
                let host = format!("{PREFIX}.{number}");
                let link = format!("veth{number}");
                let site = Site { host: host.clone(), place: Place::Namespace { holder, link: link.clone() } };
                site.wait_for_namespace()?;
                let inner = format!("in{number}");
                ip(&["link", "add", &link, "type", "veth", "peer", "name", &inner])?;
                ip(&["link", "set", &inner, "netns", &site.holder().to_string()])?;
                ip(&["link", "set", &link, "master", BRIDGE])?;
                ip(&["link", "set", &link, "up"])?;
                site.ip(&["link", "set", "lo", "up"])?;
                site.ip(&["addr", "add", &format!("{host}/24"), "dev", &inner])?;
                site.ip(&["link", "set", &inner, "up"])?;
                Ok(site)
            }
        }
    }
}

impl Site {
    /// A command that will run here.
    pub fn command(&self, program: &std::path::Path) -> Command {
        match &self.place {
            Place::Loopback => Command::new(program),
            Place::Namespace { holder, .. } => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{}/ns/net", holder.id())).arg(program);
                command
            }
        }
    }

    /// Cuts its link, or mends it. False where links cannot be cut.
    pub fn set_link(&self, up: bool) -> io::Result<bool> {
        match &self.place {
            Place::Loopback => Ok(false),
            Place::Namespace { link, .. } => {
                ip(&["link", "set", link, if up { "up" } else { "down" }])?;
                Ok(true)
            }
        }
    }

    fn holder(&self) -> u32 {
        match &self.place {
            Place::Loopback => std::process::id(),
            Place::Namespace { holder, .. } => holder.id(),
        }
    }

    fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        let net = format!("--net=/proc/{}/ns/net", self.holder());
        quiet("nsenter", &[&[net.as_str(), "ip"], arguments].concat())
    }

    /// The holder has left our namespace only once it runs.
    fn wait_for_namespace(&self) -> io::Result<()> {
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        for _ in 0..500 {
            if std::fs::read_link(format!("/proc/{}/ns/net", self.holder()))? != ours {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Err(io::Error::other("a network namespace was not made"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Place::Namespace { holder, .. } = &mut self.place {
            // It sleeps for ever: an error means that it has ended already.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    quiet("ip", arguments)
}

fn quiet(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {said}", arguments.join(" "))))
}

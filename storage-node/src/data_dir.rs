//! A node's directory: who the node is, kept for ever, and one process at a time in it.

use crate::config::StartError;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toroid_common::id::{ClusterId, NodeId};

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";

/// Who the node is, once it has been in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// Where others reached it last.
    pub control: Option<SocketAddr>,
}

/// The directory, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing, and takes it.
    pub fn open(path: &Path) -> Result<DataDir, StartError> {
        let named =
            |error: &dyn std::fmt::Display| StartError::Config(format!("--data-dir {}: {error}", path.display()));
        fs::create_dir_all(path).map_err(|error| named(&error))?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(|error| named(&error))?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(named(&"another process uses it")),
            Err(TryLockError::Error(error)) => Err(named(&error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the node was before; `None` when it has not been in a cluster yet.
    pub fn identity(&self) -> Result<Option<NodeIdentity>, StartError> {
        let path = self.path.join(IDENTITY);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::Config(format!("{}: {error}", path.display()))),
        };
        let identity = parse(&text).ok_or_else(|| {
            StartError::Config(format!(
                "{} is damaged: it should say which node of which cluster this is",
                path.display()
            ))
        })?;
        Ok(Some(identity))
    }

    /// Keeps who the node is; on disk when this returns.
    pub fn remember(&self, identity: NodeIdentity) -> io::Result<()> {
        let draft = self.path.join("identity.new");
        let mut file = File::create(&draft)?;
        writeln!(file, "cluster {:016x}\nnode {}", identity.cluster.0, identity.node)?;
        if let Some(control) = identity.control {
            writeln!(file, "control {control}")?;
        }
        file.sync_all()?;
        fs::rename(&draft, self.path.join(IDENTITY))?;
        File::open(&self.path)?.sync_all()
    }
}

fn parse(text: &str) -> Option<NodeIdentity> {
    let mut lines = text.lines();
    let cluster = u64::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?;
    let node = lines.next()?.strip_prefix("node ")?.parse().ok()?;
    let control = lines.next().map(|line| line.strip_prefix("control ")?.parse().ok());
    let control = match control {
        Some(None) => return None,
        Some(known) => known,
        None => None,
    };
    Some(NodeIdentity { cluster: ClusterId(cluster), node: NodeId(node), control })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_remembers_its_node_and_takes_one_process() {
        let path = std::env::temp_dir().join(format!("toroid-data-dir-{}", std::process::id()));
        let control = Some(SocketAddr::from(([127, 0, 0, 1], 5500)));
        let identity = NodeIdentity { cluster: ClusterId(0xabc), node: NodeId(7), control };
        {
            let dir = DataDir::open(&path).unwrap();
            assert_eq!(dir.identity().unwrap(), None);
            dir.remember(identity).unwrap();
            let taken = DataDir::open(&path).unwrap_err().to_string();
            assert!(taken.contains("another process uses it"), "{taken}");
        }
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(dir.identity().unwrap(), Some(identity));
        fs::write(path.join(IDENTITY), "cluster zz").unwrap();
        assert!(dir.identity().unwrap_err().to_string().contains("damaged"));
        fs::remove_dir_all(&path).unwrap();
    }
}

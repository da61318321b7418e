//! What is said of peers in the log: each thing once, however often they come again.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// So many things are remembered as said; then they may be said again.
const MAX_SAID: usize = 256;

/// What has been said.
#[derive(Debug, Default)]
pub struct Said(BTreeSet<(Option<IpAddr>, String)>);

impl Said {
    /// Whether this is new of that host, or of this one.
    pub fn is_new(&mut self, host: Option<IpAddr>, what: &str) -> bool {
        if self.0.len() >= MAX_SAID {
            self.0.clear();
        }
        self.0.insert((host, what.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_of_each_host_and_little_is_remembered() {
        let mut said = Said::default();
        let host = Some(IpAddr::from([10, 0, 0, 1]));
        assert!(said.is_new(host, "another key") && said.is_new(None, "another key") && said.is_new(host, "no key"));
        assert!(!said.is_new(host, "another key"));
        assert!((0..1_000).all(|number| said.is_new(None, &number.to_string())));
        assert!(said.0.len() <= MAX_SAID);
    }
}

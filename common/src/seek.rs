//! Where the metadata group's leader may be: pure, for proxies, nodes and tools.

use crate::map::ClusterMap;
use std::net::SocketAddr;

/// Control addresses to be tried, in turn; a hint goes first.
#[derive(Clone, Debug)]
pub struct Seek {
    given: Vec<SocketAddr>,
    /// From the last map.
    known: Vec<SocketAddr>,
    hint: Option<SocketAddr>,
    turn: usize,
    last: Option<SocketAddr>,
    /// It took a connection and said nothing: not the next to be asked.
    silent: Option<SocketAddr>,
}

/// The next address, and whether to take a breath before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    pub address: SocketAddr,
    /// Nobody said that the leader is there.
    pub guess: bool,
}

impl Seek {
    /// With the addresses that the process was given at its start.
    pub fn new(given: Vec<SocketAddr>) -> Seek {
        Seek { given, known: Vec::new(), hint: None, turn: 0, last: None, silent: None }
    }

    /// A map names all nodes.
    pub fn learn(&mut self, map: &ClusterMap) {
        self.known = map.nodes.iter().map(|node| node.control).filter(|known| !self.given.contains(known)).collect();
    }

    /// The last address tried says that the leader is there. What sends back to itself is no hint.
    pub fn told(&mut self, leader: Option<SocketAddr>) {
        self.hint = leader.filter(|leader| self.last != Some(*leader));
    }

    /// The last address tried is the leader's: it is tried first when the connection is lost, but only once.
    pub fn found(&mut self) {
        self.hint = self.last;
        self.turn = 0;
        self.silent = None;
    }

    /// The last address tried does not answer: perhaps its process stands still, or the network is cut.
    pub fn lost_silent(&mut self) {
        self.hint = None;
        self.silent = self.last;
    }

    /// Whom to ask now; `None` when nobody is known.
    pub fn next_try(&mut self) -> Option<Try> {
        let count = self.given.len() + self.known.len();
        let (address, guess) = match self.hint.take() {
            Some(hint) => (hint, false),
            None => {
                let at = self.turn.checked_rem(count)?;
                self.turn = at + 1;
                let mut address = *self.given.iter().chain(&self.known).nth(at)?;
                if self.silent.take_if(|silent| *silent == address).is_some() && count > 1 {
                    let at = self.turn.checked_rem(count)?;
                    self.turn = at + 1;
                    address = *self.given.iter().chain(&self.known).nth(at)?;
                }
                (address, true)
            }
        };
        self.last = Some(address);
        Some(Try { address, guess })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn addresses_are_tried_in_turn_and_hints_first() {
        let mut seek = Seek::new(vec![address(1), address(2)]);
        let next = |seek: &mut Seek| seek.next_try().map(|next| (next.address.port(), next.guess));
        assert_eq!(next(&mut seek), Some((1, true)));
        assert_eq!(next(&mut seek), Some((2, true)));
        seek.told(Some(address(7)));
        assert_eq!(next(&mut seek), Some((7, false)));
        seek.told(Some(address(7)));
        assert_eq!(next(&mut seek), Some((1, true)), "what sends back to itself is no hint");
        seek.found();
        assert_eq!(next(&mut seek), Some((1, false)));
        assert_eq!(next(&mut seek), Some((1, true)));
        seek.found();
        seek.lost_silent();
        assert_eq!(next(&mut seek), Some((2, true)), "who is silent is left out once");
        assert_eq!(next(&mut seek), Some((1, true)));
        assert_eq!(Seek::new(Vec::new()).next_try(), None);
    }
}

//! The secret that all processes of a cluster share, and how two of them prove to each other that they have it before any frame is read. Pure.
//!
//! Who connects sends [`MAGIC`] and a nonce; who listens answers with a nonce and a proof over both; who connected checks it and sends its own proof. A
//! proof is HMAC-SHA-256 (RFC 2104) over the side's name and both nonces, so neither side can hand one back. The connection is not encrypted.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

/// What a connection begins with where there is a key. As a frame's length it would be too long, so a peer without a key refuses it.
pub const MAGIC: [u8; 4] = *b"TRK1";
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
/// HMAC pads shorter keys with zeros to one block of its hash.
const KEY_BLOCK_BYTES: usize = 64;
/// Least bytes of a key file that are not white space.
const LEAST_KEY_BYTES: usize = 16;

/// A cluster's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BLOCK_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key in a file's content: all of it but white space around it.
    ///
    /// # Errors
    /// When it is too short to be secret.
    pub fn new(content: &[u8]) -> Result<Key, String> {
        let secret = content.trim_ascii();
        if secret.len() < LEAST_KEY_BYTES {
            return Err(format!("a cluster key needs {LEAST_KEY_BYTES} bytes or more, this one has {}", secret.len()));
        }
        let mut block = [0; KEY_BLOCK_BYTES];
        block[..PROOF_BYTES].copy_from_slice(&Sha256::digest(secret));
        Ok(Key(block))
    }

    fn mac(&self, side: Side, nonces: &Nonces) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        mac.update(match side {
            Side::Connector => b"connector",
            Side::Listener => b"listener",
        });
        mac.update(&nonces.connector);
        mac.update(&nonces.listener);
        mac
    }
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Connector,
    Listener,
}

#[derive(Clone, Debug)]
struct Nonces {
    connector: [u8; NONCE_BYTES],
    listener: [u8; NONCE_BYTES],
}

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It does not begin as one that has a key.
    NoKey,
    /// Its key is another one.
    WrongKey,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::NoKey => "the peer does not show the cluster's key",
            Denied::WrongKey => "the peer has another cluster key",
        })
    }
}

impl std::error::Error for Denied {}

/// One side of the exchange.
#[derive(Debug)]
pub struct Exchange {
    key: Key,
    nonces: Nonces,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Who listens awaits magic and nonce.
    Greeting,
    /// Who connected awaits nonce and proof.
    Answer,
    /// Who listens awaits the proof.
    Proof,
    Done,
}

impl Exchange {
    /// The side that connects: appends its first bytes. A nonce is random and used once.
    pub fn connect(key: &Key, nonce: [u8; NONCE_BYTES], out: &mut Vec<u8>) -> Exchange {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&nonce);
        let nonces = Nonces { connector: nonce, listener: [0; NONCE_BYTES] };
        Exchange { key: key.clone(), nonces, state: State::Answer }
    }

    /// The side that listens. A nonce is random and used once.
    pub fn listen(key: &Key, nonce: [u8; NONCE_BYTES]) -> Exchange {
        let nonces = Nonces { connector: [0; NONCE_BYTES], listener: nonce };
        Exchange { key: key.clone(), nonces, state: State::Greeting }
    }

    /// Whether the peer has proved itself: what follows are frames.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes the next step takes, none of which belongs to a frame.
    pub fn wants(&self) -> usize {
        match self.state {
            State::Greeting => MAGIC.len() + NONCE_BYTES,
            State::Answer => NONCE_BYTES + PROOF_BYTES,
            State::Proof => PROOF_BYTES,
            State::Done => 0,
        }
    }

    /// Takes what has arrived, as far as it goes: returns how many bytes were used, and appends what is to be sent.
    ///
    /// # Errors
    /// When the peer is to be refused.
    pub fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Denied> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.state {
                State::Greeting => {
                    if !rest.starts_with(&MAGIC[..rest.len().min(MAGIC.len())]) {
                        return Err(Denied::NoKey);
                    }
                    let Some((greeting, _)) = rest.split_first_chunk::<{ 4 + NONCE_BYTES }>() else { return Ok(used) };
                    self.nonces.connector.copy_from_slice(&greeting[MAGIC.len()..]);
                    out.extend_from_slice(&self.nonces.listener);
                    out.extend_from_slice(&self.key.mac(Side::Listener, &self.nonces).finalize().into_bytes());
                    used += greeting.len();
                    self.state = State::Proof;
                }
                State::Answer => {
                    let Some((nonce, after)) = rest.split_first_chunk::<NONCE_BYTES>() else { return Ok(used) };
                    let Some((proof, _)) = after.split_first_chunk::<PROOF_BYTES>() else { return Ok(used) };
                    self.nonces.listener = *nonce;
                    self.verify(Side::Listener, proof)?;
                    out.extend_from_slice(&self.key.mac(Side::Connector, &self.nonces).finalize().into_bytes());
                    used += NONCE_BYTES + PROOF_BYTES;
                    self.state = State::Done;
                }
                State::Proof => {
                    let Some((proof, _)) = rest.split_first_chunk::<PROOF_BYTES>() else { return Ok(used) };
                    self.verify(Side::Connector, proof)?;
                    used += PROOF_BYTES;
                    self.state = State::Done;
                }
                State::Done => return Ok(used),
            }
        }
    }

    fn verify(&self, side: Side, proof: &[u8; PROOF_BYTES]) -> Result<(), Denied> {
        self.key.mac(side, &self.nonces).verify_slice(proof).map_err(|_| Denied::WrongKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.as_bytes()).unwrap()
    }

    /// Carries bytes to and fro, so many at a time, until both are done or one denies.
    fn talk(connector: &Key, listener: &Key, piece: usize) -> Result<(), Denied> {
        let mut to_listener = Vec::new();
        let mut to_connector = Vec::new();
        let mut a = Exchange::connect(connector, [1; NONCE_BYTES], &mut to_listener);
        let mut b = Exchange::listen(listener, [2; NONCE_BYTES]);
        let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
        for _ in 0..1_000 {
            at_b.extend(to_listener.drain(..piece.min(to_listener.len())));
            let used = b.advance(&at_b, &mut to_connector)?;
            at_b.drain(..used);
            at_a.extend(to_connector.drain(..piece.min(to_connector.len())));
            let used = a.advance(&at_a, &mut to_listener)?;
            at_a.drain(..used);
        }
        assert!(a.is_done() && b.is_done() && at_a.is_empty() && at_b.is_empty());
        Ok(())
    }

    #[test]
    fn who_has_the_key_comes_in_and_nobody_else() {
        let (ours, other) = (key("0123456789abcdef"), key("another key, as long"));
        for piece in [1, 7, 1_000] {
            assert_eq!(talk(&ours, &ours, piece), Ok(()));
            assert_eq!(talk(&other, &ours, piece), Err(Denied::WrongKey));
        }
        assert_eq!(key(" 0123456789abcdef\n"), ours, "white space around a key is not part of it");
        assert!(Key::new(b"short").is_err());
    }

    #[test]
    fn a_peer_without_a_key_is_refused_at_its_first_byte() {
        let mut exchange = Exchange::listen(&key("0123456789abcdef"), [2; NONCE_BYTES]);
        assert_eq!(exchange.advance(&[], &mut Vec::new()), Ok(0));
        assert_eq!(exchange.advance(&[9], &mut Vec::new()), Err(Denied::NoKey));
        let length = u32::from_le_bytes(MAGIC) as usize;
        assert!(length > crate::limits::MAX_FRAME_BYTES, "one without a key takes the magic for an impossible frame");
    }

    #[test]
    fn a_proof_cannot_be_handed_back() {
        let key = key("0123456789abcdef");
        let mut out = Vec::new();
        let mut exchange = Exchange::listen(&key, [2; NONCE_BYTES]);
        let mut greeting = MAGIC.to_vec();
        greeting.extend_from_slice(&[1; NONCE_BYTES]);
        exchange.advance(&greeting, &mut out).unwrap();
        let listener_proof = out[NONCE_BYTES..].to_vec();
        assert_eq!(exchange.advance(&listener_proof, &mut out), Err(Denied::WrongKey));
    }
}

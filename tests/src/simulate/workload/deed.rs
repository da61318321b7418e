//! What sessions do beside tables: advisory locks, by themselves and within transactions.

use super::block::Move;
use super::{Operation, Work, moment};
use crate::random::Random;
use crate::simulate::clock::{Instant, MILLISECOND, SECOND};
use toroid_common::plan::{AdvisoryKey, LockScope};

/// Something that a session does beside tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// pg_advisory_lock and its kin.
    Lock {
        key: AdvisoryKey,
        shared: bool,
        scope: LockScope,
        wait: bool,
    },
    Unlock {
        key: AdvisoryKey,
        shared: bool,
    },
    UnlockAll,
    /// The session ends; its client comes again as another one.
    Leave,
}

/// How long a session waits for what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// 0: as long as it takes.
    pub lock_timeout_ms: u32,
    /// What takes longer is called back.
    pub patience: Option<u64>,
}

/// Keys that sessions lock: few, so that they meet.
const KEYS: i64 = 3;

fn key(random: &mut Random) -> AdvisoryKey {
    AdvisoryKey { pair: random.percent(30), key: random.below(KEYS as u64) as i64 }
}

fn lock(random: &mut Random, scope: LockScope) -> Deed {
    Deed::Lock { key: key(random), shared: random.percent(40), scope, wait: random.percent(60) }
}

fn terms(random: &mut Random) -> Terms {
    Terms {
        lock_timeout_ms: random.pick(&[0, 0, 50, 1_000]).unwrap_or(0),
        patience: random.pick(&[None, None, None, Some(30 * MILLISECOND), Some(SECOND)]).flatten(),
    }
}

/// Adds what sessions do beside tables to what they do on them: between their other operations, and within some of their transactions.
pub fn mix(
    random: &mut Random,
    sessions: u16,
    end: Instant,
    troubled: &[(Instant, Instant)],
    operations: &mut Vec<Operation>,
) {
    for operation in operations.iter_mut() {
        if let Work::Block(block) = &mut operation.what
            && random.percent(30)
        {
            let scope = if random.percent(75) { LockScope::Transaction } else { LockScope::Session };
            let place = random.below(block.moves.len() as u64 + 1) as usize;
            block.moves.insert(place, Move::Deed(lock(random, scope)));
        }
    }
    for _ in 0..random.between(20, 45) {
        let at = moment(random, SECOND, end, troubled);
        let session = random.below(u64::from(sessions)) as u16;
        lock_for_a_while(random, session, at, end, operations);
    }
    operations.sort_by_key(|operation| operation.at);
}

/// A session locks something, perhaps more, and gives it back after a while.
fn lock_for_a_while(random: &mut Random, session: u16, at: Instant, end: Instant, operations: &mut Vec<Operation>) {
    let mut at = at;
    let mut taken = Vec::new();
    let mut then = |at: Instant, deed: Deed, random: &mut Random| {
        operations.push(Operation { at: at.min(end), session, what: Work::Deed(deed, terms(random)) });
    };
    for _ in 0..random.pick(&[1, 1, 1, 2, 3]).unwrap_or(1) {
        let deed = lock(random, LockScope::Session);
        then(at, deed, random);
        taken.push(deed);
        at += random.below(20 * MILLISECOND);
    }
    at += random.pick(&[0, 5, 50, 50, 600, 3_000]).unwrap_or(0) * MILLISECOND;
    match random.below(100) {
        0..8 => then(at, Deed::UnlockAll, random),
        8..18 => then(at, Deed::Leave, random),
        // Until the session ends.
        18..24 => {}
        _ => {
            for deed in taken {
                if let Deed::Lock { key, shared, .. } = deed {
                    then(at, Deed::Unlock { key, shared }, random);
                }
            }
        }
    }
}

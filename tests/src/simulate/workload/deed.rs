//! What sessions do beside tables: advisory locks and notifications, by themselves and within transactions.

use super::block::{Block, Move};
use super::{Operation, Work, moment};
use crate::random::Random;
use crate::simulate::clock::{Instant, MILLISECOND, SECOND};
use toroid_common::plan::{AdvisoryKey, LockScope};
use toroid_common::transaction::Level;

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
    /// NOTIFY; the payload is made so long.
    Notify {
        channel: u8,
        payload: u64,
        bytes: u16,
    },
    Listen {
        channel: u8,
    },
    Unlisten {
        channel: u8,
    },
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

impl Terms {
    /// As long as it takes.
    pub const PATIENT: Terms = Terms { lock_timeout_ms: 0, patience: None };
}

/// Channels that sessions listen to.
const CHANNELS: u64 = 4;

/// The name of a channel; its last letter tells which one it is.
#[must_use]
pub fn channel_name(channel: u8) -> &'static str {
    ["channel a", "channel b", "channel c", "channel d"].get(usize::from(channel)).copied().unwrap_or("none")
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

/// Adds what sessions say to others and hear of them.
pub fn speak(
    random: &mut Random,
    sessions: u16,
    end: Instant,
    troubled: &[(Instant, Instant)],
    operations: &mut Vec<Operation>,
) {
    let mut said = 0;
    let mut say = |random: &mut Random, bytes: u16| {
        said += 1;
        Deed::Notify { channel: random.below(CHANNELS) as u8, payload: said, bytes }
    };
    for operation in operations.iter_mut() {
        let Work::Block(block) = &mut operation.what else { continue };
        if block.read_only || !random.percent(40) {
            continue;
        }
        for _ in 0..random.pick(&[1, 1, 2, 3]).unwrap_or(1) {
            let place = random.below(block.moves.len() as u64 + 1) as usize;
            block.moves.insert(place, Move::Deed(say(random, 0)));
        }
    }
    let mut work =
        |at: Instant, session: u16, what: Work| operations.push(Operation { at: at.min(end), session, what });
    for _ in 0..random.between(20, 60) {
        let (at, session) = (moment(random, SECOND, end, troubled), random.below(u64::from(sessions)) as u16);
        let deed = say(random, 0);
        work(at, session, Work::Deed(deed, Terms::PATIENT));
    }
    for _ in 0..random.between(8, 24) {
        let (at, session) = (moment(random, SECOND, end, troubled), random.below(u64::from(sessions)) as u16);
        let channel = random.below(CHANNELS) as u8;
        work(at, session, Work::Deed(Deed::Listen { channel }, Terms::PATIENT));
        if random.percent(50) {
            let later = at + random.pick(&[0, 5, 300, 6_000]).unwrap_or(300) * MILLISECOND;
            work(later, session, Work::Deed(Deed::Unlisten { channel }, Terms::PATIENT));
        }
    }
    if random.percent(10) {
        flood(random, sessions, troubled, &mut say, &mut work);
    }
    operations.sort_by_key(|operation| operation.at);
}

/// More than a partition keeps, while some may be cut off from it.
fn flood(
    random: &mut Random,
    sessions: u16,
    troubled: &[(Instant, Instant)],
    say: &mut impl FnMut(&mut Random, u16) -> Deed,
    work: &mut impl FnMut(Instant, u16, Work),
) {
    let Some((begin, end)) = random.pick(troubled) else { return };
    let channel_of_all = random.below(CHANNELS) as u8;
    for block in 0..3 {
        let moves = (0..230).map(|_| match say(random, 7_900) {
            Deed::Notify { payload, bytes, .. } => Move::Deed(Deed::Notify { channel: channel_of_all, payload, bytes }),
            other => Move::Deed(other),
        });
        let block_of = Block {
            level: Level::ReadCommitted,
            read_only: false,
            moves: moves.collect(),
            commits: true,
            lock_timeout_ms: 0,
            patience: None,
            pause: 0,
        };
        let session = random.below(u64::from(sessions)) as u16;
        work(random.between(begin, end) + block, session, Work::Block(block_of));
    }
}

//! What a transaction does from BEGIN to its end.

use super::deed::Deed;
use super::{Act, locking_act, some_key, unique_act};
use crate::random::Random;
use toroid_common::transaction::Level;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub level: Level,
    /// It reads a cut at every level but READ COMMITTED.
    pub read_only: bool,
    pub moves: Vec<Move>,
    pub commits: bool,
    /// 0: waits as long as it takes.
    pub lock_timeout_ms: u32,
    /// A statement that takes longer is called back.
    pub patience: Option<u64>,
    /// Microseconds that its client thinks between two moves, at most.
    pub pause: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    On {
        key: i32,
        act: Act,
    },
    Scan,
    Deed(Deed),
    Savepoint,
    /// ROLLBACK TO the youngest savepoint; nothing where there is none. After an error as well.
    RollBackTo,
    /// RELEASE the youngest.
    Release,
}

impl Block {
    /// One statement, of a session that is to be known wherever it waits.
    #[must_use]
    pub fn of(key: i32, act: Act) -> Block {
        Block {
            level: Level::ReadCommitted,
            read_only: false,
            moves: vec![Move::On { key, act }],
            commits: true,
            lock_timeout_ms: 0,
            patience: None,
            pause: 0,
        }
    }

    /// Some transaction.
    #[must_use]
    pub fn draw(random: &mut Random, keys: u64) -> Block {
        let level = match random.below(3) {
            0 => Level::ReadCommitted,
            1 => Level::RepeatableRead,
            _ => Level::Serializable,
        };
        let read_only = random.percent(15);
        let mut moves = Vec::new();
        for _ in 0..random.between(1, 6) {
            let key = some_key(random, keys);
            let act = if read_only || random.percent(20) { Act::Read } else { unique_act(random, key) };
            let act = if !read_only && random.percent(10) { locking_act(random) } else { act };
            let on = Move::On { key, act };
            let more: &[Move] = match random.below(100) {
                0..10 => &[Move::Scan],
                10..18 => &[Move::Savepoint, on],
                18..24 => &[on, Move::RollBackTo],
                24..26 => &[Move::Release, on],
                _ => &[on],
            };
            moves.extend_from_slice(more);
        }
        Block {
            level,
            read_only,
            moves,
            commits: random.percent(90),
            lock_timeout_ms: random.pick(&[0, 0, 50, 1_000]).unwrap_or(0),
            patience: random.pick(&[None, None, None, Some(30_000), Some(1_000_000)]).flatten(),
            pause: random.pick(&[0, 1_000, 20_000, 300_000]).unwrap_or(0),
        }
    }
}

//! What happened, line by line, when somebody wants to read it.

use super::clock::Instant;
use std::fmt::Write;

/// Lines with their instants; nothing is kept or even formatted unless it is wanted.
#[derive(Debug, Default)]
pub struct Trace {
    wanted: bool,
    lines: Vec<String>,
    /// Of all that happened, also where no lines are kept: equal for equal runs.
    digest: u64,
}

impl Trace {
    #[must_use]
    pub fn new(wanted: bool) -> Trace {
        Trace { wanted, lines: Vec::new(), digest: 0xcbf2_9ce4_8422_2325 }
    }

    #[must_use]
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Notes a line.
    pub fn note(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if self.wanted {
            let mut text = String::new();
            let _ = write!(text, "{:>4}.{:06} ", now / 1_000_000, now % 1_000_000);
            text.push_str(&line());
            self.lines.push(text);
        }
    }

    /// Takes something into the digest.
    pub fn mark(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0100_0000_01b3);
    }

    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

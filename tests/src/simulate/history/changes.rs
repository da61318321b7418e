//! Changes of the table as their clients saw them.

use super::History;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Done,
    /// It was not made, and never will be.
    Never,
    Unknown,
}

/// A change that was asked for. What is made has a name that nothing else ever has.
#[derive(Clone, Debug)]
pub struct Change {
    pub makes: Option<String>,
    pub drops: Vec<String>,
    pub told: Told,
}

impl History {
    /// A change is asked for; returns its number.
    pub fn change(&mut self, makes: Option<String>, drops: Vec<String>) -> usize {
        self.changes.push(Change { makes, drops, told: Told::Unknown });
        self.changes.len() - 1
    }

    pub fn changed(&mut self, number: usize, told: Told) {
        if let Some(change) = self.changes.get_mut(number) {
            change.told = told;
        }
    }
}

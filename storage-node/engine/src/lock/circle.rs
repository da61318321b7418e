//! Circles of waits: transactions that wait for each other for ever.

use std::collections::BTreeSet;
use toroid_common::id::TransactionId;

/// The way from a transaction over those that it waits for, back to itself: itself first. `waits_for` adds whom one waits for.
pub fn circle(
    start: TransactionId,
    mut waits_for: impl FnMut(TransactionId, &mut Vec<TransactionId>),
) -> Option<Vec<TransactionId>> {
    let mut seen = BTreeSet::from([start]);
    // The way so far, each with those that it waits for and that have not been looked at.
    let mut way: Vec<(TransactionId, Vec<TransactionId>)> = Vec::new();
    let mut next = Some(start);
    loop {
        if let Some(transaction) = next.take() {
            let mut before = Vec::new();
            waits_for(transaction, &mut before);
            if before.contains(&start) {
                return Some(way.iter().map(|(passed, _)| *passed).chain([transaction]).collect());
            }
            way.push((transaction, before));
        }
        let (_, rest) = way.last_mut()?;
        match rest.pop() {
            Some(transaction) => next = seen.insert(transaction).then_some(transaction),
            None => drop(way.pop()),
        }
    }
}

//! A failing scenario made as small as it still fails: fewer faults, then fewer operations.

use super::sabotage::Sabotage;
use super::scenario::Scenario;
use super::world::run;

/// Runs that are spent on shrinking.
const MOST_RUNS: usize = 150;

/// The smallest scenario found that still fails.
#[must_use]
pub fn shrink(scenario: &Scenario, sabotage: Option<Sabotage>) -> Scenario {
    let mut best = scenario.clone();
    let mut runs = 0;
    let mut fails = |candidate: &Scenario| {
        runs += 1;
        runs <= MOST_RUNS && run(candidate, sabotage, false).violation.is_some()
    };
    let mut index = 0;
    while index < best.faults.len() {
        let mut candidate = best.clone();
        candidate.faults.remove(index);
        if fails(&candidate) {
            best = candidate;
        } else {
            index += 1;
        }
    }
    let mut index = 0;
    while index < best.errands.len() {
        let mut candidate = best.clone();
        candidate.errands.remove(index);
        if candidate.most_nodes() == best.most_nodes() && fails(&candidate) {
            best = candidate;
        } else {
            index += 1;
        }
    }
    let mut chunk = best.operations.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < best.operations.len() {
            let mut candidate = best.clone();
            let end = (start + chunk).min(candidate.operations.len());
            candidate.operations.drain(start..end);
            if fails(&candidate) {
                best = candidate;
            } else {
                start = end;
            }
        }
        chunk /= 2;
    }
    best
}

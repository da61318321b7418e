//! Long random runs over a store and a plain map beside it, with roots held at random moments.

mod fixture;
mod model;

use model::Run;

#[test]
fn over_random_runs_with_held_roots() {
    for seed in 1..=3 {
        let mut run = Run::new(seed * 7919);
        for _ in 0..500 {
            run.step();
        }
        run.end();
    }
}

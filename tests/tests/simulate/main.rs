//! The simulator: seeds pass, the same seed runs the same, recorded ones stay mended, and guards that are turned off are missed.

use toroid_tests::simulate::sabotage::Sabotage;
use toroid_tests::simulate::scenario::{Menu, Scenario};
use toroid_tests::simulate::world::run;

/// What this version of the cluster is to survive.
const MENU: Menu = Menu::Connections;

fn pass(seeds: impl Iterator<Item = u64>, menu: Menu) {
    for seed in seeds {
        let scenario = Scenario::draw(seed, menu);
        let ended = run(&scenario, None, false);
        if let Some(violation) = ended.violation {
            panic!(
                "{}\n{violation}\nreplay: cargo run -p toroid-tests --bin simulate -- --seed {seed} --trace --menu {menu:?}",
                scenario.title()
            );
        }
        assert!(ended.operations >= 200 && ended.lasted >= 30_000_000, "seed {seed} is too small");
    }
}

#[test]
fn seeds_1_to_50() {
    pass(1..=50, MENU);
}

#[test]
fn seeds_51_to_100() {
    pass(51..=100, MENU);
}

#[test]
fn seeds_101_to_150() {
    pass(101..=150, MENU);
}

#[test]
fn seeds_151_to_200() {
    pass(151..=200, MENU);
}

#[test]
fn recorded_seeds() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(seed), Some(menu)) = (words.next(), words.next()) else { continue };
        let menu = match menu {
            "nothing" => Menu::Nothing,
            "connections" => Menu::Connections,
            "everything" => Menu::Everything,
            other => panic!("{other} is no menu"),
        };
        pass(std::iter::once(seed.parse().expect("a seed is a number")), menu);
    }
}

#[test]
fn the_same_seed_runs_the_same() {
    for seed in 1..=5 {
        let runs = [false, true].map(|traced| run(&Scenario::draw(seed, MENU), None, traced).digest);
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// How many seeds it takes until a guard that is turned off is missed.
fn missed_after(sabotage: Sabotage, most: u64) -> Option<u64> {
    (1..=most).find(|seed| run(&Scenario::draw(*seed, MENU), Some(sabotage), false).violation.is_some())
}

#[test]
fn requests_without_identity_are_missed_within_20_seeds() {
    assert!(missed_after(Sabotage::RequestIds, 20).is_some());
}

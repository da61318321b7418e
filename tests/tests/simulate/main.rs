//! The simulator: seeds pass, the same seed runs the same, recorded ones stay mended, and guards that are turned off are missed.

use toroid_tests::simulate::sabotage::Sabotage;
use toroid_tests::simulate::scenario::{Menu, Scenario};
use toroid_tests::simulate::world::run;

const MENU: Menu = Menu::Everything;

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
        let (operations, lasted) = (ended.operations, ended.lasted);
        assert!(
            operations >= 200 && lasted >= 30_000_000,
            "seed {seed} is too small: {operations} operations in {lasted} µs"
        );
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
            "commitments" => Menu::Commitments,
            "sessions" => Menu::Sessions,
            "schema" => Menu::Schema,
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

/// That a guard is turned off is seen within so many seeds.
fn missed(sabotage: Sabotage, most: u64) {
    missed_with(MENU, sabotage, most);
}

fn missed_with(menu: Menu, sabotage: Sabotage, most: u64) {
    let seen = (1..=most).any(|seed| run(&Scenario::draw(seed, menu), Some(sabotage), false).violation.is_some());
    assert!(seen, "{most} seeds don't miss {sabotage:?}");
}

#[test]
fn the_lease_check_at_the_reply_is_missed_within_60_seeds() {
    missed(Sabotage::LeaseAtReply, 60);
}

#[test]
fn epoch_checks_are_missed_within_30_seeds() {
    missed(Sabotage::Epoch, 30);
}

#[test]
fn acknowledgement_by_all_is_missed_within_3_seeds() {
    missed(Sabotage::AllAcknowledge, 3);
}

#[test]
fn promotion_of_backups_only_is_missed_within_10_seeds() {
    missed(Sabotage::PromoteStranger, 10);
}

#[test]
fn acknowledgement_before_serving_is_missed_within_30_seeds() {
    missed(Sabotage::ServeBeforeAcknowledged, 30);
}

#[test]
fn request_identities_are_missed_within_20_seeds() {
    missed(Sabotage::RequestIds, 20);
}

#[test]
fn cuts_are_missed_within_100_seeds() {
    missed(Sabotage::Cuts, 100);
}

#[test]
fn prepared_transactions_in_cuts_are_missed_within_60_seeds() {
    missed(Sabotage::PendingInCut, 60);
}

#[test]
fn confirmations_are_missed_within_10_seeds() {
    missed(Sabotage::Confirmations, 10);
}

#[test]
fn statement_counts_are_missed_within_30_seeds() {
    missed(Sabotage::StatementCounts, 30);
}

#[test]
fn scan_locks_are_missed_within_100_seeds() {
    missed(Sabotage::ScanLocks, 100);
}

/// With them go the transactions that belong to the cut: its list is empty then.
#[test]
fn gates_that_captures_hold_are_missed_within_10_seeds_of_commitments() {
    missed_with(Menu::Commitments, Sabotage::CaptureGates, 10);
}

#[test]
fn fences_of_proxies_are_missed_within_10_seeds() {
    missed(Sabotage::FencedProxies, 10);
}

/// Seeds in which sessions take advisory locks, notify and listen beside what they do to tables.
#[test]
fn sessions_lock_and_listen() {
    pass(1..=60, Menu::Sessions);
}

#[test]
fn advisory_locks_that_no_primary_takes_over_are_missed_within_3_seeds() {
    missed_with(Menu::Sessions, Sabotage::TakenGrips, 3);
}

#[test]
fn advisory_locks_that_sessions_leave_behind_are_missed_within_3_seeds() {
    missed_with(Menu::Sessions, Sabotage::SessionEnds, 3);
}

#[test]
fn advisory_locks_of_dead_proxies_are_missed_within_10_seeds() {
    missed_with(Menu::Sessions, Sabotage::FencedProxies, 10);
}

#[test]
fn what_a_listener_heard_before_is_missed_within_40_seeds() {
    missed_with(Menu::Sessions, Sabotage::HeardBefore, 40);
}

/// It takes a failover between an entry and its acknowledgement.
#[test]
fn acknowledgement_before_listeners_are_told_is_missed_within_300_seeds() {
    missed_with(Menu::Sessions, Sabotage::ToldEarly, 300);
}

/// Seeds in which columns and indexes come and go.
#[test]
fn the_table_changes() {
    pass(1..=60, Menu::Schema);
}

#[test]
fn identities_of_schema_changes_are_missed_within_100_seeds() {
    missed_with(Menu::Schema, Sabotage::ChangeIds, 100);
}

#[test]
fn epoch_changes_that_end_no_cut_are_missed_within_200_seeds() {
    missed(Sabotage::MovedInCut, 200);
}

/// Seeds in which coordinators stop halfway through commitments, again and again.
#[test]
fn commitments_stop_halfway() {
    pass(1..=30, Menu::Commitments);
}

#[test]
fn aborts_that_are_presumed_and_not_kept_are_missed_within_10_seeds_of_commitments() {
    missed_with(Menu::Commitments, Sabotage::DurableAbort, 10);
}

#[test]
fn waiting_for_prepared_transactions_is_missed_within_20_seeds_of_commitments() {
    missed_with(Menu::Commitments, Sabotage::PreparedRows, 20);
}

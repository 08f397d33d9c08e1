//! A consumer group under simulated trouble: slow and lost members, rebalances, elections.

use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::world::Setup;
use tests::sim::{Report, run_in};

fn consumers(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    run_in(&Setup { consumers: 4, bug, ..Setup::seed(seed) })
}

fn group(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    run_in(&Setup { members: 4, bug, ..Setup::seed(seed) })
}

/// Members of both protocols in one group, which changes its own whenever the last of the one leaves, or one comes again.
fn mixed(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    run_in(&Setup { members: 3, consumers: 1, bug, ..Setup::seed(seed) })
}

/// Runs many seeds without a mistake.
fn one_owner(run: impl Fn(u64) -> Result<Report, InvariantViolation>) {
    let commits = |seed| match run(seed) {
        Ok(report) => report.offset_commits,
        Err(InvariantViolation(what)) => panic!("seed {seed}: {what}"),
    };
    let commits: usize = (0..100).map(commits).sum();
    eprintln!("{commits} offsets committed");
    assert!(commits >= 1000, "too few commits to prove anything: {commits}");
}

fn caught(run: impl Fn(u64) -> Result<Report, InvariantViolation>) {
    let InvariantViolation(what) = (0..100).find_map(|seed| run(seed).err()).expect("it went unnoticed");
    assert!(what.starts_with("one owner"), "{what}");
}

#[test]
fn simulation_of_a_group_has_one_owner_and_loses_no_commit() {
    one_owner(|seed| group(seed, None));
}

#[test]
fn simulation_of_a_group_of_the_consumer_protocol_has_one_owner_and_loses_no_commit() {
    one_owner(|seed| consumers(seed, None));
}

#[test]
fn simulation_of_a_group_that_changes_its_protocol_has_one_owner_and_loses_no_commit() {
    one_owner(|seed| mixed(seed, None));
}

#[test]
fn simulation_catches_commits_of_another_generation() {
    caught(|seed| group(seed, Some(Bug::AnyGeneration)));
}

#[test]
fn simulation_catches_commits_of_another_epoch() {
    caught(|seed| consumers(seed, Some(Bug::AnyGeneration)));
}

#[test]
fn simulation_catches_commits_of_another_epoch_in_a_group_that_changes_its_protocol() {
    caught(|seed| mixed(seed, Some(Bug::AnyGeneration)));
}

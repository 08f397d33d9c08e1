//! A consumer group under simulated trouble: slow and lost members, rebalances, elections.

use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::world::Setup;
use tests::sim::{Report, run_in};

fn group(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    run_in(&Setup { members: 4, bug, ..Setup::seed(seed) })
}

#[test]
fn simulation_of_a_group_has_one_owner_and_loses_no_commit() {
    let reports: Vec<_> = (0..100).map(|seed| (seed, group(seed, None))).collect();
    let commits = |(seed, report): &(u64, Result<Report, InvariantViolation>)| match report {
        Ok(report) => report.offset_commits,
        Err(InvariantViolation(what)) => panic!("seed {seed}: {what}"),
    };
    let commits: usize = reports.iter().map(commits).sum();
    eprintln!("{commits} offsets committed");
    assert!(commits >= 1000, "too few commits to prove anything: {commits}");
}

#[test]
fn simulation_catches_commits_of_another_generation() {
    let caught = (0..100).find_map(|seed| group(seed, Some(Bug::AnyGeneration)).err());
    let InvariantViolation(what) = caught.expect("it went unnoticed");
    assert!(what.starts_with("one owner"), "{what}");
}

//! An exactly-once pipeline under simulated trouble: instances that fence each other, lost answers, elections.

use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::world::Setup;
use tests::sim::{Report, run_in};

fn pipeline(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    run_in(&Setup { instances: 3, bug, ..Setup::seed(seed) })
}

#[test]
fn simulation_of_a_pipeline_commits_each_number_once() {
    let reports: Vec<_> = (0..100).map(|seed| (seed, pipeline(seed, None))).collect();
    let transactions = |(seed, report): &(u64, Result<Report, InvariantViolation>)| match report {
        Ok(report) => report.transactions,
        Err(InvariantViolation(what)) => panic!("seed {seed}: {what}"),
    };
    let transactions: usize = reports.iter().map(transactions).sum();
    eprintln!("{transactions} transactions committed");
    assert!(transactions >= 1000, "too few transactions to prove anything: {transactions}");
}

/// Each mistake is caught, by what the pipeline or its readers notice.
#[test]
fn simulation_catches_mistakes_with_transactions() {
    for bug in [Bug::AnyEpoch, Bug::OffsetsApart, Bug::ReadAborted] {
        let caught = (0..100).find_map(|seed| pipeline(seed, Some(bug)).err());
        let InvariantViolation(what) = caught.unwrap_or_else(|| panic!("{bug:?} went unnoticed"));
        assert!(what.starts_with("exactly once"), "{bug:?}: {what}");
    }
}

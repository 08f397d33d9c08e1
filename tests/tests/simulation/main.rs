//! Whole clusters under simulated trouble, many seeds at a time.
//!
//! `SIM_SEEDS=n` runs so many seeds instead of 1,000. `SIM_SEED=n` runs that one alone and prints all that happens in it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod groups;
mod mistakes;
mod scenarios;
mod transactions;

use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::env::Profile;
use tests::sim::world::Setup;
use tests::sim::{Report, run, run_in};

/// Seeds run unless told otherwise.
const SEEDS: u64 = 1000;
/// Tests among which the seeds are divided, to run side by side.
const PARTS: u64 = 4;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn keeps_its_promises(seed: u64, print: bool) -> Report {
    run(seed, None, print).unwrap_or_else(|InvariantViolation(what)| {
        panic!(
            "seed {seed}: {what}\n\
             replay: SIM_SEED={seed} cargo nextest run -p tests --test simulation keeps_all_promises --no-capture"
        )
    })
}

/// Runs every seed of one part.
fn part(part: u64) {
    if let Some(seed) = from_env("SIM_SEED") {
        if seed % PARTS == part {
            eprintln!("{:?}", keeps_its_promises(seed, true));
        }
        return;
    }
    let seeds = from_env("SIM_SEEDS").unwrap_or(SEEDS);
    let began = std::time::Instant::now();
    let reports: Vec<_> =
        (0..seeds).filter(|seed| seed % PARTS == part).map(|seed| keeps_its_promises(seed, false)).collect();
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let (acknowledged, elections) = (sum(|report| report.acknowledged), sum(|report| report.elections));
    let (changes, installations) = (sum(|report| report.changes), sum(|report| report.installations));
    let steps: u64 = reports.iter().map(|report| report.steps).sum();
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{} seeds, {steps} steps, {:.0} steps/s, {acknowledged} records acknowledged, {elections} elections, \
         {changes} membership changes, {installations} snapshots of other nodes installed",
        reports.len(),
        steps as f64 / seconds
    );
    // Runs in which nothing happens would keep every promise.
    assert!(acknowledged >= 100 * reports.len(), "too few records were acknowledged to prove anything");
    assert!(elections >= 2 * reports.len(), "too few elections to prove anything");
    assert!(changes >= reports.len(), "too few membership changes to prove anything");
    assert!(installations >= reports.len(), "too few installations to prove anything");
}

#[test]
fn simulation_keeps_all_promises_0() {
    part(0);
}

#[test]
fn simulation_keeps_all_promises_1() {
    part(1);
}

#[test]
fn simulation_keeps_all_promises_2() {
    part(2);
}

#[test]
fn simulation_keeps_all_promises_3() {
    part(3);
}

#[test]
fn simulation_of_one_seed_is_one_history() {
    for seed in 0..5 {
        assert_eq!(run(seed, None, false), run(seed, None, false), "seed {seed}");
    }
    assert_ne!(run(0, None, false), run(1, None, false));
}

/// One run in which nodes fall behind all the time.
fn behind(seed: u64, bug: Option<Bug>) -> Result<Report, InvariantViolation> {
    let print = from_env("SIM_SEED") == Some(seed);
    run_in(&Setup { profile: Some(Profile::BEHIND), bug, print, ..Setup::seed(seed) })
}

#[test]
fn simulation_of_nodes_far_behind_keeps_all_promises() {
    let one = from_env("SIM_SEED");
    let seeds = one.map_or(0..100, |seed| seed..seed + 1);
    let reports: Vec<_> = seeds.map(|seed| (seed, behind(seed, None))).collect();
    let installed = |(seed, report): &(u64, Result<Report, InvariantViolation>)| match report {
        Ok(report) => report.installations,
        Err(InvariantViolation(what)) => panic!("seed {seed}: {what}"),
    };
    let installed: usize = reports.iter().map(installed).sum();
    assert!(one.is_some() || installed >= 1000, "too few installations to prove anything");
}

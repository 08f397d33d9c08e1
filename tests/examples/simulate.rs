//! How fast the simulator is on one core, and what it did: `cargo run --release -p tests --example simulate
//! -- 1000`. A second number is the seed to begin with; every seed that breaks a promise is told.
//!
//! A step is one event handled, with everything that follows from it at once and all checks: a message
//! delivered, a tick, a sync or read that came back, a client's request or answer, a fault.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::time::Instant;

use tests::sim::checks::InvariantViolation;
use tests::sim::run;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let (seeds, first) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(0));
    let began = Instant::now();
    let (mut steps, mut commits, mut acknowledged, mut elections) = (0, 0, 0, 0);
    let mut installations = 0;
    let mut broken = 0;
    for seed in first..first + seeds {
        match run(seed, None, false) {
            Ok(report) => {
                steps += report.steps;
                commits += report.commits;
                acknowledged += report.acknowledged;
                elections += report.elections;
                installations += report.installations;
            }
            Err(InvariantViolation(what)) => {
                broken += 1;
                eprintln!("seed {seed}: {what}");
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = steps as f64 / seconds;
    println!("{seeds} seeds in {seconds:.2} s: {steps} steps, {rate:.0} steps/s on one core");
    println!("{commits} commits, {acknowledged} records acknowledged, {elections} elections");
    println!("{installations} snapshots of other nodes installed");
    assert_eq!(broken, 0, "seeds that broke a promise");
}

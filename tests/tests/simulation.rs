//! Whole clusters under simulated trouble, many seeds at a time.
//!
//! `SIM_SEEDS=n` runs more seeds or fewer; `SIM_SEED=n` runs one and prints all that happens in it.
#![allow(clippy::unwrap_used, reason = "tests")]

use tests::sim;

#[test]
fn seeds() {
    let one = std::env::var("SIM_SEED").ok().map(|s| s.parse::<u64>().unwrap());
    let n = std::env::var("SIM_SEEDS").ok().map_or(20, |s| s.parse::<u64>().unwrap());
    let range = one.map_or(0..n, |s| s..s + 1);
    let start = std::time::Instant::now();
    let mut steps = 0;
    let mut bad = 0;
    for seed in range {
        match sim::run(seed, None, one.is_some()) {
            Ok(r) => { steps += r.steps; eprintln!("{seed} {r:?}") }
            Err(e) => { bad += 1; eprintln!("seed {seed}: {}", e.0) }
        }
    }
    eprintln!("{steps} steps, {bad} bad, {:?}", start.elapsed());
}

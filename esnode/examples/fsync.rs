//! Measures, with the log's own writer, what zero-filling segments ahead of use gains over merely allocating them.
//!
//! The gain is the file system's journal not having to record that blocks came into use: expect a ratio of 2 to 3
//! on ext4 with a journal, and of 1 on a file system without one.
//!
//! `cargo run --release -p esnode --example fsync [directory]` (the directory's disk is measured; default: here)

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use esnode::entry::{Entry, EntryKind};
use esnode::storage::{Batch, Fill, Options, open_with};

/// Groups per round; small enough for a round to stay in the first segment, which is zeroed in full.
const GROUPS: u64 = 700;
const PAYLOAD: usize = 4096;
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let base = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let scratch = tempfile::tempdir_in(base)?;
    let (mut zeroed, mut allocated) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        measure_pair(&scratch.path().join(round.to_string()), &mut zeroed, &mut allocated)?;
    }
    println!(
        "write {PAYLOAD} bytes and sync them, {} times each, in turns; p10, p50, p90:",
        zeroed.wall.len()
    );
    zeroed.print("zero-filled");
    allocated.print("allocated");
    println!("  ratio of p50: {:.2} by the clock", allocated.p50(|s| &s.wall) / zeroed.p50(|s| &s.wall));
    println!(
        "                {:.2} without waits for a CPU",
        allocated.p50(|s| &s.net) / zeroed.p50(|s| &s.net)
    );
    Ok(())
}

/// Times of write and sync together.
#[derive(Default)]
struct Samples {
    /// By the clock.
    wall: Vec<Duration>,
    /// Less the time this thread was ready to run but had no CPU: on a busy machine that hides the disk.
    net: Vec<Duration>,
}

impl Samples {
    fn p50(&self, which: impl Fn(&Self) -> &Vec<Duration>) -> f64 {
        quantile(which(self), 50).as_secs_f64()
    }

    fn print(&self, name: &str) {
        let figures = |times: &Vec<Duration>| [10, 50, 90].map(|percent| quantile(times, percent));
        println!(
            "  {name:<12} clock {:>9.0?}   without waits for a CPU {:>9.0?}",
            figures(&self.wall),
            figures(&self.net)
        );
    }
}

fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() * percent / 100]
}

/// Sync by sync in turns, so that a disk or a machine that changes its mood does so for both.
fn measure_pair(dir: &Path, zeroed: &mut Samples, allocated: &mut Samples) -> Result<()> {
    let (_log, mut with, _) = open_with(&dir.join("zeroed"), Options::default(), Fill::Zeroes)?;
    let (_log, mut without, _) = open_with(&dir.join("allocated"), Options::default(), Fill::Nothing)?;
    for index in 1..=GROUPS {
        let batch = Batch { hard_state: None, entries: vec![entry(index, PAYLOAD)] };
        for (wal, samples) in [(&mut with, &mut *zeroed), (&mut without, &mut *allocated)] {
            let (waited, started) = (cpu_wait()?, Instant::now());
            wal.write(&batch)?;
            wal.sync()?;
            let wall = started.elapsed();
            samples.wall.push(wall);
            samples.net.push(wall.saturating_sub(cpu_wait()? - waited));
        }
    }
    Ok(())
}

/// Time this thread has been ready to run but waiting for a CPU.
fn cpu_wait() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().nth(1).context("no second field in schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn entry(index: u64, size: usize) -> Entry {
    Entry { index, term: 1, kind: EntryKind::Normal, data: Bytes::from(vec![0xa5; size]) }
}

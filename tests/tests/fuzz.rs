//! The fuzz targets on a stable toolchain, with the seeds, the fuzzers' finds, and damaged seeds, the same in
//! every run. A target may not panic, and its memory stays in proportion to the input.
//! `FUZZ_MUTATIONS=1000000` sets the number of damaged seeds, `FUZZ_SEED=7` which ones.

#![allow(clippy::unwrap_used, reason = "where the checkout cannot be read, the test has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use esnode::fuzz::{TARGETS, Target};
use peak_alloc::PeakAlloc;
use tests::mutate::Mutator;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that a target may take, in bytes: for any input, and for each byte of it.
struct Bound {
    fixed: usize,
    per_byte: usize,
}

fn environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

fn folder(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(name)
}

/// Returns the contents of the files in a folder, by name; none if there is no folder.
fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target once. Returns the bytes that it took for each byte of input, beyond the fixed part.
fn run(target: Target, input: &[u8], bound: &Bound) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    target(input);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let most = bound.fixed + bound.per_byte * input.len();
    assert!(taken <= most, "{taken} bytes for an input of {}: {}", input.len(), input.escape_ascii());
    taken.saturating_sub(bound.fixed) / input.len().max(1)
}

fn hold(name: &str, bound: &Bound) {
    let (_, target) = TARGETS.into_iter().find(|target| target.0 == name).unwrap();
    let (seeds, found) = (inputs(&folder("seeds", name)), inputs(&folder("found", name)));
    assert!(!seeds.is_empty(), "fuzz/seeds/{name} is empty; `make fix` writes it");
    for input in seeds.iter().chain(&found) {
        run(target, input, bound);
    }
    let (began, count) = (Instant::now(), environment("FUZZ_MUTATIONS", 100_000));
    let mut mutator = Mutator::new(seeds, environment("FUZZ_SEED", 1));
    let mut worst = 0;
    for _ in 0..count {
        worst = worst.max(run(target, &mutator.damaged(), bound));
    }
    println!("{name}: {count} damaged inputs in {:?}, at most {worst} bytes per byte", began.elapsed());
}

#[test]
fn damaged_frames_on_the_peer_port_never_panic() {
    hold("peer", &Bound { fixed: 4 << 20, per_byte: 64 });
}

#[test]
fn damaged_requests_on_the_kafka_port_never_panic() {
    hold("kafka", &Bound { fixed: 1 << 20, per_byte: 128 });
}

#[test]
fn damaged_requests_on_the_admin_port_never_panic() {
    hold("admin", &Bound { fixed: 1 << 20, per_byte: 128 });
}

#[test]
fn a_damaged_cluster_yaml_never_panics() {
    hold("config", &Bound { fixed: 4 << 20, per_byte: 1024 });
}

#[test]
fn damaged_commands_never_panic() {
    // A topic of a few bytes has up to a thousand partitions, and the cluster a hundred thousand.
    hold("command", &Bound { fixed: 48 << 20, per_byte: 64 });
}

#[test]
fn a_damaged_segment_is_refused_or_cut() {
    hold("segment", &Bound { fixed: 4 << 20, per_byte: 64 });
}

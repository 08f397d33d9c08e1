//! Reads every sealed segment once after the start, slowly: a segment whose footer was believed may be damaged on disk.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::{Log, recovery};
use crate::process::thread_priority::lower;
use crate::storage::error::OpenError;

/// Largest rate of reading, in bytes per second.
const RATE: u64 = 64 << 20;
/// Bytes between two checks of the rate.
const STEP: u64 = 1 << 20;

/// Starts to read the log once, as it is now. If the reading fails, calls `on_damage` with the reason.
///
/// # Errors
/// If no thread can be started.
pub fn spawn(log: Log, on_damage: impl FnOnce(io::Error) + Send + 'static) -> io::Result<()> {
    let run = move || {
        lower();
        match scrub(&log, RATE) {
            Err(OpenError::Io(error)) => on_damage(error),
            Err(damage) => on_damage(io::Error::new(io::ErrorKind::InvalidData, damage.to_string())),
            Ok(()) => {}
        }
    };
    thread::Builder::new().name("log-scrub".into()).spawn(run).map(drop)
}

/// Checks all sealed segments in turn, at most `rate` bytes a second.
pub(crate) fn scrub(log: &Log, rate: u64) -> Result<(), OpenError> {
    let mut sequence = 0;
    while let Some((segment, end)) = log.next_sealed(sequence) {
        sequence = segment.header.sequence;
        let started = Instant::now();
        let mut next = STEP;
        let pace = |offset: u64| {
            if offset >= next {
                next = offset + STEP;
                let due = Duration::from_micros(offset.saturating_mul(1_000_000) / rate);
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
        };
        // The next start then reads the segment itself, and refuses it.
        recovery::check_sealed(&segment, end, pace).inspect_err(|_| log.discard_footer(&segment))?;
    }
    Ok(())
}

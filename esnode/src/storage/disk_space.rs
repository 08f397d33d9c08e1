//! Free disk space: whether there is little of it, and a reserve for commands that free some.
//!
//! The log must be written to even to delete events, so a full disk could never be freed. Therefore a part of the disk
//! is reserved by a file, which is deleted only when a segment or a snapshot finds no space. Before that, below a
//! low-water mark, the cluster takes no more events ([`super::stats::Stats::low_room`]). The rest is for commands that
//! delete, for membership changes and for snapshots. Once there is space again, the reserve is restored first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::files::{allocate, is_full};
use super::stats::Stats;

/// Name of the reserve's file.
const RESERVE: &str = "reserve";
/// Time between two checks of the free space.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time between two attempts to create a segment on a full disk.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Thresholds of free space, in bytes.
#[derive(Clone, Copy, Debug)]
struct Marks {
    /// Size of the reserve.
    reserve: u64,
    /// Free space, besides the reserve, below which the disk counts as almost full.
    low: u64,
}

impl Marks {
    fn of(segment_bytes: u64) -> Self {
        Self {
            reserve: (segment_bytes / 2).clamp(4 << 20, 32 << 20),
            low: segment_bytes.clamp(4 << 20, 64 << 20),
        }
    }

    /// Returns whether the disk is almost full. To leave that state, more free space is needed than to stay out of it.
    fn is_low(self, free: u64, reserved: bool, was_low: bool) -> bool {
        !reserved || free < self.low + if was_low { self.low / 4 } else { 0 }
    }
}

/// Watches the free space for the log from now on, in a thread of its own.
///
/// # Errors
/// If no thread can be started.
pub fn watch(dir: PathBuf, stats: Arc<Stats>, segment_bytes: u64) -> io::Result<()> {
    let marks = Marks::of(segment_bytes);
    let run = move || {
        let mut low = false;
        loop {
            low = check(&dir, &stats, marks, low);
            thread::sleep(POLL_INTERVAL);
        }
    };
    thread::Builder::new().name("log-disk-space".into()).spawn(run).map(drop)
}

/// Checks the free space once; `was_low` is the result of the last check.
fn check(dir: &Path, stats: &Stats, marks: Marks, was_low: bool) -> bool {
    // If the file system does not tell, the last result stays; the writer notices when there is no space.
    let Ok(disk) = rustix::fs::statvfs(dir) else { return was_low };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mut reserved = dir.join(RESERVE).exists();
    let mut left = free;
    if !reserved && free >= marks.reserve + marks.low {
        reserved = allocate(&dir.join(RESERVE), marks.reserve).is_ok();
        left -= marks.reserve;
    }
    let low = marks.is_low(left, reserved, was_low) || stats.lacks_room.load(Relaxed);
    stats.free_bytes.store(left, Relaxed);
    stats.low_room.store(low, Relaxed);
    if low && !was_low {
        tracing::error!(free, "the disk is almost full: no more events are taken, deletes and trims are");
    } else if was_low && !low {
        tracing::info!(free, "there is room on the disk again");
    }
    low
}

/// Repeats `make`, which needs disk space, until it finds some. Meanwhile nothing is acknowledged, and a leader steps
/// down; no restart is needed afterwards. Returns the error once `ending` is set.
pub(crate) fn wait_for_room<T>(
    stats: &Stats,
    ending: &AtomicBool,
    make: impl Fn() -> io::Result<T>,
) -> io::Result<T> {
    let mut logged = false;
    loop {
        match make() {
            Err(error) if is_full(&error) && !ending.load(Relaxed) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::error!(%error, "no room for the next segment of the log: free some; nothing is lost");
                }
                stats.lacks_room.store(true, Relaxed);
                thread::sleep(RETRY_INTERVAL);
            }
            done => {
                stats.lacks_room.store(false, Relaxed);
                return done;
            }
        }
    }
}

/// Deletes the reserve; returns whether it still existed.
pub(crate) fn release_reserve(dir: &Path) -> bool {
    let given = fs::remove_file(dir.join(RESERVE)).is_ok();
    if given {
        tracing::warn!("the disk is full: the reserve is given up for what makes room");
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_in_time_and_not_back_and_forth() {
        let marks = Marks::of(64 << 20);
        assert!(marks.is_low(u64::MAX, false, false), "without a reserve nothing is well");
        assert!(!marks.is_low(marks.low, true, false) && marks.is_low(marks.low - 1, true, false));
        assert!(marks.is_low(marks.low, true, true) && !marks.is_low(marks.low / 4 * 5, true, true));
    }

    #[test]
    fn the_reserve_is_taken_given_up_and_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, stats) = (dir.path(), Stats::default());
        let marks = Marks { reserve: 1 << 20, low: 1 };
        let reserved = || fs::metadata(dir.join(RESERVE)).map(|data| data.len()).unwrap_or(0);
        for _ in 0..2 {
            check(dir, &stats, marks, false);
            assert_eq!((reserved(), stats.low_room.load(Relaxed)), (1 << 20, false));
            assert!(release_reserve(dir) && !release_reserve(dir));
            assert_eq!(reserved(), 0);
        }
        check(dir, &stats, Marks { reserve: u64::MAX / 2, low: 1 }, false);
        assert_eq!((reserved(), stats.low_room.load(Relaxed)), (0, true));
    }
}

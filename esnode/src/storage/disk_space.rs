//! Room on the disk: whether there is little, and a reserve for what makes some.
//!
//! A log that must be written to forget something cannot be freed once it is full. So part of the disk is
//! kept back, in a file that is given up only when a segment or a snapshot finds no room; and before it comes
//! to that, at a low-water mark, the cluster takes no more events ([`super::stats::Stats::low_room`]). What
//! is left then is for deletes, trims, members and snapshots. Once there is room again, the reserve is put
//! back first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::files::{allocate, is_full};
use super::stats::Stats;

/// Name of the file.
const RESERVE: &str = "reserve";
/// Time between two looks at the free space.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time between two attempts to find room for a segment.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How much room is wanted, in bytes.
#[derive(Clone, Copy, Debug)]
struct Marks {
    /// Kept back.
    reserve: u64,
    /// Free besides; with less, the disk counts as almost full.
    low: u64,
}

impl Marks {
    fn of(segment_bytes: u64) -> Self {
        Self {
            reserve: (segment_bytes / 2).clamp(4 << 20, 32 << 20),
            low: segment_bytes.clamp(4 << 20, 64 << 20),
        }
    }

    /// Whether there is little room, when there was or was not before. It takes more to be well again than to
    /// stay so.
    fn is_low(self, free: u64, reserved: bool, was_low: bool) -> bool {
        !reserved || free < self.low + if was_low { self.low / 4 } else { 0 }
    }
}

/// Looks after the room for the log from now on, on a thread of its own.
///
/// # Errors
/// The system refuses another thread.
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

/// Returns whether there is little room, after it was so or not at the last look.
fn check(dir: &Path, stats: &Stats, marks: Marks, was_low: bool) -> bool {
    // A file system that does not tell is taken for one with room; the writer notices when there is none.
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

/// Runs `make`, which needs room on the disk, until it finds some. What is not written is not acknowledged, a
/// leader steps down, and nothing has to be started again. Ends with the error once `ending` is set.
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

/// Gives the reserve up; returns whether there still was one.
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

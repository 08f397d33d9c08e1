//! Room on the disk: whether there is little, and a reserve for what makes some.
//!
//! A log that must be written to forget something cannot be freed once it is full. So part of the disk is kept back, in a
//! file that is given up only when a segment or a checkpoint finds no room; and before it comes to that, at a low-water
//! mark, the cluster takes no more events ([`super::stats::Stats::low_room`]). What is left then is for deletes, trims,
//! members and checkpoints. Once there is room again, the reserve is put back first.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::reader::Log;
use super::segment;

/// Name of the file.
const RESERVE: &str = "reserve";
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

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

    /// Whether there is little room, when there was or was not before. It takes more to be well again than to stay so.
    fn is_low(self, free: u64, reserved: bool, was_low: bool) -> bool {
        !reserved || free < self.low + if was_low { self.low / 4 } else { 0 }
    }
}

/// Looks after the room for the log from now on, on a thread of its own.
///
/// # Errors
/// The system refuses another thread.
pub fn watch(log: Log, segment_bytes: u64) -> io::Result<()> {
    let marks = Marks::of(segment_bytes);
    let run = move || {
        let mut low = false;
        loop {
            low = look(&log, marks, low);
            thread::sleep(LOOK);
        }
    };
    thread::Builder::new().name("log-room".into()).spawn(run).map(drop)
}

/// Returns whether there is little room, after it was so or not at the last look.
fn look(log: &Log, marks: Marks, was_low: bool) -> bool {
    let (dir, stats) = (log.dir(), log.stats());
    // A file system that does not tell is taken for one with room; the writer notices when there is none.
    let Ok(disk) = rustix::fs::statvfs(dir) else { return was_low };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mut reserved = dir.join(RESERVE).exists();
    let mut left = free;
    if !reserved && free >= marks.reserve + marks.low {
        reserved = segment::allocate(&dir.join(RESERVE), marks.reserve).is_ok();
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

/// Gives the reserve up; returns whether there still was one.
pub(super) fn give_up(dir: &Path) -> bool {
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
        let (log, ..) = super::super::open(dir.path(), super::super::Options::default()).unwrap();
        let marks = Marks { reserve: 1 << 20, low: 1 };
        let reserved = || fs::metadata(log.dir().join(RESERVE)).map(|data| data.len()).unwrap_or(0);
        for _ in 0..2 {
            look(&log, marks, false);
            assert_eq!((reserved(), log.stats().low_room.load(Relaxed)), (1 << 20, false));
            assert!(give_up(log.dir()) && !give_up(log.dir()));
            assert_eq!(reserved(), 0);
        }
        look(&log, Marks { reserve: u64::MAX / 2, low: 1 }, false);
        assert_eq!((reserved(), log.stats().low_room.load(Relaxed)), (0, true));
    }
}

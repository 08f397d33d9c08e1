//! Which segments have their file open: the one that is written to, and of the others those read last, up to a limit. A
//! log of a terabyte has 16,000 segments, and a process that can open no more files cannot go on.

use std::collections::VecDeque;
use std::sync::Weak;

use parking_lot::Mutex;

use super::segment::Segment;

/// Files that are open at a time.
const MOST: usize = 256;

/// The open files of segments that may be closed: a clock, as caches have it.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    clock: Mutex<VecDeque<Weak<Segment>>>,
}

impl OpenFiles {
    /// Takes note of a file that is open; closes another that was not read for long, if there are too many.
    pub fn opened(&self, segment: Weak<Segment>) {
        let mut clock = self.clock.lock();
        clock.push_back(segment);
        while clock.len() > MOST {
            let Some(oldest) = clock.pop_front() else { return };
            if oldest.upgrade().is_some_and(|segment| !segment.close_unless_used()) {
                clock.push_back(oldest);
            }
        }
    }
}

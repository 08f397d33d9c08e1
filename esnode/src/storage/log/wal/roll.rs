//! Changes from one segment to the next.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Wal;
use crate::entry::HardState;
use crate::storage::disk_space;
use crate::storage::files::{is_full, named, sync_dir};
use crate::storage::log::footer;
use crate::storage::log::frame::{self, STATE_LEN, StateFrame};
use crate::storage::log::header::{Header, SEGMENT_HEADER_LEN};
use crate::storage::log::index::Index;
use crate::storage::log::preallocator::{PreparedSegment, UNFINISHED};
use crate::storage::log::segment::Segment;

/// Size of a segment on a full disk, in bytes.
const RESERVE_SEGMENT: u64 = 1 << 20;

/// Turns a prepared file into a segment: writes header and state and syncs them, then names the file and syncs the
/// name. Returns the offset of its first free byte.
pub(super) fn activate(
    dir: &Path,
    prepared: PreparedSegment,
    header: Header,
    hard_state: HardState,
) -> io::Result<(Arc<Segment>, u64)> {
    let segment = Segment::new(prepared.file, prepared.capacity, header);
    let start = SEGMENT_HEADER_LEN as u64;
    let mut bytes = header.encode().to_vec();
    bytes.extend(frame::encode_state(segment.seed, start, &StateFrame { hard_state, synced_to: start }));
    let named = named(dir, UNFINISHED);
    let file = segment.file()?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(named)?;
    fs::rename(dir.join(UNFINISHED), dir.join(&segment.name)).map_err(named)?;
    sync_dir(dir)?;
    Ok((Arc::new(segment), bytes.len() as u64))
}

impl Wal {
    pub(super) fn fits(&self, length: usize) -> bool {
        self.end + length as u64 <= self.segment.capacity
    }

    /// Continues in a new segment, which has space for a frame of `length` bytes. The current one is synced first, so
    /// that only the last segment can ever have a torn tail.
    pub(super) fn roll(&mut self, first_index: u64, length: usize) -> io::Result<()> {
        self.flush()?;
        self.sync_segment()?;
        let Header { sequence, generation, .. } = self.segment.header;
        let header = Header::new(sequence + 1, first_index, Some((generation, self.end)));
        self.write_footer();
        let wanted = SEGMENT_HEADER_LEN + STATE_LEN + length;
        let prepared = self.with_room(|| self.next_segment(wanted as u64))?;
        let (segment, end) = activate(&self.dir, prepared, header, self.hard_state)?;
        let mut state = self.shared.state.write();
        state.segments.push_back(segment.clone());
        state.sealed_bytes += self.end;
        // For readers, this is the end of the last segment, which now is the new one. It has no entries yet.
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.go_on_in(segment, end);
        Ok(())
    }

    /// Continues in `segment`, of which everything below `end` is durable. The previous one is not written to any more.
    pub(super) fn go_on_in(&mut self, segment: Arc<Segment>, end: u64) {
        self.preallocator.resume(segment.capacity);
        self.segment.close_when_idle(&self.dir, &self.shared.files);
        (self.segment, self.end, self.synced_to) = (segment, end, end);
        self.mark_pending = false;
        self.tail = Index::default();
        self.sealed = true;
    }

    /// Returns a segment of full size; on a full disk a small one from the reserve, which suffices for commands that
    /// free space.
    fn next_segment(&self, wanted: u64) -> io::Result<PreparedSegment> {
        match self.preallocator.take(wanted) {
            Err(error) if is_full(&error) => {
                self.shared.stats.low_room.store(true, Relaxed);
                let _ = disk_space::release_reserve(&self.dir);
                PreparedSegment::create(&self.dir, RESERVE_SEGMENT.max(wanted))
            }
            taken => taken,
        }
    }

    /// Repeats `make` until the disk has space for the file that it creates.
    pub(crate) fn with_room<T>(&self, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        disk_space::wait_for_room(&self.shared.stats, &self.shared.ending, make)
    }

    /// Writes the footer of this segment. It is not synced, since a torn footer is ignored.
    pub(super) fn write_footer(&self) {
        if let Err(error) = footer::write(&self.dir, &self.segment, self.end, &self.tail) {
            tracing::warn!(file = self.segment.name, %error, "cannot write a segment's footer");
        }
    }
}

//! From one segment to the next.

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

/// A segment on a full disk.
const RESERVE_SEGMENT: u64 = 1 << 20;

/// Makes a segment of a prepared file: header and state first, both durable, then the name, durable too.
/// Returns where its first free byte is.
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

    /// Goes on in a new segment, with room for a frame of `length` bytes. This one is synced first, so that
    /// only the last segment can ever be torn.
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
        // Readers take the end for the last segment's; of this one they need nothing yet.
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.go_on_in(segment, end);
        Ok(())
    }

    /// The next frame goes to `segment`, of which everything below `end` is durable. Nobody writes to the one
    /// before.
    pub(super) fn go_on_in(&mut self, segment: Arc<Segment>, end: u64) {
        self.preallocator.resume(segment.capacity);
        self.segment.close_when_idle(&self.dir, &self.shared.files);
        (self.segment, self.end, self.synced_to) = (segment, end, end);
        self.mark_pending = false;
        self.tail = Index::default();
    }

    /// A full segment, or on a full disk one that is large enough for what makes room, from the reserve.
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

    /// Runs `make` until the disk has room for the file that it makes.
    pub(crate) fn with_room<T>(&self, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        disk_space::wait_for_room(&self.shared.stats, &self.shared.ending, make)
    }

    /// Writes down what the segment holds, for the next start. Not synced: a torn one is passed over.
    pub(super) fn write_footer(&self) {
        if let Err(error) = footer::write(&self.dir, &self.segment, self.end, &self.tail) {
            tracing::warn!(file = self.segment.name, %error, "cannot write a segment's footer");
        }
    }
}

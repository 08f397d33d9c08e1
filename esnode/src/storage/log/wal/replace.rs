//! Adds segments of another node to the log: after its own, or in their place.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::Wal;
use crate::entry::HardState;
use crate::storage::log::footer;
use crate::storage::log::frame::STATE_LEN;
use crate::storage::log::header::{Header, SEGMENT_HEADER_LEN};
use crate::storage::log::index::Index;
use crate::storage::log::positions::Positions;
use crate::storage::log::segment::Segment;

/// Segments that are in the log's directory under their final names, and durable.
pub(crate) struct Replacement {
    /// Whether they follow the last segment of this log; otherwise they replace the whole log.
    pub joins: bool,
    /// Header, length and index of each sealed segment.
    pub sealed: Vec<(Header, u64, Index)>,
    /// Header, file and capacity of the new last segment. It holds a state frame and no entry.
    pub last: (Header, File, u64),
    /// The index of the whole log afterwards.
    pub index: Index,
    /// Index and term of the last entry.
    pub last_entry: (u64, u64),
}

impl Wal {
    /// Runs `make` after everything written so far is durable and visible, and continues in the last of the segments
    /// that it returns. They are visible on return. The next state frame will contain `hard_state`.
    ///
    /// # Errors
    /// Those of `make` and of the file system. All are final.
    pub(crate) fn replace(
        &mut self,
        hard_state: Option<HardState>,
        make: impl FnOnce(&Self) -> io::Result<Replacement>,
    ) -> io::Result<()> {
        self.unless_failed(|wal| {
            wal.hard_state = hard_state.unwrap_or(wal.hard_state);
            wal.flush()?;
            wal.sync_segment()?;
            wal.publish();
            let replacement = make(wal)?;
            wal.take_over(replacement)
        })
    }

    fn take_over(&mut self, replacement: Replacement) -> io::Result<()> {
        let Replacement { joins, sealed, last: (header, file, capacity), index, last_entry } = replacement;
        self.write_footer();
        let bytes: u64 = sealed.iter().map(|(_, length, _)| length).sum();
        let mut segments = self.open_sealed(&sealed)?;
        let last = Arc::new(Segment::new(file, capacity, header));
        segments.push(last.clone());
        let end = (SEGMENT_HEADER_LEN + STATE_LEN) as u64;
        let mut state = self.shared.state.write();
        if joins {
            state.sealed_bytes += self.end;
        } else {
            state.segments.drain(..).for_each(Segment::release);
            state.sealed_bytes = 0;
        }
        state.sealed_bytes += bytes;
        state.segments.extend(segments);
        state.index = index;
        state.positions = Positions::default();
        state.end = end;
        self.shared.count(&state);
        drop(state);
        self.go_on_in(last, end);
        (self.last_index, self.last_term) = last_entry;
        self.unsynced = false;
        Ok(())
    }

    fn open_sealed(&self, sealed: &[(Header, u64, Index)]) -> io::Result<Vec<Arc<Segment>>> {
        let open = |(header, length, index): &(Header, u64, Index)| {
            let segment = Segment::open(&self.dir, &header.file_name()).map_err(io::Error::other)?;
            // Without a footer the next start reads the segment itself.
            let _unneeded = footer::write(&self.dir, &segment, *length, index);
            segment.close_when_idle(&self.dir, &self.shared.files);
            Ok(Arc::new(segment))
        };
        sealed.iter().map(open).collect()
    }
}

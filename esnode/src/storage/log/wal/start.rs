//! Starts the writer from what recovery has found.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;

use super::Wal;
use super::roll::activate;
use crate::entry::HardState;
use crate::storage::files::named;
use crate::storage::log::Log;
use crate::storage::log::header::Header;
use crate::storage::log::open_files::OpenFiles;
use crate::storage::log::packs::Packs;
use crate::storage::log::preallocator::{Preallocator, PreparedSegment, UNFINISHED};
use crate::storage::log::recovery::FoundLog;
use crate::storage::log::state::{LogState, SharedLog};
use crate::storage::log::write_batch::WriteBatch;
use crate::storage::options::{Fill, Options};

/// Size of a new log's first segment, in bytes: small enough to be filled with zeroes before the first write.
pub(crate) const FIRST_SEGMENT: u64 = 4 << 20;
/// Largest segment, in bytes: offsets of frames have 32 bits.
const LARGEST_SEGMENT: u64 = 2 << 30;
/// Smallest segment, in bytes: enough for a header and the first state frame.
const SMALLEST_SEGMENT: u64 = 1024;

/// Returns reader and writer of the log that was found, with these packs. Creates the first segment of an empty log.
pub(crate) fn start(
    dir: &Path,
    options: Options,
    fill: Fill,
    mut found: FoundLog,
    packs: Packs,
) -> io::Result<(Log, Wal)> {
    let largest = options.segment_bytes.clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
    let is_new = found.segments.is_empty();
    if is_new {
        create_first(dir, largest.min(FIRST_SEGMENT), fill, &mut found)?;
    }
    let segment = found.segments.back().expect("there is one now").clone();
    let end = found.end;
    let sealed_bytes = found.segments.iter().skip(1).map(|next| next.header.previous_end).sum();
    let (index, positions, segments) = (found.index, found.positions, found.segments);
    let state = LogState { index, positions, segments, sealed_bytes, end };
    let (last_index, last_term) = {
        let last = state.index.last();
        (last, state.index.term(last).unwrap_or_default())
    };
    let shared = share(dir, options.sync, state, found.files, packs);
    let wal = Wal {
        dir: dir.to_owned(),
        sync_entries: options.sync,
        log: Log::new(shared.clone()),
        preallocator: Preallocator::start(dir, fill, largest, segment.capacity, end)?,
        shared: shared.clone(),
        buffer: WriteBatch::default(),
        end,
        synced_to: end,
        unsynced: false,
        mark_pending: !is_new,
        hard_state: found.hard_state,
        last_index,
        last_term,
        unpublished: Vec::new(),
        tail: found.tail,
        segment,
        sealed: false,
        failed: None,
    };
    Ok((wal.log.clone(), wal))
}

fn create_first(dir: &Path, capacity: u64, fill: Fill, found: &mut FoundLog) -> io::Result<()> {
    let mut prepared = PreparedSegment::create(dir, capacity)?;
    if fill == Fill::Zeroes {
        prepared.zero_all().map_err(named(dir, UNFINISHED))?;
    }
    let (segment, end) = activate(dir, prepared, Header::new(1, 1, None), HardState::default())?;
    found.segments.push_back(segment);
    found.end = end;
    Ok(())
}

fn share(dir: &Path, synced: bool, state: LogState, files: Arc<OpenFiles>, packs: Packs) -> Arc<SharedLog> {
    let shared = SharedLog {
        dir: dir.to_owned(),
        synced,
        state: RwLock::new(state),
        stats: Arc::default(),
        files,
        packs,
        sealed: crossbeam_channel::bounded(1),
        ending: AtomicBool::new(false),
    };
    shared.count(&shared.state.read());
    Arc::new(shared)
}

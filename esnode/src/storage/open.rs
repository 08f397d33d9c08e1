//! Opening a data directory's snapshots and log, in the order that keeps every crash recoverable.

use std::path::Path;

use super::error::OpenError;
use super::files::{create_dir, remove_if_present, sync_dir};
use super::log::packs::Packs;
use super::log::{Log, Wal, preallocator, recovery, segment_indexes, wal};
use super::options::{Fill, Options};
use super::snapshot::{self, Snapshot, Snapshots};
use super::transfer::commit;
use crate::entry::HardState;

/// The result of [`open`].
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Raft's persistent state; the default for an empty log. `commit` never exceeds the last index.
    pub hard_state: HardState,
    /// Bytes of a torn tail that were cut, if any: (file name, offset, bytes).
    pub torn: Option<(String, u64, u64)>,
    /// The newest undamaged snapshot. The log contains its entry, or begins just after it.
    pub snapshot: Option<Snapshot>,
    /// Damaged snapshots that were ignored: (file name, reason).
    pub damaged: Vec<(String, String)>,
    /// Where the next snapshots go.
    pub snapshots: Snapshots,
}

/// Opens, or creates, the log under `dir/log`. The caller holds the lock of `dir`
/// ([`super::data_dir::DataDir`]).
///
/// # Errors
/// [`OpenError`]; the log is then untouched.
pub fn open(dir: &Path, options: Options) -> Result<(Log, Wal, Recovered), OpenError> {
    open_with(dir, options, Fill::Zeroes)
}

/// As [`open`], with a choice whether segments are filled with zeroes ahead; for measurements.
///
/// # Errors
/// As [`open`].
pub fn open_with(dir: &Path, options: Options, fill: Fill) -> Result<(Log, Wal, Recovered), OpenError> {
    commit::finish(dir)?;
    let snapshot::FoundSnapshots { snapshots, newest: snapshot, damaged } = snapshot::find(dir)?;
    let dir = dir.join("log");
    create_dir(&dir)?;
    remove_if_present(&dir, preallocator::UNFINISHED)?;
    remove_if_present(&dir, segment_indexes::UNFINISHED)?;
    segment_indexes::remove_orphans(&dir)?;
    let start = snapshot.as_ref().map(|snapshot| snapshot.start).unwrap_or_default();
    let found = recovery::recover(&dir, start).map_err(|error| match damaged.first() {
        // Only the damaged snapshot would tell where the log begins.
        Some((file, reason)) if matches!(error, OpenError::Missing { .. }) => OpenError::Snapshot {
            file: file.clone(),
            reason: format!("{reason}, and the log does not reach back far enough to do without it"),
        },
        _ => error,
    })?;
    if let Some(snapshot) = &snapshot {
        found.reaches((snapshot.index, snapshot.term))?;
    }
    found.cut_tail()?;
    sync_dir(&dir)?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    let hard_state = found.hard_state;
    let torn = found.torn.clone();
    let packs = Packs::open(&dir)?;
    let (log, wal) = wal::start(&dir, options, fill, found, packs)?;
    Ok((log, wal, Recovered { hard_state, torn, snapshot, damaged, snapshots }))
}

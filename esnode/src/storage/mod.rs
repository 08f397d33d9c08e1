//! The segmented log on disk: the only copy of the events, and of Raft's state.
//!
//! One writer ([`Wal`], on its own thread: [`writer`]) appends and syncs; any number of readers ([`Log`])
//! read what is durable. Nothing here knows topics or Raft's rules.
//!
//! # On disk
//! Segments are append-only, even when Raft replaces a conflicting suffix: an entry at or below the last
//! index supersedes that index and all above, also when the log is replayed. Term and vote are frames of the
//! same stream, so one sync orders and covers both. Every segment begins with such a *state frame*, so that
//! no old segment must be kept for its sake, and its predecessor was synced before it came to be.
//!
//! # A torn tail, or damage?
//! After a power cut, what was written since the last sync may be there in any part: pages reach the disk in
//! any order. What was synced is there, or the disk lost it. To tell the two apart, the state frame at the
//! head of each group of writes says up to where the log had been synced before it (`synced_to`). A bad frame
//! below a `synced_to` that some valid later frame claims is damage: the node refuses to start. Any other is
//! a torn tail, never acknowledged, and is cut. An idle writer adds the mark of its last group by itself, so
//! that even that group is protected soon after its sync.

mod backup_source;
pub mod batch_reader;
mod checked_json;
pub mod data_dir;
pub mod disk_space;
mod error;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
pub(crate) mod log;
mod open;
mod options;
mod snapshot;
pub mod stats;
#[cfg(test)]
mod tests;
mod transfer;
pub mod verify;
pub mod writer;

pub use backup_source::{BackupSource, SourceFile};
pub use error::OpenError;
pub use files::is_full;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::fuzz;
pub use log::packs::{Pack, PackWriter, Packs};
pub use log::{Batch, Log, LogStart, Wal, scrub};
pub use open::{Recovered, open, open_with};
pub use options::{DEFAULT_SEGMENT_BYTES, Fill, Options};
pub use snapshot::{Snapshot, Snapshots};
pub use transfer::{
    Incoming, Offer, OfferedPack, OfferedSegment, Outgoing, ReceivedPack, ReceivedSegment, Staged,
};

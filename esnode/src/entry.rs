//! The log's entries and Raft's persistent state, as `consensus`, `storage` and `stream` share them.

use bytes::Bytes;
use shared::ids::NodeId;

/// Payload of one entry up to which proposals are gathered, in bytes; only a single large batch makes a larger one.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Largest record batch, in bytes: a frame between nodes holds 16 MiB, and so does a request of a client.
pub const MAX_BATCH: usize = (16 << 20) - (4 << 10);
/// What a command adds to its batch in an entry, at most.
pub const OVERHEAD: usize = 64;
/// Payload of the largest entry that there may be, in bytes.
pub const LARGEST_PAYLOAD: usize = MAX_BATCH + OVERHEAD;

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Commands for the stream state machine; empty when a new leader opens its term.
    Normal = 0,
    /// A membership change, protobuf `ConfChange`.
    ConfChange = 1,
    /// A membership change, protobuf `ConfChangeV2`.
    ConfChangeV2 = 2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What `data` is.
    pub kind: EntryKind,
    /// The payload; commands as in [`crate::state_machine::command`] when `kind` is `Normal`.
    pub data: Bytes,
}

/// What Raft must find again after a crash (Raft paper, figure 2: persistent state), besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Whom this node voted for in `term`; 0 for nobody.
    pub vote: NodeId,
    /// Highest index known to be committed. May lag: losing it loses nothing.
    pub commit: u64,
}

impl HardState {
    /// Whether going from `self` to `next` must reach the disk before anything is said about it.
    pub fn must_sync(&self, next: &HardState) -> bool {
        self.term != next.term || self.vote != next.vote
    }
}

impl EntryKind {
    /// The kind with this number on disk and on the wire.
    pub fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            _ => None,
        }
    }
}

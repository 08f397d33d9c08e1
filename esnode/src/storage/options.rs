//! How the log is kept on disk.

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes per segment file, below 4 GiB. The first segments of a new log are smaller.
    pub segment_bytes: u64,
    /// Sync entries, not only term and vote.
    pub sync: bool,
}

/// Bytes per segment unless there is a reason for another size.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: DEFAULT_SEGMENT_BYTES, sync: true }
    }
}

/// Whether segments are filled with zeroes ahead of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// They are: a sync then need not record in the file system's journal that blocks came into use.
    Zeroes,
    /// They are only allocated.
    Nothing,
}

//! Why a log cannot be opened, and what its operator does about it.

use std::io;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Bytes that had reached the disk are no longer what was written.
    #[error("the log is damaged: {file}, byte {offset}: {reason}. {RESEED}")]
    Corrupt {
        /// The segment's name.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment is gone.
    #[error("the log is damaged: segment number {sequence}, just before {before}, is missing. {RESEED}")]
    Missing {
        /// Sequence number of the one that is missing.
        sequence: u32,
        /// Name of the segment that follows it.
        before: String,
    },
    /// A snapshot cannot be used, and there is no way to do without it.
    #[error("the snapshot {file} is damaged: {reason}. {RESEED}")]
    Snapshot {
        /// Its name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot says that the log was durable further than it reaches now.
    #[error(
        "the log is damaged: snapshot {index} of term {term} was written after the log up to there was durable, but \
         {reason}. {RESEED}"
    )]
    Lost {
        /// The snapshot's entry.
        index: u64,
        /// The entry's term.
        term: u64,
        /// What the log holds instead.
        reason: String,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{file} has format version {found}; this program knows versions up to {known}. Start the version of \
         esnode that wrote it, or a later one"
    )]
    Version {
        /// The file's name.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
}

pub(crate) const RESEED: &str = "Nothing was changed on disk. Check the disk; then re-seed this node from the others: remove \
                      it from the cluster, empty its data directory, and add it again";

impl OpenError {
    pub(crate) fn corrupt(file: &str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }
}

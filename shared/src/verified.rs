//! The result of reading and checking all files of a data directory, or of a backup.

use serde::{Deserialize, Serialize};

/// What was read, and what was found to be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// All entries can be read; there is no finding that is not `harmless`.
    pub ok: bool,
    /// Lowest index in the log.
    pub first_index: u64,
    /// Highest index in the log.
    pub last_index: u64,
    /// Term of the last entry. `None` for an empty log, and from programs too old to report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_term: Option<u64>,
    /// Index of the newest snapshot's entry; 0 if there is no snapshot.
    pub snapshot: u64,
    /// Number of segment files read.
    pub segments: u64,
    /// Bytes of log read.
    pub bytes: u64,
    /// The places where files are not as they were written.
    pub findings: Vec<Finding>,
}

/// A place where a file is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Path of the file, from the directory that was checked.
    pub file: String,
    /// Offset of the damaged frame in the file, in bytes.
    pub offset: u64,
    /// What is wrong at that offset.
    pub reason: String,
    /// The next start repairs it, and nothing is lost.
    pub harmless: bool,
}

impl Verified {
    /// Returns a result without findings, for a check that has read nothing yet.
    pub fn new() -> Self {
        Self { ok: true, ..Self::default() }
    }

    /// Adds a finding.
    pub fn note(&mut self, file: impl Into<String>, offset: u64, reason: impl Into<String>, harmless: bool) {
        self.ok &= harmless;
        self.findings.push(Finding { file: file.into(), offset, reason: reason.into(), harmless });
    }
}

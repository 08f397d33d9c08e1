//! What was found when all that lies in a data directory, or in a copy of one, was read.

use serde::{Deserialize, Serialize};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Nothing is lost.
    pub ok: bool,
    /// Lowest index in the log.
    pub first_index: u64,
    /// Highest index in the log.
    pub last_index: u64,
    /// Its term, where there is one; versions before do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_term: Option<u64>,
    /// Index of the newest snapshot's entry; 0 without one.
    pub snapshot: u64,
    /// Segment files read.
    pub segments: u64,
    /// Bytes of log read.
    pub bytes: u64,
    /// What is not as it was written.
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file, seen from the directory.
    pub file: String,
    /// Where in it: the place of the frame that is not whole.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// A start makes up for it, and nothing is lost.
    pub harmless: bool,
}

impl Verified {
    /// Nothing read yet, and nothing wrong.
    pub fn new() -> Self {
        Self { ok: true, ..Self::default() }
    }

    /// Takes note of what is wrong somewhere.
    pub fn note(&mut self, file: impl Into<String>, offset: u64, reason: impl Into<String>, harmless: bool) {
        self.ok &= harmless;
        self.findings.push(Finding { file: file.into(), offset, reason: reason.into(), harmless });
    }
}

//! What a binary is and which protocols and on-disk formats it speaks.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An inclusive range of versions of a protocol or a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The oldest version understood.
    pub min: u16,
    /// The newest version understood.
    pub max: u16,
}

impl Range {
    /// Whether this version is one of them.
    pub fn contains(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Whether there is a version in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// The answer of `esnode --version --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildInfo {
    /// Release version, e.g. `1.4.2`; packagers stamp it with `ESNODE_VERSION` at build time.
    pub version: String,
    /// What it was built from and how, e.g. a commit and `release`.
    pub build: String,
    /// Peer protocol versions spoken between nodes.
    pub protocol: Range,
    /// On-disk format versions that can be read.
    pub format: Range,
}

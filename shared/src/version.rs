//! Version of a program, and which versions of the peer protocol and of the on-disk format it supports.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The oldest version of the range.
    pub min: u16,
    /// The newest version of the range.
    pub max: u16,
}

impl Range {
    /// Returns whether `version` is in the range.
    pub fn contains(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Returns whether the two ranges have a version in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// The output of `esnode --version --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildInfo {
    /// Release version, e.g. `1.4.2`. Packagers set it at build time, by the variable `ESNODE_VERSION`.
    pub version: String,
    /// What it was built from and how: a commit and a build profile, e.g. `release`.
    pub build: String,
    /// Versions of the peer protocol that it speaks.
    pub protocol: Range,
    /// Versions of the on-disk format that it reads.
    pub format: Range,
}

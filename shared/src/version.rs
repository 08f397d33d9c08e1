//! What a binary is and which protocols and on-disk formats it speaks.

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

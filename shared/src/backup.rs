//! What a backup says of itself: the file `backup.json`, and behind it, last of all, its checksum as `sha256sum` has it.
//!
//! A backup is a data directory without an identity: the segments of the log under `log`, one snapshot under
//! `checkpoints/`, and these two. It holds everything up to the snapshot's entry, and nothing else.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeId};

/// The file's name.
pub const MANIFEST: &str = "backup.json";
/// The file with its checksum: the end of every backup.
pub const SUM: &str = "backup.json.sha256";
/// Version of what it says.
pub const SCHEMA_VERSION: u32 = 1;

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Its identity.
    pub cluster_id: ClusterId,
    /// The node that the copy was taken from.
    pub node: NodeId,
    /// That node's version of esnode.
    pub version: String,
    /// The on-disk format that everything is in.
    pub format: u16,
    /// The voters that the cluster was bootstrapped with: its log starts with them.
    pub initial_members: Vec<NodeId>,
    /// Index of the first entry.
    pub first_index: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// When it was taken, RFC 3339, UTC.
    pub taken_at: String,
    /// Every other file.
    pub files: Vec<File>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where it is, seen from the backup, e.g. `log/0000000001-00000000000000000001.seg`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
}

/// The content of [`SUM`] for a manifest with this SHA-256.
pub fn sum(sha256: &str) -> String {
    format!("{sha256}  {MANIFEST}\n")
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

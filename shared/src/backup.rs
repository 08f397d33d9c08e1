//! The manifest of a backup, the file `backup.json`, and the file with its checksum.
//!
//! A backup is a data directory without an identity: the segments of the log under `log/`, one snapshot under
//! `checkpoints/`, then the manifest and its checksum as the last two files. It holds everything up to the snapshot's
//! entry, and nothing else.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeId};

/// Name of the manifest.
pub const MANIFEST: &str = "backup.json";
/// Name of the file that holds the manifest's checksum, in the format of `sha256sum`. It is the last file of a backup.
pub const SUM: &str = "backup.json.sha256";
/// Version of the manifest's fields.
pub const SCHEMA_VERSION: u32 = 1;

/// The content of `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Name of the cluster that was backed up.
    pub cluster_name: String,
    /// Identity of that cluster.
    pub cluster_id: ClusterId,
    /// The node that the files were copied from.
    pub node: NodeId,
    /// Version of esnode on that node.
    pub version: String,
    /// The on-disk format of all files.
    pub format: u16,
    /// The voters that the cluster was bootstrapped with. Whoever reads the log from its beginning needs them.
    pub initial_members: Vec<NodeId>,
    /// Index of the first entry in the backup.
    pub first_index: u64,
    /// Index of the last entry in the backup, which is the snapshot's.
    pub last_index: u64,
    /// Term of the last entry.
    pub last_term: u64,
    /// When the backup was taken, RFC 3339, UTC.
    pub taken_at: String,
    /// All files of the backup except the manifest and its checksum.
    pub files: Vec<File>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path from the root of the backup, e.g. `log/0000000001-00000000000000000001.seg`.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

/// Returns the content of the file [`SUM`] for a manifest with this SHA-256, in hex.
pub fn sum(sha256: &str) -> String {
    format!("{sha256}  {MANIFEST}\n")
}

impl Manifest {
    /// Returns the total length of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

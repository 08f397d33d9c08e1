//! Why a data directory cannot be used, and what its operator does about it.

use std::io;
use std::path::PathBuf;

use shared::ids::NodeId;

use crate::process::version::{FORMAT, VERSION};
use crate::storage::error::RESEED;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system has failed; the message names the file.
    #[error("data directory: {0}")]
    Io(#[from] io::Error),
    /// Another process is running on it.
    #[error("{dir} is in use by another esnode ({holder}); stop it first", dir = .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },
    /// It was created for another node.
    #[error(
        "{dir} belongs to node {found}, but this is node {wanted}; check node_id (or --node-id) and \
         storage.data_dir", dir = .dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Its node.
        found: NodeId,
        /// The configured node.
        wanted: NodeId,
    },
    /// Another version of this program wrote it.
    #[error(
        "{dir} is written in on-disk format {found}; this program, esnode {VERSION}, reads format {FORMAT}. Nothing was \
         changed. Start the version of esnode that ran here last, or {way} one", dir = .dir.display(),
        way = if *.found > FORMAT.max { "a later" } else { "an earlier" }
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u16,
    },
    /// The identity file does not say which node the directory belongs to.
    #[error("{file}: {reason}. {reseed}", file = .file.display(), reseed = RESEED)]
    Corrupt {
        /// The identity file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

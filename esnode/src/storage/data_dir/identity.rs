//! The identity of a data directory: a file with one line of JSON, and a line with its CRC32C.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use super::error::IdentityError;
use crate::process::version::FORMAT;
use crate::state_machine::FIRST_FORMAT;
use crate::storage::checked_json::CheckedJson;
use crate::storage::files::{named, replace};

/// Name of the file.
pub(crate) const IDENTITY: &str = "identity";
const UNFINISHED: &str = "identity.tmp";
pub(crate) const CHECKED: CheckedJson = CheckedJson { prefix: "crc32c=" };

/// The content of the identity file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The on-disk format of the data. It is stored here before anything is written in it.
    pub format: u16,
    /// The node it belongs to.
    pub node_id: NodeId,
    /// Drawn at random when the directory was created. If a node has another one, its disk was lost.
    pub store_id: StoreId,
    /// The cluster that the node belongs to; `None` before it has joined one.
    pub cluster_id: Option<ClusterId>,
    /// The node has not taken part in Raft yet: it has neither voted nor acknowledged an entry.
    pub fresh: bool,
    /// The voters that the cluster was bootstrapped with; empty before that.
    pub voters: Vec<NodeId>,
}

impl Identity {
    /// Returns the identity of a new data directory.
    pub(crate) fn new(node_id: NodeId) -> Self {
        Self {
            format: FIRST_FORMAT,
            node_id,
            store_id: StoreId(Uuid::new_v4()),
            cluster_id: None,
            fresh: true,
            voters: Vec::new(),
        }
    }

    /// Reads the identity of the data directory `dir`; `None` if it has none.
    ///
    /// # Errors
    /// [`IdentityError::Corrupt`], [`IdentityError::Format`], and those of the system.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let file = dir.join(IDENTITY);
        let content = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(named(dir, IDENTITY))?,
        };
        let corrupt = |reason: String| IdentityError::Corrupt { file: file.clone(), reason };
        let json = CHECKED.open(&content).map_err(|reason| corrupt(reason.to_owned()))?;
        // A later layout may have unknown fields, but the version is always there.
        let Format { format } = serde_json::from_str(json).map_err(|error| corrupt(error.to_string()))?;
        if !FORMAT.contains(format) {
            return Err(IdentityError::Format { dir: dir.to_owned(), found: format });
        }
        serde_json::from_str(json).map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// Replaces the identity of the data directory `dir`; durable on return.
    ///
    /// # Errors
    /// The system's; they name the file.
    pub(crate) fn store(&self, dir: &Path) -> io::Result<()> {
        let content = CHECKED.encode(self).map_err(io::Error::from);
        replace(dir, UNFINISHED, IDENTITY, content.map_err(named(dir, IDENTITY))?.as_bytes())
    }
}

#[derive(Deserialize)]
struct Format {
    format: u16,
}

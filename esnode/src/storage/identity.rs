//! Whose data directory this is: written once when a node starts for the first time, and again when it has a cluster.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use super::sync_dir;

/// The data directory's identity, and the lock that keeps other processes out while this one lives.
#[derive(Clone, Debug)]
pub struct Identity {
    dir: PathBuf,
    facts: Facts,
    _lock: Arc<File>,
}

/// What stands in the file `identity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    format: u16,
    node: NodeId,
    store: StoreId,
    cluster: Option<ClusterId>,
    /// The members that Raft started from; empty before this directory has taken part.
    voters: Vec<NodeId>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused.
    #[error("cannot use the data directory {0}: {1}. It must be a directory that this user may write")]
    Io(String, io::Error),
    /// Another process has it.
    #[error("the data directory {dir} is in use by process {pid}: is this node running already?")]
    Locked {
        /// The directory.
        dir: String,
        /// Who has it.
        pid: String,
    },
    /// It belongs to another node.
    #[error(
        "the data directory {dir} belongs to node {found}, not to node {wanted}: check --node-id and data_dir"
    )]
    OtherNode {
        /// The directory.
        dir: String,
        /// Whose it is.
        found: NodeId,
        /// Who asks.
        wanted: NodeId,
    },
    /// The file cannot be understood.
    #[error(
        "{0} is damaged: {1}. To make this node whole again, remove it from the cluster, delete its data directory and \
         add it again"
    )]
    Damaged(String, String),
}

impl Identity {
    /// Locks the directory, creating it (0700) when it is missing, and reads or draws its identity.
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::Io(dir.display().to_string(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let path = dir.join("identity");
        let facts = match fs::read(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Facts { format: 1, node, store: StoreId(Uuid::new_v4()), cluster: None, voters: Vec::new() }
            }
            Err(error) => return Err(failed(error)),
        };
        if facts.node != node {
            let dir = dir.display().to_string();
            return Err(IdentityError::OtherNode { dir, found: facts.node, wanted: node });
        }
        let identity = Self { dir: dir.to_owned(), facts, _lock: Arc::new(lock) };
        identity.save().map_err(failed)?;
        Ok(identity)
    }

    /// The directory's own id.
    pub fn store(&self) -> StoreId {
        self.facts.store
    }

    /// The cluster it belongs to, once known.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.facts.cluster
    }

    /// It has never taken part in Raft.
    pub fn fresh(&self) -> bool {
        self.facts.voters.is_empty()
    }

    /// The members that Raft started from.
    pub fn voters(&self) -> &[NodeId] {
        &self.facts.voters
    }

    /// From now on this directory takes part. Durable when it returns.
    pub fn found(&mut self, cluster: Option<ClusterId>, voters: &[NodeId]) -> io::Result<()> {
        self.facts.cluster = cluster;
        voters.clone_into(&mut self.facts.voters);
        self.save()
    }

    /// The cluster's identity is known. Durable when it returns.
    pub fn set_cluster(&mut self, cluster: ClusterId) -> io::Result<()> {
        self.facts.cluster = Some(cluster);
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let path = self.dir.join("identity");
        let json = serde_json::to_string(&self.facts).map_err(io::Error::other)?;
        let text = format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes()));
        if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(());
        }
        let temporary = self.dir.join("identity.tmp");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_dir(&self.dir)
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Facts, IdentityError> {
    let damaged = |why: &str| IdentityError::Damaged(path.display().to_string(), why.to_owned());
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let mut lines = text.lines();
    let (Some(json), Some(crc)) = (lines.next(), lines.next()) else {
        return Err(damaged("it is incomplete"));
    };
    if format!("{:08x}", crc32c::crc32c(json.as_bytes())) != crc {
        return Err(damaged("it does not match its checksum"));
    }
    serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let failed = |error: io::Error| IdentityError::Io(dir.display().to_string(), error);
    let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let mut file = options.open(dir.join("lock")).map_err(failed)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(error.into()));
        }
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(IdentityError::Locked { dir: dir.display().to_string(), pid: pid.trim().to_owned() });
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

//! Whose data directory this is, and that only one process uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use super::{segment, sync_dir};
use crate::process::version::{FORMAT, VERSION};
use crate::state_machine::FIRST_FORMAT;

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";

/// What a data directory says of itself. One line of JSON, and a line with its CRC32C.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The on-disk format of everything in the directory: it stands here before anything is written in it.
    pub format: u16,
    /// The node it belongs to.
    pub node_id: NodeId,
    /// Drawn when the directory was created: another one means that the disk was lost.
    pub store_id: StoreId,
    /// The cluster it is part of, once it is.
    pub cluster_id: Option<ClusterId>,
    /// This store has never taken part in Raft: no vote was given, no entry acknowledged.
    pub fresh: bool,
    /// The voters the cluster was founded with; empty before.
    pub voters: Vec<NodeId>,
}

impl Identity {
    /// That of a data directory which has taken part in nothing.
    fn new(node_id: NodeId) -> Self {
        Self {
            format: FIRST_FORMAT,
            node_id,
            store_id: StoreId(Uuid::new_v4()),
            cluster_id: None,
            fresh: true,
            voters: Vec::new(),
        }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused; the message names the file.
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
    /// It cannot be told whose it is.
    #[error("{file}: {reason}. {reseed}", file = .file.display(), reseed = super::RESEED)]
    Corrupt {
        /// The identity file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A data directory that this process alone uses, as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Holds the lock; the system releases it with the process, however that ends.
    _lock: File,
}

impl DataDir {
    /// Opens the data directory of `node_id`; creates it, readable to its owner only, if there is none.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(path: &Path, node_id: NodeId) -> Result<Self, IdentityError> {
        let named = segment::at(path, "");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(named)?;
        // What this program cannot read is left as it is, down to the lock.
        if let Err(unreadable @ IdentityError::Format { .. }) = load(path) {
            return Err(unreadable);
        }
        let lock = lock(path)?;
        let identity = match load(path)? {
            Some(identity) => identity,
            None => create(path, node_id)?,
        };
        if identity.node_id != node_id {
            let (dir, found) = (path.to_owned(), identity.node_id);
            return Err(IdentityError::OtherNode { dir, found, wanted: node_id });
        }
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Makes a copy of another node's files, which has no identity, the data directory of `node_id`. Those files are in
    /// `format`, of a cluster that was founded with `voters`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn adopt(
        path: &Path,
        node_id: NodeId,
        format: u16,
        voters: Vec<NodeId>,
    ) -> Result<Self, IdentityError> {
        if !FORMAT.contains(format) {
            return Err(IdentityError::Format { dir: path.to_owned(), found: format });
        }
        let lock = lock(path)?;
        let identity = Identity { format, fresh: false, voters, ..Identity::new(node_id) };
        store(path, &identity).map_err(segment::at(path, IDENTITY))?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Whether there is a data directory at `path` that says whose it is.
    pub fn is_at(path: &Path) -> bool {
        path.join(IDENTITY).exists()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the identity; durable on return.
    ///
    /// # Errors
    /// The system's. The old identity then remains, here; on disk it is the old or the new one.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<(), IdentityError> {
        let mut next = self.identity.clone();
        change(&mut next);
        if next != self.identity {
            store(&self.path, &next).map_err(segment::at(&self.path, IDENTITY))?;
            self.identity = next;
        }
        Ok(())
    }
}

/// Whose data directory `dir` is, for somebody who reads it and must not change a byte. As long as the file that comes
/// with it is open, no node starts there.
///
/// # Errors
/// [`IdentityError`]; a node runs there, or there is no data directory.
pub fn hold(dir: &Path) -> Result<(Option<Identity>, File), IdentityError> {
    let lock = File::open(dir.join(LOCK)).map_err(segment::at(dir, LOCK))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok((load(dir)?, lock)),
        Err(Errno::WOULDBLOCK) => Err(IdentityError::Locked { dir: dir.to_owned(), holder: holder(&lock) }),
        Err(error) => Err(segment::at(dir, LOCK)(error.into()).into()),
    }
}

/// The process that holds the lock, for a message; it may be just about to write it.
fn holder(mut file: &File) -> String {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    if known { format!("process {}", pid.trim()) } else { "process unknown".to_owned() }
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let named = segment::at(dir, LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(dir.join(LOCK)).map_err(named)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(IdentityError::Locked { dir: dir.to_owned(), holder: holder(&file) });
        }
        Err(error) => return Err(named(error.into()).into()),
    }
    file.set_len(0).map_err(named)?;
    writeln!(file, "{}", std::process::id()).map_err(named)?;
    Ok(file)
}

fn load(dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let file = dir.join(IDENTITY);
    let bytes = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(segment::at(dir, IDENTITY))?,
    };
    let corrupt = |reason: String| IdentityError::Corrupt { file: file.clone(), reason };
    let text = str::from_utf8(&bytes).map_err(|_| corrupt("not text".into()))?;
    let (json, crc) = text.split_once('\n').ok_or_else(|| corrupt("the checksum is missing".into()))?;
    if crc != crc_line(json) {
        return Err(corrupt("checksum mismatch".into()));
    }
    // Fields of a later layout are unknown, its version is not.
    let Format { format } = serde_json::from_str(json).map_err(|error| corrupt(error.to_string()))?;
    if !FORMAT.contains(format) {
        return Err(IdentityError::Format { dir: dir.to_owned(), found: format });
    }
    serde_json::from_str(json).map(Some).map_err(|error| corrupt(error.to_string()))
}

#[derive(Deserialize)]
struct Format {
    format: u16,
}

fn crc_line(json: &str) -> String {
    format!("crc32c={:08x}\n", crc32c::crc32c(json.as_bytes()))
}

fn create(dir: &Path, node_id: NodeId) -> Result<Identity, IdentityError> {
    // Without this, a store that lost its identity would pass for a new one, and vote a second time.
    if dir.join("log").exists() {
        let reason = "the file is missing, although there is a log".to_owned();
        return Err(IdentityError::Corrupt { file: dir.join(IDENTITY), reason });
    }
    let identity = Identity::new(node_id);
    store(dir, &identity).map_err(segment::at(dir, IDENTITY))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(identity)
}

/// Replaces the file in one step: after a power cut there is the old one or the new one.
fn store(dir: &Path, identity: &Identity) -> io::Result<()> {
    let json = serde_json::to_string(identity)?;
    let temporary = dir.join("identity.tmp");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    write!(file, "{json}\n{}", crc_line(&json))?;
    file.sync_all()?;
    fs::rename(temporary, dir.join(IDENTITY))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn is_created_private_and_kept() {
        let scratch = scratch();
        let path = scratch.path().join("deep/data");
        let mut data = DataDir::open(&path, 3).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(data.identity().fresh && data.identity().node_id == 3);
        let cluster_id = ClusterId(Uuid::new_v4());
        data.update(|identity| {
            identity.cluster_id = Some(cluster_id);
            identity.fresh = false;
            identity.voters = vec![1, 2, 3];
        })
        .unwrap();
        let kept = data.identity().clone();
        drop(data);
        assert_eq!(*DataDir::open(&path, 3).unwrap().identity(), kept);
        assert_eq!(kept.cluster_id, Some(cluster_id));
    }

    #[test]
    fn two_stores_are_never_alike() {
        let (one, two) = (scratch(), scratch());
        let one = DataDir::open(one.path(), 1).unwrap();
        let two = DataDir::open(two.path(), 1).unwrap();
        assert_ne!(one.identity().store_id, two.identity().store_id);
    }

    #[test]
    fn one_process_at_a_time() {
        let scratch = scratch();
        let held = DataDir::open(scratch.path(), 1).unwrap();
        let error = DataDir::open(scratch.path(), 1).unwrap_err();
        assert!(matches!(error, IdentityError::Locked { .. }));
        let pid = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
        drop(held);
        DataDir::open(scratch.path(), 1).unwrap();
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let scratch = scratch();
        drop(DataDir::open(scratch.path(), 1).unwrap());
        let error = DataDir::open(scratch.path(), 2).unwrap_err();
        assert!(error.to_string().contains("belongs to node 1, but this is node 2"), "{error}");
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let scratch = scratch();
        drop(DataDir::open(scratch.path(), 1).unwrap());
        let file = scratch.path().join(IDENTITY);
        let good = fs::read(&file).unwrap();
        for bit in (0..good.len()).map(|byte| byte * 8 + byte % 8) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, bad).unwrap();
            let error = load(scratch.path()).expect_err("damage");
            assert!(matches!(error, IdentityError::Corrupt { .. }), "bit {bit}: {error}");
        }
        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            assert!(load(scratch.path()).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_lost_identity_is_not_drawn_anew_over_a_log() {
        let scratch = scratch();
        drop(DataDir::open(scratch.path(), 1).unwrap());
        fs::create_dir(scratch.path().join("log")).unwrap();
        fs::remove_file(scratch.path().join(IDENTITY)).unwrap();
        let error = DataDir::open(scratch.path(), 1).unwrap_err();
        assert!(error.to_string().contains("add it again"), "{error}");
    }

    #[test]
    fn a_newer_format_is_told_from_damage_and_left_as_it_is() {
        let scratch = scratch();
        let json = r#"{"format":9,"who":"unknown"}"#;
        fs::write(scratch.path().join(IDENTITY), format!("{json}\n{}", crc_line(json))).unwrap();
        let error = DataDir::open(scratch.path(), 1).unwrap_err();
        assert!(matches!(error, IdentityError::Format { found: 9, .. }), "{error}");
        let both = format!("format 9; this program, esnode {VERSION}, reads format {FORMAT}");
        assert!(
            error.to_string().contains(&both) && error.to_string().ends_with("or a later one"),
            "{error}"
        );
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "something was written");
    }
}

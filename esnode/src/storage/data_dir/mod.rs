//! Opens a data directory: checks which node it belongs to, and that only one process uses it.

mod error;
mod identity;
mod lock;

use std::fs::File;
use std::path::{Path, PathBuf};

use shared::ids::NodeId;

use super::files::{create_dir, sync_dir};
use crate::process::version::FORMAT;
pub use error::IdentityError;
use identity::IDENTITY;
pub use identity::Identity;

/// A data directory that only this process uses, as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Holds the lock; the system releases it when the process ends, for any reason.
    _lock: File,
}

impl DataDir {
    /// Opens the data directory of `node_id`. Creates it, readable by its owner only, if it does not exist.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(path: &Path, node_id: NodeId) -> Result<Self, IdentityError> {
        create_dir(path)?;
        // A directory in an unknown format is left unchanged, even its lock.
        if let Err(unreadable @ IdentityError::Format { .. }) = Identity::load(path) {
            return Err(unreadable);
        }
        let lock = lock::exclusive(path)?;
        let identity = match Identity::load(path)? {
            Some(identity) => identity,
            None => create(path, node_id)?,
        };
        if identity.node_id != node_id {
            let (dir, found) = (path.to_owned(), identity.node_id);
            return Err(IdentityError::OtherNode { dir, found, wanted: node_id });
        }
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Turns a copy of another node's files, which has no identity, into the data directory of `node_id`. The files are
    /// in `format`, and of a cluster that was bootstrapped with `voters`.
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
        let lock = lock::exclusive(path)?;
        let identity = Identity { format, fresh: false, voters, ..Identity::new(node_id) };
        identity.store(path)?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Returns whether there is a data directory with an identity at `path`.
    pub fn is_at(path: &Path) -> bool {
        path.join(IDENTITY).exists()
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the identity; durable on return.
    ///
    /// # Errors
    /// Those of the file system. Then this value keeps the old identity; the disk has the old or the new one.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<(), IdentityError> {
        let mut next = self.identity.clone();
        change(&mut next);
        if next != self.identity {
            next.store(&self.path)?;
            self.identity = next;
        }
        Ok(())
    }
}

/// Returns the identity of the data directory `dir`, for a caller that must not change it. As long as the returned file
/// is open, no node can start there.
///
/// # Errors
/// [`IdentityError`] if a node runs there, or there is no data directory.
pub fn hold(dir: &Path) -> Result<(Option<Identity>, File), IdentityError> {
    let lock = lock::shared(dir)?;
    Ok((Identity::load(dir)?, lock))
}

fn create(dir: &Path, node_id: NodeId) -> Result<Identity, IdentityError> {
    // Otherwise a directory that has lost its identity would count as new, and its node could vote twice.
    if dir.join("log").exists() {
        let reason = "the file is missing, although there is a log".to_owned();
        return Err(IdentityError::Corrupt { file: dir.join(IDENTITY), reason });
    }
    let identity = Identity::new(node_id);
    identity.store(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use shared::ids::ClusterId;
    use uuid::Uuid;

    use super::identity::CHECKED;
    use super::*;
    use crate::process::version::VERSION;

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
            let error = Identity::load(scratch.path()).expect_err("damage");
            assert!(matches!(error, IdentityError::Corrupt { .. }), "bit {bit}: {error}");
        }
        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            assert!(Identity::load(scratch.path()).is_err(), "cut to {length}");
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
        fs::write(scratch.path().join(IDENTITY), CHECKED.seal(json)).unwrap();
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

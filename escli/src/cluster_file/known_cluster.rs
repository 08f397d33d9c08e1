//! Remembers the id of the cluster that a cluster.yaml describes, in the state directory, from the first `up` on. Like
//! a known host key, it shows when the same name leads to another cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shared::ids::ClusterId;

use crate::files;
use crate::files::sha256;

/// The file in which the id for one cluster.yaml is remembered.
#[derive(Clone, Debug)]
pub struct KnownCluster {
    /// `None` if the cluster.yaml comes from standard input, whose content may be different every time.
    path: Option<PathBuf>,
}

/// Returns the path, with the extension `end`, of a file in the state directory that belongs to this cluster.yaml and
/// cluster name. It depends on both, because two files may name their clusters alike.
pub fn path_for(state_dir: &Path, name: &str, file: &Path, end: &str) -> PathBuf {
    let digest = sha256::hex(file.as_os_str().as_encoded_bytes());
    state_dir.join(name).join(format!("{}.{end}", digest.get(..8).unwrap_or_default()))
}

impl KnownCluster {
    /// Returns the memory for the cluster `name` in the cluster.yaml `file`.
    pub fn of(state_dir: &Path, name: &str, file: Option<&Path>) -> Self {
        Self { path: file.map(|file| path_for(state_dir, name, file, "cluster")) }
    }

    /// Returns the cluster's id, if one is known. An id behind it is that of a cluster whose bootstrap in its place has
    /// begun.
    pub fn recall(&self) -> Vec<ClusterId> {
        let text = self.path.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok().map(ClusterId)).collect()
    }

    /// Remembers these ids, in the order of [`Self::recall`].
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep(&self, ids: &[ClusterId]) -> io::Result<()> {
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        self.path.as_ref().map_or(Ok(()), |path| files::write_atomically(path, &text))
    }

    /// Forgets the ids, because the cluster was deleted.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&self) -> io::Result<()> {
        match self.path.as_ref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_until_it_is_forgotten_and_each_file_has_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let of = |file: &str| KnownCluster::of(temp.path(), "lab", Some(Path::new(file)));
        let id = ClusterId(uuid::Uuid::from_u128(7));
        assert_eq!(of("/a").recall(), []);
        of("/a").forget().unwrap();
        let coming = ClusterId(uuid::Uuid::from_u128(8));
        of("/a").keep(&[id, coming]).unwrap();
        assert_eq!((of("/a").recall(), of("/b").recall()), (vec![id, coming], vec![]));
        of("/a").forget().unwrap();
        assert_eq!(of("/a").recall(), []);
    }

    #[test]
    fn standard_input_is_another_file_every_time() {
        let temp = tempfile::tempdir().unwrap();
        let known = KnownCluster::of(temp.path(), "lab", None);
        known.keep(&[ClusterId(uuid::Uuid::from_u128(7))]).unwrap();
        assert_eq!(known.recall(), []);
    }
}

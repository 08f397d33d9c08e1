//! Paths of a local cluster in its directory D: `D/cluster.yaml`, and for each node
//! `D/nI/{cluster.yaml,data/,log,pid}`. After an upgrade also `D/releases/R/esnode`, and the link `D/nI/current` to one
//! of them.

use std::path::{Path, PathBuf};

use shared::ids::NodeId;

/// The directory of one local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Returns the layout of `dir`, which may not exist yet. Links in it are resolved, because nodes are recognised by
    /// the path of their configuration file, which must always be the same.
    pub fn new(dir: &Path) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        let resolved = dir.ancestors().find_map(|ancestor| {
            let real = ancestor.canonicalize().ok()?;
            let rest = dir.strip_prefix(ancestor).ok()?;
            Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
        });
        Self { dir: resolved.unwrap_or(dir) }
    }

    /// The directory D.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster.yaml of the cluster.
    pub fn cluster_file(&self) -> PathBuf {
        self.dir.join("cluster.yaml")
    }

    /// The directory of one node.
    pub fn node(&self, id: NodeId) -> PathBuf {
        self.dir.join(format!("n{id}"))
    }

    /// The configuration file that the node is started with.
    pub fn config(&self, id: NodeId) -> PathBuf {
        self.node(id).join("cluster.yaml")
    }

    /// The node's data directory.
    pub fn data(&self, id: NodeId) -> PathBuf {
        self.node(id).join("data")
    }

    /// The file that the node's output goes to.
    pub fn log(&self, id: NodeId) -> PathBuf {
        self.node(id).join("log")
    }

    /// The directory of releases.
    pub fn releases(&self) -> PathBuf {
        self.dir.join("releases")
    }

    /// The program of a release.
    pub fn released(&self, release: &str) -> PathBuf {
        self.releases().join(release).join("esnode")
    }

    /// The link to the release that the node's next start runs; absent before the first upgrade.
    pub fn current(&self, id: NodeId) -> PathBuf {
        self.node(id).join("current")
    }

    /// The file that holds the node's process id.
    pub fn pid(&self, id: NodeId) -> PathBuf {
        self.node(id).join("pid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_the_same_name_before_and_after_it_exists() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(temp.path(), temp.path().join("link")).unwrap();
        let through_link = temp.path().join("link").join("new");
        let before = Layout::new(&through_link);
        std::fs::create_dir(&through_link).unwrap();
        assert_eq!(before, Layout::new(&through_link));
        assert_eq!(before, Layout::new(&temp.path().join("new")));
    }
}

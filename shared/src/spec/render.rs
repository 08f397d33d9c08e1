//! What is derived from a cluster.yaml: the file of each node, its hashes, and its text.

use sha2::{Digest, Sha256};

use super::ClusterFile;
use crate::hex;
use crate::ids::NodeId;

impl ClusterFile {
    /// Returns the file for node `id`: with `node_id` set, and without what only escli uses. `None` if there is no such
    /// node.
    pub fn for_node(&self, id: NodeId) -> Option<Self> {
        self.node(id)?;
        let mut file = self.without_deploy();
        file.cluster.node_id = Some(id);
        Some(file)
    }

    /// Returns the SHA-256 of the canonical JSON (sorted keys, no blanks) of everything that matters to nodes except
    /// `node_id`, in hex. Two files with equal hashes need no change on any node.
    ///
    /// # Panics
    /// If a path is not UTF-8, which no parsed file can contain.
    pub fn config_hash(&self) -> String {
        let mut file = self.without_deploy();
        file.cluster.node_id = None;
        file.hash()
    }

    /// Returns a hash like [`Self::config_hash`] of what node `id` learns from its file alone. It leaves the other
    /// nodes out, which can be added and removed without a restart.
    ///
    /// # Panics
    /// As [`Self::config_hash`].
    pub fn settings_hash(&self, id: NodeId) -> String {
        let mut file = self.without_deploy();
        file.cluster.node_id = Some(id);
        file.cluster.nodes.retain(|node| node.id == id);
        file.hash()
    }

    /// Returns the file as YAML. Equal files give equal bytes, and parsing the text gives an equal file.
    ///
    /// # Panics
    /// If a path is not UTF-8, which no parsed file can contain.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("plain structs with UTF-8 paths always serialise")
    }

    fn hash(&self) -> String {
        let mut json = serde_json::to_value(self).expect("plain structs with UTF-8 paths always serialise");
        json.sort_all_objects();
        hex::encode(&Sha256::digest(json.to_string()))
    }

    fn without_deploy(&self) -> Self {
        let mut file = self.clone();
        file.deploy = None;
        file.cluster.nodes.iter_mut().for_each(|node| node.ssh = None);
        file
    }
}

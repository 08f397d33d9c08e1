//! What is made of a cluster.yaml: the file each node gets, its hash, its text.

use sha2::{Digest, Sha256};

use super::ClusterFile;
use crate::ids::NodeId;

impl ClusterFile {
    /// What node `id` gets: its id filled in, the operator's own parts left out. `None` when there is no such node.
    pub fn for_node(&self, id: NodeId) -> Option<Self> {
        self.node(id)?;
        let mut file = self.without_deploy();
        file.cluster.node_id = Some(id);
        Some(file)
    }

    /// Hex SHA-256 of the canonical JSON (sorted keys, no blanks) of all that matters to a node, its own id excepted:
    /// equal where nothing needs to be changed.
    ///
    /// # Panics
    /// When a path is not UTF-8, which no file that was read can hold.
    pub fn config_hash(&self) -> String {
        let mut file = self.without_deploy();
        file.cluster.node_id = None;
        file.hash()
    }

    /// The same of what node `id` takes from its file alone: everything but the other nodes, which come and go without a
    /// restart.
    ///
    /// # Panics
    /// As [`Self::config_hash`].
    pub fn settings_hash(&self, id: NodeId) -> String {
        let mut file = self.without_deploy();
        file.cluster.node_id = Some(id);
        file.cluster.nodes.retain(|node| node.id == id);
        file.hash()
    }

    /// The file as text, byte for byte the same for equal files; it reads back as an equal file.
    ///
    /// # Panics
    /// When a path is not UTF-8, which no file that was read can hold.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("plain structs with UTF-8 paths always serialise")
    }

    fn hash(&self) -> String {
        let mut json = serde_json::to_value(self).expect("plain structs with UTF-8 paths always serialise");
        json.sort_all_objects();
        Sha256::digest(json.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn without_deploy(&self) -> Self {
        let mut file = self.clone();
        file.deploy = None;
        file.cluster.nodes.iter_mut().for_each(|node| node.ssh = None);
        file
    }
}

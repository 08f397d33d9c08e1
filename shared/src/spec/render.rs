//! What is made of a cluster.yaml: the file each node gets, its hash, its text, the schema.

use sha2::{Digest, Sha256};

use super::ClusterFile;
use crate::ids::NodeId;

impl ClusterFile {
    /// What node `id` gets: its id filled in, the operator's own parts left out. `None` when there is no such node.
    pub fn for_node(&self, id: NodeId) -> Option<Self> {
        self.node(id)?;
        let mut file = self.clone();
        file.cluster.node_id = Some(id);
        file.deploy = None;
        file.cluster.nodes.iter_mut().for_each(|node| node.ssh = None);
        Some(file)
    }

    /// Hex SHA-256 of all that matters to a node, its own id excepted: equal where nothing needs to be changed.
    pub fn config_hash(&self) -> String {
        let mut file = self.clone();
        file.cluster.node_id = None;
        file.deploy = None;
        file.cluster.nodes.iter_mut().for_each(|node| node.ssh = None);
        let json = serde_json::to_vec(&file).expect("plain structs with string keys always serialise");
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The file as text, byte for byte the same for equal files.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("plain structs with string keys always serialise")
    }
}

/// The file's JSON Schema.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(ClusterFile).to_value()
}

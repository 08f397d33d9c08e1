//! What each node should be given: its own cluster.yaml, byte for byte the same every time, and that file's hash.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

/// The file of every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    files: BTreeMap<NodeId, NodeFile>,
}

/// The file of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeFile {
    text: String,
    hash: String,
}

impl Wanted {
    /// What the node's file should say.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.text.as_str())
    }

    /// The hash of it, as `ClusterStatus::config_hash`.
    pub fn hash(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.hash.as_str())
    }
}

/// The files of a local cluster, where each node keeps its data in a place of its own.
pub fn local(spec: &ClusterFile, data_dir: impl Fn(NodeId) -> PathBuf) -> Wanted {
    let file = |id: NodeId| {
        let mut own = spec.clone();
        own.cluster.node_id = Some(id);
        own.cluster.storage.data_dir = data_dir(id);
        let text = serde_saphyr::to_string(&own).unwrap_or_default();
        (id, NodeFile { text, hash: hash(&own) })
    };
    Wanted { files: spec.cluster.nodes.iter().map(|node| file(node.id)).collect() }
}

/// The hash of a node's file as it lies on disk; `None` when it makes no sense.
pub fn hash_of(text: &str) -> Option<String> {
    serde_saphyr::from_str::<ClusterFile>(text).ok().map(|file| hash(&file))
}

fn hash(file: &ClusterFile) -> String {
    let canonical = serde_json::to_vec(file).unwrap_or_default();
    Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect()
}

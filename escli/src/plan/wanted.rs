//! What each node should be given: its own cluster.yaml, byte for byte the same every time, and that file's hash.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::ids::NodeId;
use shared::spec::{self, ClusterFile};

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
    let files = spec.cluster.nodes.iter().filter_map(|node| {
        let mut own = spec.for_node(node.id)?;
        own.cluster.storage.data_dir = data_dir(node.id);
        Some((node.id, NodeFile { text: own.to_yaml(), hash: own.config_hash() }))
    });
    Wanted { files: files.collect() }
}

/// The hash of a node's file as it lies on disk; `None` when it makes no sense.
pub fn hash_of(text: &str) -> Option<String> {
    spec::parse("cluster.yaml", text).ok().map(|file| file.config_hash())
}

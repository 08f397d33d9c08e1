//! What each node should be given: its own cluster.yaml, byte for byte the same every time, and that file's hash.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::ids::NodeId;
use shared::spec::{self, ClusterFile};

use super::layout::HostLayout;
use super::unit::unit;

/// The file of every node, and on hosts of their own the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    files: BTreeMap<NodeId, NodeFile>,
    units: BTreeMap<NodeId, NodeFile>,
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

    /// What the node's systemd unit should say.
    pub fn unit(&self, id: NodeId) -> Option<&str> {
        self.units.get(&id).map(|unit| unit.text.as_str())
    }

    /// Hex SHA-256 of it.
    pub fn unit_hash(&self, id: NodeId) -> Option<&str> {
        self.units.get(&id).map(|unit| unit.hash.as_str())
    }
}

/// The files of a local cluster, where each node keeps its data in a place of its own.
pub fn local(spec: &ClusterFile, data_dir: impl Fn(NodeId) -> PathBuf) -> Wanted {
    let files = spec.cluster.nodes.iter().filter_map(|node| {
        let mut own = spec.for_node(node.id)?;
        own.cluster.storage.data_dir = data_dir(node.id);
        Some((node.id, NodeFile { text: own.to_yaml(), hash: own.config_hash() }))
    });
    Wanted { files: files.collect(), units: BTreeMap::new() }
}

/// The files and units of nodes on hosts of their own.
pub fn remote(spec: &ClusterFile, layout: &HostLayout, hash: impl Fn(&str) -> String) -> Wanted {
    let units = spec.cluster.nodes.iter().filter_map(|node| {
        let text = unit(spec, layout, node.id)?;
        Some((node.id, NodeFile { hash: hash(&text), text }))
    });
    Wanted { units: units.collect(), ..local(spec, |_| layout.data.clone().into()) }
}

/// The hash of a node's file as it lies on disk; `None` when it makes no sense.
pub fn hash_of(text: &str) -> Option<String> {
    spec::parse("cluster.yaml", text).ok().map(|file| file.config_hash())
}

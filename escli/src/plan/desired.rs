//! What each node should be given: its own cluster.yaml, byte for byte the same every time, and that file's hash.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::api::{ClusterStatus, Membership, PeerStatus};
use shared::ids::NodeId;
use shared::spec::{self, ClusterFile, Node};

use super::layout::HostLayout;
use super::unit::unit;

/// The file of every node, and on hosts of their own the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredFiles {
    files: BTreeMap<NodeId, NodeFile>,
    units: BTreeMap<NodeId, NodeFile>,
    /// Hashes of the files without the other nodes.
    settings: BTreeMap<NodeId, String>,
    nodes: Vec<Node>,
}

/// The file of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeFile {
    text: String,
    hash: String,
}

impl DesiredFiles {
    /// What the node's file should say.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.text.as_str())
    }

    /// The hash of it, as `ClusterStatus::config_hash`.
    pub fn hash(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.hash.as_str())
    }

    /// The node that said `status` runs with what its file should say. Members that have come or gone since it was started
    /// ask for no restart: it knows them from the log.
    pub fn is_run_by(&self, status: &ClusterStatus) -> bool {
        let id = status.node_id;
        if self.hash(id) == Some(status.config_hash.as_str()) {
            return true;
        }
        let knows = |node: &Node| {
            let peer =
                status.peers.iter().find(|peer| peer.id == node.id && peer.membership != Membership::None);
            peer.is_none_or(|peer| is_at(peer, node))
        };
        self.settings.get(&id) == Some(&status.settings_hash)
            && self.nodes.iter().filter(|node| node.id != id).all(knows)
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
pub fn local(spec: &ClusterFile, data_dir: impl Fn(NodeId) -> PathBuf) -> DesiredFiles {
    let mut wanted = DesiredFiles { nodes: spec.cluster.nodes.clone(), ..DesiredFiles::default() };
    for id in spec.cluster.nodes.iter().map(|node| node.id) {
        let Some(mut own) = spec.for_node(id) else { continue };
        own.cluster.storage.data_dir = data_dir(id);
        wanted.settings.insert(id, own.settings_hash(id));
        wanted.files.insert(id, NodeFile { text: own.to_yaml(), hash: own.config_hash() });
    }
    wanted
}

/// The files and units of nodes on hosts of their own.
pub fn remote(spec: &ClusterFile, layout: &HostLayout, hash: impl Fn(&str) -> String) -> DesiredFiles {
    let units = spec.cluster.nodes.iter().filter_map(|node| {
        let text = unit(spec, layout, node.id)?;
        Some((node.id, NodeFile { hash: hash(&text), text }))
    });
    DesiredFiles { units: units.collect(), ..local(spec, |_| layout.data.clone().into()) }
}

fn is_at(peer: &PeerStatus, node: &Node) -> bool {
    let there = (&peer.host, peer.cluster_port, peer.client_port, peer.http_port, &peer.advertised_host);
    there == (&node.host, node.cluster_port, node.client_port, node.http_port, &node.advertised_host)
}

/// Returns the hash of a node's configuration file; `None` when the file is invalid.
pub fn hash_of(text: &str) -> Option<String> {
    spec::parse("cluster.yaml", text).ok().map(|file| file.config_hash())
}

#[cfg(test)]
mod tests {
    use shared::api::RaftRole;

    use super::*;
    use crate::plan::tests::{remote_spec, status};

    #[test]
    fn members_that_come_and_go_ask_for_no_restart_and_one_that_moves_does() {
        let files = |spec: &ClusterFile| local(spec, |_| PathBuf::from("/data"));
        let before = remote_spec(3);
        let mut runs = status(1, Some(1), files(&before).hash(1).unwrap());
        runs.settings_hash = files(&before).settings[&1].clone();
        assert!(files(&before).is_run_by(&runs));
        let mut more = remote_spec(4);
        assert!(files(&more).is_run_by(&runs), "node 4 has not joined yet");
        let node = more.node(4).unwrap().clone();
        runs.peers.push(PeerStatus {
            id: node.id,
            state: Some(RaftRole::Follower),
            match_index: None,
            host: node.host,
            cluster_port: node.cluster_port,
            client_port: node.client_port,
            http_port: node.http_port,
            advertised_host: None,
            membership: Membership::Learner,
            connected: true,
            last_contact_ms: None,
            lag: None,
        });
        assert!(files(&more).is_run_by(&runs), "node 4 has joined");
        more.cluster.nodes[3].cluster_port += 1;
        assert!(!files(&more).is_run_by(&runs), "node 4 is said to be elsewhere");
        let mut other = remote_spec(3);
        other.network.max_connections += 1;
        assert!(!files(&other).is_run_by(&runs));
    }
}

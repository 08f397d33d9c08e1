//! The files that each node should have: its own cluster.yaml, the same bytes every time, with its hash; and on remote
//! hosts its systemd unit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::api::{ClusterStatus, Membership, PeerStatus};
use shared::ids::NodeId;
use shared::spec::{self, ClusterFile, Node};

use super::layout::HostLayout;
use super::unit::unit;

/// The configuration file of every node, and on remote hosts its unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredFiles {
    files: BTreeMap<NodeId, NodeFile>,
    units: BTreeMap<NodeId, NodeFile>,
    /// Hashes of the files without the other nodes, as `ClusterStatus::settings_hash`.
    settings: BTreeMap<NodeId, String>,
    nodes: Vec<Node>,
}

/// The files of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeFile {
    text: String,
    hash: String,
}

impl DesiredFiles {
    /// Returns the text of the node's configuration file.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.text.as_str())
    }

    /// Returns the hash of the node's configuration file, as `ClusterStatus::config_hash`.
    pub fn hash(&self, id: NodeId) -> Option<&str> {
        self.files.get(&id).map(|file| file.hash.as_str())
    }

    /// Returns whether the node that reported `status` runs with its configuration. A difference in the other nodes
    /// does not count: a running node knows from the log who is a member.
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

    /// Returns the text of the node's systemd unit.
    pub fn unit(&self, id: NodeId) -> Option<&str> {
        self.units.get(&id).map(|unit| unit.text.as_str())
    }

    /// Returns the SHA-256 of the unit's text, in hex.
    pub fn unit_hash(&self, id: NodeId) -> Option<&str> {
        self.units.get(&id).map(|unit| unit.hash.as_str())
    }
}

/// Returns the files of a local cluster. `data_dir` returns each node's own data directory.
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

/// Returns the files and units of nodes on remote hosts. `hash` returns the SHA-256 of a text, in hex.
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

/// Returns the hash of a node's configuration file; `None` if the file is invalid.
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

//! PURE: the cluster.yaml that escli writes for a new local cluster.

use shared::ids::NodeId;
use shared::spec::{Cluster, ClusterFile, Network, Node, RaftTiming, Storage, Topics};

/// Where a local cluster's ports begin when nobody says otherwise: clients, nodes, admin API.
const DEFAULT_PORTS: (u16, u16, u16) = (9000, 9100, 8080);

/// First client, peer and admin port of a local cluster.
pub fn first_ports(base: Option<u16>) -> (u16, u16, u16) {
    base.map_or(DEFAULT_PORTS, |base| (base, base + 100, base + 200))
}

/// A local cluster of `count` nodes.
pub fn local_spec(name: &str, count: u8, base: Option<u16>) -> ClusterFile {
    let (client, peer, http) = first_ports(base);
    let node = |index: u8| Node {
        id: NodeId::from(index) + 1,
        host: "127.0.0.1".to_owned(),
        client_port: client + u16::from(index),
        cluster_port: peer + u16::from(index),
        http_port: http + u16::from(index),
        bind: None,
        advertised_host: None,
    };
    ClusterFile {
        cluster: Cluster {
            name: name.to_owned(),
            node_id: None,
            nodes: (0..count).map(node).collect(),
            raft: RaftTiming::default(),
            storage: Storage::default(),
            topics: Topics::default(),
        },
        network: Network::default(),
    }
}

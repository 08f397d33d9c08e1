//! Where in the text the values stand whose sense is checked. Read beside the plain types, which stay free of it.

use serde::Deserialize;
use serde_saphyr::Spanned;

type Number = Option<Spanned<u64>>;
type Text = Option<Spanned<String>>;

#[derive(Deserialize)]
pub(super) struct File {
    pub(super) cluster: Cluster,
    #[serde(default)]
    pub(super) network: Network,
}

#[derive(Deserialize)]
pub(super) struct Cluster {
    pub(super) name: Text,
    pub(super) node_id: Number,
    pub(super) nodes: Spanned<Vec<Node>>,
    #[serde(default)]
    pub(super) raft: Raft,
    #[serde(default)]
    pub(super) storage: Storage,
    #[serde(default)]
    pub(super) topics: Topics,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) id: Spanned<u64>,
    pub(super) host: Spanned<String>,
    pub(super) client_port: Number,
    pub(super) cluster_port: Number,
    pub(super) http_port: Number,
    pub(super) bind: Text,
    pub(super) advertised_host: Text,
}

#[derive(Default, Deserialize)]
pub(super) struct Raft {
    pub(super) election_timeout_min: Number,
    pub(super) election_timeout_max: Number,
    pub(super) heartbeat_interval: Number,
    pub(super) rpc_timeout: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct Storage {
    pub(super) data_dir: Text,
    pub(super) snapshot_interval: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct Topics {
    pub(super) default_partitions: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct Network {
    pub(super) max_connections: Number,
}

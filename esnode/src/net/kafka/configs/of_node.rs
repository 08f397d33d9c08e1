//! A node's configuration in Kafka's words: what its cluster.yaml says, and what topics have that say nothing.

use shared::spec::{ClusterFile, Node, authority};

use super::{DEFAULT, STATIC_BROKER};
use crate::net::kafka::frame::MAX_FRAME;
use crate::net::kafka::metadata::advertised;
use crate::state_machine::config::{Kind, SETTINGS, Setting};
use crate::state_machine::retention::{RETENTION_BYTES, RETENTION_MS};

/// One setting of a node.
pub struct Entry {
    /// Its name.
    pub key: &'static str,
    /// What it is.
    pub value: String,
    /// What kind of value it has.
    pub kind: Kind,
    /// Where it comes from.
    pub source: i8,
}

/// The default of a topic's setting on a node with this file, and where it comes from.
pub fn default_of(setting: &Setting, file: &ClusterFile) -> (String, i8) {
    let topics = file.cluster.topics;
    let said = match setting.key {
        RETENTION_MS => topics.retention_ms,
        RETENTION_BYTES => topics.retention_bytes,
        _ => None,
    };
    said.map_or_else(|| (setting.default.to_owned(), DEFAULT), |said| (said.to_string(), STATIC_BROKER))
}

/// All settings of `node`, which has this file, in a cluster of so many nodes; by name.
pub fn entries(file: &ClusterFile, node: &Node, nodes: usize) -> Vec<Entry> {
    let mut entries = own(file, node, nodes);
    entries.extend(SETTINGS.iter().filter(|setting| !setting.broker_key.is_empty()).map(|setting| {
        let (value, source) = default_of(setting, file);
        Entry { key: setting.broker_key, value, kind: setting.kind, source }
    }));
    entries.sort_unstable_by_key(|entry| entry.key);
    entries
}

/// What is not of topics.
fn own(file: &ClusterFile, node: &Node, nodes: usize) -> Vec<Entry> {
    let of_file = |key, kind, value: String| Entry { key, value, kind, source: STATIC_BROKER };
    let fixed = |key, kind, value: String| Entry { key, value, kind, source: DEFAULT };
    let listener = format!("PLAINTEXT://{}", authority(advertised(node), node.client_port));
    let (cluster, id) = (&file.cluster, node.id.to_string());
    vec![
        of_file("advertised.listeners", Kind::List, listener),
        of_file("auto.create.topics.enable", Kind::Boolean, cluster.topics.auto_create.to_string()),
        of_file("broker.id", Kind::Int, id.clone()),
        // Every node holds every partition.
        fixed("default.replication.factor", Kind::Int, nodes.to_string()),
        fixed("delete.topic.enable", Kind::Boolean, true.to_string()),
        of_file("log.dirs", Kind::List, cluster.storage.data_dir.display().to_string()),
        of_file("max.connections", Kind::Int, file.network.max_connections.to_string()),
        of_file("node.id", Kind::Int, id),
        of_file("num.partitions", Kind::Int, cluster.topics.default_partitions.to_string()),
        fixed("socket.request.max.bytes", Kind::Int, MAX_FRAME.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_says_what_its_file_says() {
        let file = json!({"cluster": {
            "nodes": [{"id": 2, "host": "::1", "advertised_host": "b.example", "client_port": 9002}],
            "topics": {"retention_ms": 5, "default_partitions": 3},
        }});
        let file: ClusterFile = serde_json::from_value(file).unwrap();
        let entries = entries(&file, &file.cluster.nodes[0], 3);
        assert!(entries.is_sorted_by(|one, next| one.key < next.key), "each once, in order");
        let said = |key| {
            let entry = entries.iter().find(|entry| entry.key == key).unwrap();
            (entry.value.as_str(), entry.source)
        };
        assert_eq!(said("advertised.listeners"), ("PLAINTEXT://b.example:9002", STATIC_BROKER));
        assert_eq!((said("node.id"), said("num.partitions")), (("2", STATIC_BROKER), ("3", STATIC_BROKER)));
        assert_eq!(
            (said("log.retention.ms"), said("log.retention.bytes")),
            (("5", STATIC_BROKER), ("-1", DEFAULT))
        );
        assert_eq!(said("default.replication.factor"), ("3", DEFAULT));
        assert_eq!(said("log.cleanup.policy"), ("delete", DEFAULT));
    }
}

//! Validates the values of a cluster.yaml whose keys and types are right.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::Path;

use crate::ids::MAX_NODE_ID;

use super::names::{authority, expected_host, host_dir, host_user, login, own_path, same_host, valid_host};
use super::parse::{Problem, Reader};
use super::tree::{Place, Tree};
use super::{Cluster, ClusterFile, Deploy, MAX_NODES, Node, RaftTiming, Ssh};

/// Longest duration that is accepted, in ms.
const MAX_TIME_MS: u64 = 600_000;
/// Largest segment size that is accepted, in MiB.
const MAX_SEGMENT_MB: u64 = 1024;
/// Largest number of partitions that is accepted as the default for new topics.
const MAX_PARTITIONS: u64 = 1000;
/// Largest number of connections that is accepted for a listener.
const MAX_CONNECTIONS: u64 = 1_000_000;

/// Returns all invalid values, except those that are unknown in `tree`. Some checks depend on `reader`.
pub(super) fn problems(file: &ClusterFile, tree: &Tree, reader: Reader) -> Vec<Problem> {
    let mut check =
        Check { tree, found: Vec::new(), scripted: reader == Reader::Operator && !file.is_local() };
    check.cluster(&file.cluster);
    check.ids(&file.cluster.nodes);
    check.hosts(&file.cluster.nodes);
    check.addresses(&file.cluster.nodes);
    check.timing(&file.cluster.raft);
    check.durability(&file.cluster);
    check.limits(file);
    for (index, node) in file.cluster.nodes.iter().enumerate() {
        check.ssh(node.ssh.as_ref(), &format!("cluster.nodes.{index}.ssh"));
    }
    if let Some(deploy) = &file.deploy {
        check.deploy(deploy);
    }
    check.found
}

struct Check<'a> {
    tree: &'a Tree,
    found: Vec<Problem>,
    /// Whether names and paths of the file will stand in scripts and units on hosts.
    scripted: bool,
}

impl Check<'_> {
    fn add(&mut self, path: &str, message: String) {
        if !self.tree.is_unknown(path) {
            let Place { line, column } = self.tree.near(path);
            self.found.push(Problem { line, column, message });
        }
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let name = &cluster.name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=63).contains(&name.len()) || !name.chars().all(allowed) {
            let message = format!("cluster.name is {name:?}; expected 1 to 63 letters, digits and dashes");
            self.add("cluster.name", message);
        }
        let ids: Vec<_> = cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        let known = |index: usize| !self.tree.is_unknown(&format!("cluster.nodes.{index}.id"));
        let all_known = !self.tree.is_unknown("cluster.nodes") && (0..ids.len()).all(known);
        if let Some(id) = cluster.node_id.filter(|id| all_known && !ids.contains(&id.to_string())) {
            let message = format!("cluster.node_id is {id}; expected the id of a node: {}", ids.join(", "));
            self.add("cluster.node_id", message);
        }
        let message = match cluster.nodes.len() {
            0 => "cluster.nodes is empty; expected 1 to 9 nodes, ideally 3 or 5".to_owned(),
            1..=MAX_NODES => return,
            count => format!("cluster.nodes has {count} nodes; expected at most {MAX_NODES}"),
        };
        self.add("cluster.nodes", message);
    }

    fn ids(&mut self, nodes: &[Node]) {
        let mut seen: BTreeMap<u64, Place> = BTreeMap::new();
        for (index, Node { id, .. }) in nodes.iter().enumerate() {
            let path = format!("cluster.nodes.{index}.id");
            if !(1..=MAX_NODE_ID).contains(id) {
                let wanted = format!("expected a number from 1 to {MAX_NODE_ID}, unique and never reused");
                self.add(&path, format!("id is {id}; {wanted}"));
            }
            if let Some(first) = seen.insert(*id, self.tree.near(&path)) {
                self.add(&path, format!("id {id} is also the id of the node on line {}", first.line));
            }
        }
    }

    fn hosts(&mut self, nodes: &[Node]) {
        for (index, node) in nodes.iter().enumerate() {
            let optional = [("bind", &node.bind), ("advertised_host", &node.advertised_host)];
            let given = optional.into_iter().filter_map(|(key, host)| Some((key, host.as_ref()?)));
            for (key, host) in std::iter::once(("host", &node.host)).chain(given) {
                let path = format!("cluster.nodes.{index}.{key}");
                if !valid_host(host) {
                    self.add(&path, format!("{key} is {host:?}; expected {}", expected_host(host)));
                } else if key != "bind" && host.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
                {
                    let wanted =
                        "expected an address that others can connect to; to listen on all, leave out `bind`";
                    self.add(&path, format!("{key} is {host}; {wanted}"));
                }
            }
        }
    }

    /// Checks that no two listeners have the same address, and that clients which are sent to one node cannot reach
    /// another.
    fn addresses(&mut self, nodes: &[Node]) {
        let mut seen: BTreeMap<(String, u16), (u64, &str)> = BTreeMap::new();
        let tree = self.tree;
        let unknown = |index: usize, key: &str| tree.is_unknown(&format!("cluster.nodes.{index}.{key}"));
        let nameless: Vec<bool> =
            (0..nodes.len()).map(|index| unknown(index, "id") || unknown(index, "host")).collect();
        for (index, node) in nodes.iter().enumerate() {
            for (key, port) in ports(node) {
                let path = format!("cluster.nodes.{index}.{key}");
                if port == 0 {
                    self.add(&path, format!("{key} is 0; expected a port from 1 to 65535"));
                } else if !nameless[index]
                    && !unknown(index, key)
                    && let Some(other) = seen.insert((same_host(&node.host), port), (node.id, key))
                {
                    self.add(&path, taken(&node.host, port, key, node, other));
                }
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            let Some(host) = &node.advertised_host else { continue };
            let (key, port) = ("advertised_host", node.client_port);
            let path = format!("cluster.nodes.{index}.{key}");
            if nameless[index] || port == 0 || unknown(index, "client_port") {
                continue;
            }
            let own = (node.id, "client_port");
            match seen.insert((same_host(host), port), (node.id, key)) {
                Some(other) if other != own => self.add(&path, taken(host, port, key, node, other)),
                _ => {}
            }
        }
    }

    fn timing(&mut self, raft: &RaftTiming) {
        let (min, max) = (raft.election_timeout_min, raft.election_timeout_max);
        let beat = raft.heartbeat_interval;
        let all = [
            ("election_timeout_min", min),
            ("election_timeout_max", max),
            ("heartbeat_interval", beat),
            ("rpc_timeout", raft.rpc_timeout),
        ];
        for (key, value) in all {
            self.range(&format!("cluster.raft.{key}"), value, MAX_TIME_MS, " ms");
        }
        let known = |key: &str| !self.tree.is_unknown(&format!("cluster.raft.{key}"));
        let (min_known, max_known) = (known("election_timeout_min"), known("election_timeout_max"));
        let beat_known = known("heartbeat_interval");
        if min >= max && min_known && max_known {
            let message = format!(
                "election_timeout_min is {min} and election_timeout_max {max}; expected a smaller minimum; \
                 otherwise all nodes start elections at the same time"
            );
            self.add(
                self.written("cluster.raft.election_timeout_min", "cluster.raft.election_timeout_max"),
                message,
            );
        }
        if beat >= min && beat_known && min_known {
            let message = format!(
                "heartbeat_interval is {beat} and election_timeout_min {min}; expected a shorter heartbeat, \
                 ideally a third; otherwise followers abandon a healthy leader"
            );
            self.add(
                self.written("cluster.raft.heartbeat_interval", "cluster.raft.election_timeout_min"),
                message,
            );
        }
    }

    /// Checks that writes are synced if there is more than one node: after a power cut, a node could otherwise vote
    /// twice in one term, or lack entries that it has acknowledged, and committed events would be lost.
    fn durability(&mut self, cluster: &Cluster) {
        if !cluster.storage.wal_sync && cluster.nodes.len() > 1 {
            let message = "wal_sync is false and there are several nodes; expected true: acknowledgements and votes of a node \
                           must survive a power cut, or other nodes lose events too. A single node may turn it off"
                .to_owned();
            self.add("cluster.storage.wal_sync", message);
        }
    }

    /// Returns which of two keys with contradicting values is in the text; the other one has its default value.
    fn written<'p>(&self, first: &'p str, second: &'p str) -> &'p str {
        if self.tree.find(first).is_none() && self.tree.find(second).is_some() { second } else { first }
    }

    fn limits(&mut self, file: &ClusterFile) {
        let Cluster { storage, topics, .. } = &file.cluster;
        self.dir("cluster.storage.data_dir", &storage.data_dir);
        self.range("cluster.storage.snapshot_interval", storage.snapshot_interval, u64::MAX, "");
        // The largest entry has to fit into a segment.
        if !(2..=MAX_SEGMENT_MB).contains(&storage.segment_mb) {
            let message = format!("segment_mb is {}; expected 2 to {MAX_SEGMENT_MB} MiB", storage.segment_mb);
            self.add("cluster.storage.segment_mb", message);
        }
        self.range("cluster.topics.default_partitions", topics.default_partitions.into(), MAX_PARTITIONS, "");
        self.range("network.max_connections", file.network.max_connections.into(), MAX_CONNECTIONS, "");
    }

    fn deploy(&mut self, deploy: &Deploy) {
        self.ssh(deploy.ssh.as_ref(), "deploy.ssh");
        if let Some(dir) = &deploy.install_dir {
            self.dir("deploy.install_dir", dir);
        }
        self.text("deploy.user", deploy.user.as_deref(), if self.scripted { host_user } else { login });
        self.text("deploy.binary", deploy.binary.as_deref().and_then(Path::to_str), own_path);
    }

    fn ssh(&mut self, ssh: Option<&Ssh>, path: &str) {
        let Some(Ssh { user, port, identity_file, known_hosts, host_keys: _, jump }) = ssh else { return };
        if *port == Some(0) {
            self.add(&format!("{path}.port"), "port is 0; expected a port from 1 to 65535".to_owned());
        }
        let one_word = |text: &str| {
            let blank = || "a name without blanks".to_owned();
            if text.contains(char::is_whitespace) { Err(blank()) } else { login(text) }
        };
        self.text(&format!("{path}.user"), user.as_deref(), one_word);
        self.text(&format!("{path}.jump"), jump.as_deref(), login);
        self.text(
            &format!("{path}.identity_file"),
            identity_file.as_deref().and_then(Path::to_str),
            own_path,
        );
        self.text(&format!("{path}.known_hosts"), known_hosts.as_deref().and_then(Path::to_str), own_path);
    }

    fn range(&mut self, path: &str, value: u64, most: u64, unit: &str) {
        if !(1..=most).contains(&value) {
            let wanted =
                if most == u64::MAX { "at least 1".to_owned() } else { format!("1 to {most}{unit}") };
            self.add(path, format!("{} is {value}; expected {wanted}", key(path)));
        }
    }

    /// Checks the path of a directory on the node's machine.
    fn dir(&mut self, path: &str, dir: &Path) {
        let wanted = match host_dir(dir) {
            Err(wanted) if self.scripted => wanted,
            _ if dir.is_absolute() => return,
            _ => "an absolute path".to_owned(),
        };
        self.add(path, format!("{} is {:?}; expected {wanted}", key(path), dir.display().to_string()));
    }

    fn text(&mut self, path: &str, text: Option<&str>, fits: impl Fn(&str) -> Result<(), String>) {
        if let Some((text, Err(wanted))) = text.map(|text| (text, fits(text))) {
            self.add(path, format!("{} is {text:?}; expected {wanted}", key(path)));
        }
    }
}

fn key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn ports(node: &Node) -> [(&'static str, u16); 3] {
    [("client_port", node.client_port), ("cluster_port", node.cluster_port), ("http_port", node.http_port)]
}

/// Returns the message for an address that two listeners have.
fn taken(host: &str, port: u16, key: &str, node: &Node, (other, other_key): (u64, &str)) -> String {
    let address = authority(host, port);
    format!("{address} is {key} of node {} and {other_key} of node {other}; expected a unique one", node.id)
}

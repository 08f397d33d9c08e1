//! The sense of a cluster.yaml that has the right shape.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::Path;

use crate::ids::MAX_NODE_ID;

use super::parse::Problem;
use super::tree::{Place, Tree};
use super::{Cluster, ClusterFile, Deploy, MAX_NODES, Node, RaftTiming, Ssh};

/// Longest time that makes sense, in ms.
const LONGEST: u64 = 600_000;
/// Largest segment of the log, in MiB.
const MAX_SEGMENT_MB: u64 = 1024;
/// Most partitions that a topic may get without being asked.
const MAX_PARTITIONS: u64 = 1000;
/// Most connections that a listener may be told to accept.
const MAX_CONNECTIONS: u64 = 1_000_000;

/// Everything that makes no sense.
pub(super) fn problems(file: &ClusterFile, tree: &Tree) -> Vec<Problem> {
    let mut check = Check { tree, found: Vec::new() };
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
}

impl Check<'_> {
    fn add(&mut self, path: &str, message: String) {
        let Place { line, column } = self.tree.near(path);
        self.found.push(Problem { line, column, message });
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let name = &cluster.name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=63).contains(&name.len()) || !name.chars().all(allowed) {
            let message = format!("cluster.name is {name:?}; expected 1 to 63 letters, digits and dashes");
            self.add("cluster.name", message);
        }
        let ids: Vec<_> = cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        if let Some(id) = cluster.node_id.filter(|id| !ids.contains(&id.to_string())) {
            let message = format!("cluster.node_id is {id}; expected the id of a node: {}", ids.join(", "));
            self.add("cluster.node_id", message);
        }
        let message = match cluster.nodes.len() {
            0 => "cluster.nodes is empty; expected 1 to 9 nodes, best 3 or 5".to_owned(),
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
                    let wanted = "expected a host name or an IP address, without a port";
                    self.add(&path, format!("{key} is {host:?}; {wanted}"));
                } else if key != "bind" && host.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
                {
                    let wanted =
                        "expected an address that others can connect to; to listen on all, leave out `bind`";
                    self.add(&path, format!("{key} is {host}; {wanted}"));
                }
            }
        }
    }

    /// No two listeners share an address.
    fn addresses(&mut self, nodes: &[Node]) {
        let mut seen: BTreeMap<(String, u16), (u64, &str)> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            for (key, port) in ports(node) {
                let path = format!("cluster.nodes.{index}.{key}");
                if port == 0 {
                    self.add(&path, format!("{key} is 0; expected a port from 1 to 65535"));
                    continue;
                }
                let Some((other, other_key)) = seen.insert((same_host(&node.host), port), (node.id, key))
                else {
                    continue;
                };
                let Node { host, id, .. } = node;
                let message = format!("{host}:{port} is {key} of node {id} and {other_key} of node {other}");
                self.add(&path, message);
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
            self.range(&format!("cluster.raft.{key}"), value, LONGEST, " ms");
        }
        if min >= max {
            let message = format!(
                "election_timeout_min is {min} and election_timeout_max {max}; expected the minimum to be smaller, or \
                 all nodes stand for election at once"
            );
            self.add(
                self.written("cluster.raft.election_timeout_min", "cluster.raft.election_timeout_max"),
                message,
            );
        }
        if beat >= min {
            let message = format!(
                "heartbeat_interval is {beat} and election_timeout_min {min}; expected the heartbeat to be shorter, \
                 best a third, or followers give up a healthy leader"
            );
            self.add(
                self.written("cluster.raft.heartbeat_interval", "cluster.raft.election_timeout_min"),
                message,
            );
        }
    }

    /// A vote or an acknowledgement that a power cut can take back loses what others have committed.
    fn durability(&mut self, cluster: &Cluster) {
        if !cluster.storage.wal_sync && cluster.nodes.len() > 1 {
            let message = "wal_sync is false and there are several nodes; expected true: what a node has acknowledged or \
                           voted must survive a power cut, or the others lose events too. A single node may do without"
                .to_owned();
            self.add("cluster.storage.wal_sync", message);
        }
    }

    /// Which of two values that contradict each other stands in the text, when the other is a default.
    fn written<'p>(&self, first: &'p str, second: &'p str) -> &'p str {
        if self.tree.find(first).is_none() && self.tree.find(second).is_some() { second } else { first }
    }

    fn limits(&mut self, file: &ClusterFile) {
        let Cluster { storage, topics, .. } = &file.cluster;
        self.absolute("cluster.storage.data_dir", &storage.data_dir);
        self.range("cluster.storage.snapshot_interval", storage.snapshot_interval, u64::MAX, "");
        // The largest entry is one of them.
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
            self.absolute("deploy.install_dir", dir);
        }
        self.text("deploy.user", deploy.user.as_deref());
        self.text("deploy.binary", deploy.binary.as_deref().and_then(Path::to_str));
    }

    fn ssh(&mut self, ssh: Option<&Ssh>, path: &str) {
        let Some(Ssh { user, port, identity_file, known_hosts, host_keys: _, jump }) = ssh else { return };
        if *port == Some(0) {
            self.add(&format!("{path}.port"), "port is 0; expected a port from 1 to 65535".to_owned());
        }
        self.text(&format!("{path}.user"), user.as_deref());
        self.text(&format!("{path}.jump"), jump.as_deref());
        self.text(&format!("{path}.identity_file"), identity_file.as_deref().and_then(Path::to_str));
        self.text(&format!("{path}.known_hosts"), known_hosts.as_deref().and_then(Path::to_str));
    }

    fn range(&mut self, path: &str, value: u64, most: u64, unit: &str) {
        if !(1..=most).contains(&value) {
            let wanted =
                if most == u64::MAX { "at least 1".to_owned() } else { format!("1 to {most}{unit}") };
            self.add(path, format!("{} is {value}; expected {wanted}", key(path)));
        }
    }

    fn absolute(&mut self, path: &str, dir: &Path) {
        if !dir.is_absolute() {
            let dir = dir.display().to_string();
            self.add(path, format!("{} is {dir:?}; expected an absolute path", key(path)));
        }
    }

    /// Something is written, and nothing that would be taken for an option of a command.
    fn text(&mut self, path: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| text.trim().is_empty() || text.starts_with('-')) {
            let message =
                format!("{} is {text:?}; expected a value that does not begin with a dash", key(path));
            self.add(path, message);
        }
    }
}

fn key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn ports(node: &Node) -> [(&'static str, u16); 3] {
    [("client_port", node.client_port), ("cluster_port", node.cluster_port), ("http_port", node.http_port)]
}

/// One spelling for each host: `::1` and `0:0:0:0:0:0:0:1` are the same, and so are `A` and `a.`.
pub(super) fn same_host(host: &str) -> String {
    let name = || host.trim_end_matches('.').to_ascii_lowercase();
    host.parse().map_or_else(|_| name(), |address: IpAddr| address.to_string())
}

/// An IP address, or a host name as RFC 1123 has it (underscores, which are common, are let through).
pub fn valid_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // All digits and dots, but no address: a mistyped one.
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let name = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok() || (!numeric && name.len() <= 253 && name.split('.').all(label))
}

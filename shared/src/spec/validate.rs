//! The sense of a cluster.yaml that has the right shape.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_saphyr::{Location, Spanned};

use super::located::{self, File};
use super::parse::{Problem, problem};
use super::{ClusterFile, Node};

/// Largest cluster.
const MAX_NODES: usize = 9;
/// Longest time that makes sense, in ms.
const LONGEST: u64 = 600_000;

/// Everything that makes no sense, in the order of the text.
pub(super) fn problems(file: &ClusterFile, at: &File) -> Vec<Problem> {
    let mut found = Found::default();
    found.cluster(file, at);
    found.nodes(file, &at.cluster.nodes);
    found.addresses(file, &at.cluster.nodes.value);
    found.timing(file, at);
    found.limits(file, at);
    found.0.sort_by_key(|problem| (problem.line, problem.column));
    found.0
}

/// The place of a value, or of something near it when the value is a default.
fn place<T>(value: Option<&Spanned<T>>, near: Location) -> Location {
    value.map_or(near, |value| value.referenced)
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, at: Location, message: String) {
        self.0.push(problem(at, message));
    }

    fn cluster(&mut self, file: &ClusterFile, at: &File) {
        let near = at.cluster.nodes.referenced;
        let name = &file.cluster.name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=63).contains(&name.len()) || !name.chars().all(allowed) {
            let message = format!("cluster.name is {name:?}; expected 1 to 63 letters, digits and dashes");
            self.add(place(at.cluster.name.as_ref(), near), message);
        }
        let ids: Vec<_> = file.cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        if let Some(id) = file.cluster.node_id.filter(|id| file.node(*id).is_none()) {
            let message = format!("cluster.node_id is {id}; expected the id of a node: {}", ids.join(", "));
            self.add(place(at.cluster.node_id.as_ref(), near), message);
        }
        match file.cluster.nodes.len() {
            0 => self.add(near, "cluster.nodes is empty; expected 1 to 9 nodes, best 3 or 5".to_owned()),
            1..=MAX_NODES => {}
            count => self.add(near, format!("cluster.nodes has {count} nodes; expected at most {MAX_NODES}")),
        }
    }

    fn nodes(&mut self, file: &ClusterFile, at: &Spanned<Vec<located::Node>>) {
        let mut seen: BTreeMap<u64, Location> = BTreeMap::new();
        for (node, at) in file.cluster.nodes.iter().zip(&at.value) {
            let id_at = at.id.referenced;
            if node.id == 0 {
                self.add(id_at, "id is 0; expected a number from 1, unique and never reused".to_owned());
            }
            if let Some(first) = seen.insert(node.id, id_at) {
                self.add(
                    id_at,
                    format!("id {} is also the id of the node on line {}", node.id, first.line()),
                );
            }
            self.host("host", &node.host, at.host.referenced);
            let optional = [
                ("bind", &node.bind, &at.bind),
                ("advertised_host", &node.advertised_host, &at.advertised_host),
            ];
            for (key, host, at) in optional {
                if let (Some(host), Some(at)) = (host, at) {
                    self.host(key, host, at.referenced);
                }
            }
        }
    }

    fn host(&mut self, key: &str, host: &str, at: Location) {
        if !valid_host(host) {
            self.add(at, format!("{key} is {host:?}; expected a host name or an IP address, without a port"));
        }
    }

    /// No two listeners share an address.
    fn addresses(&mut self, file: &ClusterFile, at: &[located::Node]) {
        let mut seen: BTreeMap<(String, u16), (u64, &str)> = BTreeMap::new();
        for (node, at) in file.cluster.nodes.iter().zip(at) {
            for (key, port, port_at) in ports(node, at) {
                let at = place(port_at, at.id.referenced);
                if port == 0 {
                    self.add(at, format!("{key} is 0; expected a port from 1 to 65535"));
                    continue;
                }
                if let Some((other, other_key)) =
                    seen.insert((node.host.to_ascii_lowercase(), port), (node.id, key))
                {
                    let message = format!(
                        "{}:{port} is {key} of node {} and {other_key} of node {other}",
                        node.host, node.id
                    );
                    self.add(at, message);
                }
            }
        }
    }

    fn timing(&mut self, file: &ClusterFile, at: &File) {
        let (raft, near) = (&file.cluster.raft, at.cluster.nodes.referenced);
        let at = &at.cluster.raft;
        let all = [
            ("election_timeout_min", raft.election_timeout_min, &at.election_timeout_min),
            ("election_timeout_max", raft.election_timeout_max, &at.election_timeout_max),
            ("heartbeat_interval", raft.heartbeat_interval, &at.heartbeat_interval),
            ("rpc_timeout", raft.rpc_timeout, &at.rpc_timeout),
        ];
        for (key, value, at) in all {
            if !(1..=LONGEST).contains(&value) {
                self.add(place(at.as_ref(), near), format!("{key} is {value}; expected 1 to {LONGEST} ms"));
            }
        }
        let (min, max, beat) =
            (raft.election_timeout_min, raft.election_timeout_max, raft.heartbeat_interval);
        if min >= max {
            let at = at.election_timeout_min.as_ref().or(at.election_timeout_max.as_ref());
            let message = format!(
                "election_timeout_min is {min} and election_timeout_max {max}; expected the minimum to be smaller, or \
                 all nodes stand for election at once"
            );
            self.add(place(at, near), message);
        }
        if beat >= min {
            let at = at.heartbeat_interval.as_ref().or(at.election_timeout_min.as_ref());
            let message = format!(
                "heartbeat_interval is {beat} and election_timeout_min {min}; expected the heartbeat to be shorter, \
                 best a third, or followers give up a healthy leader"
            );
            self.add(place(at, near), message);
        }
    }

    fn limits(&mut self, file: &ClusterFile, at: &File) {
        let near = at.cluster.nodes.referenced;
        let storage = &file.cluster.storage;
        if !storage.data_dir.is_absolute() {
            let message = format!(
                "data_dir is {:?}; expected an absolute path",
                storage.data_dir.display().to_string()
            );
            self.add(place(at.cluster.storage.data_dir.as_ref(), near), message);
        }
        let numbers = [
            ("snapshot_interval", storage.snapshot_interval, &at.cluster.storage.snapshot_interval, u64::MAX),
            (
                "default_partitions",
                file.cluster.topics.default_partitions.into(),
                &at.cluster.topics.default_partitions,
                1000,
            ),
            ("max_connections", file.network.max_connections.into(), &at.network.max_connections, 1_000_000),
        ];
        for (key, value, at, most) in numbers {
            if !(1..=most).contains(&value) {
                let upper = if most == u64::MAX { "at least 1".to_owned() } else { format!("1 to {most}") };
                self.add(place(at.as_ref(), near), format!("{key} is {value}; expected {upper}"));
            }
        }
    }
}

fn ports<'a>(node: &Node, at: &'a located::Node) -> [(&'static str, u16, Option<&'a Spanned<u64>>); 3] {
    [
        ("client_port", node.client_port, at.client_port.as_ref()),
        ("cluster_port", node.cluster_port, at.cluster_port.as_ref()),
        ("http_port", node.http_port, at.http_port.as_ref()),
    ]
}

/// An IP address, or a host name as RFC 1123 has it (underscores, which are common, are let through).
fn valid_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // All digits and dots, but no address: a mistyped one.
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.parse::<IpAddr>().is_ok() || (!numeric && host.len() <= 253 && host.split('.').all(label))
}

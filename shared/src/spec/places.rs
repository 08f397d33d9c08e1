//! Checks that every node has a host of its own, as escli needs for an installation over SSH. It is not part of
//! parsing, because nodes that are started by hand may share a host.

use std::collections::BTreeMap;

use super::names::same_host;
use super::parse::Problem;
use super::tree::{Place, Tree};
use super::{ClusterFile, Node, Ssh, Transport};

/// Returns a problem for each node that would be installed over another one: a host has one directory of programs, one
/// configuration and one unit. `text` is the text of the file; the problems have positions in it.
pub fn shared_hosts(file: &ClusterFile, text: &str) -> Vec<Problem> {
    let deploy = file.deploy.clone().unwrap_or_default();
    if deploy.transport == Transport::Local {
        return Vec::new();
    }
    let Ok(tree) = serde_saphyr::from_str::<Tree>(text) else { return Vec::new() };
    let for_all = deploy.ssh.unwrap_or_default();
    let mut seen: BTreeMap<_, (&Node, Place)> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, node) in file.cluster.nodes.iter().enumerate() {
        let place = tree.near(&format!("cluster.nodes.{index}.host"));
        let Some((other, first)) = seen.insert(way(node, &for_all), (node, place)) else { continue };
        let Node { id, host, .. } = node;
        let message = format!(
            "node {id} is on {host}, like node {} on line {}; over SSH a host can run one node only: it has one install directory, \
             one configuration, one unit. Expected another host, or deploy.transport: local for nodes of this machine",
            other.id, first.line
        );
        found.push(Problem { line: place.line, column: place.column, message });
    }
    found
}

/// Returns host, port and jump host, which together identify a machine: behind one address, different ports or jump
/// hosts lead to different machines.
fn way(node: &Node, for_all: &Ssh) -> (String, u16, Option<String>) {
    const SSH: u16 = 22;
    let own = node.ssh.clone().unwrap_or_default();
    (
        same_host(&node.host),
        own.port.or(for_all.port).unwrap_or(SSH),
        own.jump.or_else(|| for_all.jump.clone()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn found(text: &str) -> Vec<Problem> {
        shared_hosts(&parse("cluster.yaml", text).unwrap(), text)
    }

    /// Two nodes on these hosts, with different ports, and what else the file says.
    fn two(first: &str, second: &str, rest: &str) -> String {
        format!(
            "cluster:\n  nodes:\n    - {{ id: 1, host: {first} }}\n    - id: 2\n      client_port: 9001\n      \
             cluster_port: 9101\n      http_port: 8081\n      host: {second}\n{rest}"
        )
    }

    #[test]
    fn two_nodes_on_one_host_are_told_with_the_lines_of_both() {
        for (first, second) in
            [("10.0.0.1", "10.0.0.1"), ("h1.example", "H1.example."), ("\"::1\"", "\"0:0::1\"")]
        {
            let problems = found(&two(first, second, ""));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!((problems[0].line, problems[0].column), (8, 13), "{problems:?}");
            assert!(problems[0].message.contains("like node 1 on line 3"), "{problems:?}");
        }
        assert_eq!(found(&two("10.0.0.1", "10.0.0.1", "deploy:\n  ssh: { user: ada }\n")).len(), 1);
        assert_eq!(
            found(&two("10.0.0.1", "10.0.0.1", "      ssh: { user: ada }\n")).len(),
            1,
            "the same machine"
        );
    }

    #[test]
    fn what_leads_to_machines_of_their_own_is_right() {
        assert_eq!(found(&two("10.0.0.1", "10.0.0.2", "")), []);
        assert_eq!(found(&two("127.0.0.1", "127.0.0.1", "deploy:\n  transport: local\n")), []);
        assert_eq!(
            found(&two("10.0.0.1", "10.0.0.1", "      ssh: { port: 2222 }\n")),
            [],
            "a forwarded port"
        );
        assert_eq!(found(&two("10.0.0.1", "10.0.0.1", "      ssh: { jump: b }\n")), [], "another network");
    }
}

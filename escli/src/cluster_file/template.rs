//! PURE: the cluster.yaml that escli writes for a new cluster.

use std::path::Path;

use shared::ids::NodeId;
use shared::spec::{
    Cluster, ClusterFile, Deploy, Network, Node, Privilege, RaftTiming, Service, Storage, Topics, Transport,
};

/// Default name of a local cluster.
const LOCAL_NAME: &str = "local";

/// Default ports of a local cluster's first node: for clients, for nodes, and of the admin API.
const DEFAULT_PORTS: (u16, u16, u16) = (9000, 9100, 8080);

/// Returns the ports of a local cluster's first node: for clients, for nodes, and of the admin API.
pub fn first_ports(base: Option<u16>) -> (u16, u16, u16) {
    base.map_or(DEFAULT_PORTS, |base| (base, base + 100, base + 200))
}

/// Returns the description of a local cluster of `count` nodes.
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
        ssh: None,
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
        deploy: Some(Deploy {
            transport: Transport::Local,
            privilege: Privilege::None,
            service: Service::Process,
            ..Deploy::default()
        }),
    }
}

/// Returns the text of a new local cluster's cluster.yaml.
pub fn local_text(count: u8, base: Option<u16>, binary: Option<&Path>) -> String {
    let spec = local_spec(LOCAL_NAME, count, base);
    let mut text = format!(
        "# A local cluster, written by `escli up --local`. To change the cluster, edit this file and run\n\
         # `escli up --local` again. Missing keys have their defaults; `escli render` shows everything.\n\
         cluster:\n  name: {LOCAL_NAME}\n  nodes:\n"
    );
    for node in &spec.cluster.nodes {
        text.push_str(&format!(
            "    - id: {}\n      host: {}\n      client_port: {}     # Kafka clients\n      \
             cluster_port: {}    # the other nodes\n      http_port: {}       # admin API\n",
            node.id, node.host, node.client_port, node.cluster_port, node.http_port
        ));
    }
    text.push_str("deploy:\n  transport: local    # all nodes run on this machine\n  privilege: none\n  service: process\n");
    if let Some(binary) = binary {
        text.push_str(&format!("  binary: {}\n", serde_json::Value::from(binary.display().to_string())));
    }
    text
}

/// Returns the text of a first cluster.yaml for nodes on `hosts`. The names are not checked here, but when the text is
/// parsed.
pub fn hosts_text(name: &str, hosts: &[&str], user: Option<&str>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let nodes =
        hosts.iter().zip(1..).map(|(host, id)| format!("    - {{ id: {id}, host: {} }}\n", quoted(host)));
    let user =
        user.map_or_else(|| "    # user: admin".to_owned(), |user| format!("    user: {}", quoted(user)));
    format!(
        "# Missing keys have their defaults; `escli render` shows everything, `escli validate` checks the file.
cluster:
  name: {name}
  # Three nodes tolerate the loss of one, five the loss of two.
  # Optional keys of a node: client_port 9000, cluster_port 9100, http_port 8080, advertised_host, ssh
  nodes:
{nodes}  # storage:
  #   data_dir: /var/lib/eventstream/raft
deploy:
  # How to log in. Missing keys come from ~/.ssh/config, then from the defaults of ssh.
  ssh:
    # The login user: root, or a user that may run sudo without a password.
{user}
    # identity_file: ~/.ssh/id_ed25519
    # jump: bastion.example
    host_keys: strict    # or accept-new, or the fingerprint of the key (SHA256:...)
  # privilege: none      # without root: your own directories, and your own systemd with lingering enabled
  # install_dir: /opt/eventstream
",
        name = quoted(name),
        nodes = nodes.collect::<String>(),
    )
}

/// Returns whether `text`, which parses to `spec`, is exactly what [`local_text`] writes, so that nobody has edited it.
pub fn is_own(spec: &ClusterFile, text: &str) -> bool {
    let nodes = &spec.cluster.nodes;
    let (Ok(count), Some(first)) = (u8::try_from(nodes.len()), nodes.first()) else { return false };
    let base = Some(first.client_port).filter(|port| *port != DEFAULT_PORTS.0);
    let binary = spec.deploy.as_ref().and_then(|deploy| deploy.binary.as_deref());
    text == local_text(count, base, binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_the_spec_says_and_is_recognised() {
        for (count, base) in [(1, None), (3, None), (9, Some(20_000))] {
            let text = local_text(count, base, None);
            let spec: ClusterFile = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(spec, local_spec("local", count, base));
            assert!(is_own(&spec, &text));
            assert!(!is_own(&spec, &format!("{text}# mine\n")), "a file somebody wrote to is theirs");
        }
    }

    #[test]
    fn the_ports_promised() {
        assert_eq!(first_ports(None), (9000, 9100, 8080));
        assert_eq!(first_ports(Some(20_000)), (20_000, 20_100, 20_200));
    }
}

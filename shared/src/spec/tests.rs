//! The mission's file, and files that are wrong.

use proptest::prelude::*;

use super::*;

mod mistakes;

const MISSION: &str = include_str!("../../tests/fixtures/mission.yaml");

fn wrong(from: &str, to: &str) -> String {
    assert!(MISSION.contains(from), "{from:?} is not in the file");
    parse("cluster.yaml", &MISSION.replacen(from, to, 1)).expect_err("a problem").to_string()
}

#[test]
fn the_missions_file_parses_as_printed() {
    let file = parse("cluster.yaml", MISSION).unwrap();
    assert_eq!(file.cluster.nodes.len(), 3);
    assert_eq!((file.cluster.node_id, file.cluster.nodes[2].host.as_str()), (Some(1), "10.0.0.3"));
    assert_eq!(file.cluster.nodes[0].http_port, 8080);
    assert_eq!(file.cluster.raft, RaftTiming::default());
    assert_eq!(file.cluster.storage, Storage::default());
    assert_eq!(file.network, Network::default());
}

#[test]
fn problems_name_place_and_expectation() {
    let cases = [
        (
            "client_port: 9000     #",
            "client_prot: 9000     #",
            "cluster.yaml:10:7: unknown key \"client_prot\" in a node; did you mean \"client_port\"?",
        ),
        ("- id: 2", "- id: 1", "cluster.yaml:13:11: id 1 is also the id of the node on line 8"),
        (
            "host: 10.0.0.2",
            "host: 10.0.0.1",
            "10.0.0.1:9000 is client_port of node 2 and client_port of node 1",
        ),
        (
            "min: 150",
            "min: 300",
            "cluster.yaml:25:27: election_timeout_min is 300 and election_timeout_max 300",
        ),
        (
            "interval: 50",
            "interval: 150",
            "cluster.yaml:27:25: heartbeat_interval is 150 and election_timeout_min 150",
        ),
        (
            "client_port: 9000     #",
            "client_port: 0     #",
            "cluster.yaml:10:20: client_port is 0; expected a port",
        ),
        (
            "host: 10.0.0.2",
            "host: 10.0.0.300",
            "cluster.yaml:14:13: host is \"10.0.0.300\"; expected a host name or an IP",
        ),
        ("host: 10.0.0.2", "host: \"a b\"", "host is \"a b\""),
        (
            "node_id: 1",
            "node_id: 7",
            "cluster.yaml:4:12: cluster.node_id is 7; expected the id of a node: 1, 2, 3",
        ),
        ("data_dir: /var", "data_dir: var", "expected an absolute path"),
        (
            "wal_sync: true",
            "wal_sync: maybe",
            "cluster.yaml:33:15: wal_sync is \"maybe\"; expected true or false",
        ),
        (
            "  node_id: 1",
            "  node_id: 1\n  node_id: 2",
            "cluster.yaml:5:3: key \"node_id\" appears twice in one section",
        ),
    ];
    for (from, to, expected) in cases {
        let said = wrong(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn the_shape_is_told_in_words() {
    let cases = [
        ("      host: 10.0.0.2\n", "", "cluster.yaml:13:7: missing key \"host\" in a node"),
        ("rpc_timeout: 100", "rpc_timeout: soon", "28:18: rpc_timeout is \"soon\"; expected a whole number"),
        (
            "client_port: 9000     #",
            "client_port: 70000     #",
            "10:20: client_port is 70000; expected a whole number up to 65535",
        ),
        ("host: 10.0.0.2", "host:", "host is empty; expected text"),
        (
            "  node_id: 1",
            "  rpc_timeout: 1",
            "4:3: unknown key \"rpc_timeout\" in cluster; it belongs in cluster.raft",
        ),
        ("node_id: 1", "xyzzy: 1", "unknown key \"xyzzy\" in cluster; known keys: name, node_id, nodes"),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {transport: carrier}",
            "transport is \"carrier\"; expected ssh or local",
        ),
        ("node_id: 1", "node_id: [", "cluster.yaml:"),
    ];
    for (from, to, expected) in cases {
        let said = wrong(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let whole = [
        ("# nothing\n", "f:2:1: the file is empty; expected a section with cluster"),
        ("cluster: 3\n", "f:1:10: cluster is 3; expected a section with nodes"),
        ("cluster: {nodes: 3}\n", "f:1:18: nodes is 3; expected a list"),
        ("cluster: {nodes: [3]}\n", "f:1:19: a node is 3; expected a section with id, host"),
        (
            "nodes: []\n",
            "f:1:1: unknown key \"nodes\" at the top of the file; it belongs in cluster\n\
             f:1:1: missing key \"cluster\" at the top of the file",
        ),
        (
            "cluster:\n  nodes: []\n  raft:\n",
            "f:2:10: cluster.nodes is empty; expected 1 to 9 nodes, ideally 3 or 5\n\
             f:3:7: raft is empty; expected a section; leave the key out for the defaults",
        ),
    ];
    for (text, expected) in whole {
        assert_eq!(parse("f", text).unwrap_err().to_string(), expected);
    }
    assert!(
        parse("f", &format!("{MISSION}---\n{MISSION}")).unwrap_err().to_string().contains("second document")
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let cases = [
        ("- id: 2", "- id: 0", "id is 0"),
        ("- id: 2", "- id: 2147483648", "id is 2147483648; expected a whole number up to 2147483647"),
        ("wal_sync: true", "wal_sync: false", "wal_sync is false and there are several nodes"),
        ("host: 10.0.0.2", "host: \"\"", "host is \"\""),
        (
            "host: 10.0.0.2",
            "host: 0.0.0.0",
            "host is 0.0.0.0; expected an address that others can connect to",
        ),
        ("host: 10.0.0.2", "host: -x", "host is \"-x\""),
        (
            "cluster_port: 9100    #",
            "cluster_port: 9000    #",
            "10.0.0.1:9000 is cluster_port of node 1 and client_port",
        ),
        ("min: 150", "min: 300", "election_timeout_min is 300"),
        (
            "    election_timeout_min: 150\n    election_timeout_max: 300",
            "    election_timeout_max: 150",
            "25:27: election",
        ),
        ("rpc_timeout: 100", "rpc_timeout: 0", "rpc_timeout is 0; expected 1 to 600000 ms"),
        ("  node_id: 1", "  name: a_b", "cluster.name is \"a_b\""),
        (
            "data_dir: /var/lib/eventstream/raft",
            "data_dir: \"\"",
            "data_dir is \"\"; expected an absolute path",
        ),
        ("snapshot_interval: 1000", "snapshot_interval: 0", "snapshot_interval is 0; expected at least 1"),
        ("snapshot_interval: 1000", "segment_mb: 1", "segment_mb is 1; expected 2 to 1024 MiB"),
        ("max_connections: 1000", "max_connections: 0", "max_connections is 0; expected 1 to 1000000"),
        ("  node_id: 1", "  topics: {default_partitions: 0}", "default_partitions is 0; expected 1 to 1000"),
        ("  node_id: 1", "  topics: {default_partitions: 100000}", "default_partitions is 100000"),
        (
            "host: 10.0.0.2",
            "host: 10.0.0.2\n      ssh: {port: 0}",
            "cluster.yaml:15:19: port is 0; expected a port",
        ),
        ("keepalive: true", "keepalive: true\ndeploy: {ssh: {port: 0}}", "port is 0; expected a port"),
        ("keepalive: true", "keepalive: true\ndeploy: {ssh: {jump: -oProxyCommand=x}}", "jump is \"-oProxy"),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {install_dir: opt}",
            "install_dir is \"opt\"; expected an absolute",
        ),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {ssh: {host_keys: SHA256:x}}",
            "41:27: host_keys is \"SHA256:x\"; expected",
        ),
    ];
    for (from, to, expected) in cases {
        let said = wrong(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let empty = "cluster: {nodes: []}\n";
    assert!(parse("f", empty).unwrap_err().to_string().contains("cluster.nodes is empty"));
    let node = |id: u8| format!("    - {{id: {id}, host: n{id}}}\n");
    let file = |count| format!("cluster:\n  nodes:\n{}", (1..=count).map(node).collect::<String>());
    assert!(parse("f", &file(9)).is_ok() && parse("f", &file(4)).is_ok());
    assert!(parse("f", &file(10)).unwrap_err().to_string().contains("has 10 nodes; expected at most 9"));
}

#[test]
fn one_machine_spelled_twice_is_one_machine() {
    for (one, other) in [("::1", "0:0:0:0:0:0:0:1"), ("Db.example", "db.example.")] {
        let text = format!("cluster: {{nodes: [{{id: 1, host: '{one}'}}, {{id: 2, host: '{other}'}}]}}");
        assert_eq!(parse("f", &text).unwrap_err().problems.len(), 3, "three ports, each taken twice");
    }
}

#[test]
fn all_problems_of_a_kind_are_told_at_once() {
    let text = MISSION.replace("min: 150", "min: 0").replace("max_connections: 1000", "max_connections: 0");
    let sense = parse("f", &text).unwrap_err();
    assert_eq!(sense.problems.len(), 3, "{sense}");
    let text = MISSION.replace("client_port", "client_prot").replace("wal_sync: true", "wal_sync: 1");
    let shape = parse("f", &text).unwrap_err();
    assert_eq!(shape.problems.len(), 4, "{shape}");
    for errors in [sense, shape] {
        assert!(errors.problems.is_sorted_by_key(|problem| problem.line), "{errors}");
        assert!(errors.to_string().lines().all(|line| line.starts_with("f:")), "{errors}");
    }
}

#[test]
fn the_operators_part_is_read_whole() {
    let pinned = format!("SHA256:{}", "a".repeat(43));
    let text = format!(
        "cluster:\n  nodes:\n    - {{id: 1, host: a.example, ssh: {{user: root, host_keys: '{pinned}'}}}}\n\
         deploy:\n  transport: ssh\n  ssh: {{user: admin, port: 22, identity_file: ~/.ssh/id, known_hosts: ~/known, \
         host_keys: accept-new, jump: bastion}}\n  privilege: none\n  service: process\n  user: eventstream\n  \
         install_dir: /opt/eventstream\n  binary: ./esnode\n"
    );
    let file = parse("f", &text).unwrap();
    let deploy = file.deploy.as_ref().unwrap();
    assert_eq!((deploy.transport, deploy.privilege), (Transport::Ssh, Privilege::None));
    assert_eq!(deploy.ssh.as_ref().unwrap().host_keys, Some(HostKeys::AcceptNew));
    assert_eq!(file.cluster.nodes[0].ssh.as_ref().unwrap().host_keys, Some(HostKeys::Pinned(pinned)));
    assert_eq!(parse("f", &file.to_yaml()).unwrap(), file);
    let own = file.for_node(1).unwrap();
    assert_eq!((own.deploy.as_ref(), own.cluster.nodes[0].ssh.as_ref()), (None, None));
    assert!(!own.to_yaml().contains("ssh"), "nothing of the operator's reaches a node");
    assert_eq!(own.config_hash(), file.config_hash());
}

proptest! {
    #[test]
    fn whatever_the_text_it_reads_back_the_same(name in ".*", host in ".*", dir in ".*", user in proptest::option::of(".*")) {
        let mut file = parse("cluster.yaml", MISSION).unwrap();
        file.cluster.name = name;
        file.cluster.nodes[1].host = host;
        file.cluster.storage.data_dir = dir.into();
        file.deploy = Some(Deploy { user, ..Deploy::default() });
        let text = file.to_yaml();
        prop_assert_eq!(&serde_saphyr::from_str::<ClusterFile>(&text).unwrap(), &file, "{}", text);
        prop_assert_eq!(file.clone().to_yaml(), text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z_]{1,8}|cluster|nodes|id|host|[-:{}, \\[\\]\\n0-9~&*!|>#'\"]{1,3}){0,40}") {
        if let Err(errors) = parse("f", &text) {
            prop_assert!(!errors.problems.is_empty());
        }
    }
}

#[test]
fn a_rendered_file_reads_back_the_same() {
    let mut file = parse("cluster.yaml", MISSION).unwrap();
    file.deploy = Some(Deploy { transport: Transport::Local, ..Deploy::default() });
    let text = file.to_yaml();
    assert_eq!(parse("rendered", &text).unwrap(), file);
    assert_eq!(file.to_yaml(), text);
}

#[test]
fn a_node_gets_its_id_and_nothing_of_the_operators() {
    let mut file = parse("cluster.yaml", MISSION).unwrap();
    file.deploy = Some(Deploy::default());
    let own = file.for_node(2).unwrap();
    assert_eq!((own.cluster.node_id, own.deploy.is_none()), (Some(2), true));
    assert_eq!(own.config_hash(), file.config_hash());
    assert!(file.for_node(9).is_none());
    // The hash of a release must be the hash of the next one too, or every node would look changed.
    assert_eq!(file.config_hash(), "4ac0e1e87ea67a773f9e486d80f9c7410eb97eb14b685f835866ab9b1aa54436");
    file.cluster.raft.rpc_timeout = 99;
    assert_ne!(own.config_hash(), file.config_hash());
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "shared/cluster.schema.json is not that of the types; run `make fix` and commit it"
    );
}

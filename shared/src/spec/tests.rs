//! The mission's file, and files that are wrong.

use super::*;

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
            "cluster.yaml:10:7: unknown key \"client_prot\"; did you mean \"client_port\"?",
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
        ("wal_sync: true", "wal_sync: maybe", "cluster.yaml:33:15"),
        ("  node_id: 1", "  node_id: 1\n  node_id: 2", "duplicate mapping key: node_id"),
    ];
    for (from, to, expected) in cases {
        let said = wrong(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn all_problems_of_sense_are_told_at_once() {
    let text = MISSION.replace("min: 150", "min: 0").replace("max_connections: 1000", "max_connections: 0");
    let errors = parse("f", &text).unwrap_err();
    assert!(errors.problems.len() >= 3, "{errors}");
    assert!(errors.problems.is_sorted_by_key(|problem| problem.line));
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
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        text,
        "run the test with UPDATE=1 and commit"
    );
}

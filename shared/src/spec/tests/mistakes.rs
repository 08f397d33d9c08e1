//! What people write who mean well.

use super::*;

#[test]
fn what_is_never_meant_is_refused_with_its_place() {
    let cases = [
        (
            "host: 10.0.0.2",
            "host: \"[::1]\"",
            "14:13: host is \"[::1]\"; expected the address without brackets: ::1",
        ),
        (
            "host: 10.0.0.2",
            "host: [fd00::3]",
            "14:13: host is a list, because of its brackets; expected \"fd00::3\"",
        ),
        (
            "host: 10.0.0.2",
            "host: 10.0.0.2\n      advertised_host: 10.0.0.1",
            "15:24: 10.0.0.1:9000 is advertised_host of",
        ),
        (
            "host: 10.0.0.2",
            "host: \"::ffff:10.0.0.1\"",
            "[::ffff:10.0.0.1]:9000 is client_port of node 2 and client_port of node 1; expected a unique one",
        ),
        (
            "client_port: 9000     #",
            "client_port: 09000     #",
            "10:20: client_port is 09000, which some parsers read as an octal",
        ),
        (
            "client_port: 9000     #",
            "client_port: '0x1'     #",
            "10:20: client_port is \"0x1\"; expected a whole number",
        ),
        (
            "max_connections: 1000",
            "max_connections: \"0010\"",
            "max_connections is 0010, which some parsers read as an octal",
        ),
        ("host: 10.0.0.2", "host: !vault |\n        secret", "14:13: the tag !vault is not supported"),
        ("  node_id: 1", "  !x node_id: 1", "4:3: the tag !x is not supported"),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {ssh: {identity_file: $HOME/id}}",
            "identity_file is \"$HOME/id\"; expected a",
        ),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {binary: ~ada/esnode}",
            "only your own home can be abbreviated",
        ),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {ssh: {user: $(id)}}",
            "41:22: user is \"$(id)\"; expected a literal name",
        ),
        (
            "keepalive: true",
            "keepalive: true\ndeploy: {ssh: {user: a b}}",
            "41:22: user is \"a b\"; expected a name without",
        ),
    ];
    for (from, to, expected) in cases {
        let said = wrong(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn brackets_in_brackets_are_refused_in_words() {
    for text in ["[".repeat(3000), "{a: ".repeat(300), "- ".repeat(300)] {
        let said = parse("f", &text).unwrap_err().to_string();
        assert!(said.starts_with("f:1:") && said.contains("the nesting is too deep"), "{said}");
    }
}

#[test]
fn what_goes_into_scripts_on_hosts_is_held_to_more_than_what_a_node_is_given() {
    let with_dir =
        |dir: &str| MISSION.replace("data_dir: /var/lib/eventstream/raft", &format!("data_dir: {dir}"));
    for dir in ["/a b", "/$(id)", "\"/a'b\"", "/a;b", "/caf\u{e9}"] {
        assert!(parse("f", &with_dir(dir)).is_ok(), "a node gets along with {dir}");
        let local = format!("{}deploy: {{transport: local}}\n", with_dir(dir));
        assert!(parse_as(Reader::Operator, "f", &local).is_ok(), "no script names {dir}");
        let said = parse_as(Reader::Operator, "f", &with_dir(dir)).unwrap_err().to_string();
        assert!(said.starts_with("f:32:15: data_dir is "), "{said}");
    }
    for (deploy, expected) in [
        ("install_dir: /a b", "f:41:24: install_dir is \"/a b\"; expected an absolute path of letters"),
        (
            "install_dir: ~/es",
            "f:41:24: install_dir is \"~/es\"; expected an absolute path: `~` is ambiguous",
        ),
        ("user: Event Stream", "f:41:17: user is \"Event Stream\"; expected a user's name of small letters"),
    ] {
        let said =
            parse_as(Reader::Operator, "f", &format!("{MISSION}deploy: {{ {deploy} }}\n")).unwrap_err();
        assert!(said.to_string().starts_with(expected), "{said}");
    }
}

#[test]
fn clients_are_never_sent_to_one_node_for_another() {
    let node = |id: u8, rest: &str| format!("    - {{id: {id}, host: n{id}, {rest}}}\n");
    let file = |one: &str, two: &str| format!("cluster:\n  nodes:\n{}{}", node(1, one), node(2, two));
    let fine = [
        ("advertised_host: lb.example, client_port: 9001", "advertised_host: lb.example, client_port: 9002"),
        ("advertised_host: n1", "advertised_host: n2"),
        ("advertised_host: lb.example", "client_port: 9000"),
    ];
    for (one, two) in fine {
        assert!(parse("f", &file(one, two)).is_ok(), "{one} and {two}");
    }
    let wrong = [
        ("advertised_host: lb.example", "advertised_host: LB.example."),
        ("advertised_host: n2", "client_port: 9000"),
        ("client_port: 9100, cluster_port: 9200, advertised_host: n2", "client_port: 9000"),
    ];
    for (one, two) in wrong {
        assert!(
            parse("f", &file(one, two)).unwrap_err().to_string().contains("expected a unique one"),
            "{one}"
        );
    }
}

#[test]
fn faults_of_keys_and_of_sense_are_told_together_and_nothing_follows_from_a_fault() {
    let text = "\
cluster:
  name: a_b
  node_id: 7
  nodes:
    - {id: 1, hots: a, client_port: 0}
    - {id: 2, cluster_port: 9000}
    - {id: 2, host: '[::1]', client_port: 09000}
    - 3
  raft: {heartbeat_interval: 900, election_timeout_max: soon, election_timeout_min: 301}
deploy: {ssh: {host_keys: none, port: 0}, transprot: ssh, user: a, user: b}
";
    let said = parse("f", text).unwrap_err().to_string();
    let expected = [
        "f:2:9: cluster.name is \"a_b\"; expected",
        "f:5:15: unknown key \"hots\" in a node; did you mean \"host\"?",
        "f:5:37: client_port is 0; expected a port",
        "f:6:7: missing key \"host\" in a node",
        "f:7:12: id 2 is also the id of the node on line 6",
        "f:7:21: host is \"[::1]\"",
        "f:7:43: client_port is 09000",
        "f:8:7: a node is 3; expected a section with id, host",
        "f:9:30: heartbeat_interval is 900",
        "f:9:57: election_timeout_max is \"soon\"",
        "f:10:27: host_keys is \"none\"; expected strict",
        "f:10:39: port is 0",
        "f:10:43: unknown key \"transprot\"",
        "f:10:68: key \"user\" appears twice in one section",
    ];
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    for (line, expected) in said.lines().zip(expected) {
        assert!(line.starts_with(expected), "{expected} is not in:\n{said}");
    }
    // A port that is not understood is not the default one, nor is a key that was misspelt.
    let pair = |one: &str, two: &str| {
        format!("cluster: {{nodes: [{{id: 1, host: a, {one}}}, {{id: 2, host: a, {two}}}]}}")
    };
    let ports = "cluster_port: 9101, http_port: 8081";
    for (one, two) in [
        ("client_prot: 9001", format!("client_port: 9000, {ports}")),
        ("client_port: 70000", format!("client_port: 9000, {ports}")),
        ("client_port: [1]", format!("client_port: x, {ports}")),
    ] {
        let said = parse("f", &pair(one, &two)).unwrap_err().to_string();
        assert!(!said.contains("expected a unique one"), "{said}");
    }
}

#[test]
fn a_file_that_unfolds_without_end_is_refused_with_its_line() {
    let mut bomb = "cluster:\n  name: x\na: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (last, next) in ["a", "b", "c", "d", "e", "f"].into_iter().zip(["b", "c", "d", "e", "f", "g"]) {
        let many = vec![format!("*{last}"); 10].join(", ");
        bomb += &format!("{next}: &{next} [{many}]\n");
    }
    let many = "  - {id: 1, host: a}\n".repeat(30_000);
    for text in [bomb, format!("cluster:\n  nodes:\n{many}")] {
        let said = parse("f", &text).unwrap_err().to_string();
        assert!(said.contains("more than 20000 values up to here, with aliases (*) expanded"), "{said}");
        assert!(!said.starts_with("f: "), "{said}");
    }
}

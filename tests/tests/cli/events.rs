//! Topics, events and groups where no cluster runs.

use super::{THREE_NODES, code, err, escli, out, with_file};

#[test]
fn nodes_that_do_not_run_are_named_with_their_client_port() {
    let home = with_file(THREE_NODES);
    for line in ["topic list", "topic describe orders", "consume orders", "group list", "topic create orders"]
    {
        let output = escli(home.path(), &format!("{line} --timeout 300ms"));
        assert_eq!(code(&output), 7, "{line}: {}", err(&output));
        assert!(err(&output).contains(":9000): connection refused"), "{line}: {}", err(&output));
        let json = escli(home.path(), &format!("{line} --timeout 300ms -o json"));
        let json: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
        assert_eq!((&json["exit_code"], &json["schema_version"]), (&7.into(), &1.into()), "{line}");
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let home = with_file(THREE_NODES);
    let lines = [
        "topic",
        "topic describe",
        "topic alter orders",
        "topic create orders --set retention.ms",
        "topic create orders --partitions 0",
        "produce",
        "produce orders --partition -1",
        "produce orders --header source",
        "produce orders --header a=1 --header a=2",
        "produce orders --key-separator=",
        "consume orders --from soon",
        "consume orders --count 0",
        "group reset-offsets billing",
        "group reset-offsets billing --to yesterday",
        "group reset-offsets billing --to latest --topic orders:x",
    ];
    for line in lines {
        let output = escli(home.path(), line);
        assert_eq!(code(&output), 2, "escli {line}: {}", err(&output));
        assert!(out(&output).is_empty(), "escli {line} printed data");
    }
}

#[test]
fn events_and_cluster_yaml_do_not_share_standard_input() {
    let home = with_file(THREE_NODES);
    let mut command = super::command(home.path(), "-c - produce orders --timeout 300ms");
    let file = std::fs::File::open(home.path().join("cluster.yaml")).unwrap();
    let output = command.stdin(file).output().unwrap();
    assert_eq!(code(&output), 2, "{}", err(&output));
    assert!(err(&output).contains("cannot be both cluster.yaml and the events"), "{}", err(&output));
}

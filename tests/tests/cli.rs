//! The escli that operators run: its help, its exit codes, what it prints where.

#![allow(clippy::unwrap_used, reason = "where a program cannot be run, the test has failed")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::cluster::{Cluster, binary};

/// escli in a directory of its own, with no cluster but what the test puts there.
fn escli(home: &Path, line: &str) -> Output {
    Command::new(binary("escli"))
        .args(line.split_whitespace())
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

const THREE: &str = "\
cluster:
  name: orders
  nodes:
    - { id: 1, host: 127.88.77.1 }
    - { id: 2, host: 127.88.77.2 }
    - { id: 3, host: 127.88.77.3 }
";

fn with_file(text: &str) -> TempDir {
    let home = home();
    std::fs::write(home.path().join("cluster.yaml"), text).unwrap();
    home
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let home = home();
    let mut command = escli::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = sub.get_name();
        let help = escli(home.path(), &format!("{name} --help"));
        assert_eq!(code(&help), 0, "{name}");
        let text = out(&help);
        let (_, examples) =
            text.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no example:\n{text}"));
        assert!(examples.contains(&format!("escli {name}")), "{name}: {examples}");
        assert!(sub.get_about().is_some(), "{name}");
        for argument in sub.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {} has no help", argument.get_id());
        }
    }
}

#[test]
fn what_makes_no_sense_ends_with_2_and_says_so_on_standard_error() {
    let home = home();
    let lines = [
        "",
        "sttus",
        "status --node one",
        "watch --until nonsense",
        "watch --interval 0s",
        "logs -n many",
        "completions powershell",
        "man nope",
        "-q -v status",
        "status",
        "health",
        "logs",
        "render",
        "validate",
    ];
    for line in lines {
        let output = escli(home.path(), line);
        assert_eq!(code(&output), 2, "escli {line}: {}", err(&output));
        assert!(out(&output).is_empty(), "escli {line} printed data");
        assert!(!err(&output).is_empty(), "escli {line} said nothing");
    }
    let output = escli(home.path(), "status");
    assert!(err(&output).contains("escli up --local"), "what to do next: {}", err(&output));
}

#[test]
fn an_error_is_one_document_for_programs() {
    let home = home();
    for line in ["status -o json", "-o json stop 1", "up -o json"] {
        let output = escli(home.path(), line);
        let json: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(json["exit_code"], code(&output), "{line}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        assert_eq!(json["schema_version"], 1);
    }
}

#[test]
fn nobody_there_is_told_with_every_node_and_its_reason() {
    let home = with_file(THREE);
    let status = escli(home.path(), "status");
    assert_eq!(code(&status), 7);
    assert_eq!(out(&status).matches("connection refused :8080").count(), 3, "{}", out(&status));
    assert_eq!(code(&escli(home.path(), "health")), 7);
    let health = escli(home.path(), "health -q");
    assert_eq!((code(&health), out(&health).as_str()), (7, ""));
    let json: serde_json::Value = serde_json::from_str(&out(&escli(home.path(), "status -o json"))).unwrap();
    assert_eq!((json["health"].as_str(), json["nodes"].as_array().map(Vec::len)), (Some("UNKNOWN"), Some(3)));
    let waited = escli(home.path(), "watch --until leader --timeout 300ms --interval 100ms");
    assert_eq!(code(&waited), 5, "{}", err(&waited));
    assert!(
        out(&waited).lines().count() >= 2 && err(&waited).contains("leader was not reached"),
        "{}",
        err(&waited)
    );
    let unknown = escli(home.path(), "status --node 9");
    assert_eq!(code(&unknown), 2, "{}", err(&unknown));
}

#[test]
fn colour_only_where_it_is_wanted() {
    let home = with_file(THREE);
    let escape = |line: &str| out(&escli(home.path(), line)).contains('\u{1b}');
    assert!(!escape("status"), "not into a pipe");
    assert!(escape("status --color always"));
    assert!(!escape("status --color never"));
}

#[test]
fn validate_names_file_line_and_column() {
    let home = with_file(&THREE.replace("id: 3", "id: 2").replace("127.88.77.1", "-bad-"));
    let output = escli(home.path(), "validate");
    assert_eq!(code(&output), 2);
    let text = out(&output);
    assert!(text.lines().count() == 2 && text.lines().all(|line| line.contains("/cluster.yaml:")), "{text}");
    assert!(text.lines().any(|line| line.contains("cluster.yaml:6:13: id 2 is also")), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&out(&escli(home.path(), "validate -o json"))).unwrap();
    assert_eq!((&json["valid"], &json["problems"][1]["line"]), (&false.into(), &6.into()));
    let good = with_file(THREE);
    assert_eq!(code(&escli(good.path(), "validate")), 0);
    let schema: serde_json::Value =
        serde_json::from_str(&out(&escli(good.path(), "validate --schema"))).unwrap();
    assert!(schema["$defs"]["RaftTiming"].is_object(), "{schema}");
}

#[test]
fn render_says_the_same_every_time_and_what_a_node_accepts() {
    let home = with_file(THREE);
    let first = out(&escli(home.path(), "render --node 2"));
    assert_eq!(first, out(&escli(home.path(), "render --node 2")));
    assert!(first.contains("node_id: 2") && !first.contains("deploy"), "{first}");
    let again = with_file(&first);
    assert_eq!(out(&escli(again.path(), "render --node 2")), first, "rendering is its own fixed point");
    assert_eq!(code(&escli(home.path(), "render --out files -q")), 0);
    assert_eq!(std::fs::read_to_string(home.path().join("files/n2/cluster.yaml")).unwrap(), first);
    let all = out(&escli(home.path(), "render"));
    assert_eq!(all.matches("---\n# n").count(), 3, "{all}");
    assert_eq!(code(&escli(home.path(), "render --node 9")), 2);
}

#[test]
fn completion_offers_the_nodes_of_the_file_that_is_meant() {
    let home = with_file(THREE);
    std::fs::write(home.path().join("two.yaml"), THREE.replace("    - { id: 3, host: 127.88.77.3 }\n", ""))
        .unwrap();
    let ask = |words: &[&str]| {
        let output = Command::new(binary("escli"))
            .arg("--")
            .args(words)
            .current_dir(home.path())
            .env_clear()
            .envs([("COMPLETE", "bash"), ("_CLAP_IFS", "\n"), ("HOME", "/nonexistent")])
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .output()
            .unwrap();
        let text = out(&output);
        text.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask(&["escli", "stop", ""]), ["1", "2", "3"]);
    assert_eq!(ask(&["escli", "-c", "two.yaml", "logs", ""]), ["1", "2"]);
    assert_eq!(ask(&["escli", "status", "--node", ""]), ["1", "2", "3"]);
    assert_eq!(ask(&["escli", "-c", "missing.yaml", "stop", ""]), Vec::<String>::new());
    assert_eq!(ask(&["escli", "heal"]), ["health"]);
}

#[test]
fn a_real_cluster_is_healthy_then_degraded_then_unavailable() {
    let mut cluster = Cluster::ready(3).unwrap();
    let file = cluster.config(1);
    let line = |command: &str| format!("-c {} {command}", file.display());
    let home = home();
    let health = escli(home.path(), &line("watch --until healthy --timeout 10s --interval 50ms -o json"));
    assert_eq!(code(&health), 0, "{}", err(&health));
    let status = escli(home.path(), &line("status"));
    assert!(
        out(&status).starts_with("test  HEALTHY  3/3 voters · tolerates 1 · leader n"),
        "{}",
        out(&status)
    );
    let leader = cluster.wait_leader().unwrap();
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for (gone, (verdict, exit)) in others.into_iter().zip([("DEGRADED", 10), ("UNAVAILABLE", 10)]) {
        cluster.kill(gone).unwrap();
        let seen = cluster
            .wait(verdict, |_| {
                let output = escli(home.path(), &line("health -o json"));
                let json: serde_json::Value = serde_json::from_str(&out(&output)).ok()?;
                (json["health"] == verdict).then_some((code(&output), json))
            })
            .unwrap();
        assert_eq!(seen.0, exit);
        let reasons = seen.1["reasons"].to_string();
        assert!(reasons.contains(&format!("n{gone} does not answer: connection refused :8080")), "{reasons}");
        assert_eq!(code(&escli(home.path(), &line("status"))), 0, "it could tell something");
        assert_eq!(code(&escli(home.path(), &line(&format!("status --node {gone}")))), 7);
    }
}

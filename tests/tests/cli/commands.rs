//! Help, exit codes, and what is printed where.

use std::process::Command;

use tests::programs::binary;

use super::{THREE_NODES, code, err, escli, out, with_file};

#[test]
fn the_help_of_every_command_has_an_example() {
    let home = tempfile::tempdir().unwrap();
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
fn usage_errors_exit_with_2_and_are_printed_to_standard_error() {
    let home = tempfile::tempdir().unwrap();
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
fn an_error_is_one_json_document() {
    let home = tempfile::tempdir().unwrap();
    for line in ["status -o json", "-o json stop 1", "up -o json"] {
        let output = escli(home.path(), line);
        let json: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(json["exit_code"], code(&output), "{line}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        assert_eq!(json["schema_version"], 1);
    }
}

#[test]
fn a_cluster_that_does_not_run_is_reported_node_by_node() {
    let home = with_file(THREE_NODES);
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
fn output_is_coloured_only_on_a_terminal_or_on_request() {
    let home = with_file(THREE_NODES);
    let escape = |line: &str| out(&escli(home.path(), line)).contains('\u{1b}');
    assert!(!escape("status"), "not into a pipe");
    assert!(escape("status --color always"));
    assert!(!escape("status --color never"));
}

#[test]
fn validate_names_file_line_and_column() {
    let home = with_file(THREE_NODES.replace("id: 3", "id: 2").replace("127.88.77.1", "-bad-"));
    let output = escli(home.path(), "validate");
    assert_eq!(code(&output), 2);
    let text = out(&output);
    assert!(text.lines().count() == 2 && text.lines().all(|line| line.contains("/cluster.yaml:")), "{text}");
    assert!(text.lines().any(|line| line.contains("cluster.yaml:6:13: id 2 is also")), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&out(&escli(home.path(), "validate -o json"))).unwrap();
    assert_eq!((&json["valid"], &json["problems"][1]["line"]), (&false.into(), &6.into()));
    let good = with_file(THREE_NODES);
    assert_eq!(code(&escli(good.path(), "validate")), 0);
    let schema: serde_json::Value =
        serde_json::from_str(&out(&escli(good.path(), "validate --schema"))).unwrap();
    assert!(schema["$defs"]["RaftTiming"].is_object(), "{schema}");
}

#[test]
fn render_is_deterministic_and_renders_its_own_output_unchanged() {
    let home = with_file(THREE_NODES);
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
fn completion_offers_the_nodes_of_the_named_file() {
    let home = with_file(THREE_NODES);
    std::fs::write(
        home.path().join("two.yaml"),
        THREE_NODES.replace("    - { id: 3, host: 127.88.77.3 }\n", ""),
    )
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

//! What people and programs see, to the character.

use std::path::PathBuf;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use shared::api::{ConsumerGroups, example};

use super::paint::Paint;
use super::progress::Lines;
use super::watch::{History, draw};
use super::{document, is_yes, plan, report, status};
use crate::engine::event::Event;
use crate::engine::outcome::{Outcome, StepOutcome, StepReport};
use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::overview::Overview;
use crate::overview::tests::healthy;
use crate::plan::{Action, Plan, Question, Step};
use crate::view::report::Report;

fn plain() -> Paint {
    Paint::default()
}

/// The cluster of the manual: n2 runs with other settings, n3 is gone.
fn degraded() -> Overview {
    let mut world = healthy(3);
    world.dies(3);
    world.says(2).config_hash = "another".to_owned();
    world.overview()
}

#[test]
fn status_looks_as_in_the_manual() {
    let text = status::text(&healthy(3).overview(), false, plain());
    let expected = "\
orders-prod  HEALTHY  3/3 voters · tolerates 1 · leader n1 · term 12 · v1.4.2
NODE  ROLE      HOST      STATE  VERSION  APPLIED  LAG  CONTACT  CONFIG
1     leader    10.0.0.1  up     1.4.2      48211    0  -        in sync
2     follower  10.0.0.2  up     1.4.2      48209    2  31 ms    in sync
3     follower  10.0.0.3  up     1.4.2      48211    0  32 ms    in sync
";
    assert_eq!(text, expected);
}

#[test]
fn a_node_that_does_not_answer_is_a_row_with_its_reason() {
    let text = status::text(&degraded(), false, plain());
    let expected = "\
orders-prod  DEGRADED  2/3 voters · tolerates 0 · leader n1 · term 12 · v1.4.2
NODE  ROLE      HOST      STATE        VERSION  APPLIED  LAG  CONTACT  CONFIG
1     leader    10.0.0.1  up           1.4.2      48211    0  -        in sync
2     follower  10.0.0.2  up           1.4.2      48209    2  31 ms    restart needed
3     -         10.0.0.3  unreachable  -              -    -  -        -               connection refused :8080
! 2 of 3 voters are up: one more failure stops writes
note: restart needed: cluster.yaml differs from the configuration that n2 runs with
";
    assert_eq!(text, expected);
}

#[test]
fn wide_shows_more_and_health_shows_every_reason() {
    let seen = degraded();
    let wide = status::text(&seen, true, plain());
    let first = wide.lines().next().unwrap();
    assert!(first.ends_with(" · v1.4.2 · id 6f1c2f6e-0000-4000-8000-000000000001"), "{first}");
    let header = wide.lines().nth(1).unwrap();
    assert!(header.ends_with("TERM  COMMIT  MATCH  CLIENTS  NODES  ADMIN  STARTED"), "{header}");
    let health = status::health(&seen, plain());
    let expected = "\
orders-prod  DEGRADED  2/3 voters · tolerates 0 · leader n1 · term 12 · v1.4.2
! n3 does not answer: connection refused :8080
! 2 of 3 voters are up: one more failure stops writes
note: restart needed: cluster.yaml differs from the configuration that n2 runs with
";
    assert_eq!(health, expected);
    let well = status::health(&healthy(3).overview(), plain());
    assert!(
        well.ends_with("\nok 3 of 3 voters follow n1 in term 12, none is more than 100 entries behind\n"),
        "{well}"
    );
}

#[test]
fn wide_ends_with_the_groups() {
    let seen = Overview { groups: Some(example::groups()), ..healthy(3).overview() };
    let wide = status::text(&seen, true, plain());
    let expected = "\
GROUP    STATE   MEMBERS  LAG  MAX LAG
billing  Empty         0   12        7
audit    Stable        2    0        0
and 3 more groups
";
    assert!(wide.ends_with(expected), "{wide}");
    assert!(!status::text(&seen, false, plain()).contains("GROUP"));
    let none = Overview { groups: Some(ConsumerGroups::default()), ..seen };
    assert!(!status::text(&none, true, plain()).contains("GROUP"));
}

#[test]
fn nobody_answers() {
    let mut world = healthy(3);
    (1..=3).for_each(|id| world.dies(id));
    let text = status::text(&world.overview(), false, plain());
    assert!(text.starts_with("orders-prod  UNKNOWN  0/3 voters\n"), "{text}");
    assert_eq!(text.matches("connection refused :8080").count(), 3);
}

#[test]
fn one_node_in_detail() {
    let seen = degraded();
    let expected = "\
n2  follower  up  10.0.0.2
  version   1.4.2
  started   2026-01-31T10:15:30Z
  term      12
  commit    48211
  applied   48209
  match     48209
  lag       2
  contact   31 ms
  config    restart needed
  wal_sync  true
  ports     clients 9000, nodes 9100, admin 8080
";
    assert_eq!(status::detail(seen.node(2).unwrap(), plain()), expected);
    let gone = status::detail(seen.node(3).unwrap(), plain());
    assert!(
        gone.starts_with("n3  -  unreachable  10.0.0.3\n  why       connection refused :8080\n"),
        "{gone}"
    );
}

#[test]
fn the_status_document_keeps_its_promises() {
    let text = document::text(Format::Json, &degraded());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in
        ["schema_version", "cluster", "health", "reasons", "leader", "term", "voters", "tolerates", "nodes"]
    {
        assert!(json.get(key).is_some(), "{key} is missing");
    }
    assert_eq!((&json["health"], &json["leader"]), (&"DEGRADED".into(), &1.into()));
    let keys = ["id", "host", "role", "state", "version", "term", "applied_index", "lag", "reason"];
    for node in json["nodes"].as_array().unwrap() {
        assert!(keys.iter().all(|key| node.get(key).is_some()), "{node}");
    }
    assert_eq!(json["nodes"][2]["state"], "unreachable");
    assert_eq!(json["nodes"][2]["reason"], "connection refused :8080");
    assert_eq!(json["groups"], serde_json::Value::Null, "an older leader does not tell");
    let seen = Overview { groups: Some(example::groups()), ..degraded() };
    let told: serde_json::Value = serde_json::from_str(&document::text(Format::Json, &seen)).unwrap();
    let keys = ["name", "state", "members", "lag", "max_lag"];
    assert!(keys.iter().all(|key| told["groups"]["groups"][0].get(key).is_some()), "{told}");
    assert_eq!((&told["groups"]["total"], &told["groups"]["left_off"]), (&5.into(), &3.into()));
    let yaml = document::text(Format::Yaml, &degraded());
    let same: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(same, json, "YAML says the same");
    let line = document::item(Format::Table, &degraded());
    assert_eq!(line.matches('\n').count(), 1, "one line for each look");
}

fn a_plan() -> Plan {
    let mut plan = Plan::new("up", "local");
    let config = Action::WriteConfig { hash: "abc".to_owned() };
    plan.stage("prepare", vec![Step::on(1, Action::EnsureDirs, "missing"), Step::on(1, config, "new")]);
    let start = Action::StartNode { binary: PathBuf::from("/bin/esnode") };
    plan.stage("start n1", vec![Step::on(1, start, "not running")]);
    plan.stage("leader", vec![Step::cluster(Action::AwaitLeader { nodes: vec![1] }, "writes need one")]);
    plan.notes.push("one node tolerates no failure".to_owned());
    plan
}

#[test]
fn a_dry_run_shows_numbered_steps_with_node_and_why() {
    let expected = "\
up local: 4 steps, 3 of them change something
  1  n1       create its directories  missing
  2  n1       write its cluster.yaml  new
  3  n1       start it                not running
  4  cluster  wait for a leader       writes need one
note: one node tolerates no failure
No changes were made. escli up runs exactly these steps.
";
    assert_eq!(plan::text(&a_plan(), plain()), expected);
    let json: serde_json::Value =
        serde_json::from_str(&document::text(Format::Json, &plan::document(&a_plan()))).unwrap();
    assert_eq!((&json["outcome"], &json["changed"]), (&"planned".into(), &0.into()));
    assert_eq!(json["steps"][2]["id"], "n1.start");
    assert_eq!(json["steps"][2]["why"], "not running");
    assert_eq!(json["steps"][2]["stage"], 2);
    assert_eq!(plan::text(&Plan::new("up", "local"), plain()), "up local: nothing to do\n");
}

#[test]
fn progress_is_one_line_for_each_step() {
    let plan = a_plan();
    let steps: Vec<_> = plan.steps().collect();
    let lines = Lines::new(plain());
    let ended = |step, outcome, ms, note| lines.line(&Event::Ended { step, outcome, ms, note });
    assert_eq!(lines.line(&Event::Began { plan: &plan }), None);
    assert_eq!(lines.line(&Event::Started { step: steps[0] }), None);
    let seen = [
        ended(steps[0], StepOutcome::Skipped, 0, "already done"),
        ended(steps[2], StepOutcome::Succeeded, 120, "pid 4711"),
        ended(steps[3], StepOutcome::Failed, 30_000, "no leader was elected within 30s"),
    ];
    let expected = [
        "[1/4] n1 dirs ... already done",
        "[2/4] n1 start ... ok (120 ms)  pid 4711",
        "[3/4] cluster leader ... FAILED (30.0 s)  no leader was elected within 30s",
    ];
    assert_eq!(seen.map(Option::unwrap), expected);
    assert!(lines.line(&Event::Interrupted).unwrap().contains("again to stop at once"));
}

#[test]
fn a_report_is_one_line_and_an_error_says_what_to_do_next() {
    let mut done = Report::unrun(&a_plan(), Outcome::Succeeded);
    done.duration_ms = 1234;
    let expected = "up local: nothing to change, 1.2 s\nnote: one node tolerates no failure\n";
    assert_eq!(report::text(&done, plain()), expected);
    done.changed = 3;
    assert!(report::text(&done, plain()).starts_with("up local: done, 3 changes, 1.2 s\n"));
    done.outcome = Outcome::Partial;
    done.steps =
        vec![StepReport { outcome: StepOutcome::Succeeded, ..done.steps[0].clone() }, done.steps[1].clone()];
    let text = report::text(&done, plain());
    assert!(text.starts_with("up local: partially failed, 1 of 2 steps done, 3 changes, 1.2 s\n"), "{text}");
    let failure = Failure::new(Exit::Failed, "node 3 stopped unexpectedly; its last log lines:")
        .detail("ERROR the disk is full")
        .hint("escli logs 3");
    let expected = "escli: node 3 stopped unexpectedly; its last log lines:\n  ERROR the disk is full\n  → escli logs 3\n";
    assert_eq!(report::failure(&failure, plain()), expected);
    let json: serde_json::Value = serde_json::from_str(&document::failure(Format::Json, &failure)).unwrap();
    assert_eq!((&json["exit_code"], &json["outcome"]), (&1.into(), &"failed".into()));
    assert_eq!(json["error"]["hints"][0], "escli logs 3");
}

#[test]
fn durations_have_one_unit_or_two() {
    let table = [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_999, "59.9 s"), (185_000, "3 min 5 s")];
    for (ms, text) in table {
        assert_eq!(report::duration(ms), text);
    }
}

#[test]
fn only_a_clear_yes_is_one() {
    let downtime = Question::Downtime { text: String::new() };
    let purge = Question::TypeName { text: String::new(), word: "local".to_owned() };
    assert!(is_yes(&downtime, "y") && is_yes(&downtime, "YES"));
    assert!(!is_yes(&downtime, "") && !is_yes(&downtime, "n") && !is_yes(&downtime, "local"));
    assert!(
        is_yes(&purge, "local") && !is_yes(&purge, "y") && !is_yes(&purge, "Local") && !is_yes(&purge, "")
    );
}

fn screen(seen: &Overview, history: &History, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, seen, history, "q quit", false)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells = buffer.content().chunks(usize::from(width.max(1)));
    let rows = cells.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_live_view_shows_rates_and_lags_over_time() {
    let mut history = History::default();
    let mut world = healthy(3);
    for (second, commit) in [(0, 48_211), (1, 48_311), (2, 48_411), (4, 49_411)] {
        world.says(1).commit_index = commit;
        world.says(1).applied_index = commit;
        // It applies half of what it gets.
        world.says(2).applied_index = 40_000 + (commit - 48_211) / 2;
        history.push(std::time::Duration::from_secs(second), &world.overview());
    }
    assert_eq!(history.rates(), [Some(100), Some(100), Some(500)]);
    assert_eq!(history.lags(2), [Some(2); 4]);
    assert_eq!(history.rates_of(1), history.rates());
    assert_eq!(history.rates_of(2), [Some(50), Some(50), Some(250)]);
    assert_eq!(history.rates_of(9), [None; 3], "a node that was not there then");
    let text = screen(&degraded(), &history, 110, 24);
    for part in [
        "orders-prod  DEGRADED  2/3 voters",
        "unreachable",
        "connection refused :8080",
        "committed entries per second: 500",
        "n1 500/s",
        "n2 250/s",
        "lag 2",
        "████",
        "! n3 does not answer: connection refused :8080",
        "q quit",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    // One scale for all: what the second node applies fills half the height.
    let line = |node: &str| text.lines().find(|line| line.starts_with(node)).unwrap().to_owned();
    assert!(line("n1 500/s").contains('█') && line("n2 250/s").contains('▄'), "{text}");
}

#[test]
fn the_live_view_ends_with_the_groups_that_fit() {
    let seen = Overview { groups: Some(example::groups()), ..degraded() };
    let mut history = History::default();
    history.push(std::time::Duration::ZERO, &seen);
    let text = screen(&seen, &history, 100, 24);
    let expected = "\
GROUP   STATE               MEMBERS LAG          MAX LAG
billing Empty               0       12           7
audit   Stable              2       0            0
and 3 more groups
";
    assert!(text.contains(expected), "{text}");
    let low = screen(&seen, &history, 100, 23);
    assert!(low.contains("\nbilling ") && low.contains("\nand 4 more groups\nq quit"), "{low}");
    let lower = screen(&seen, &history, 100, 20);
    assert!(
        !lower.contains("GROUP") && lower.contains("note: restart needed"),
        "reasons come first:\n{lower}"
    );
}

#[test]
fn the_live_view_survives_every_size() {
    let mut history = History::default();
    history.push(std::time::Duration::ZERO, &degraded());
    history.push(std::time::Duration::from_secs(1), &degraded());
    for (width, height) in [(1, 1), (2, 40), (200, 2), (20, 5), (80, 12), (300, 100)] {
        screen(&degraded(), &history, width, height);
    }
    let small = screen(&degraded(), &history, 60, 8);
    assert!(
        small.contains("NODE ROLE      HOST     STATE       VERSION   APPLIED\n"),
        "whole columns:\n{small}"
    );
    assert!(small.contains("3    -         10.0.0.3 unreachable -         -\n"), "every node:\n{small}");
    assert!(small.ends_with("q quit\n"), "{small}");
}

//! `escli recover` after a majority is lost for good: one node starts a new cluster from its log, and only
//! when the operator has typed the confirmation.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::cli::{CliRunner, ids, text};
use tests::client::Client;
use tests::load::Load;
use tests::load::history::LoadHistory;

const LIMIT: Duration = Duration::from_secs(5);
const WORDS: &str = "recover-local-from-2";

fn kill(cli: &CliRunner, id: u64) -> Result<()> {
    let pid = Pid::from_raw(cli.pid(id)?.parse()?).context("a process id")?;
    kill_process(pid, Signal::KILL)?;
    while rustix::process::test_kill_process(pid).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Checks that this is refused with this reason, in text and in JSON, and that nothing was changed or
/// journaled.
fn refused(cli: &CliRunner, args: &[&str], why: &str) -> Result<()> {
    let journals = cli.json(&["history"])?.1;
    let (code, report) = cli.json(args)?;
    ensure!(code == 3 && report["error"].to_string().contains(why), "{args:?}: {code} {report:#}");
    ensure!(report["changed"] == 0, "{report:#}");
    let said = text(&cli.escli(args)?.stderr);
    ensure!(said.contains(why), "{said}");
    ensure!(cli.json(&["history"])?.1 == journals, "a journal was written");
    Ok(())
}

fn rows(status: &Value) -> Vec<Value> {
    status["nodes"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_longest_log_is_found_when_no_node_runs() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let produce = |count: usize| -> Result<()> {
        let leader = cli.leader()?;
        let mut client = Client::connect(cli.kafka(leader), LIMIT)?;
        (0..count).try_for_each(|_| client.produce("t", 0, b"x").map(drop))
    };
    let leader = cli.leader()?;
    ensure!(Client::connect(cli.kafka(leader), LIMIT)?.create_topic("t", 1)? == 0);
    produce(3)?;
    // Node 1 misses what the others write; then all are stopped.
    ensure!(cli.escli(&["transfer-leader", "--to", "2"])?.status.success());
    ensure!(cli.escli(&["stop", "1"])?.status.success());
    produce(20)?;
    ensure!(cli.escli(&["down"])?.status.success());

    let shorter =
        ["recover", "--survivor", "1", "--lost", "2,3", "--yes", "--confirm", "recover-local-from-1"];
    refused(&cli, &shorter, "has a longer log: it ends at entry")?;
    let (code, report) = cli.json(&["recover", "--survivor", "2", "--lost", "1,3"])?;
    let said = report["error"].to_string();
    ensure!(code == 3 && said.contains("n1's log ends at entry") && said.contains("ARE LOST"), "{report:#}");
    let sure = ["recover", "--survivor", "2", "--lost", "1,3", "--yes", "--confirm", WORDS];
    let (code, report) = cli.json(&sure)?;
    ensure!(code == 0, "{report:#}");
    ensure!(Client::connect(cli.kafka(2), LIMIT)?.read_all("t", 0)?.len() == 23, "nothing is lost");
    Ok(())
}

#[test]
fn one_node_recovers_with_everything_and_others_join_it() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let leader = cli.leader()?;
    ensure!(Client::connect(cli.kafka(leader), LIMIT)?.create_topic("t", 1)? == 0);
    let all: Vec<_> = (1..=3).map(|id| cli.kafka(id)).collect();
    let load = Load::on(&all, "t", 1);
    std::thread::sleep(Duration::from_secs(1));
    let mut history = LoadHistory::default();
    load.finish(&mut history)?;
    let healthy = ["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"];
    ensure!(cli.escli(&healthy)?.status.success());
    let before = cli.json(&["status"])?.1["cluster_id"].clone();

    let recover = ["recover", "--survivor", "2", "--lost", "1,3"];
    refused(&cli, &recover, "the cluster has a majority")?;
    kill(&cli, 3)?;
    refused(&cli, &["recover", "--survivor", "2", "--lost", "3"], "the cluster has a majority")?;
    kill(&cli, 1)?;
    refused(&cli, &["recover", "--survivor", "2", "--lost", "3"], "the other 2 are a majority")?;
    let usage = cli.escli(&["recover", "--survivor", "2", "--lost", "2,3"])?;
    ensure!(usage.status.code() == Some(2), "{}", text(&usage.stderr));
    for id in [1, 3] {
        fs::remove_dir_all(cli.cluster().join(format!("n{id}/data")))?;
    }
    // Neither by accident, nor with --yes alone.
    refused(&cli, &recover, "ARE LOST")?;
    refused(&cli, &[&recover[..], &["--yes"]].concat(), "ARE LOST")?;
    refused(&cli, &[&recover[..], &["--yes", "--confirm", "local"]].concat(), WORDS)?;
    let sure = [&recover[..], &["--yes", "--confirm", WORDS]].concat();
    let (_, plan) = cli.json(&[&sure[..], &["--dry-run"]].concat())?;
    let (code, report) = cli.json(&sure)?;
    ensure!(code == 0 && ids(&plan) == ids(&report), "{report:#}");

    let (code, status) = cli.json(&["status"])?;
    ensure!(code == 0 && rows(&status).len() == 1 && status["leader"] == 2, "{status:#}");
    ensure!(status["cluster_id"] != before && status["cluster_id"].is_string(), "{before} {status:#}");
    history.check(Client::connect(cli.kafka(2), LIMIT)?.read_all("t", 0)?)?;
    refused(&cli, &["recover", "--survivor", "2", "--lost", "2"], "").err().context("nothing to lose")?;

    // Back to three nodes, on machines without old data.
    for id in ["1", "3"] {
        let (code, report) = cli.json(&["add-node", id])?;
        ensure!(code == 0, "{report:#}");
    }
    ensure!(cli.escli(&healthy)?.status.success());
    let (_, status) = cli.json(&["status"])?;
    ensure!(rows(&status).len() == 3, "{status:#}");
    let (code, report) = cli.json(&["transfer-leader", "--to", "3"])?;
    ensure!(code == 0, "{report:#}");
    let port = rows(&status).iter().find(|row| row["id"] == 3).and_then(|row| row["client_port"].as_u64());
    let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port.context("a port")?)?));
    history.check(Client::connect(address, LIMIT)?.read_all("t", 0)?)
}

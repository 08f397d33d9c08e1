//! `escli add-node`, `remove-node` and `replace-node` while events are written.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::cli::{CliRunner, ids, path, script, text};
use tests::client::Client;
use tests::load::Load;
use tests::load::history::LoadHistory;

const LIMIT: Duration = Duration::from_secs(2);

/// Waits until the cluster is healthy and no node needs a restart. Returns the voters.
fn voters(cli: &CliRunner) -> Result<Vec<u64>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (code, status) = cli.json(&["status"])?;
        let text = status.to_string();
        if code == 0 && !text.contains("restart_needed") {
            let nodes = status["nodes"].as_array().context("nodes")?.clone();
            return Ok(nodes.iter().filter_map(|node| node["id"].as_u64()).collect());
        }
        ensure!(Instant::now() < end, "{status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn done(cli: &CliRunner, args: &[&str]) -> Result<Value> {
    let (_, plan) = cli.json(&[args, &["--dry-run"]].concat())?;
    let (code, report) = cli.json(args)?;
    ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
    ensure!(ids(&plan) == ids(&report), "{plan:#}\n{report:#}");
    Ok(report)
}

fn file(cli: &CliRunner) -> Result<String> {
    Ok(std::fs::read_to_string(cli.cluster().join("cluster.yaml"))?)
}

#[test]
fn nodes_are_added_removed_and_replaced_while_events_are_written() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    // The operator keeps the file elsewhere, private, with the line ends of Windows.
    let (here, kept) = (cli.cluster().join("cluster.yaml"), cli.dir.path().join("kept.yaml"));
    std::fs::write(&kept, (file(&cli)? + "# the operator's own words\n").replace('\n', "\r\n"))?;
    std::fs::set_permissions(&kept, Permissions::from_mode(0o600))?;
    std::fs::remove_file(&here)?;
    symlink("../kept.yaml", &here)?;
    let first = cli.leader()?;
    let mut client = Client::connect(cli.kafka(first), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0);
    let started: BTreeMap<u64, String> = (1..=3).map(|id| Ok((id, cli.pid(id)?))).collect::<Result<_>>()?;
    let nodes = (1..=5).map(|id| cli.kafka(id)).collect::<Vec<_>>();
    let load = Load::on(&nodes, "t", 1);

    done(&cli, &["add-node", "4", "--local"])?;
    done(&cli, &["add-node", "5"])?;
    ensure!(voters(&cli)? == [1, 2, 3, 4, 5]);
    for (id, before) in &started {
        ensure!(cli.pid(*id)? == *before, "node {id} was restarted without need");
    }
    // The leader is removed, after it has transferred leadership. Then a node that is dead.
    let (gone, steps) = (cli.leader()?, done(&cli, &["remove-node", &cli.leader()?.to_string(), "--yes"])?);
    let steps = ids(&steps);
    let at = |verb: &str| steps.iter().position(|id| id.ends_with(verb));
    ensure!(at(".lead") < at(".leave") && at(".leave") < at(".stop"), "{steps:?}");
    let dead = cli.leader()?;
    cli.signal(dead, Signal::KILL)?;
    let (dead, gone) = (dead.to_string(), gone.to_string());
    let end = Instant::now() + Duration::from_secs(10);
    while cli.leader().map_or(true, |leader| leader.to_string() == dead) {
        ensure!(Instant::now() < end, "nobody else leads");
        std::thread::sleep(Duration::from_millis(20));
    }
    done(&cli, &["remove-node", &dead, "--purge", "--yes", "--confirm", "local"])?;
    ensure!(
        !cli.cluster().join(format!("n{dead}")).exists() && cli.cluster().join(format!("n{gone}")).exists()
    );
    let left = voters(&cli)?;
    ensure!(left.len() == 3, "{left:?}");
    // A machine that was wiped may have its old id again; one that was not is refused.
    done(&cli, &["replace-node", &left[0].to_string(), &dead, "--yes"])?;
    let (code, refused) = cli.json(&["add-node", &gone])?;
    ensure!(code == 3 && refused.to_string().contains("is not empty"), "{refused:#}");

    let mut history = LoadHistory::default();
    load.finish(&mut history)?;
    let reads = Client::connect(cli.kafka(cli.leader()?), LIMIT)?.read_all("t", 0)?;
    println!("{} writes, {} reads of the log end", history.counts().0, history.counts().1);
    history.check(reads)?;
    done(&cli, &["restart"])?;
    ensure!(voters(&cli)?.len() == 3);
    let text = std::fs::read_to_string(&kept)?;
    ensure!(
        text.ends_with("# the operator's own words\r\n")
            && text.matches('\n').count() == text.matches('\r').count()
    );
    ensure!(here.is_symlink() && kept.metadata()?.permissions().mode() & 0o777 == 0o600);
    Ok(())
}

#[test]
fn unsafe_or_invalid_changes_are_refused_and_change_nothing() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(cli.escli(&["stop", "3"])?.status.code() == Some(0));
    let (before, running) = (file(&cli)?, cli.pid(1)?);
    let refused = |args: &[&str], why: &str| -> Result<()> {
        let (code, report) = cli.json(args)?;
        ensure!(code == 3 && report["changed"] == 0, "{args:?}: {report:#}");
        ensure!(report["error"].to_string().contains(why), "{args:?}: {report:#}");
        let people = cli.escli(args)?;
        ensure!(people.status.code() == Some(3) && text(&people.stderr).contains(why), "{args:?}");
        ensure!(file(&cli)? == before && cli.pid(1)? == running, "{args:?}");
        Ok(())
    };
    refused(
        &["remove-node", "2", "--yes"],
        "without n2 1 healthy voters of 2 would be left, and 2 are needed",
    )?;
    refused(&["remove-node", "3", "--yes"], "2 voters tolerate no failure")?;
    refused(&["remove-node", "3", "--allow-downtime"], "--yes")?;
    refused(&["remove-node", "3", "--purge", "--yes", "--allow-downtime"], "--confirm local")?;
    let (code, unknown) = cli.json(&["remove-node", "9", "--yes"])?;
    ensure!(code == 2, "{unknown:#}");
    let taken = ["add-node", "4", "--cluster-port", &(cli.base + 101).to_string()];
    let (code, report) = cli.json(&taken)?;
    ensure!(code == 3 && report.to_string().contains("cluster_port"), "{report:#}");
    ensure!(cli.escli(&["stop", "2", "--allow-downtime"])?.status.code() == Some(0));
    refused(&["add-node", "4"], "members are changed only while the cluster is led")?;
    ensure!(!cli.cluster().join("n4").exists(), "a file was created");
    Ok(())
}

#[test]
fn a_node_that_does_not_catch_up_is_removed_again() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let before = file(&cli)?;
    let args = ["add-node", "4", "--timeout", "3s", "-o", "json"];
    let child = cli.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // Paused as soon as it is a member.
    let end = Instant::now() + Duration::from_secs(20);
    while cli.signal(4, Signal::STOP).is_err() {
        ensure!(Instant::now() < end, "node 4 was never started");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(Duration::from_secs(4));
    // Asked to stop while it is paused, it stops as soon as it continues.
    cli.signal(4, Signal::CONT)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(5), "{report:#}");
    ensure!(report["error"].to_string().contains("what had been begun was taken back"), "{report:#}");
    ensure!(voters(&cli)? == [1, 2, 3] && file(&cli)? == before);
    ensure!(!cli.cluster().join("n4").exists(), "its data is left");
    let broken = cli.dir.path().join("broken");
    script(&broken, "echo this binary does not work >&2; exit 1")?;
    let (code, report) = cli.json(&["add-node", "4", "--binary", path(&broken)])?;
    ensure!(code == 4 && report["error"].to_string().contains("does not work"), "{code} {report:#}");
    ensure!(!cli.cluster().join("n4").exists() && voters(&cli)? == [1, 2, 3]);
    // With a program that works it joins.
    let (code, report) = cli.json(&["add-node", "4"])?;
    ensure!(code == 0 && voters(&cli)? == [1, 2, 3, 4], "{report:#}");
    Ok(())
}

#[test]
fn the_last_but_one_node_is_removed_and_the_last_one_stays() -> Result<()> {
    let cli = CliRunner::with_cluster(2)?;
    let purge = ["--purge", "--yes", "--confirm", "local", "--allow-downtime"];
    done(&cli, &[&["remove-node", "2"], &purge[..]].concat())?;
    ensure!(voters(&cli)? == [1]);
    // A single new node would bootstrap a cluster of its own.
    let (code, refused) = cli.json(&["replace-node", "1", "2", "--yes"])?;
    ensure!(code == 3 && refused.to_string().contains("nobody can take over"), "{refused:#}");
    done(&cli, &["add-node", "2"])?;
    ensure!(voters(&cli)? == [1, 2]);
    Ok(())
}

//! Changes of members, upgrades, recovery and restore on Linux hosts, with hosts that are dead, cut off or
//! full.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::CliSession;
use tests::cli::{ids, path};
use tests::client::Client;
use tests::lab::Lab;
use tests::load::probe::ProbeClient;
use tests::programs::stamped;

const LIMIT: Duration = Duration::from_secs(5);

fn versions(operator: &CliSession<'_>) -> Result<BTreeSet<String>> {
    let (_, status) = operator.json(&["status"])?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    Ok(nodes.iter().filter_map(|node| node["version"].as_str()).map(str::to_owned).collect())
}

fn done(operator: &CliSession<'_>, args: &[&str]) -> Result<Value> {
    let (_, plan) = operator.json(&[args, &["--dry-run"]].concat())?;
    let (code, report) = operator.json(args)?;
    ensure!(code == 0, "{report:#}");
    ensure!(ids(&plan) == ids(&report), "{plan:#}\n{report:#}");
    Ok(report)
}

#[test]
fn hosts_are_added_and_removed_and_a_dead_one_is_replaced() -> Result<()> {
    let Some(lab) = Lab::bare(5)? else { return Ok(()) };
    let operator = CliSession::of(&lab, &[1, 2, 3], "admin", "")?;
    operator.up()?;
    let mut client = Client::connect(lab.kafka(lab.wait_ready(&[1, 2, 3])?), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0 && client.produce("t", 0, b"kept")?.is_ok());
    drop(client);
    done(&operator, &["add-node", "4", "--host", &lab.address(4)])?;
    operator.check_healthy()?;
    done(&operator, &["remove-node", "1", "--purge", "--yes", "--confirm", "lab"])?;
    operator.check_healthy()?;
    let left =
        lab.exec(1, &["sh", "-c", "ls -A /var/lib/eventstream; systemctl is-enabled eventstream; true"])?;
    ensure!(matches!(left.trim(), "" | "disabled" | "not-found"), "{left}");

    lab.cut_power(&[2])?;
    let (code, report) = operator.json(&[
        "replace-node",
        "2",
        "5",
        "--host",
        &lab.address(5),
        "--yes",
        "--ssh-timeout",
        "2s",
    ])?;
    ensure!(code == 0, "{report:#}");
    let (_, status) = operator.json(&["status"])?;
    let members: Vec<_> =
        status["nodes"].as_array().into_iter().flatten().map(|node| node["id"].clone()).collect();
    ensure!(members == [3, 4, 5] && status["health"] == "HEALTHY", "{status:#}");
    // The removed node boots again, and learns that it was removed.
    lab.boot_host(2)?;
    lab.wait("node 2 to end by itself", || {
        let state = lab.exec(2, &["systemctl", "show", "-P", "ActiveState,Result", "eventstream"]).ok()?;
        (!state.contains("active\n") || state.contains("inactive")).then_some(())
    })?;
    operator.check_healthy()?;
    let leader = lab.wait_ready(&[3, 4, 5])?;
    ensure!(Client::connect(lab.kafka(leader), LIMIT)?.read_all("t", 0)?.len() == 1, "the event is gone");

    // A host that the others cannot reach is not added.
    lab.isolate(1)?;
    let (code, report) =
        operator.json(&["add-node", "1", "--host", &lab.address(1), "--ssh-timeout", "2s"])?;
    lab.heal()?;
    ensure!(code == 3 && report.to_string().contains("node 1: no answer from"), "{code} {report:#}");
    operator.check_healthy()
}

#[test]
fn an_upgrade_over_ssh_interrupts_nobody_and_stops_at_a_partition() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    operator.up()?;
    let new = stamped("0.1.1").display().to_string();
    let upgrade = ["upgrade", "--binary", &new, "--soak", "1s"];

    // No space on one host: nothing is changed anywhere.
    let before = processes(&lab)?;
    lab.exec(
        3,
        &[
            "sh",
            "-c",
            "mkdir -p /opt/eventstream/releases && mount -t tmpfs -o size=4m tmpfs /opt/eventstream/releases",
        ],
    )?;
    let (code, report) = operator.json(&upgrade)?;
    ensure!(matches!(code, 1 | 3 | 4) && report["error"].to_string().contains("node 3"), "{code} {report:#}");
    ensure!(processes(&lab)? == before, "a node was restarted");
    lab.exec(3, &["umount", "/opt/eventstream/releases"])?;

    let leader = lab.wait_ready(&lab.ids())?;
    ensure!(Client::connect(lab.kafka(leader), LIMIT)?.create_topic("probe", 1)? == 0);
    let probe = ProbeClient::start(lab.ids().into_iter().map(|id| lab.kafka(id)).collect(), "probe");
    let report = done(&operator, &upgrade)?;
    let gaps = probe.finish();
    println!("upgraded over SSH in {} ms, longest gaps {:?}", report["duration_ms"], &gaps[..3]);
    ensure!(versions(&operator)? == BTreeSet::from(["0.1.1".to_owned()]));
    let releases = lab.exec(1, &["ls", "/opt/eventstream/releases"])?;
    ensure!(releases.lines().count() == 2, "the last two are kept: {releases}");

    // A partition during the upgrade: no other node is stopped, and the upgrade can be resumed.
    let next = stamped("0.2.0").display().to_string();
    let args = ["upgrade", "--binary", &next, "--soak", "1s", "-o", "json"];
    let mut child = operator.command(&args).stdout(Stdio::piped()).spawn()?;
    operator.wait_for_step(&mut child, |started, _| started >= 9)?;
    let leader = lab.wait_ready(&lab.ids()).or_else(|_| lab.wait_ready(&[1, 2]))?;
    let cut = lab.ids().into_iter().rev().find(|id| *id != leader).context("a follower")?;
    lab.isolate(cut)?;
    std::thread::sleep(Duration::from_secs(3));
    let away = lab.ids().into_iter().filter(|id| lab.status(*id).is_err()).count();
    lab.heal()?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(matches!(output.status.code(), Some(0 | 4)), "{report:#}");
    ensure!(away == 0, "another node was stopped meanwhile: {report:#}");
    operator.wait_healthy()?;
    if !output.status.success() {
        let (code, report) = operator.json(&["upgrade", "resume"])?;
        ensure!(code == 0, "{report:#}");
    }
    ensure!(versions(&operator)? == BTreeSet::from(["0.2.0".to_owned()]));
    operator.check_healthy()
}

fn processes(lab: &Lab) -> Result<Vec<String>> {
    lab.ids()
        .into_iter()
        .map(|id| lab.exec(id, &["systemctl", "show", "-P", "MainPID", "eventstream"]))
        .collect()
}

#[test]
fn a_cluster_recovers_from_one_host_after_a_loss_of_quorum() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    operator.up()?;
    let mut client = Client::connect(lab.kafka(lab.wait_ready(&[1, 2, 3])?), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0 && client.produce("t", 0, b"kept")?.is_ok());
    lab.wait_ready(&[1, 2, 3])?;
    lab.cut_power(&[1, 3])?;
    let recover = ["recover", "--survivor", "2", "--ssh-timeout", "2s", "--lost"];
    let (code, refused) = operator.json(&[&recover[..], &["3"]].concat())?;
    ensure!(code == 3 && refused.to_string().contains("cannot be looked at: get it back"), "{refused:#}");
    let sure = ["1,3", "--yes", "--confirm", "recover-lab-from-2"];
    done(&operator, &[&recover[..], &sure].concat())?;
    let mut client = Client::connect(lab.kafka(lab.wait_ready(&[2])?), LIMIT)?;
    ensure!(client.read_all("t", 0)?.len() == 1 && client.produce("t", 0, b"more")?.is_ok());

    // They are a majority of the old cluster, and must stop.
    for id in [1, 3] {
        lab.boot_host(id)?;
    }
    for id in [1, 3] {
        lab.wait("the old node to end by itself", || {
            let state = lab.exec(id, &["systemctl", "show", "-P", "ActiveState", "eventstream"]).ok()?;
            state.contains("inactive").then_some(())
        })?;
    }
    ensure!(client.produce("t", 0, b"and more")?.is_ok() && lab.wait_ready(&[2])? == 2);
    operator.check_healthy()
}

#[test]
fn a_backup_is_restored_on_hosts_without_data() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    operator.up()?;
    let mut client = Client::connect(lab.kafka(lab.wait_ready(&[1, 2, 3])?), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0 && client.produce("t", 0, b"kept")?.is_ok());
    let folder = tempfile::tempdir()?;
    let tar = folder.path().join("all.tar");
    let (code, taken) = operator.json(&["backup", path(&tar)])?;
    ensure!(code == 0, "{taken:#}");
    let (code, refused) = operator.json(&["restore", path(&tar)])?;
    ensure!(code == 3 && refused.to_string().contains("node 1 has data"), "{refused:#}");
    done(&operator, &["down", "--purge-data", "--yes", "--confirm", "lab"])?;

    done(&operator, &["restore", path(&tar)])?;
    operator.check_healthy()?;
    let mut client = Client::connect(lab.kafka(lab.wait_ready(&[1, 2, 3])?), LIMIT)?;
    ensure!(client.read_all("t", 0)?.len() == 1 && client.produce("t", 0, b"more")? == Ok(1));
    let left = lab.exec(
        1,
        &["sh", "-c", "ls -A /var/lib/eventstream/raft; stat -c '%U %a' /var/lib/eventstream/raft"],
    )?;
    ensure!(!left.contains("backup.json") && !left.contains("escli-new"), "{left}");
    ensure!(left.ends_with("eventstream 700\n"), "{left}");
    Ok(())
}

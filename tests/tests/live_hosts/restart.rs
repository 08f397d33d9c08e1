//! Restarts and reloads on Linux hosts, behind a jump host, and with hosts that reboot or run out of space
//! meanwhile.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tests::cli::{CliSession, text};
use tests::lab::Lab;
use tests::programs::binary;

/// Returns every node's process, as its host reports it.
fn processes(lab: &Lab) -> Result<BTreeMap<NodeId, String>> {
    let pid = |id| Ok((id, lab.exec(id, &["systemctl", "show", "-P", "MainPID", "eventstream"])?));
    lab.ids().into_iter().map(pid).collect()
}

fn restarted(before: &BTreeMap<NodeId, String>, after: &BTreeMap<NodeId, String>) -> Vec<NodeId> {
    before.iter().filter(|(id, pid)| after.get(id) != Some(pid)).map(|(id, _)| *id).collect()
}

#[test]
fn a_cluster_behind_a_jump_host_is_operated_like_any_other() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    for id in [2, 3] {
        lab.cut_off(id)?;
        let (from, jump) = (lab.address(id), lab.address(1));
        operator.edit(&format!("host: {from}"), &format!("host: {from}, ssh: {{ jump: root@{jump} }}"))?;
    }
    operator.up()?;
    let began = Instant::now();
    operator.check_healthy()?;
    println!("status through the jump host in {:.2?}", began.elapsed());
    let (code, report) = operator.json(&["restart", "2"])?;
    // If the node leads, there is also a transfer.
    ensure!(code == 0 && report["changed"].as_u64() >= Some(2), "{report:#}");
    let (code, alerts) = operator.json(&["alerts", "--window", "500ms"])?;
    ensure!(code == 0 && alerts["firing"] == 0, "{alerts:#}");

    // Without the jump host the nodes behind it are unreachable, and the reason names it.
    lab.cut_power(&[1])?;
    let (code, status) = operator.json(&["status", "--ssh-timeout", "1s"])?;
    let reason = status["nodes"][1]["reason"].to_string();
    ensure!(code == 7 && reason.contains(&lab.address(1)), "{code} {status:#}");
    Ok(())
}

#[test]
fn nodes_are_restarted_and_reloaded_and_leadership_moves_over_ssh() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    operator.up()?;
    let before = processes(&lab)?;
    let (code, plan) = operator.json(&["restart", "--dry-run"])?;
    ensure!(code == 0, "{plan:#}");
    let (code, report) = operator.json(&["restart"])?;
    ensure!(code == 0, "{report:#}");
    let ids = |document: &Value| -> Vec<String> {
        let steps = document["steps"].as_array().into_iter().flatten();
        steps.filter_map(|step| step["id"].as_str()).map(str::to_owned).collect()
    };
    ensure!(ids(&plan) == ids(&report), "planned {:?}, ran {:?}", ids(&plan), ids(&report));
    let after = processes(&lab)?;
    ensure!(restarted(&before, &after) == lab.ids(), "{before:?} {after:?}");

    // One new setting for all nodes, which one host already has.
    let (code, same) = operator.json(&["diff"])?;
    ensure!(code == 0, "{same:#}");
    operator.edit("deploy:", "network:\n  max_connections: 500\ndeploy:")?;
    let (code, differs) = operator.json(&["diff"])?;
    ensure!(code == 11 && differs.to_string().contains("max_connections"), "{code} {differs:#}");
    let (code, report) = operator.json(&["reload", "3"])?;
    ensure!(code == 0, "{report:#}");
    let first = processes(&lab)?;
    ensure!(restarted(&after, &first) == [3], "{after:?} {first:?}");
    let (code, report) = operator.json(&["reload"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(restarted(&first, &processes(&lab)?) == [1, 2], "{first:?}");
    let (code, same) = operator.json(&["diff"])?;
    ensure!(code == 0, "{same:#}");

    let leader = lab.wait_ready(&lab.ids())?;
    let next = leader % 3 + 1;
    let (code, report) = operator.json(&["transfer-leader", "--to", &next.to_string()])?;
    ensure!(code == 0 && lab.wait_ready(&lab.ids())? == next, "{report:#}");
    let (code, report) = operator.json(&["stop", "3"])?;
    ensure!(code == 0, "{report:#}");
    let (code, whole) = operator.json(&["verify", "3"])?;
    ensure!(code == 0 && whole["verified"][0]["ok"] == true, "{whole:#}");
    let (code, report) = operator.json(&["start", "3"])?;
    ensure!(code == 0, "{report:#}");
    let answers = text(&operator.escli(&["exec", "--", "id", "-un"])?.stdout);
    ensure!(answers.matches("admin").count() == 3, "{answers}");
    Ok(())
}

#[test]
fn a_restart_waits_for_a_host_that_reboots() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "root", "")?;
    operator.up()?;
    let before = processes(&lab)?;
    let mut child = operator.command(&["restart", "-o", "json"]).stdout(Stdio::piped()).spawn()?;
    operator.wait_for_step(&mut child, |_, ended| ended >= 2)?;
    let rebooted = *restarted(&before, &processes(&lab)?).first().context("nothing was restarted")?;
    lab.cut_power(&[rebooted])?;
    std::thread::sleep(Duration::from_millis(500));
    lab.boot_host(rebooted)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    // It may fail because the host is down, but must not go on without it.
    ensure!(matches!(output.status.code(), Some(0 | 1 | 4 | 7)), "{report:#}");
    operator.wait_healthy()?;
    if !output.status.success() {
        let (code, report) = operator.json(&["history", "resume"])?;
        ensure!(code == 0, "{report:#}");
    }
    let after = processes(&lab)?;
    ensure!(restarted(&before, &after) == lab.ids(), "{before:?} {after:?}");
    operator.check_healthy()
}

#[test]
fn a_disk_that_becomes_full_leaves_no_partial_files() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "root", "  install_dir: /srv/es\n")?;
    let program = std::fs::metadata(binary("esnode"))?.len() >> 20;
    let room = program * 2 + 64;
    let mount = format!("mkdir -p /srv/es && mount -t tmpfs -o size={room}m tmpfs /srv/es");
    lab.exec(2, &["sh", "-c", &mount])?;
    // As soon as work begins there, another process takes most of the space.
    let rest = room - program / 2;
    let greedy = format!("until [ -d /srv/es/releases ]; do :; done; fallocate -l {rest}m /srv/es/other");
    lab.exec(2, &["sh", "-c", &format!("setsid sh -c '{greedy}' </dev/null >/dev/null 2>&1 &")])?;
    let (code, report) = operator.json(&["up"])?;
    let said = report["error"].to_string();
    ensure!(matches!(code, 1 | 4) && said.contains("node 2") && said.contains("space"), "{code} {report:#}");
    let left = lab.exec(2, &["sh", "-c", "find /srv/es -name '*escli-new'"])?;
    ensure!(left.is_empty(), "{left}");
    lab.exec(2, &["sh", "-c", "rm /srv/es/other"])?;
    operator.up().map(drop)
}

#[test]
fn twenty_hosts_are_worked_on_concurrently() -> Result<()> {
    let Some(lab) = Lab::bare(20)? else { return Ok(()) };
    // A cluster has at most nine nodes, so three operators share twenty hosts.
    let hosts = lab.ids();
    let operators: Result<Vec<_>> =
        hosts.chunks(9).map(|ids| CliSession::of(&lab, ids, "admin", "")).collect();
    let operators = operators?;
    let began = Instant::now();
    let exec = |operator: &CliSession<'_>| {
        operator.command(&["exec", "--", "true"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let running: Vec<_> = operators.iter().map(exec).collect::<Result<_, _>>()?;
    for child in running {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
    }
    println!("exec -- true on 20 hosts in {:.2?}", began.elapsed());
    Ok(())
}

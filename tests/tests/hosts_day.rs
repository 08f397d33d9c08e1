//! Day two on Linux hosts of their own: behind a jump host, restarted and reloaded node by node, with hosts that reboot
//! or run full in the middle.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tests::cluster::binary;
use tests::lab::Lab;
use tests::operator::{Operator, text};

/// Every node's process, by its host's account.
fn processes(lab: &Lab) -> Result<BTreeMap<NodeId, String>> {
    let pid = |id| Ok((id, lab.exec(id, &["systemctl", "show", "-P", "MainPID", "eventstream"])?));
    lab.ids().into_iter().map(pid).collect()
}

fn restarted(before: &BTreeMap<NodeId, String>, after: &BTreeMap<NodeId, String>) -> Vec<NodeId> {
    before.iter().filter(|(id, pid)| after.get(id) != Some(pid)).map(|(id, _)| *id).collect()
}

#[test]
fn a_cluster_behind_a_jump_host_is_run_like_any_other() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = Operator::new(&lab, "admin", "")?;
    for id in [2, 3] {
        lab.cut_off(id)?;
        let (from, jump) = (lab.address(id), lab.address(1));
        operator.edit(&format!("host: {from}"), &format!("host: {from}, ssh: {{ jump: root@{jump} }}"))?;
    }
    operator.up()?;
    let began = Instant::now();
    operator.healthy()?;
    println!("status through the jump host in {:.2?}", began.elapsed());
    let (code, report) = operator.json(&["restart", "2"])?;
    // A node that leads hands over first, which is one more.
    ensure!(code == 0 && report["changed"].as_u64() >= Some(2), "{report:#}");
    let (code, alerts) = operator.json(&["alerts", "--window", "500ms"])?;
    ensure!(code == 0 && alerts["firing"] == 0, "{alerts:#}");

    // Without the jump host nothing behind it is seen, and the row says whose fault that is.
    lab.pull_plugs(&[1])?;
    let (code, status) = operator.json(&["status", "--host-timeout", "1s"])?;
    let reason = status["nodes"][1]["reason"].to_string();
    ensure!(code == 7 && reason.contains(&lab.address(1)), "{code} {status:#}");
    Ok(())
}

#[test]
fn nodes_are_restarted_reloaded_and_led_over_ssh() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = Operator::new(&lab, "admin", "")?;
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

    // One setting for all, and one host that already has it.
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
fn a_host_that_reboots_in_the_middle_is_waited_for() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = Operator::new(&lab, "root", "")?;
    operator.up()?;
    let before = processes(&lab)?;
    let mut child = operator.command(&["restart", "-o", "json"]).stdout(Stdio::piped()).spawn()?;
    operator.wait_for_step(&mut child, |_, ended| ended >= 2)?;
    let rebooted = *restarted(&before, &processes(&lab)?).first().context("nothing was restarted")?;
    lab.pull_plugs(&[rebooted])?;
    std::thread::sleep(Duration::from_millis(500));
    lab.boot_again(rebooted)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    // It may end because a host is away, never by going on without it.
    ensure!(matches!(output.status.code(), Some(0 | 1 | 4 | 7)), "{report:#}");
    operator.until_healthy()?;
    if !output.status.success() {
        let (code, report) = operator.json(&["history", "resume"])?;
        ensure!(code == 0, "{report:#}");
    }
    let after = processes(&lab)?;
    ensure!(restarted(&before, &after) == lab.ids(), "{before:?} {after:?}");
    operator.healthy()
}

#[test]
fn a_disk_that_runs_full_in_the_middle_leaves_nothing_half_done() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = Operator::new(&lab, "root", "  install_dir: /srv/es\n")?;
    let program = std::fs::metadata(binary("esnode"))?.len() >> 20;
    let room = program * 2 + 64;
    let mount = format!("mkdir -p /srv/es && mount -t tmpfs -o size={room}m tmpfs /srv/es");
    lab.exec(2, &["sh", "-c", &mount])?;
    // As soon as work begins there, somebody else takes most of the room that there was.
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
fn many_hosts_are_worked_on_at_once() -> Result<()> {
    let Some(lab) = Lab::bare(20)? else { return Ok(()) };
    // A cluster has nine nodes at most: three operators have twenty hosts.
    let hosts = lab.ids();
    let operators: Result<Vec<_>> = hosts.chunks(9).map(|ids| Operator::of(&lab, ids, "admin", "")).collect();
    let operators = operators?;
    let began = Instant::now();
    let exec = |operator: &Operator<'_>| {
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

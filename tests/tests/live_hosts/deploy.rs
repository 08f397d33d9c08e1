//! `escli up` on bare Linux hosts: what it sets up, what it refuses, what it survives.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tests::cli::{CliSession, text};
use tests::client::Client;
use tests::lab::Lab;

const LIMIT: Duration = Duration::from_secs(5);

fn ids(report: &Value) -> Vec<&str> {
    report["steps"].as_array().into_iter().flatten().filter_map(|step| step["id"].as_str()).collect()
}

#[test]
fn bare_hosts_become_a_cluster_that_survives_reboots_and_power_cuts() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    let (code, plan) = operator.json(&["up", "--dry-run"])?;
    ensure!(code == 0, "{plan:#}");
    operator.check_bare()?;

    let began = Instant::now();
    let report = operator.up()?;
    println!("from bare hosts to a verified cluster in {:.2?}", began.elapsed());
    ensure!(ids(&plan) == ids(&report), "planned {:?}, ran {:?}", ids(&plan), ids(&report));
    let began = Instant::now();
    let report = operator.up()?;
    println!("a second time in {:.2?}", began.elapsed());
    ensure!(report["changed"] == 0, "{report:#}");

    as_documented(&lab)?;
    let mut client = Client::connect(lab.kafka(1), LIMIT)?;
    let leader = lab.wait_ready(&lab.ids())?;
    ensure!(client.create_topic("t", 1)? == 0, "no topic");
    drop(client);
    let mut client = Client::connect(lab.kafka(leader), LIMIT)?;
    ensure!(client.produce("t", 0, b"kept")?.is_ok(), "not acknowledged");
    drop(client);

    lab.reboot(2)?;
    operator.wait_healthy()?;
    lab.cut_power(&lab.ids())?;
    lab.ids().into_iter().try_for_each(|id| lab.boot_host(id))?;
    operator.wait_healthy()?;
    let (code, stopped) = operator.json(&["stop", "--yes"])?;
    ensure!(code == 0 && stopped["changed"] == 3, "{stopped:#}");
    operator.up()?;
    let leader = lab.wait_ready(&lab.ids())?;
    let events = Client::connect(lab.kafka(leader), LIMIT)?.read_all("t", 0)?;
    ensure!(events.len() == 1, "{} events", events.len());

    let (code, report) = operator.json(&["down", "--purge-data", "--yes", "--confirm", "lab"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(lab.exec(1, &["ls", "/var/lib/eventstream"])?.is_empty(), "data is left");
    Ok(())
}

/// Checks files, owners, modes and the exposure of the unit.
fn as_documented(lab: &Lab) -> Result<()> {
    let paths = [
        ("/opt/eventstream", "root root 755"),
        ("/opt/eventstream/config/cluster.yaml", "root root 644"),
        ("/opt/eventstream/current/esnode", "root root 755"),
        ("/etc/systemd/system/eventstream.service", "root root 644"),
        ("/var/lib/eventstream", "eventstream eventstream 755"),
        ("/var/lib/eventstream/raft", "eventstream eventstream 700"),
    ];
    for id in lab.ids() {
        for (path, expected) in paths {
            let found = lab.exec(id, &["stat", "-c", "%U %G %a", path])?;
            ensure!(found.trim() == expected, "{path} on host {id}: {found}");
        }
        let version = lab.exec(id, &["/opt/eventstream/event_stream_core", "--version"])?;
        ensure!(version.starts_with("esnode "), "{version}");
        let analysis = lab.exec(id, &["systemd-analyze", "security", "--no-pager", "eventstream"])?;
        let exposure = analysis.rsplit_once("eventstream.service: ").map(|(_, rest)| rest);
        let exposure: f64 = exposure.and_then(|rest| rest.split(' ').next()).context("a figure")?.parse()?;
        ensure!(exposure <= 2.0, "exposure {exposure}");
    }
    Ok(())
}

#[test]
fn unsuitable_hosts_are_refused_with_the_reason_and_not_changed() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let says = |operator: &CliSession<'_>, args: &[&str], wanted: &[&str]| -> Result<()> {
        let reasons = operator.refused(args)?;
        ensure!(wanted.iter().all(|text| reasons.contains(text)), "{args:?}: {reasons}");
        operator.check_bare()
    };
    says(&CliSession::new(&lab, "pwadmin", "")?, &["up"], &["node 1: sudo: a password is required"])?;
    says(
        &CliSession::new(&lab, "guest", "")?,
        &["up"],
        &["node 1: sudo: a password is required", "deploy.privilege"],
    )?;
    says(&CliSession::new(&lab, "nobody-there", "")?, &["up"], &["node 2: "])?;

    let operator = CliSession::new(&lab, "root", "")?;
    let alien = operator.dir().join("alien");
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(64, 0);
    head[18] = 183;
    std::fs::write(&alien, head)?;
    std::fs::set_permissions(&alien, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let alien = alien.display().to_string();
    says(&operator, &["up", "--binary", &alien], &["is built for aarch64, the machine is x86_64"])?;

    lab.exec(2, &["sh", "-c", "mkdir -p /srv/full && mount -t tmpfs -o size=1m tmpfs /srv/full"])?;
    let elsewhere = CliSession::new(&lab, "root", "  install_dir: /srv/full/es\n")?;
    says(&elsewhere, &["up"], &["node 2: 1 MiB free for /srv/full/es"])?;

    lab.exec(3, &["sh", "-c", "setsid sshd -p 9100 -o PidFile=/run/other.pid </dev/null >/dev/null 2>&1"])
        .or_else(|_| lab.exec(3, &["/usr/sbin/sshd", "-p", "9100", "-o", "PidFile=/run/other.pid"]))?;
    says(&operator, &["up"], &["node 3: port 9100 (cluster_port) is held by sshd (pid "])?;
    lab.exec(3, &["sh", "-c", "kill $(cat /run/other.pid)"])?;

    lab.isolate(1)?;
    let (code, found) = operator.json(&["check"])?;
    lab.heal()?;
    let peers =
        found["findings"].as_array().into_iter().flatten().filter(|finding| finding["level"] == "failure");
    let peers: Vec<_> = peers.map(|finding| (finding["node"].as_u64(), finding["check"].as_str())).collect();
    let all = [(Some(1), Some("peers")), (Some(2), Some("peers")), (Some(3), Some("peers"))];
    ensure!(code == 3 && peers == all, "{found:#}");

    lab.exec(2, &["sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh"])?;
    says(&operator, &["up"], &["SHA256:", "known_hosts", "ssh-keygen"])?;
    lab.cut_power(&[2])?;
    let began = Instant::now();
    let reasons = operator.refused(&["up", "--host-timeout", "2s"])?;
    ensure!(reasons.contains("node 2: "), "{reasons}");
    ensure!(began.elapsed() < Duration::from_secs(10), "refused only after {:?}", began.elapsed());
    Ok(())
}

#[test]
fn an_operation_that_was_killed_or_cut_off_continues() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    let mut kills = 0;
    while kill_at_next_step(&operator, kills % 2 == 1)? {
        kills += 1;
    }
    println!("killed {kills} times");
    ensure!(kills >= 8, "only {kills} kills");
    operator.up()?;

    // The same with a host that goes silent during the operation.
    let (code, _) = operator.json(&["down", "--purge-data", "--yes", "--confirm", "lab"])?;
    ensure!(code == 0, "down");
    // Less would be hit by a host of a busy machine, too.
    let mut child =
        operator.command(&["up", "-o", "json", "--host-timeout", "5s"]).stdout(Stdio::piped()).spawn()?;
    operator.wait_for_step(&mut child, |started, _| started >= 2)?;
    lab.cut_off(2)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(matches!(output.status.code(), Some(4 | 7 | 1)), "{report:#}");
    lab.heal()?;
    operator.up()?;

    // A second operator, whose escli does not see the first one's lock.
    let second = CliSession::new(&lab, "root", "")?;
    operator.json(&["stop", "--yes"])?;
    let mut first = operator.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    operator.wait_for_step(&mut first, |started, _| started >= 1)?;
    lab.freeze(3)?;
    let (code, refused) = second.json(&["start", "--host-timeout", "3s"])?;
    lab.thaw(3)?;
    ensure!(code == 6 && refused["error"].to_string().contains("up by "), "{code} {refused:#}");
    first.wait()?;
    second.wait_healthy()
}

/// Runs `up` and kills it at the beginning or the end of the first step that is not done. Returns false when
/// it ended before.
fn kill_at_next_step(operator: &CliSession<'_>, at_end: bool) -> Result<bool> {
    let mut child = operator.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let reached = operator
        .wait_for_step(&mut child, |started, ended| if at_end { ended >= 1 } else { started >= 1 })?;
    child.kill()?;
    child.wait()?;
    Ok(reached)
}

#[test]
fn a_user_without_root_runs_nodes() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let deploy = "  privilege: none\n  service: process\n  install_dir: /home/guest/eventstream\n";
    let operator = CliSession::new(&lab, "guest", deploy)?;
    operator.edit("deploy:", "  storage:\n    data_dir: /home/guest/data\ndeploy:")?;
    operator.up()?;
    let again = operator.up()?;
    ensure!(again["changed"] == 0, "{again:#}");
    let owner = lab.exec(2, &["stat", "-c", "%U %a", "/home/guest/data"])?;
    ensure!(owner.trim() == "guest 700", "{owner}");
    let log = text(&operator.escli(&["logs", "-n", "50"])?.stdout);
    ensure!((1..=3).all(|id: NodeId| log.contains(&format!("n{id} | "))), "{log}");
    let (code, report) = operator.json(&["down", "--yes"])?;
    ensure!(code == 0 && report["changed"] == 3, "{report:#}");
    Ok(())
}

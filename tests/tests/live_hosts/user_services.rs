//! Nodes under the systemd of a user without root, also after a reboot.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tests::cli::{CliSession, text};
use tests::lab::Lab;

const DEPLOY: &str = "  privilege: none\n  install_dir: /home/guest/eventstream\n";

/// Runs a command as root on every host.
fn everywhere(lab: &Lab, command: &str) -> Result<()> {
    lab.ids().into_iter().try_for_each(|id| lab.exec(id, &["sh", "-ec", command]).map(drop))
}

/// Returns the findings of one check, as `level: text`.
fn found(operator: &CliSession<'_>, check: &str) -> Result<Vec<String>> {
    let (_, document) = operator.json(&["check"])?;
    let findings = document["findings"].as_array().context("findings")?.iter();
    let of = findings.filter(|finding| finding["check"] == check);
    Ok(of.map(|finding| format!("{}: {}", finding["level"], finding["text"])).collect())
}

fn is_all(found: &[String], level: &str, part: &str) -> bool {
    found.len() == 3
        && found.iter().all(|line| line.starts_with(&format!("\"{level}\"")) && line.contains(part))
}

fn ids(report: &Value) -> Vec<&str> {
    report["steps"].as_array().into_iter().flatten().filter_map(|step| step["id"].as_str()).collect()
}

#[test]
fn the_systemd_of_a_user_runs_nodes_and_restarts_them_after_a_boot() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    // A user's systemd needs login sessions; the other suites do not.
    everywhere(&lab, "systemctl --quiet unmask systemd-logind && systemctl start systemd-logind")?;

    let nowhere = CliSession::new(&lab, "guest", "  privilege: none\n")?;
    let reasons = nowhere.refused(&["up"])?;
    ensure!(reasons.contains("may not write to /opt and /var/lib, where"), "{reasons}");
    nowhere.check_bare()?;

    let operator = CliSession::new(&lab, "guest", DEPLOY)?;
    operator.edit("deploy:", "  storage:\n    data_dir: /home/guest/data\ndeploy:")?;
    let service = found(&operator, "service")?;
    ensure!(is_all(&service, "warning", "lingering is off for guest"), "{service:?}");
    // Without polkit a user cannot turn lingering on.
    let (code, report) = operator.json(&["up"])?;
    ensure!(
        code == 4 && report["error"].to_string().contains("as root there:  loginctl enable-linger guest"),
        "{code} {report:#}"
    );
    ensure!(pids(&lab).iter().all(Option::is_none), "a node runs that would not stay");

    everywhere(&lab, "loginctl enable-linger guest")?;
    let report = operator.up()?;
    ensure!(ids(&report).contains(&"n3.start"), "{report:#}");
    let service = found(&operator, "service")?;
    ensure!(is_all(&service, "ok", "the systemd of guest"), "{service:?}");
    let again = operator.up()?;
    ensure!(again["changed"] == 0, "{again:#}");
    as_documented(&lab)?;

    let before = pids(&lab);
    lab.reboot(2)?;
    operator.wait_healthy()?;
    let after = pids(&lab);
    ensure!(before[0] == after[0] && before[2] == after[2], "only node 2 may restart: {before:?} {after:?}");
    let log = text(&operator.escli(&["logs", "-n", "50"])?.stdout);
    ensure!((1..=3).all(|id: NodeId| log.contains(&format!("n{id} | "))), "{log}");

    bundle_without_a_host(&lab, &operator)?;
    let (code, report) = operator.json(&["remove-node", "3", "--allow-downtime", "--yes"])?;
    ensure!(code == 0, "{report:#}");
    let wants = lab.exec(3, &["find", "/home/guest/.config/systemd", "-path", "*.wants/*"])?;
    ensure!(wants.is_empty() && pids(&lab)[2].is_none(), "a boot would start it: {wants}");
    let (code, report) = operator.json(&["down", "--purge-data", "--yes", "--confirm", "lab"])?;
    ensure!(code == 0, "{report:#}");
    ensure!(pids(&lab).iter().all(Option::is_none), "a node is left");
    let left = lab.exec(
        1,
        &["sh", "-c", "ls -d /home/guest/data /home/guest/.config/systemd/user/*.service 2>/dev/null; true"],
    )?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// Returns the process id of each node on its host.
fn pids(lab: &Lab) -> Vec<Option<String>> {
    let pid = |id| lab.exec(id, &["pidof", "esnode"]).ok().map(|pid| pid.trim().to_owned());
    lab.ids().into_iter().map(pid).collect()
}

/// Checks owners, modes and the restrictions of the process.
fn as_documented(lab: &Lab) -> Result<()> {
    let paths = [
        ("/home/guest/data", "guest 700"),
        ("/home/guest/eventstream/run/log", "guest 600"),
        ("/home/guest/.config/systemd/user/eventstream.service", "guest 644"),
    ];
    for id in lab.ids() {
        for (path, expected) in paths {
            let found = lab.exec(id, &["stat", "-c", "%U %a", path])?;
            ensure!(found.trim() == expected, "{path} on host {id}: {found}");
        }
        let status = lab.exec(id, &["sh", "-c", "cat /proc/$(pidof esnode)/status"])?;
        ensure!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    }
    Ok(())
}

/// Checks that a support bundle explains a host that is off, and has all evidence of the others.
fn bundle_without_a_host(lab: &Lab, operator: &CliSession<'_>) -> Result<()> {
    lab.cut_power(&[3])?;
    let file = operator.dir().join("b.tar.gz");
    let (code, document) =
        operator.json(&["support-bundle", "--file", "b.tar.gz", "--host-timeout", "2s"])?;
    ensure!(code == 0, "{document:#}");
    let read = |path: &str| -> Result<String> {
        let found = Command::new("tar")
            .args(["xOzf"])
            .arg(&file)
            .args(["--wildcards", &format!("*/{path}")])
            .output()?;
        ensure!(found.status.success(), "{path}: {}", text(&found.stderr));
        Ok(text(&found.stdout))
    };
    for (path, part) in [
        ("nodes/n1/version.json", "\"version\""),
        ("nodes/n1/service.txt", "WantedBy=default.target"),
        ("nodes/n1/service.txt", "MainPID="),
        ("nodes/n2/machine.txt", "/home/guest/data"),
        ("nodes/n2/operations.jsonl", "\"operation_id\""),
        ("nodes/n2/log.txt", "INFO"),
        ("nodes/n1/metrics.txt", "# HELP"),
        ("check.json", "\"reach\""),
        ("nodes/n3/unreachable.txt", lab.address(3).as_str()),
        ("manifest.json", "nodes/n3/service.txt"),
    ] {
        let found = read(path)?;
        ensure!(found.contains(part), "{path} does not say {part}: {found}");
    }
    let (key, own) = (std::fs::read_to_string(lab.key()?)?, read("cluster.yaml")?);
    let line = key.lines().nth(1).context("a key")?;
    ensure!(
        own.contains("identity_file: '[redacted]'") || own.contains("identity_file: [redacted]"),
        "{own}"
    );
    let all = Command::new("tar").arg("xOzf").arg(&file).output()?;
    ensure!(!text(&all.stdout).contains(line), "the key is in it");
    lab.boot_host(3)?;
    operator.wait_healthy()
}

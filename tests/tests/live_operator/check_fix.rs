//! `escli check --fix` over SSH to this machine: what it can fix, and what keeps its hint.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, ids};
use tests::sshd::SshLab;

/// The first of the node's three ports. An inspection sees what listens on any address of this machine, so
/// the ports are outside the ranges of other suites.
fn port() -> u16 {
    5_000 + u16::try_from(std::process::id() % 1_000).unwrap_or_default() * 3
}

/// Writes the cluster.yaml of a bare host. Returns the data directory of its node.
fn host(lab: &mut SshLab, cli: &CliRunner) -> Result<PathBuf> {
    let address = lab.at(0).address;
    let data = lab.path("data/raft");
    let text = format!(
        "cluster:\n  name: lab\n  nodes:\n    - {{ id: 1, host: {}, client_port: {}, cluster_port: {}, http_port: {} }}\n  \
         storage:\n    data_dir: {}\ndeploy:\n  privilege: none\n  service: process\n  install_dir: {}\n  ssh:\n    \
         user: {}\n    port: {}\n    identity_file: {}\n    known_hosts: {}\n",
        address.ip(),
        port(),
        port() + 1,
        port() + 2,
        data.display(),
        lab.path("opt").display(),
        lab.user(),
        address.port(),
        lab.path("id_ed25519").display(),
        lab.path("known_hosts").display(),
    );
    fs::write(cli.dir.path().join("cluster.yaml"), text)?;
    Ok(data)
}

fn problems(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().into_iter().flatten();
    let problems = findings.filter(|finding| finding["level"] != "ok");
    problems.filter_map(|finding| Some(finding["check"].as_str()?.to_owned())).collect()
}

#[test]
fn fixes_are_planned_then_made_then_checked() -> Result<()> {
    let (mut lab, cli) = (SshLab::start(1)?, CliRunner::new()?);
    let data = host(&mut lab, &cli)?;
    let (code, found) = cli.json(&["check"])?;
    ensure!(code == 0 && problems(&found).is_empty(), "{found:#}");
    let (code, plan) = cli.json(&["check", "--fix", "--dry-run"])?;
    ensure!(code == 0 && !data.exists(), "{plan:#}");
    let (code, fixed) = cli.json(&["check", "--fix"])?;
    ensure!(code == 0 && ids(&plan) == ids(&fixed["fix"]), "{plan:#}{fixed:#}");
    ensure!(ids(&plan) == ["n1.dirs"] && fs::metadata(&data)?.permissions().mode() & 0o777 == 0o700);

    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    fs::write(lab.path("opt/config/cluster.yaml.escli-new"), "half")?;
    let (code, found) = cli.json(&["check"])?;
    ensure!(code == 0 && problems(&found) == ["dirs", "leftovers"], "a look changes nothing: {found:#}");
    let (code, fixed) = cli.json(&["check", "--fix"])?;
    ensure!(code == 0 && fixed["fix"]["changed"] == 2 && problems(&fixed).is_empty(), "{fixed:#}");
    let (code, again) = cli.json(&["check", "--fix"])?;
    ensure!(code == 0 && again["fix"]["changed"] == 0, "{again:#}");

    let (code, past) = cli.json(&["history"])?;
    let runs = past["operations"].as_array().map_or(0, Vec::len);
    ensure!(code == 0 && runs == 2, "both are in the history: {past:#}");
    Ok(())
}

#[test]
fn what_cannot_be_fixed_keeps_its_hint_and_the_rest_is_fixed() -> Result<()> {
    let (mut lab, cli) = (SshLab::start(1)?, CliRunner::new()?);
    let data = host(&mut lab, &cli)?;
    let _taken = TcpListener::bind((lab.at(0).address.ip(), port()))?;
    let (code, fixed) = cli.json(&["check", "--fix"])?;
    ensure!(code == 3 && problems(&fixed) == ["ports"] && data.is_dir(), "{fixed:#}");
    ensure!(fixed.to_string().contains("end that process"), "{fixed:#}");
    fs::write(lab.path("known_hosts"), "")?;
    let (code, unknown) = cli.json(&["check", "--fix"])?;
    ensure!(code == 3 && unknown.to_string().contains("accept-new"), "{unknown:#}");
    ensure!(
        fs::read_to_string(lab.path("known_hosts"))?.is_empty(),
        "a key was believed that nobody looked at"
    );

    // With accept-new the key is accepted, and printed.
    let file = cli.dir.path().join("cluster.yaml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replacen("  ssh:\n", "  ssh:\n    host_keys: accept-new\n", 1))?;
    let fingerprint = lab.at(0).fingerprint("ed25519")?;
    let told = |output: std::process::Output| String::from_utf8_lossy(&output.stderr).contains(&fingerprint);
    ensure!(told(cli.escli(&["check"])?), "a new key was believed and nobody was told");
    ensure!(!told(cli.escli(&["check"])?), "it is known by now");
    Ok(())
}

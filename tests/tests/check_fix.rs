//! `escli check --fix` against a real SSH server on a loopback address: what can be put right from here is, what cannot
//! keeps its hint.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::place::{Place, ids};
use tests::sshd::Lab;

/// The first of the node's three ports. A look at a host sees what listens on all of this machine's addresses, so they are
/// of no range that other suites take.
fn port() -> u16 {
    5_000 + u16::try_from(std::process::id() % 1_000).unwrap_or_default() * 3
}

/// A host without anything on it, and the directory of its node's data.
fn host(lab: &mut Lab, place: &Place) -> Result<PathBuf> {
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
    fs::write(place.dir.path().join("cluster.yaml"), text)?;
    Ok(data)
}

fn amiss(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().into_iter().flatten();
    let amiss = findings.filter(|finding| finding["level"] != "ok");
    amiss.filter_map(|finding| Some(finding["check"].as_str()?.to_owned())).collect()
}

#[test]
fn what_can_be_put_right_is_shown_first_then_done_then_looked_at() -> Result<()> {
    let (mut lab, place) = (Lab::start(1)?, Place::new()?);
    let data = host(&mut lab, &place)?;
    let (code, found) = place.json(&["check"])?;
    ensure!(code == 0 && amiss(&found).is_empty(), "{found:#}");
    let (code, plan) = place.json(&["check", "--fix", "--dry-run"])?;
    ensure!(code == 0 && !data.exists(), "{plan:#}");
    let (code, fixed) = place.json(&["check", "--fix"])?;
    ensure!(code == 0 && ids(&plan) == ids(&fixed["fix"]), "{plan:#}{fixed:#}");
    ensure!(ids(&plan) == ["n1.dirs"] && fs::metadata(&data)?.permissions().mode() & 0o777 == 0o700);

    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    fs::write(lab.path("opt/config/cluster.yaml.escli-new"), "half")?;
    let (code, found) = place.json(&["check"])?;
    ensure!(code == 0 && amiss(&found) == ["dirs", "leftovers"], "a look changes nothing: {found:#}");
    let (code, fixed) = place.json(&["check", "--fix"])?;
    ensure!(code == 0 && fixed["fix"]["changed"] == 2 && amiss(&fixed).is_empty(), "{fixed:#}");
    let (code, again) = place.json(&["check", "--fix"])?;
    ensure!(code == 0 && again["fix"]["changed"] == 0, "{again:#}");

    let (code, past) = place.json(&["history"])?;
    let runs = past["operations"].as_array().map_or(0, Vec::len);
    ensure!(code == 0 && runs == 2, "both are in the history: {past:#}");
    Ok(())
}

#[test]
fn what_cannot_be_put_right_keeps_its_hint_and_hinders_nothing_else() -> Result<()> {
    let (mut lab, place) = (Lab::start(1)?, Place::new()?);
    let data = host(&mut lab, &place)?;
    let _taken = TcpListener::bind((lab.at(0).address.ip(), port()))?;
    let (code, fixed) = place.json(&["check", "--fix"])?;
    ensure!(code == 3 && amiss(&fixed) == ["ports"] && data.is_dir(), "{fixed:#}");
    ensure!(fixed.to_string().contains("stop that process"), "{fixed:#}");
    fs::write(lab.path("known_hosts"), "")?;
    let (code, unknown) = place.json(&["check", "--fix"])?;
    ensure!(code == 3 && unknown.to_string().contains("accept-new"), "{unknown:#}");
    ensure!(
        fs::read_to_string(lab.path("known_hosts"))?.is_empty(),
        "a key was believed that nobody looked at"
    );

    // Where that is wanted it is believed, and said.
    let file = place.dir.path().join("cluster.yaml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replacen("  ssh:\n", "  ssh:\n    host_keys: accept-new\n", 1))?;
    let fingerprint = lab.at(0).fingerprint("ed25519")?;
    let told = |output: std::process::Output| String::from_utf8_lossy(&output.stderr).contains(&fingerprint);
    ensure!(told(place.escli(&["check"])?), "a new key was believed and nobody was told");
    ensure!(!told(place.escli(&["check"])?), "it is known by now");
    Ok(())
}

//! `escli upgrade` while events are written, also with programs that do not serve.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::cli::{CliRunner, ids, path, script, text};
use tests::client::Client;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::load::probe::ProbeClient;
use tests::programs::{binary, stamped};

/// Waits until the cluster is healthy. Returns the versions that the nodes report.
fn versions(cli: &CliRunner) -> Result<BTreeSet<String>> {
    let watch = cli.escli(&["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"])?;
    ensure!(watch.status.success(), "{}", text(&watch.stdout));
    let status = cli.status()?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    Ok(nodes.iter().filter_map(|node| node["version"].as_str()).map(str::to_owned).collect())
}

fn all(version: &str) -> BTreeSet<String> {
    BTreeSet::from([version.to_owned()])
}

fn upgrade<'a>(to: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["upgrade", "--binary", path(to), "--soak", "100ms"], more].concat()
}

/// A program that runs the script `text`, and reports version 0.1.1.
fn program(cli: &CliRunner, name: &str, text: &str) -> Result<PathBuf> {
    let said = std::process::Command::new(stamped("0.1.1")).args(["--version", "--json"]).output()?;
    let said = String::from_utf8(said.stdout)?;
    let path = cli.dir.path().join(name);
    script(&path, &format!("if [ \"$1\" = --version ]; then echo '{}'; exit 0; fi\n{text}", said.trim()))?;
    Ok(path)
}

fn upgrade_under_load(nodes: u64) -> Result<()> {
    let cli = CliRunner::with_cluster(usize::try_from(nodes)?)?;
    let addresses = (1..=nodes).map(|id| cli.kafka(id)).collect::<Vec<_>>();
    let leader = cli.leader()?;
    let mut client = Client::connect(cli.kafka(leader), Duration::from_secs(2))?;
    ensure!(client.create_topic("t", 1)? == 0 && client.create_topic("probe", 1)? == 0);
    let load = Load::on(&addresses, "t", 1);
    let probe = ProbeClient::start(addresses.clone(), "probe");
    let new = stamped("0.1.1");
    let args = [&upgrade(&new, &[])[..2], &[path(&new), "--soak", "1s"]].concat();
    let (_, plan) = cli.json(&[&args[..], &["--dry-run"]].concat())?;
    let began = Instant::now();
    let (code, report) = cli.json(&args)?;
    let took = began.elapsed();
    let gaps = probe.finish();
    let mut history = LoadHistory::default();
    load.finish(&mut history)?;
    ensure!(code == 0, "{report:#}");
    ensure!(ids(&plan) == ids(&report), "{plan:#}\n{report:#}");
    ensure!(versions(&cli)? == all("0.1.1"));
    let stops: Vec<_> = ids(&report).into_iter().filter(|id| id.ends_with(".stop")).collect();
    ensure!(stops.last() == Some(&format!("n{leader}.stop")) && stops.len() as u64 == nodes, "{stops:?}");
    println!("{nodes} nodes in {took:.1?}, longest gaps {:?}", &gaps[..3]);
    let leader = cli.leader()?;
    let log = Client::connect(cli.kafka(leader), Duration::from_secs(2))?.read_all("t", 0)?;
    println!("{} writes, {} reads of the log end", history.counts().0, history.counts().1);
    history.check(log)
}

#[test]
fn three_nodes_are_upgraded_without_an_interruption() -> Result<()> {
    upgrade_under_load(3)
}

#[test]
fn five_nodes_are_upgraded_without_an_interruption() -> Result<()> {
    upgrade_under_load(5)
}

#[test]
fn a_program_that_does_not_serve_is_rolled_back_on_the_first_node() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let before = cli.pids(1..=3)?;
    let loops = program(&cli, "loops", "echo it always ends >&2; exit 1")?;
    let (code, report) = cli.json(&upgrade(&loops, &[]))?;
    ensure!(code == 4 && report["error"].to_string().contains("it always ends"), "{code} {report:#}");
    ensure!(report["error"].to_string().contains("what had been begun was taken back"), "{report:#}");
    ensure!(versions(&cli)? == all("0.1.0"));
    let touched = before.iter().zip(&cli.pids(1..=3)?).filter(|(before, after)| before != after).count();
    ensure!(touched == 1, "{touched} nodes were touched");

    // Claims to be the new version, and is the old one.
    let lies = program(&cli, "lies", &format!("exec {} \"$@\"", path(&binary("esnode"))))?;
    let (code, report) = cli.json(&upgrade(&lies, &[]))?;
    ensure!(code == 4 && report["error"].to_string().contains("runs 0.1.0, not 0.1.1"), "{report:#}");
    ensure!(versions(&cli)? == all("0.1.0"));
    // Hangs.
    let hangs = program(&cli, "hangs", "exec sleep 1000")?;
    let (code, report) = cli.json(&upgrade(&hangs, &["--timeout", "3s"]))?;
    ensure!(code == 5 || code == 4, "{code} {report:#}");
    ensure!(versions(&cli)? == all("0.1.0"), "{report:#}");
    let (code, report) = cli.json(&upgrade(&stamped("0.1.1"), &[]))?;
    ensure!(code == 0 && versions(&cli)? == all("0.1.1"), "{report:#}");
    Ok(())
}

#[test]
fn a_program_that_cannot_be_the_next_version_changes_nothing() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let before = cli.pids(1..=3)?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = cli.dir.path().join(name);
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    };
    let whole = std::fs::read(stamped("0.1.1"))?;
    let truncated = file("truncated", &whole[..1 << 16])?;
    let mut corrupt = whole.clone();
    corrupt[..4096].iter_mut().skip(64).for_each(|byte| *byte = !*byte);
    let corrupt = file("corrupt", &corrupt)?;
    let mut alien = b"\x7fELF\x02\x01\x01".to_vec();
    alien.resize(64, 0);
    alien[18] = 183;
    let alien = file("alien", &alien)?;
    let refused = |binary: &Path, why: &str| -> Result<()> {
        let args = upgrade(binary, &[]);
        let (code, report) = cli.json(&args)?;
        ensure!(code == 3 && report["changed"].as_u64().is_none_or(|changed| changed == 0), "{report:#}");
        ensure!(report["error"].to_string().contains(why), "{report:#}");
        ensure!(text(&cli.escli(&args)?.stderr).contains(why));
        ensure!(cli.pids(1..=3)? == before && !cli.cluster().join("releases").exists(), "{why}");
        Ok(())
    };
    refused(&truncated, "does not say its version")?;
    refused(&corrupt, "does not say its version")?;
    refused(&alien, "is built for aarch64")?;
    ensure!(cli.json(&upgrade(&stamped("0.2.0"), &["--dry-run"]))?.0 == 0, "the next minor version is fine");
    // A node that is down is started first.
    ensure!(cli.escli(&["stop", "3"])?.status.success());
    let (code, plan) = cli.json(&upgrade(&stamped("0.1.1"), &["--dry-run"]))?;
    ensure!(
        code == 0 && ids(&plan).iter().find(|id| id.ends_with(".start")) == Some(&"n3.start".to_owned()),
        "{plan:#}"
    );
    Ok(())
}

#[test]
fn an_upgrade_can_be_paused_resumed_and_reverted() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let new = stamped("0.1.1");
    let (code, report) = cli.json(&upgrade(&new, &["--canary"]))?;
    ensure!(code == 0 && report.to_string().contains("escli upgrade resume"), "{report:#}");
    ensure!(versions(&cli)? == BTreeSet::from(["0.1.0".to_owned(), "0.1.1".to_owned()]));
    let (_, status) = cli.json(&["upgrade", "status"])?;
    let new_ones = status["nodes"].as_array().into_iter().flatten().filter(|node| node["version"] == "0.1.1");
    ensure!(new_ones.count() == 1 && status["upgrade"]["state"] == "succeeded", "{status:#}");
    let before = cli.pids(1..=3)?;
    let (code, report) = cli.json(&["upgrade", "resume"])?;
    ensure!(code == 0 && versions(&cli)? == all("0.1.1"), "{report:#}");
    let same = before.iter().zip(&cli.pids(1..=3)?).filter(|(before, after)| before == after).count();
    ensure!(same == 1, "the first node was restarted again");

    let old = binary("esnode");
    let (code, report) = cli.json(&upgrade(&old, &[]))?;
    ensure!(code == 3 && report.to_string().contains("--allow-downgrade"), "{report:#}");
    let (code, report) = cli.json(&upgrade(&old, &["--allow-downgrade", "--pause-after", "2"]))?;
    ensure!(code == 0, "{report:#}");
    ensure!(cli.json(&["upgrade", "abort"])?.0 == 3, "it is over");
    ensure!(cli.json(&upgrade(&old, &["--allow-downgrade"]))?.0 == 0);
    ensure!(versions(&cli)? == all("0.1.0"));
    // restart and start use the installed version.
    ensure!(cli.json(&upgrade(&new, &[]))?.0 == 0);
    ensure!(cli.json(&["restart"])?.0 == 0 && versions(&cli)? == all("0.1.1"));
    ensure!(cli.escli(&["stop", "--yes"])?.status.success() && cli.escli(&["start"])?.status.success());
    ensure!(versions(&cli)? == all("0.1.1"));
    ensure!(cli.escli(&["down", "--purge-data", "--yes", "--confirm", "local"])?.status.success());
    ensure!(!cli.cluster().exists(), "files are left");
    Ok(())
}

#[test]
fn an_upgrade_stops_when_the_leader_dies_and_resumes_once_it_is_back() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let leader = cli.leader()?;
    let new = stamped("0.1.1");
    let args = ["upgrade", "--binary", path(&new), "--soak", "1s", "-o", "json"];
    let child = cli.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + Duration::from_secs(20);
    while !cli.status()?.to_string().contains("0.1.1") {
        ensure!(Instant::now() < end, "no node was upgraded");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, second) = cli.json(&upgrade(&new, &[]))?;
    ensure!(code == 6, "two at once: {second:#}");
    cli.signal(leader, Signal::KILL)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(4), "{report:#}");
    let stopped = ids(&report).iter().filter(|id| id.ends_with(".stop")).count();
    ensure!(stopped > 0, "{report:#}");
    ensure!(cli.escli(&["start"])?.status.success());
    let (code, report) = cli.json(&["upgrade", "resume"])?;
    ensure!(code == 0 && versions(&cli)? == all("0.1.1"), "{report:#}");
    Ok(())
}

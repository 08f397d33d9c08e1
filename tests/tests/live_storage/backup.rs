//! Backups taken while events are written: what is in them, how damage is reported, and restoring them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cli::{CliRunner, ids, path, text};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
const BEFORE: i64 = 200;
const NEXT: &str = "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11";

fn copied(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn a_backup_has_everything_acknowledged_before_and_can_be_restored() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let addresses: Vec<_> = (1..=3).map(|id| cli.kafka(id)).collect();
    let leads = cli.leader()?;
    let mut client = Client::connect(cli.kafka(leads), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0 && client.create_topic("before", 1)? == 0);
    let load = Load::on(&addresses, "t", 1);
    for turn in 0..BEFORE {
        ensure!(client.produce("before", 0, format!("event {turn}").as_bytes())?.is_ok());
    }
    let (tar, folder) = (cli.dir.path().join("orders.tar"), cli.dir.path().join("orders"));
    let (code, taken) = cli.json(&["backup", path(&tar)])?;
    ensure!(code == 0 && taken["node"] != leads, "the backup was taken from the leader n{leads}: {taken:#}");
    let (code, unpacked) = cli.json(&["backup", path(&folder), "--node", "3"])?;
    ensure!(code == 0 && unpacked["node"] == 3, "{unpacked:#}");
    load.finish(&mut LoadHistory::default())?;
    for whole in [&tar, &folder] {
        let (code, verdict) = cli.json(&["verify", path(whole)])?;
        ensure!(code == 0 && verdict["ok"] == true, "{verdict:#}");
    }
    let private =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    ensure!(private(&tar) & 0o77 == 0 && private(&folder) & 0o77 == 0);
    let again = cli.escli(&["backup", path(&tar)])?;
    ensure!(again.status.code() == Some(3) && text(&again.stderr).contains("already exists"));

    restored(&cli, &tar)?;
    rebuilt(&folder)
}

/// Restores a cluster of another size. Existing data is not touched.
fn restored(cli: &CliRunner, tar: &Path) -> Result<()> {
    let (other, base) = (CliRunner::new()?, cli.base + 20);
    let dir = other.cluster();
    let restore = [
        "restore",
        path(tar),
        "--local",
        "--nodes",
        "5",
        "--dir",
        path(&dir),
        "--base-port",
        &base.to_string(),
    ];
    let (_, plan) = other.json(&[&restore[..], &["--dry-run"]].concat())?;
    let (code, report) = other.json(&restore)?;
    ensure!(code == 0 && ids(&plan) == ids(&report), "{report:#}");
    let (_, status) = other.json(&["status"])?;
    ensure!(
        status["nodes"].as_array().map(Vec::len) == Some(5) && status["health"] == "HEALTHY",
        "{status:#}"
    );
    let mine = cli.json(&["status"])?.1["cluster_id"].clone();
    ensure!(status["cluster_id"] != mine, "{status:#}");
    let leads = u16::try_from(other.leader()?)? - 1;
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], base + leads)), LIMIT)?;
    ensure!(client.read_all("before", 0)?.len() == usize::try_from(BEFORE)?);
    ensure!(client.produce("before", 0, b"goes on")? == Ok(BEFORE));
    let (code, again) = other.json(&restore)?;
    ensure!(code == 3 && again.to_string().contains("node 1 has data"), "{again:#}");
    Ok(())
}

/// Restores a node without escli.
fn rebuilt(folder: &Path) -> Result<()> {
    let mut other = Cluster::prepare(1, "", &binary("esnode"))?;
    copied(folder, &other.data_dir(1))?;
    let rebuilt = Command::new(binary("esnode"))
        .args(["--node-id=1", &format!("--config={}", other.config(1).display())])
        .args(["recover", "--cluster-id", NEXT, "--members", "1"])
        .output()?;
    ensure!(rebuilt.status.success(), "{}", text(&rebuilt.stderr));
    other.launch(1)?;
    other.wait_ready()?;
    let mut client = Client::connect(other.kafka(1), LIMIT)?;
    let events = client.read_all("before", 0)?;
    for (event, turn) in events.iter().zip(0..) {
        ensure!(event.offset == turn && event.value == format!("event {turn}").into_bytes(), "event {turn}");
    }
    ensure!(events.len() == usize::try_from(BEFORE)?, "{} events", events.len());
    ensure!(client.produce("before", 0, b"goes on")? == Ok(BEFORE));
    Ok(())
}

#[test]
fn damage_in_a_backup_is_reported() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let (tar, folder) = (cli.dir.path().join("b.tar"), cli.dir.path().join("b"));
    for target in [&tar, &folder] {
        ensure!(cli.json(&["backup", path(target)])?.0 == 0);
    }
    let damaged = |what: &Path, why: &str| -> Result<()> {
        let output = cli.escli(&["verify", path(what)])?;
        let said = text(&output.stdout);
        ensure!(
            output.status.code() == Some(1) && said.contains(why),
            "{why}: {said} {}",
            text(&output.stderr)
        );
        Ok(())
    };
    let good = fs::read(&tar)?;
    for (bytes, why) in [(&good[..good.len() / 2], ""), (&good[..512], ""), (&good[..0], "was cut off")] {
        fs::write(&tar, bytes)?;
        damaged(&tar, why)?;
    }
    let mut flipped = good.clone();
    flipped[600] ^= 1;
    fs::write(&tar, flipped)?;
    damaged(&tar, "SHA-256")?;

    let segment = fs::read_dir(folder.join("log"))?.next().context("a segment")??.path();
    let bytes = fs::read(&segment)?;
    fs::write(&segment, &bytes[..bytes.len() - 1])?;
    damaged(&folder, "bytes; expected")?;
    fs::remove_file(&segment)?;
    damaged(&folder, "is missing")?;
    fs::write(&segment, &bytes)?;
    fs::write(folder.join("log/other.seg"), b"")?;
    damaged(&folder, "log/other.seg does not belong to the backup")?;
    fs::remove_file(folder.join("log/other.seg"))?;
    fs::remove_file(folder.join("backup.json.sha256"))?;
    damaged(&folder, "was cut off")?;
    damaged(&cli.dir.path().join("nowhere"), "No such file")?;
    let refused = cli.escli(&["restore", path(&tar), "--local", "--dir", "other"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && said.contains("is not a complete backup"), "{said}");
    ensure!(!cli.dir.path().join("other").exists());
    Ok(())
}

#[test]
fn without_a_quorum_a_backup_needs_a_named_node() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(cli.escli(&["stop", "1", "2", "--allow-downtime"])?.status.success());
    let refused = cli.escli(&["backup"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains("escli backup --node ID"), "{said}");
    let (code, taken) = cli.json(&["backup", "--node", "3"])?;
    ensure!(code == 0 && taken["node"] == 3, "{taken:#}");
    let (code, nobody) = cli.json(&["backup", "other.tar", "--node", "1"])?;
    ensure!(code == 7, "{nobody:#}");
    let left = fs::read_dir(cli.dir.path())?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".tar")).collect();
    ensure!(left.len() == 1, "{left:?}");
    Ok(())
}

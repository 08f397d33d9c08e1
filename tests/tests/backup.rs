//! A backup is taken while events go on: it holds all that was acknowledged before, says when it is no longer whole, and
//! another cluster carries on from it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::client::Client;
use tests::cluster::{Cluster, binary};
use tests::history::History;
use tests::place::{Place, ids, path, text};
use tests::traffic::Traffic;

const LIMIT: Duration = Duration::from_secs(5);
const BEFORE: i64 = 200;
const NEXT: &str = "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11";

fn copied(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

fn leader(place: &Place) -> Result<u64> {
    place.json(&["status"])?.1["leader"].as_u64().context("a leader")
}

#[test]
fn what_was_acknowledged_before_is_in_it_and_another_cluster_carries_on() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let addresses: Vec<SocketAddr> =
        (0..3).map(|index| SocketAddr::from(([127, 0, 0, 1], place.base + index))).collect();
    let leads = leader(&place)?;
    let mut client = Client::connect(addresses[usize::try_from(leads)? - 1], LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0 && client.create_topic("before", 1)? == 0);
    let traffic = Traffic::among(&addresses, "t", 1);
    for turn in 0..BEFORE {
        ensure!(client.produce("before", 0, format!("event {turn}").as_bytes())?.is_ok());
    }
    let (tar, folder) = (place.dir.path().join("orders.tar"), place.dir.path().join("orders"));
    let (code, taken) = place.json(&["backup", path(&tar)])?;
    ensure!(code == 0 && taken["node"] != leads, "n{leads} leads, and has no time for it: {taken:#}");
    let (code, unpacked) = place.json(&["backup", path(&folder), "--node", "3"])?;
    ensure!(code == 0 && unpacked["node"] == 3, "{unpacked:#}");
    traffic.finish(&mut History::default())?;
    for whole in [&tar, &folder] {
        let (code, verdict) = place.json(&["verify", path(whole)])?;
        ensure!(code == 0 && verdict["ok"] == true, "{verdict:#}");
    }
    let private =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    ensure!(private(&tar) & 0o77 == 0 && private(&folder) & 0o77 == 0);
    let again = place.escli(&["backup", path(&tar)])?;
    ensure!(again.status.code() == Some(3) && text(&again.stderr).contains("is there already"));

    restored(&place, &tar)?;
    rebuilt(&folder)
}

/// A cluster of another size is brought up with it by one command; what is there already is not touched.
fn restored(place: &Place, tar: &Path) -> Result<()> {
    let (other, base) = (Place::new()?, place.base + 20);
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
    let mine = place.json(&["status"])?.1["cluster_id"].clone();
    ensure!(status["cluster_id"] != mine, "{status:#}");
    let leads = u16::try_from(leader(&other)?)? - 1;
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], base + leads)), LIMIT)?;
    ensure!(client.read_all("before", 0)?.len() == usize::try_from(BEFORE)?);
    ensure!(client.produce("before", 0, b"goes on")? == Ok(BEFORE));
    let (code, again) = other.json(&restore)?;
    ensure!(code == 3 && again.to_string().contains("node 1 has data"), "{again:#}");
    Ok(())
}

/// A node makes it its own without escli.
fn rebuilt(folder: &Path) -> Result<()> {
    let mut other = Cluster::prepare(1, "", &binary("esnode"))?;
    copied(folder, &other.data_dir(1))?;
    let rebuilt = Command::new(binary("esnode"))
        .args(["--node-id=1", &format!("--config={}", other.config(1).display())])
        .args(["rebuild", "--cluster-id", NEXT, "--members", "1"])
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
fn what_is_no_longer_whole_is_named() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let (tar, folder) = (place.dir.path().join("b.tar"), place.dir.path().join("b"));
    for target in [&tar, &folder] {
        ensure!(place.json(&["backup", path(target)])?.0 == 0);
    }
    let damaged = |what: &Path, why: &str| -> Result<()> {
        let output = place.escli(&["verify", path(what)])?;
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
    damaged(&place.dir.path().join("nowhere"), "No such file")?;
    let refused = place.escli(&["restore", path(&tar), "--local", "--dir", "other"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && said.contains("is not a complete backup"), "{said}");
    ensure!(!place.dir.path().join("other").exists());
    Ok(())
}

#[test]
fn without_a_majority_nobody_knows_what_was_acknowledged() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    ensure!(place.escli(&["stop", "1", "2", "--allow-downtime"])?.status.success());
    let refused = place.escli(&["backup"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains("escli backup --node ID"), "{said}");
    let (code, taken) = place.json(&["backup", "--node", "3"])?;
    ensure!(code == 0 && taken["node"] == 3, "{taken:#}");
    let (code, nobody) = place.json(&["backup", "other.tar", "--node", "1"])?;
    ensure!(code == 7, "{nobody:#}");
    let left = fs::read_dir(place.dir.path())?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".tar")).collect();
    ensure!(left.len() == 1, "{left:?}");
    Ok(())
}

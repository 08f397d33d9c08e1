//! Rolling upgrades while events go on: the real command line, real nodes on this machine, and programs that do not
//! serve.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::client::Client;
use tests::cluster::{binary, stamped};
use tests::history::History;
use tests::place::{Place, ids, path, text};
use tests::pulse::Pulse;
use tests::traffic::Traffic;

fn place(nodes: u64) -> Result<Place> {
    let place = Place::new()?;
    let (dir, base) = (place.cluster(), place.base.to_string());
    let count = nodes.to_string();
    let args = ["up", "--local", "--dir", path(&dir), "--base-port", &base, "--nodes", &count];
    let (code, report) = place.json(&args)?;
    ensure!(code == 0, "{report:#}");
    Ok(place)
}

fn kafka(place: &Place, nodes: u64) -> Result<Vec<SocketAddr>> {
    (0..nodes).map(|index| Ok(format!("127.0.0.1:{}", u64::from(place.base) + index).parse()?)).collect()
}

fn status(place: &Place) -> Result<Value> {
    Ok(place.json(&["status"])?.1)
}

/// What every node reports; all are well.
fn versions(place: &Place) -> Result<BTreeSet<String>> {
    let watch = place.escli(&["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"])?;
    ensure!(watch.status.success(), "{}", text(&watch.stdout));
    let status = status(place)?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    Ok(nodes.iter().filter_map(|node| node["version"].as_str()).map(str::to_owned).collect())
}

fn all(version: &str) -> BTreeSet<String> {
    BTreeSet::from([version.to_owned()])
}

fn upgrade<'a>(to: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["upgrade", "--binary", path(to), "--soak", "100ms"], more].concat()
}

/// A program that is whatever `text` makes of it, and says of itself that it is 0.1.1.
fn script(place: &Place, name: &str, text: &str) -> Result<PathBuf> {
    let said = std::process::Command::new(stamped("0.1.1")).args(["--version", "--json"]).output()?;
    let said = String::from_utf8(said.stdout)?;
    let path = place.dir.path().join(name);
    let body =
        format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{}'; exit 0; fi\n{text}\n", said.trim());
    std::fs::write(&path, body)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn pids(place: &Place, nodes: u64) -> Result<Vec<String>> {
    (1..=nodes).map(|id| Ok(std::fs::read_to_string(place.cluster().join(format!("n{id}/pid")))?)).collect()
}

fn nobody_notices(nodes: u64) -> Result<()> {
    let place = place(nodes)?;
    let addresses = kafka(&place, nodes)?;
    let leader = status(&place)?["leader"].as_u64().context("a leader")?;
    let mut client = Client::connect(addresses[usize::try_from(leader)? - 1], Duration::from_secs(2))?;
    ensure!(client.create_topic("t", 1)? == 0 && client.create_topic("beats", 1)? == 0);
    let traffic = Traffic::among(&addresses, "t", 1);
    let pulse = Pulse::start(addresses.clone(), "beats");
    let new = stamped("0.1.1");
    let args = [&upgrade(&new, &[])[..2], &[path(&new), "--soak", "1s"]].concat();
    let (_, plan) = place.json(&[&args[..], &["--dry-run"]].concat())?;
    let began = Instant::now();
    let (code, report) = place.json(&args)?;
    let took = began.elapsed();
    let gaps = pulse.finish();
    let mut history = History::default();
    traffic.finish(&mut history)?;
    ensure!(code == 0, "{report:#}");
    ensure!(ids(&plan) == ids(&report), "{plan:#}\n{report:#}");
    ensure!(versions(&place)? == all("0.1.1"));
    let stops: Vec<_> = ids(&report).into_iter().filter(|id| id.ends_with(".stop")).collect();
    ensure!(stops.last() == Some(&format!("n{leader}.stop")) && stops.len() as u64 == nodes, "{stops:?}");
    println!("{nodes} nodes in {took:.1?}, longest gaps {:?}", &gaps[..3]);
    let leader = status(&place)?["leader"].as_u64().context("a leader")?;
    let log =
        Client::connect(addresses[usize::try_from(leader)? - 1], Duration::from_secs(2))?.read_all("t", 0)?;
    println!("{} writes, {} looks", history.size().0, history.size().1);
    history.check(log)
}

#[test]
fn three_nodes_are_upgraded_and_nobody_notices() -> Result<()> {
    nobody_notices(3)
}

#[test]
fn five_nodes_are_upgraded_and_nobody_notices() -> Result<()> {
    nobody_notices(5)
}

#[test]
fn a_program_that_does_not_serve_is_rolled_back_and_the_others_are_left_alone() -> Result<()> {
    let place = place(3)?;
    let before = pids(&place, 3)?;
    let loops = script(&place, "loops", "echo it always ends >&2; exit 1")?;
    let (code, report) = place.json(&upgrade(&loops, &[]))?;
    ensure!(code == 4 && report["error"].to_string().contains("it always ends"), "{code} {report:#}");
    ensure!(report["error"].to_string().contains("what had been begun was undone"), "{report:#}");
    ensure!(versions(&place)? == all("0.1.0"));
    let touched = before.iter().zip(&pids(&place, 3)?).filter(|(before, after)| before != after).count();
    ensure!(touched == 1, "{touched} nodes were touched");

    // Says that it is the new one, and is the old one.
    let lies = script(&place, "lies", &format!("exec {} \"$@\"", path(&binary("esnode"))))?;
    let (code, report) = place.json(&upgrade(&lies, &[]))?;
    ensure!(code == 4 && report["error"].to_string().contains("runs 0.1.0, not 0.1.1"), "{report:#}");
    ensure!(versions(&place)? == all("0.1.0"));
    // Hangs, and answers nobody.
    let hangs = script(&place, "hangs", "exec sleep 1000")?;
    let (code, report) = place.json(&upgrade(&hangs, &["--timeout", "3s"]))?;
    ensure!(code == 5 || code == 4, "{code} {report:#}");
    ensure!(versions(&place)? == all("0.1.0"), "{report:#}");
    let (code, report) = place.json(&upgrade(&stamped("0.1.1"), &[]))?;
    ensure!(code == 0 && versions(&place)? == all("0.1.1"), "{report:#}");
    Ok(())
}

#[test]
fn what_cannot_be_the_next_version_touches_nothing() -> Result<()> {
    let place = place(3)?;
    let before = pids(&place, 3)?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = place.dir.path().join(name);
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
        let (code, report) = place.json(&args)?;
        ensure!(code == 3 && report["changed"].as_u64().is_none_or(|changed| changed == 0), "{report:#}");
        ensure!(report["error"].to_string().contains(why), "{report:#}");
        ensure!(text(&place.escli(&args)?.stderr).contains(why));
        ensure!(pids(&place, 3)? == before && !place.cluster().join("releases").exists(), "{why}");
        Ok(())
    };
    refused(&truncated, "does not report its version")?;
    refused(&corrupt, "does not report its version")?;
    refused(&alien, "is built for aarch64")?;
    ensure!(
        place.json(&upgrade(&stamped("0.2.0"), &["--dry-run"]))?.0 == 0,
        "the next minor version is fine"
    );
    // A node that is down costs the majority.
    ensure!(place.escli(&["stop", "3"])?.status.success());
    let (code, plan) = place.json(&upgrade(&stamped("0.1.1"), &["--dry-run"]))?;
    ensure!(
        code == 0 && ids(&plan).iter().find(|id| id.ends_with(".start")) == Some(&"n3.start".to_owned()),
        "{plan:#}"
    );
    Ok(())
}

#[test]
fn it_can_be_paused_given_up_and_taken_back() -> Result<()> {
    let place = place(3)?;
    let new = stamped("0.1.1");
    let (code, report) = place.json(&upgrade(&new, &["--canary"]))?;
    ensure!(code == 0 && report.to_string().contains("escli upgrade resume"), "{report:#}");
    ensure!(versions(&place)? == BTreeSet::from(["0.1.0".to_owned(), "0.1.1".to_owned()]));
    let (_, status) = place.json(&["upgrade", "status"])?;
    let new_ones = status["nodes"].as_array().into_iter().flatten().filter(|node| node["version"] == "0.1.1");
    ensure!(new_ones.count() == 1 && status["upgrade"]["state"] == "succeeded", "{status:#}");
    let before = pids(&place, 3)?;
    let (code, report) = place.json(&["upgrade", "resume"])?;
    ensure!(code == 0 && versions(&place)? == all("0.1.1"), "{report:#}");
    let same = before.iter().zip(&pids(&place, 3)?).filter(|(before, after)| before == after).count();
    ensure!(same == 1, "the first one was touched again");

    let old = binary("esnode");
    let (code, report) = place.json(&upgrade(&old, &[]))?;
    ensure!(code == 3 && report.to_string().contains("--allow-downgrade"), "{report:#}");
    let (code, report) = place.json(&upgrade(&old, &["--allow-downgrade", "--pause-after", "2"]))?;
    ensure!(code == 0, "{report:#}");
    ensure!(place.json(&["upgrade", "abort"])?.0 == 3, "it is over");
    ensure!(place.json(&upgrade(&old, &["--allow-downgrade"]))?.0 == 0);
    ensure!(versions(&place)? == all("0.1.0"));
    // What is installed is what is started again.
    ensure!(place.json(&upgrade(&new, &[]))?.0 == 0);
    ensure!(place.json(&["restart"])?.0 == 0 && versions(&place)? == all("0.1.1"));
    ensure!(place.escli(&["stop", "--yes"])?.status.success() && place.escli(&["start"])?.status.success());
    ensure!(versions(&place)? == all("0.1.1"));
    ensure!(place.escli(&["down", "--purge-data", "--yes", "--confirm", "local"])?.status.success());
    ensure!(!place.cluster().exists(), "something is left");
    Ok(())
}

#[test]
fn a_leader_that_dies_in_the_middle_stops_it_until_it_is_back() -> Result<()> {
    let place = place(3)?;
    let leader = status(&place)?["leader"].as_u64().context("a leader")?;
    let new = stamped("0.1.1");
    let args = ["upgrade", "--binary", path(&new), "--soak", "1s", "-o", "json"];
    let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + Duration::from_secs(20);
    while !status(&place)?.to_string().contains("0.1.1") {
        ensure!(Instant::now() < end, "no node was upgraded");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, second) = place.json(&upgrade(&new, &[]))?;
    ensure!(code == 6, "two at once: {second:#}");
    let pid =
        Pid::from_raw(pids(&place, 3)?[usize::try_from(leader)? - 1].trim().parse()?).context("a pid")?;
    kill_process(pid, Signal::KILL)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(4), "{report:#}");
    let stopped = ids(&report).iter().filter(|id| id.ends_with(".stop")).count();
    ensure!(stopped > 0, "{report:#}");
    ensure!(place.escli(&["start"])?.status.success());
    let (code, report) = place.json(&["upgrade", "resume"])?;
    ensure!(code == 0 && versions(&place)? == all("0.1.1"), "{report:#}");
    Ok(())
}

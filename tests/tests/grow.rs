//! Members come and go while events go on: the real command line, real nodes on this machine.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::client::Client;
use tests::history::History;
use tests::place::{Place, ids, path, text};
use tests::traffic::Traffic;

const LIMIT: Duration = Duration::from_secs(2);

fn kafka(place: &Place, id: u64) -> Result<SocketAddr> {
    Ok(format!("127.0.0.1:{}", u64::from(place.base) + id - 1).parse()?)
}

fn pid(place: &Place, id: u64) -> Result<String> {
    let file = place.cluster().join(format!("n{id}/pid"));
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

fn signal(place: &Place, id: u64, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid(place, id)?.parse()?).context("a pid")?;
    Ok(kill_process(pid, signal)?)
}

/// Who votes, by the status of all; it must be healthy, and nobody may need a restart.
fn voters(place: &Place) -> Result<Vec<u64>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (code, status) = place.json(&["status"])?;
        let text = status.to_string();
        if code == 0 && !text.contains("restart_needed") {
            let nodes = status["nodes"].as_array().context("nodes")?.clone();
            return Ok(nodes.iter().filter_map(|node| node["id"].as_u64()).collect());
        }
        ensure!(Instant::now() < end, "{status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn leader(place: &Place) -> Result<u64> {
    let (_, status) = place.json(&["status"])?;
    status["leader"].as_u64().with_context(|| format!("a leader: {status:#}"))
}

fn done(place: &Place, args: &[&str]) -> Result<Value> {
    let (_, plan) = place.json(&[args, &["--dry-run"]].concat())?;
    let (code, report) = place.json(args)?;
    ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
    ensure!(ids(&plan) == ids(&report), "{plan:#}\n{report:#}");
    Ok(report)
}

fn file(place: &Place) -> Result<String> {
    Ok(std::fs::read_to_string(place.cluster().join("cluster.yaml"))?)
}

#[test]
fn members_come_and_go_while_events_go_on() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    // The operator keeps it elsewhere, private, and writes it on Windows.
    let (here, kept) = (place.cluster().join("cluster.yaml"), place.dir.path().join("kept.yaml"));
    std::fs::write(&kept, (file(&place)? + "# the operator's own words\n").replace('\n', "\r\n"))?;
    std::fs::set_permissions(&kept, Permissions::from_mode(0o600))?;
    std::fs::remove_file(&here)?;
    symlink("../kept.yaml", &here)?;
    let first = leader(&place)?;
    let mut client = Client::connect(kafka(&place, first)?, LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0);
    let started: BTreeMap<u64, String> =
        (1..=3).map(|id| Ok((id, pid(&place, id)?))).collect::<Result<_>>()?;
    let nodes = (1..=5).map(|id| kafka(&place, id)).collect::<Result<Vec<_>>>()?;
    let traffic = Traffic::among(&nodes, "t", 1);

    done(&place, &["add-node", "4", "--local"])?;
    done(&place, &["add-node", "5"])?;
    ensure!(voters(&place)? == [1, 2, 3, 4, 5]);
    for (id, before) in &started {
        ensure!(pid(&place, *id)? == *before, "node {id} was restarted for nothing");
    }
    // The leader goes: it hands over first. Then one that is dead.
    let (gone, steps) =
        (leader(&place)?, done(&place, &["remove-node", &leader(&place)?.to_string(), "--yes"])?);
    let steps = ids(&steps);
    let at = |verb: &str| steps.iter().position(|id| id.ends_with(verb));
    ensure!(at(".transfer-leader") < at(".drain") && at(".drain") < at(".stop"), "{steps:?}");
    let dead = leader(&place)?;
    signal(&place, dead, Signal::KILL)?;
    let (dead, gone) = (dead.to_string(), gone.to_string());
    let end = Instant::now() + Duration::from_secs(10);
    while leader(&place).map_or(true, |leader| leader.to_string() == dead) {
        ensure!(Instant::now() < end, "nobody else leads");
        std::thread::sleep(Duration::from_millis(20));
    }
    done(&place, &["remove-node", &dead, "--purge", "--yes", "--confirm", "local"])?;
    ensure!(
        !place.cluster().join(format!("n{dead}")).exists()
            && place.cluster().join(format!("n{gone}")).exists()
    );
    let left = voters(&place)?;
    ensure!(left.len() == 3, "{left:?}");
    // A machine that was wiped comes back under its old number; one that was not is refused.
    done(&place, &["replace-node", &left[0].to_string(), &dead, "--yes"])?;
    let (code, refused) = place.json(&["add-node", &gone])?;
    ensure!(code == 3 && refused.to_string().contains("is not empty"), "{refused:#}");

    let mut history = History::default();
    traffic.finish(&mut history)?;
    let reads = Client::connect(kafka(&place, leader(&place)?)?, LIMIT)?.read_all("t", 0)?;
    println!("{} writes, {} looks", history.size().0, history.size().1);
    history.check(reads)?;
    done(&place, &["restart"])?;
    ensure!(voters(&place)?.len() == 3);
    let text = std::fs::read_to_string(&kept)?;
    ensure!(
        text.ends_with("# the operator's own words\r\n")
            && text.matches('\n').count() == text.matches('\r').count()
    );
    ensure!(here.is_symlink() && kept.metadata()?.permissions().mode() & 0o777 == 0o600);
    Ok(())
}

#[test]
fn what_would_cost_the_majority_or_makes_no_sense_is_refused_and_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    ensure!(place.escli(&["stop", "3"])?.status.code() == Some(0));
    let (before, running) = (file(&place)?, pid(&place, 1)?);
    let refused = |args: &[&str], why: &str| -> Result<()> {
        let (code, report) = place.json(args)?;
        ensure!(code == 3 && report["changed"] == 0, "{args:?}: {report:#}");
        ensure!(report["error"].to_string().contains(why), "{args:?}: {report:#}");
        let people = place.escli(args)?;
        ensure!(people.status.code() == Some(3) && text(&people.stderr).contains(why), "{args:?}");
        ensure!(file(&place)? == before && pid(&place, 1)? == running, "{args:?}");
        Ok(())
    };
    refused(&["remove-node", "2", "--yes"], "the change would leave 1 of 2 voters healthy; 2 are required")?;
    refused(&["remove-node", "3", "--yes"], "2 voters tolerate no failure")?;
    refused(&["remove-node", "3", "--allow-downtime"], "--yes")?;
    refused(&["remove-node", "3", "--purge", "--yes", "--allow-downtime"], "--confirm local")?;
    let (code, unknown) = place.json(&["remove-node", "9", "--yes"])?;
    ensure!(code == 2, "{unknown:#}");
    let taken = ["add-node", "4", "--cluster-port", &(place.base + 101).to_string()];
    let (code, report) = place.json(&taken)?;
    ensure!(code == 3 && report.to_string().contains("cluster_port"), "{report:#}");
    ensure!(place.escli(&["stop", "2", "--allow-downtime"])?.status.code() == Some(0));
    refused(&["add-node", "4"], "members can be changed only while the cluster has a leader")?;
    ensure!(!place.cluster().join("n4").exists(), "something was made");
    Ok(())
}

#[test]
fn a_node_that_does_not_catch_up_is_taken_out_again() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let before = file(&place)?;
    let args = ["add-node", "4", "--timeout", "3s", "-o", "json"];
    let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // As soon as it is a member it stands still.
    let end = Instant::now() + Duration::from_secs(20);
    while signal(&place, 4, Signal::STOP).is_err() {
        ensure!(Instant::now() < end, "node 4 was never started");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(Duration::from_secs(4));
    // Asked to end while it stands still, it does as soon as it goes on.
    signal(&place, 4, Signal::CONT)?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(5), "{report:#}");
    ensure!(report["error"].to_string().contains("what had been begun was undone"), "{report:#}");
    ensure!(voters(&place)? == [1, 2, 3] && file(&place)? == before);
    ensure!(!place.cluster().join("n4").exists(), "its data is left");
    let broken = place.dir.path().join("broken");
    std::fs::write(&broken, "#!/bin/sh\necho this binary does not work >&2; exit 1\n")?;
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (code, report) = place.json(&["add-node", "4", "--binary", path(&broken)])?;
    ensure!(code == 4 && report["error"].to_string().contains("does not work"), "{code} {report:#}");
    ensure!(!place.cluster().join("n4").exists() && voters(&place)? == [1, 2, 3]);
    // And with a node that works it joins, from where it was left.
    let (code, report) = place.json(&["add-node", "4"])?;
    ensure!(code == 0 && voters(&place)? == [1, 2, 3, 4], "{report:#}");
    Ok(())
}

#[test]
fn the_last_but_one_leaves_and_the_last_one_stays() -> Result<()> {
    let place = Place::new()?;
    let (dir, base) = (place.cluster(), place.base.to_string());
    let (code, report) =
        place.json(&["up", "--local", "--nodes", "2", "--dir", path(&dir), "--base-port", &base])?;
    ensure!(code == 0, "{report:#}");
    let purge = ["--purge", "--yes", "--confirm", "local", "--allow-downtime"];
    done(&place, &[&["remove-node", "2"], &purge[..]].concat())?;
    ensure!(voters(&place)? == [1]);
    // One that came alone would found a cluster of its own.
    let (code, refused) = place.json(&["replace-node", "1", "2", "--yes"])?;
    ensure!(code == 3 && refused.to_string().contains("no other node can take over"), "{refused:#}");
    done(&place, &["add-node", "2"])?;
    ensure!(voters(&place)? == [1, 2]);
    Ok(())
}

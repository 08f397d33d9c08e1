//! A majority is lost for good: one node carries on with all that it has, and only when that was typed.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::client::Client;
use tests::history::History;
use tests::place::{Place, ids, text};
use tests::traffic::Traffic;

const LIMIT: Duration = Duration::from_secs(5);
const WORDS: &str = "recover-local-from-2";

fn kafka(place: &Place, id: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], place.base + id - 1))
}

fn kill(place: &Place, id: u16) -> Result<()> {
    let noted = fs::read_to_string(place.cluster().join(format!("n{id}/pid")))?;
    let pid = Pid::from_raw(noted.trim().parse()?).context("a process id")?;
    kill_process(pid, Signal::KILL)?;
    while rustix::process::test_kill_process(pid).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Refused with this reason, in text and in JSON, and nothing was changed or written down.
fn refused(place: &Place, args: &[&str], why: &str) -> Result<()> {
    let journals = place.json(&["history"])?.1;
    let (code, report) = place.json(args)?;
    ensure!(code == 3 && report["error"].to_string().contains(why), "{args:?}: {code} {report:#}");
    ensure!(report["changed"] == 0, "{report:#}");
    let said = text(&place.escli(args)?.stderr);
    ensure!(said.contains(why), "{said}");
    ensure!(place.json(&["history"])?.1 == journals, "it was written down");
    Ok(())
}

fn rows(status: &Value) -> Vec<Value> {
    status["nodes"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_longest_log_is_found_where_no_node_runs() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let produce = |count: usize| -> Result<()> {
        let leader = u16::try_from(place.json(&["status"])?.1["leader"].as_u64().context("a leader")?)?;
        let mut client = Client::connect(kafka(&place, leader), LIMIT)?;
        (0..count).try_for_each(|_| client.produce("t", 0, b"x").map(drop))
    };
    let leader = u16::try_from(place.json(&["status"])?.1["leader"].as_u64().context("a leader")?)?;
    ensure!(Client::connect(kafka(&place, leader), LIMIT)?.create_topic("t", 1)? == 0);
    produce(3)?;
    // Node 1 misses what the others write, and then nobody runs.
    ensure!(place.escli(&["transfer-leader", "--to", "2"])?.status.success());
    ensure!(place.escli(&["stop", "1"])?.status.success());
    produce(20)?;
    ensure!(place.escli(&["down"])?.status.success());

    let shorter =
        ["recover", "--survivor", "1", "--lost", "2,3", "--yes", "--confirm", "recover-local-from-1"];
    refused(&place, &shorter, "has a longer log: it ends at entry")?;
    let (code, report) = place.json(&["recover", "--survivor", "2", "--lost", "1,3"])?;
    let said = report["error"].to_string();
    ensure!(code == 3 && said.contains("n1's log ends at entry") && said.contains("IS LOST"), "{report:#}");
    let sure = ["recover", "--survivor", "2", "--lost", "1,3", "--yes", "--confirm", WORDS];
    let (code, report) = place.json(&sure)?;
    ensure!(code == 0, "{report:#}");
    ensure!(Client::connect(kafka(&place, 2), LIMIT)?.read_all("t", 0)?.len() == 23, "nothing is lost");
    Ok(())
}

#[test]
fn one_node_carries_on_with_everything_and_takes_others_in() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let leader = u16::try_from(place.json(&["status"])?.1["leader"].as_u64().context("a leader")?)?;
    ensure!(Client::connect(kafka(&place, leader), LIMIT)?.create_topic("t", 1)? == 0);
    let all: Vec<_> = (1..=3).map(|id| kafka(&place, id)).collect();
    let traffic = Traffic::among(&all, "t", 1);
    std::thread::sleep(Duration::from_secs(1));
    let mut history = History::default();
    traffic.finish(&mut history)?;
    let healthy = ["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"];
    ensure!(place.escli(&healthy)?.status.success());
    let before = place.json(&["status"])?.1["cluster_id"].clone();

    let recover = ["recover", "--survivor", "2", "--lost", "1,3"];
    refused(&place, &recover, "the cluster has a majority")?;
    kill(&place, 3)?;
    refused(&place, &["recover", "--survivor", "2", "--lost", "3"], "the cluster has a majority")?;
    kill(&place, 1)?;
    refused(&place, &["recover", "--survivor", "2", "--lost", "3"], "the other 2 are a majority")?;
    let usage = place.escli(&["recover", "--survivor", "2", "--lost", "2,3"])?;
    ensure!(usage.status.code() == Some(2), "{}", text(&usage.stderr));
    for id in [1, 3] {
        fs::remove_dir_all(place.cluster().join(format!("n{id}/data")))?;
    }
    // Neither by accident, nor by a habit of saying yes.
    refused(&place, &recover, "IS LOST")?;
    refused(&place, &[&recover[..], &["--yes"]].concat(), "IS LOST")?;
    refused(&place, &[&recover[..], &["--yes", "--confirm", "local"]].concat(), WORDS)?;
    let sure = [&recover[..], &["--yes", "--confirm", WORDS]].concat();
    let (_, plan) = place.json(&[&sure[..], &["--dry-run"]].concat())?;
    let (code, report) = place.json(&sure)?;
    ensure!(code == 0 && ids(&plan) == ids(&report), "{report:#}");

    let (code, status) = place.json(&["status"])?;
    ensure!(code == 0 && rows(&status).len() == 1 && status["leader"] == 2, "{status:#}");
    ensure!(status["cluster_id"] != before && status["cluster_id"].is_string(), "{before} {status:#}");
    history.check(Client::connect(kafka(&place, 2), LIMIT)?.read_all("t", 0)?)?;
    refused(&place, &["recover", "--survivor", "2", "--lost", "2"], "").err().context("nothing to lose")?;

    // Back to three, on machines without old data.
    for id in ["1", "3"] {
        let (code, report) = place.json(&["add-node", id])?;
        ensure!(code == 0, "{report:#}");
    }
    ensure!(place.escli(&healthy)?.status.success());
    let (_, status) = place.json(&["status"])?;
    ensure!(rows(&status).len() == 3, "{status:#}");
    let (code, report) = place.json(&["transfer-leader", "--to", "3"])?;
    ensure!(code == 0, "{report:#}");
    let port = rows(&status).iter().find(|row| row["id"] == 3).and_then(|row| row["client_port"].as_u64());
    let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port.context("a port")?)?));
    history.check(Client::connect(address, LIMIT)?.read_all("t", 0)?)
}

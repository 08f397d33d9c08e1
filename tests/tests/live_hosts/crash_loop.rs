//! Nodes that exit at every start and that systemd keeps restarting: every command that stops nodes stops
//! them.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shared::ids::NodeId;
use tests::cli::CliSession;
use tests::lab::Lab;

const DATA: &str = "/var/lib/eventstream/raft";
/// More than systemd waits between two starts.
const LONGER: Duration = Duration::from_millis(2500);

/// Returns the state of the unit, according to systemd.
fn state(lab: &Lab, id: NodeId) -> Result<String> {
    lab.exec(id, &["systemctl", "show", "-P", "SubState", "eventstream"]).map(|state| state.trim().to_owned())
}

/// Makes the node exit at every start. Returns while systemd waits to start it again.
fn loops(lab: &Lab, id: NodeId) -> Result<()> {
    lab.exec(id, &["sh", "-ec", &format!("chown root:root {DATA}; systemctl kill -s KILL eventstream")])?;
    let began = Instant::now();
    while state(lab, id)? != "auto-restart" {
        ensure!(began.elapsed() < Duration::from_secs(20), "node {id} does not loop: {}", state(lab, id)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Checks that the node stays stopped.
fn is_stopped(lab: &Lab, id: NodeId) -> Result<()> {
    let at_once = state(lab, id)?;
    std::thread::sleep(LONGER);
    let later = state(lab, id)?;
    let stays = |state: &str| matches!(state, "dead" | "failed");
    ensure!(stays(&at_once) && stays(&later), "node {id} is {at_once}, and then {later}");
    ensure!(lab.exec(id, &["pidof", "esnode"]).is_err(), "node {id} runs");
    Ok(())
}

#[test]
fn every_command_that_stops_nodes_stops_a_crash_looping_unit() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let operator = CliSession::new(&lab, "admin", "")?;
    operator.up()?;
    loops(&lab, 2)?;
    let (code, report) = operator.json(&["stop", "2", "--yes"])?;
    ensure!(code == 0 && report["changed"] == 1, "{report:#}");
    is_stopped(&lab, 2)?;

    lab.exec(2, &["chown", "eventstream:eventstream", DATA])?;
    operator.up()?;
    loops(&lab, 3)?;
    let (code, report) = operator.json(&["remove-node", "3", "--yes", "--allow-downtime"])?;
    ensure!(code == 0, "{report:#}");
    is_stopped(&lab, 3)?;

    operator.check_healthy()?;
    // The last but one node: one voter is left.
    let (code, report) = operator.json(&["remove-node", "2", "--yes", "--allow-downtime"])?;
    ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
    loops(&lab, 1)?;
    let (code, report) = operator.json(&["down", "--purge-data", "--yes", "--confirm", "lab"])?;
    ensure!(code == 0, "{report:#}");
    is_stopped(&lab, 1)?;
    ensure!(lab.exec(1, &["ls", "/var/lib/eventstream"])?.is_empty(), "data is left");
    Ok(())
}

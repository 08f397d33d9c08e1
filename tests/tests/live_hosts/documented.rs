//! The documented start and calls on Linux hosts; a network that is cut and loses packets, power cuts, hosts
//! that freeze and reboot. No acknowledged write is lost, each term has one leader, and the cluster serves
//! again soon.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::api::NodeState;
use shared::ids::NodeId;
use tests::client::Client;
use tests::lab::Lab;
use tests::load::Load;
use tests::load::history::{LoadHistory, leaders_by_term};
use tests::logs::same_logs;

const LIMIT: Duration = Duration::from_secs(5);
const TOPIC: &str = "t";
/// The topic for writes that show whether the cluster serves.
const PROBE: &str = "probe";
/// A write must be acknowledged within this time after a majority is healthy.
const RECOVERY: Duration = Duration::from_secs(5);

/// A lab under load, and the history of that load.
struct Trial {
    lab: Lab,
    history: LoadHistory,
    rounds: u64,
}

impl Trial {
    /// Starts the nodes and creates the topics.
    fn start(size: u64) -> Result<Option<Self>> {
        let Some(lab) = Lab::boot(size, size)? else { return Ok(None) };
        lab.ids().into_iter().try_for_each(|id| lab.start(id))?;
        let leader = lab.wait_ready(&lab.ids())?;
        for topic in [TOPIC, PROBE] {
            let code = Client::connect(lab.kafka(leader), LIMIT)?.create_topic(topic, 1)?;
            ensure!(code == 0, "no topic: error code {code}");
        }
        Ok(Some(Self { lab, history: LoadHistory::default(), rounds: 0 }))
    }

    fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.lab.ids().into_iter().filter(|id| *id != than).collect()
    }

    /// Causes one fault under load, ends it, and runs every check. `strike` is told who leads.
    fn round(
        &mut self,
        name: &str,
        strike: impl FnOnce(&Self, NodeId) -> Result<()>,
        cure: impl FnOnce(&Lab, NodeId) -> Result<()>,
    ) -> Result<()> {
        let leader = self.lab.wait_ready(&self.lab.ids())?;
        let nodes: Vec<_> = self.lab.ids().into_iter().map(|id| self.lab.kafka(id)).collect();
        let load = Load::on(&nodes, TOPIC, self.rounds);
        self.rounds += 1;
        std::thread::sleep(Duration::from_millis(300));
        let outcome = strike(self, leader).and_then(|()| {
            cure(&self.lab, leader)?;
            let served = self.served_by(&self.lab.ids())?;
            self.lab.wait_ready(&self.lab.ids())?;
            println!("{name}: served {served:?} after the cure");
            Ok(())
        });
        let finished = load.finish(&mut self.history);
        outcome.and(finished).with_context(|| name.to_owned())?;
        let leader = self.lab.wait_ready(&self.lab.ids())?;
        let log = Client::connect(self.lab.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?;
        self.history.check(log).with_context(|| name.to_owned())?;
        self.leaders().map(drop)
    }

    /// Returns how long it takes until one of these nodes acknowledges a write.
    fn served_by(&self, nodes: &[NodeId]) -> Result<Duration> {
        let asked = Instant::now();
        self.lab.wait("an acknowledged write", || {
            nodes.iter().find(|id| {
                let client = Client::connect(self.lab.kafka(**id), Duration::from_millis(500));
                client.and_then(|mut client| client.produce(PROBE, 0, b"alive")).is_ok_and(|o| o.is_ok())
            })
        })?;
        ensure!(asked.elapsed() < RECOVERY, "served again only after {:?}", asked.elapsed());
        Ok(asked.elapsed())
    }

    /// Checks that the others serve without this node, and that it knows it no longer leads.
    fn replaced(&self, old: NodeId) -> Result<()> {
        self.served_by(&self.others(old))?;
        self.lab.wait("the old leader to step down", || {
            (self.lab.status(old).ok()?.state != NodeState::Leader).then_some(())
        })
    }

    fn leaders(&self) -> Result<usize> {
        let logs = self.lab.ids().into_iter().map(|id| (id, self.lab.log(id)));
        Ok(leaders_by_term(logs)?.len())
    }

    /// Stops the nodes and compares their logs.
    fn finish(self) -> Result<()> {
        let (acknowledged, looks) = self.history.counts();
        println!("{acknowledged} acknowledged writes, {looks} reads of the end, {} leaders", self.leaders()?);
        ensure!(acknowledged > 0 && looks > 0, "the load did nothing");
        let leader = self.lab.wait_ready(&self.lab.ids())?;
        let floor = self.lab.status(leader)?.commit_index;
        for id in self.lab.ids() {
            let result = self.lab.stop(id)?;
            ensure!(result == "success", "node {id} ended with {result}: {}", self.lab.log(id));
        }
        let dirs: Vec<_> = self.lab.ids().into_iter().map(|id| (id, self.lab.data_dir(id))).collect();
        self.lab.cut_power(&self.lab.ids())?;
        same_logs(dirs.into_iter(), floor)
    }
}

/// Runs a documented call. Returns what it prints.
fn printed(call: &str) -> Result<Value> {
    let output = Command::new("sh").args(["-c", call]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("{call}: {text}"))
}

#[test]
fn the_documented_start_and_calls_work_on_separate_hosts() -> Result<()> {
    let Some(lab) = Lab::boot(4, 3)? else { return Ok(()) };
    let began = Instant::now();
    for (id, second) in [(1, 0), (2, 1), (3, 2)] {
        std::thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
        lab.start(id)?;
    }
    let leader = lab.wait_ready(&[1, 2, 3])?;
    println!("a leader {:?} after the first start", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(5), "a leader only after {:?}", began.elapsed());

    let admin = format!("{}:8080", lab.address(leader));
    let status = format!("curl http://{admin}/cluster/status");
    let before = printed(&status)?;
    ensure!(before["node_id"] == leader && before["state"] == "leader", "{before}");
    let peers = before["peers"].as_array().context("peers")?;
    ensure!(peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "follower"), "{before}");

    lab.start(4)?;
    let body = format!(r#"{{"id": 4, "host": "{}", "port": 9100}}"#, lab.address(4));
    printed(&format!("curl -X POST http://{admin}/cluster/members \\\n  -d '{body}'"))?;
    lab.wait("node 4 to appear with a match_index that catches up", || {
        let now = printed(&status).ok()?;
        let four = now["peers"].as_array()?.iter().find(|peer| peer["id"] == 4)?.clone();
        (four["match_index"] == now["commit_index"] && four["role"] == "voter").then_some(())
    })?;
    let gone = printed(&format!("curl -X DELETE http://{admin}/cluster/members/4"))?;
    ensure!(gone["role"] == "none", "{gone}");
    ensure!(lab.stop(4)? == "success", "{}", lab.log(4));
    let after = printed(&status)?;
    ensure!(after["peers"].as_array().is_some_and(|peers| peers.len() == 2), "{after}");
    Ok(())
}

#[test]
fn a_leader_that_is_cut_off_or_frozen_is_replaced() -> Result<()> {
    let Some(mut trial) = Trial::start(3)? else { return Ok(()) };
    let heal = |lab: &Lab, _: NodeId| lab.heal();
    trial.round("isolated", |t, id| t.lab.isolate(id).and_then(|()| t.replaced(id)), heal)?;
    trial.round("mute", |t, id| t.lab.mute(id).and_then(|()| t.replaced(id)), heal)?;
    trial.round("deaf", |t, id| t.lab.deafen(id).and_then(|()| t.replaced(id)), heal)?;
    trial.round("lossy", |t, id| t.lab.lose(id, 20).map(|()| std::thread::sleep(LIMIT)), heal)?;
    trial.round(
        "frozen",
        |t, id| t.lab.freeze(id).and_then(|()| t.served_by(&t.others(id)).map(drop)),
        |lab, id| lab.thaw(id),
    )?;
    trial.round(
        "rebooted",
        |t, id| t.lab.reboot(id).and_then(|()| t.served_by(&t.others(id)).map(drop)),
        heal,
    )?;
    trial.finish()
}

#[test]
fn power_cuts_of_hosts_lose_no_acknowledged_write() -> Result<()> {
    let Some(mut trial) = Trial::start(5)? else { return Ok(()) };
    let boot = |lab: &Lab, ids: &[NodeId]| ids.iter().try_for_each(|id| lab.boot_host(*id));
    trial.round(
        "the leader",
        |t, id| t.lab.cut_power(&[id]).and_then(|()| t.served_by(&t.others(id)).map(drop)),
        |lab, id| boot(lab, &[id]),
    )?;
    for (name, victims) in [("a majority", vec![1, 3, 5]), ("all", trial.lab.ids())] {
        trial.round(name, |t, _| t.lab.cut_power(&victims), |lab, _| boot(lab, &victims))?;
    }
    trial.finish()
}

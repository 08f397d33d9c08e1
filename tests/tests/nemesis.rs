//! Everything at once: nodes die, freeze and come back, what they say to each other is held back, delayed and broken,
//! one way and both, and leadership is sent about, while clients write and read. In between the cluster is healed and
//! must serve again soon.
//!
//! `NEMESIS_SECONDS` says how long, `NEMESIS_SEED` repeats a sequence of faults (not their exact moments).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use shared::ids::NodeId;
use tests::client::{Client, http};
use tests::cluster::Cluster;
use tests::history::{History, leaders_by_term};
use tests::ledger;
use tests::proxy::{Proxies, Weather};
use tests::traffic::Traffic;

const LIMIT: Duration = Duration::from_secs(5);
const TOPIC: &str = "t";
/// Takes the writes that show that the cluster serves.
const PROBE: &str = "probe";
/// Once everything is healed, a write is acknowledged within this time.
const RECOVERY: Duration = Duration::from_secs(5);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Nemesis {
    cluster: Cluster,
    proxies: Proxies,
    random: Rng,
    frozen: Vec<NodeId>,
    /// What was done, for the report of a failure.
    done: Vec<String>,
}

impl Nemesis {
    fn start(seed: u64) -> Result<Self> {
        let mut cluster = Cluster::prepare_behind_proxies(3)?;
        let proxies = Proxies::start(&cluster)?;
        cluster.launch_all()?;
        let leader = cluster.wait_ready()?;
        for topic in [TOPIC, PROBE] {
            let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic(topic, 1)?;
            ensure!(code == 0, "no topic: error code {code}");
        }
        Ok(Self { cluster, proxies, random: Rng::with_seed(seed), frozen: Vec::new(), done: Vec::new() })
    }

    /// A node, and another one.
    fn pair(&mut self) -> (NodeId, NodeId) {
        let mut ids = self.cluster.ids();
        self.random.shuffle(&mut ids);
        (ids[0], ids[1])
    }

    fn note(&mut self, what: String) {
        self.done.push(what);
    }

    /// One fault more.
    fn strike(&mut self) -> Result<()> {
        let (a, b) = self.pair();
        match self.random.u8(..8) {
            0 => self.kill(a)?,
            1 => self.freeze(a)?,
            2 => {
                self.note(format!("{a} reaches nobody"));
                self.cluster.ids().into_iter().for_each(|to| self.proxies.set(a, to, Weather::Blocked));
            }
            3 => {
                self.note(format!("{a} is cut off"));
                for other in self.cluster.ids() {
                    self.proxies.set(a, other, Weather::Blocked);
                    self.proxies.set(other, a, Weather::Blocked);
                }
            }
            4 => {
                self.note(format!("{a} does not reach {b}"));
                self.proxies.set(a, b, Weather::Blocked);
            }
            5 => {
                let delay = Duration::from_millis(self.random.u64(5..120));
                self.note(format!("{a} reaches {b} after {delay:?}"));
                self.proxies.set(a, b, Weather::Slow(delay));
            }
            6 => {
                self.note(format!("connections between {a} and {b} break"));
                self.proxies.sever(a, b);
            }
            _ => self.transfer(a, b),
        }
        Ok(())
    }

    fn kill(&mut self, id: NodeId) -> Result<()> {
        if self.cluster.is_running(id) {
            self.note(format!("{id} dies"));
            self.frozen.retain(|frozen| *frozen != id);
            self.cluster.kill(id)?;
        }
        Ok(())
    }

    fn freeze(&mut self, id: NodeId) -> Result<()> {
        if self.cluster.is_running(id) && !self.frozen.contains(&id) {
            self.note(format!("{id} freezes"));
            self.frozen.push(id);
            self.cluster.signal(id, Signal::STOP)?;
        }
        Ok(())
    }

    /// Asks one node for another to lead. The answer may take long, and whatever it is, is right.
    fn transfer(&mut self, asked: NodeId, to: NodeId) {
        self.note(format!("{asked} is asked that {to} lead"));
        let address = format!("{}:8080", self.cluster.proxy(asked).0);
        let body = format!("{{\"to\": {to}}}");
        std::thread::spawn(move || http(&address, "POST", "/cluster/leader/transfer", &body));
    }

    /// Nodes come back one by one, now and then while the network is still bad.
    fn relieve(&mut self) -> Result<()> {
        for id in self.cluster.ids() {
            if !self.cluster.is_running(id) {
                self.note(format!("{id} starts"));
                return self.cluster.launch(id);
            }
        }
        if let Some(id) = self.frozen.pop() {
            self.note(format!("{id} wakes"));
            return self.cluster.signal(id, Signal::CONT);
        }
        self.note("the network heals".to_owned());
        self.proxies.heal();
        Ok(())
    }

    /// Nothing is broken any more; the cluster must serve soon.
    fn heal(&mut self) -> Result<()> {
        self.note("everything heals".to_owned());
        self.proxies.heal();
        for id in std::mem::take(&mut self.frozen) {
            self.cluster.signal(id, Signal::CONT)?;
        }
        for id in self.cluster.ids() {
            if !self.cluster.is_running(id) {
                self.cluster.launch(id)?;
            }
        }
        let healed = Instant::now();
        self.cluster.wait("an acknowledged write", |cluster| {
            let mut nodes = cluster.ids().into_iter().map(|id| cluster.kafka(id));
            nodes.find(|node| {
                let client = Client::connect(*node, Duration::from_millis(500));
                client.and_then(|mut client| client.produce(PROBE, 0, b"alive")).is_ok_and(|o| o.is_ok())
            })
        })?;
        ensure!(
            healed.elapsed() < RECOVERY,
            "served again only {:?} after everything healed",
            healed.elapsed()
        );
        self.cluster.wait_ready().map(drop)
    }

    /// A storm of faults, then calm and every check.
    fn round(&mut self, history: &mut History, number: u64) -> Result<()> {
        let traffic = Traffic::start(&self.cluster, TOPIC, number);
        for _ in 0..self.random.u64(3..8) {
            std::thread::sleep(Duration::from_millis(self.random.u64(20..500)));
            if self.random.u8(..3) == 0 { self.relieve()? } else { self.strike()? }
        }
        self.heal()?;
        traffic.finish(history)?;
        let leader = self.cluster.wait_ready()?;
        history.check(Client::connect(self.cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?)?;
        leaders_by_term(self.cluster.ids().into_iter().map(|id| (id, self.cluster.log(id)))).map(drop)
    }

    fn finish(&mut self, history: &History) -> Result<()> {
        let terms = leaders_by_term(self.cluster.ids().into_iter().map(|id| (id, self.cluster.log(id))))?;
        let (acknowledged, looks) = history.size();
        println!("{acknowledged} acknowledged writes, {looks} reads of the end, {} leaders", terms.len());
        ensure!(acknowledged > 0 && looks > 0 && !terms.is_empty(), "nothing was tested");
        let floor = self.cluster.status(self.cluster.wait_ready()?)?.commit_index;
        for id in self.cluster.ids() {
            ensure!(self.cluster.stop(id)?, "node {id} did not end well: {}", self.cluster.log(id));
        }
        ledger::same_logs(&self.cluster, floor)
    }
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost_and_the_cluster_recovers() -> Result<()> {
    let seed = setting("NEMESIS_SEED", fastrand::u64(..1_000_000));
    let end = Instant::now() + Duration::from_secs(setting("NEMESIS_SECONDS", 12));
    let mut nemesis = Nemesis::start(seed)?;
    let mut history = History::default();
    let mut number = 0;
    let mut outcome = Ok(());
    while outcome.is_ok() && Instant::now() < end {
        nemesis.note(format!("round {number}"));
        outcome = nemesis.round(&mut history, number);
        number += 1;
    }
    outcome = outcome.and_then(|()| nemesis.finish(&history));
    outcome.with_context(|| format!("NEMESIS_SEED={seed}: {}", nemesis.done.join(", ")))
}

/// The weather between two nodes is what it is said to be: a leader that nobody hears is replaced, and knows it.
#[test]
fn a_leader_that_reaches_nobody_is_replaced() -> Result<()> {
    let nemesis = Nemesis::start(0)?;
    let old = nemesis.cluster.wait_leader()?;
    nemesis.cluster.ids().into_iter().for_each(|to| nemesis.proxies.set(old, to, Weather::Blocked));
    let next = nemesis.cluster.wait("another leader", |cluster| cluster.leader().filter(|id| *id != old))?;
    nemesis.cluster.wait("the old leader to give up", |cluster| {
        let status = cluster.status(old).ok()?;
        (status.state != Some(shared::api::RaftRole::Leader)).then_some(())
    })?;
    nemesis.proxies.heal();
    nemesis.cluster.wait("the old leader to follow", |cluster| {
        cluster.status(old).ok()?.leader.filter(|leader| *leader == next)
    })?;
    Ok(())
}

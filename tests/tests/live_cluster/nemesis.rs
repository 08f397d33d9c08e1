//! Random faults: nodes are killed, frozen and restarted, connections are blocked, delayed and broken in one
//! or both directions, and leadership is transferred, while clients write and read. Between rounds all faults
//! end, and the cluster must serve soon.
//!
//! `NEMESIS_SECONDS` is the duration; `NEMESIS_SEED` repeats a sequence of faults, though not their exact
//! times.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::http;
use tests::load::Load;
use tests::load::history::{LoadHistory, leaders_by_term};
use tests::logs::stop_and_compare;
use tests::proxy::{NetworkFault, Proxies};

const LIMIT: Duration = Duration::from_secs(5);
const TOPIC: &str = "t";
/// The topic for writes that show whether the cluster serves.
const PROBE: &str = "probe";
/// A write must be acknowledged within this time after all faults have ended.
const RECOVERY: Duration = Duration::from_secs(5);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Nemesis {
    cluster: Cluster,
    proxies: Proxies,
    random: Rng,
    frozen: Vec<NodeId>,
    /// The faults so far, for the report of a failure.
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

    /// Returns two different nodes.
    fn pair(&mut self) -> (NodeId, NodeId) {
        let mut ids = self.cluster.ids();
        self.random.shuffle(&mut ids);
        (ids[0], ids[1])
    }

    fn note(&mut self, what: String) {
        self.done.push(what);
    }

    /// Causes one fault.
    fn strike(&mut self) -> Result<()> {
        let (a, b) = self.pair();
        match self.random.u8(..8) {
            0 => self.kill(a)?,
            1 => self.freeze(a)?,
            2 => {
                self.note(format!("{a} reaches nobody"));
                self.cluster.ids().into_iter().for_each(|to| self.proxies.set(a, to, NetworkFault::Block));
            }
            3 => {
                self.note(format!("{a} is cut off"));
                for other in self.cluster.ids() {
                    self.proxies.set(a, other, NetworkFault::Block);
                    self.proxies.set(other, a, NetworkFault::Block);
                }
            }
            4 => {
                self.note(format!("{a} does not reach {b}"));
                self.proxies.set(a, b, NetworkFault::Block);
            }
            5 => {
                let delay = Duration::from_millis(self.random.u64(5..120));
                self.note(format!("{a} reaches {b} after {delay:?}"));
                self.proxies.set(a, b, NetworkFault::Delay(delay));
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

    /// Asks a node to transfer leadership. Any response is right, and it may take long.
    fn transfer(&mut self, asked: NodeId, to: NodeId) {
        self.note(format!("{asked} is asked that {to} lead"));
        let address = format!("{}:8080", self.cluster.proxy(asked).0);
        let body = format!("{{\"to\": {to}}}");
        std::thread::spawn(move || http::call(&address, "POST", "/cluster/leader/transfer", &body));
    }

    /// Ends one fault: nodes first, then the network.
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

    /// Ends all faults, and checks that the cluster serves soon.
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

    /// Causes faults under load, ends them, and runs every check.
    fn round(&mut self, history: &mut LoadHistory, number: u64) -> Result<()> {
        let load = Load::start(&self.cluster, TOPIC, number);
        for _ in 0..self.random.u64(3..8) {
            std::thread::sleep(Duration::from_millis(self.random.u64(20..500)));
            if self.random.u8(..3) == 0 { self.relieve()? } else { self.strike()? }
        }
        self.heal()?;
        load.finish(history)?;
        let leader = self.cluster.wait_ready()?;
        history.check(Client::connect(self.cluster.kafka(leader), LIMIT)?.read_all(TOPIC, 0)?)?;
        leaders_by_term(self.cluster.ids().into_iter().map(|id| (id, self.cluster.log(id)))).map(drop)
    }

    fn finish(&mut self, history: &LoadHistory) -> Result<()> {
        let terms = leaders_by_term(self.cluster.ids().into_iter().map(|id| (id, self.cluster.log(id))))?;
        let (acknowledged, looks) = history.counts();
        println!("{acknowledged} acknowledged writes, {looks} reads of the end, {} leaders", terms.len());
        ensure!(acknowledged > 0 && looks > 0 && !terms.is_empty(), "the load did nothing");
        stop_and_compare(&mut self.cluster)
    }
}

#[test]
fn random_faults_lose_no_acknowledged_write() -> Result<()> {
    let seed = setting("NEMESIS_SEED", fastrand::u64(..1_000_000));
    let end = Instant::now() + Duration::from_secs(setting("NEMESIS_SECONDS", 12));
    let mut nemesis = Nemesis::start(seed)?;
    let mut history = LoadHistory::default();
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

/// Checks the faults of the proxies themselves: a leader that nobody hears is replaced and steps down.
#[test]
fn a_leader_that_nobody_hears_is_replaced() -> Result<()> {
    let nemesis = Nemesis::start(0)?;
    let old = nemesis.cluster.wait_leader()?;
    nemesis.cluster.ids().into_iter().for_each(|to| nemesis.proxies.set(old, to, NetworkFault::Block));
    let next = nemesis.cluster.wait("another leader", |cluster| cluster.leader().filter(|id| *id != old))?;
    nemesis.cluster.wait("the old leader to step down", |cluster| {
        let status = cluster.status(old).ok()?;
        (status.state != shared::api::NodeState::Leader).then_some(())
    })?;
    nemesis.proxies.heal();
    nemesis.cluster.wait("the old leader to follow", |cluster| {
        cluster.status(old).ok()?.leader.filter(|leader| *leader == next)
    })?;
    Ok(())
}

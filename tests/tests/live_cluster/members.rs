//! Changes of members: by the documented calls, refused where unsafe, and under faults.
//!
//! `CHURN_ROUNDS` is the number of changes under faults.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use shared::api::{ErrorBody, MemberResponse, Role};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::load::Load;
use tests::load::history::{LoadHistory, leaders_by_term};
use tests::logs::stop_and_compare;
use tests::programs::binary;

const LIMIT: Duration = Duration::from_secs(5);
/// A change must succeed within this time once there are no faults.
const SOON: Duration = Duration::from_secs(15);

type Answer = Result<(u16, String)>;

fn member(answer: Answer) -> Result<MemberResponse> {
    let (code, body) = answer?;
    ensure!(code == 200, "{code} {body}");
    Ok(serde_json::from_str(&body)?)
}

/// Returns HTTP status and error code of a refusal.
fn refused(answer: Answer) -> Result<(u16, String)> {
    let (code, body) = answer?;
    let error: ErrorBody = serde_json::from_str(&body).context(body)?;
    ensure!(!error.hint.is_empty(), "{error:?}");
    Ok((code, error.code))
}

fn add(cluster: &Cluster, asked: NodeId, id: NodeId) -> Result<MemberResponse> {
    member(cluster.post(asked, "/cluster/members", &cluster.join_request(id)))
}

fn remove(cluster: &Cluster, asked: NodeId, id: NodeId) -> Answer {
    cluster.delete(asked, &format!("/cluster/members/{id}"))
}

/// Returns the voters as node `id` sees them.
fn voters(cluster: &Cluster, id: NodeId) -> Option<Vec<NodeId>> {
    let status = cluster.status(id).ok()?;
    let peers = status.peers.iter().filter(|peer| peer.role == Role::Voter).map(|peer| peer.id);
    let mut voters: Vec<_> = peers.chain((status.role == Role::Voter).then_some(id)).collect();
    voters.sort_unstable();
    Some(voters)
}

/// Waits until each of `asked` sees exactly the voters `members`.
fn wait_seen(cluster: &Cluster, asked: &[NodeId], members: &[NodeId]) -> Result<()> {
    let sees = |cluster: &Cluster, id| voters(cluster, id).is_some_and(|voters| voters == members);
    cluster.wait(&format!("{members:?} to vote, and no others"), |cluster| {
        asked.iter().all(|id| sees(cluster, *id)).then_some(())
    })
}

/// The same for the members themselves.
fn wait_voters(cluster: &Cluster, members: &[NodeId]) -> Result<()> {
    wait_seen(cluster, members, members)
}

fn brokers(cluster: &Cluster, id: NodeId) -> Result<Vec<i32>> {
    let metadata = Client::connect(cluster.kafka(id), LIMIT)?.metadata(&[])?;
    Ok(metadata.brokers.iter().map(|broker| broker.node_id.0).collect())
}

fn produce(cluster: &Cluster, value: &str) -> Result<i64> {
    let leader = cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(leader), LIMIT)?;
    client.produce("t", 0, value.as_bytes())?.map_err(|code| anyhow::anyhow!("error code {code}"))
}

/// Three nodes with topic `t`.
fn three(extra: &str) -> Result<Cluster> {
    let cluster = Cluster::start_with(3, extra, &binary("esnode"))?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)?;
    ensure!(code == 0, "no topic: error code {code}");
    Ok(cluster)
}

fn wipe(cluster: &Cluster, id: NodeId) -> Result<()> {
    Ok(std::fs::remove_dir_all(cluster.data_dir(id))?)
}

/// Every limit follows from the configured timing: no peer counts as inactive between two heartbeats.
#[test]
fn members_change_and_leadership_moves_with_slow_heartbeats() -> Result<()> {
    let timing = "  raft:\n    election_timeout_min: 1000\n    election_timeout_max: 1500\n    heartbeat_interval: 400\n";
    let mut cluster = three(timing)?;
    let leader = cluster.wait_leader()?;
    let four = cluster.grow()?;
    cluster.launch(four)?;
    add(&cluster, leader, four)?;
    wait_voters(&cluster, &[1, 2, 3, four])?;
    let to = leader % 3 + 1;
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", &format!("{{\"to\": {to}}}"))?;
    ensure!(code == 200, "{code} {body}");
    member(remove(&cluster, to, leader))?;
    cluster.reap(leader)?;
    let rest: Vec<_> = [1, 2, 3, four].into_iter().filter(|id| *id != leader).collect();
    wait_voters(&cluster, &rest)
}

#[test]
fn a_node_without_wal_sync_accepts_no_members() -> Result<()> {
    let cluster = Cluster::start_with(1, "    wal_sync: false\n", &binary("esnode"))?;
    cluster.wait_ready()?;
    let another = r#"{"id": 2, "host": "127.0.0.1", "port": 9100}"#;
    ensure!(refused(cluster.post(1, "/cluster/members", another))? == (409, "not_synced".to_owned()));
    for id in [0, 1_u64 << 31] {
        let body = format!(r#"{{"id": {id}, "host": "127.0.0.1", "port": 9100}}"#);
        ensure!(refused(cluster.post(1, "/cluster/members", &body))? == (400, "bad_request".to_owned()));
    }
    Ok(())
}

#[test]
fn a_node_is_added_serves_and_is_removed() -> Result<()> {
    let mut cluster = three("")?;
    let before = produce(&cluster, "before")?;
    let leader = cluster.wait_leader()?;
    let follower = leader % 3 + 1;
    let four = cluster.grow()?;
    cluster.launch(four)?;
    cluster.wait("it to log that it is no member yet", |cluster| {
        cluster.log(four).contains("is no member, as far as").then_some(())
    })?;
    ensure!(cluster.get(four, "/health/ready")?.0 == 503, "it is no member yet");

    // Any member accepts the call, and a repeated call gets the same response.
    let added = add(&cluster, follower, four)?;
    ensure!(added.id == four && added.role == Role::Learner, "{added:?}");
    ensure!(matches!(add(&cluster, leader, four)?.role, Role::Learner | Role::Voter));
    wait_voters(&cluster, &[1, 2, 3, four])?;
    ensure!(add(&cluster, follower, four)?.role == Role::Voter);
    for id in cluster.ids() {
        ensure!(brokers(&cluster, id)? == [1, 2, 3, 4], "node {id}");
    }
    // It can lead, with everything that was written before it joined.
    cluster.wait_ready()?;
    let (code, body) = cluster.post(follower, "/cluster/leader/transfer", &format!("{{\"to\": {four}}}"))?;
    ensure!(code == 200, "{body}");
    produce(&cluster, "by four")?;
    let events = Client::connect(cluster.kafka(four), LIMIT)?.read_all("t", 0)?;
    ensure!(events.len() == 2 && events[0].offset == before, "{} events", events.len());

    // A leader that is removed transfers leadership first, and ends by itself.
    let gone = member(remove(&cluster, leader, four))?;
    ensure!((gone.role, gone.voters.as_slice()) == (Role::None, &[1, 2, 3][..]), "{gone:?}");
    ensure!(cluster.reap(four)?.success(), "{}", cluster.log(four));
    ensure!(cluster.log(four).contains("was removed from the cluster"));
    ensure!(member(remove(&cluster, follower, four))?.role == Role::None, "the same call again");
    wait_voters(&cluster, &[1, 2, 3])?;
    ensure!(brokers(&cluster, follower)? == [1, 2, 3]);
    produce(&cluster, "after")?;

    // With its old disk it ends again and disturbs nobody; with an empty one it may be added again.
    let term = cluster.status(leader)?.term;
    cluster.launch(four)?;
    ensure!(cluster.reap(four)?.success());
    ensure!(cluster.status(leader)?.term == term, "it disturbed the others");
    wipe(&cluster, four)?;
    cluster.launch(four)?;
    add(&cluster, leader, four)?;
    wait_voters(&cluster, &[1, 2, 3, four])?;
    stop_and_compare(&mut cluster)
}

/// Runs a documented call, with the hosts of this cluster. Returns what it prints.
fn printed(line: &str) -> Result<serde_json::Value> {
    let output = std::process::Command::new("sh").args(["-c", line]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&said)
        .with_context(|| format!("{line}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_documented_calls_work_as_printed() -> Result<()> {
    let mut cluster = three("")?;
    let leader = cluster.wait_ready()?;
    let admin = cluster.admin(leader);
    let status = format!("curl -s http://{admin}/cluster/status");
    let before = printed(&status)?;
    ensure!(before["node_id"] == leader && before["state"] == "leader", "{before}");
    ensure!(before["term"].is_u64() && before["commit_index"].is_u64(), "{before}");
    let peers = before["peers"].as_array().context("peers")?;
    ensure!(peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "follower"), "{before}");
    let four = cluster.grow()?;
    let host = cluster.admin(four).ip();
    cluster.launch(four)?;
    let body = format!(r#"{{"id": 4, "host": "{host}", "port": 9100}}"#);
    printed(&format!("curl -s -X POST http://{admin}/cluster/members \\\n  -d '{body}'"))?;
    cluster.wait("node 4 to appear with a match_index that catches up", |_| {
        let now = printed(&status).ok()?;
        let four = now["peers"].as_array()?.iter().find(|peer| peer["id"] == 4)?.clone();
        (four["match_index"] == now["commit_index"] && four["role"] == "voter").then_some(())
    })?;
    let gone = printed(&format!("curl -s -X DELETE http://{admin}/cluster/members/4"))?;
    ensure!(gone["role"] == "none", "{gone}");
    ensure!(cluster.reap(4)?.success(), "{}", cluster.log(4));
    Ok(())
}

#[test]
fn unsafe_or_invalid_changes_are_refused() -> Result<()> {
    let mut cluster = three("")?;
    let leader = cluster.wait_leader()?;
    let (dead, alive) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.kill(dead)?;
    cluster.wait("its silence to show", |cluster| {
        let status = cluster.status(leader).ok()?;
        status.peers.iter().any(|peer| peer.id == dead && !peer.connected).then_some(())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(refused(remove(&cluster, leader, alive))? == (409, "no_quorum".into()));
    ensure!(refused(remove(&cluster, alive, leader))? == (409, "no_quorum".into()));
    ensure!(refused(remove(&cluster, leader, 9))? == (404, "not_a_member".into()));
    let four = cluster.grow()?;
    let taken = cluster.join_request(four).replace(&format!("\"id\": {four}"), "\"id\": 2");
    ensure!(refused(cluster.post(leader, "/cluster/members", &taken))? == (409, "id_taken".into()));
    let taken = cluster.join_request(dead).replace(&format!("\"id\": {dead}"), "\"id\": 7");
    ensure!(refused(cluster.post(alive, "/cluster/members", &taken))? == (409, "address_taken".into()));
    let promoted = cluster.post(leader, &format!("/cluster/members/{four}/promote"), "");
    ensure!(refused(promoted)? == (404, "not_a_member".into()));
    ensure!(voters(&cluster, leader) == Some(vec![1, 2, 3]));

    // A learner that is down does no harm, and is not promoted.
    ensure!(add(&cluster, leader, four)?.role == Role::Learner);
    let promoted = cluster.post(leader, &format!("/cluster/members/{four}/promote"), "");
    ensure!(refused(promoted)? == (409, "behind".into()));
    produce_with(&cluster, leader, "with a learner that is not there")?;
    // It prevents neither the removal of the dead voter nor its own.
    member(remove(&cluster, leader, dead))?;
    ensure!(member(remove(&cluster, leader, four))?.learners.is_empty());
    produce_with(&cluster, leader, "in a cluster of two")?;
    ensure!(refused(remove(&cluster, leader, 9))? == (404, "not_a_member".into()));
    Ok(())
}

fn produce_with(cluster: &Cluster, leader: NodeId, value: &str) -> Result<()> {
    let outcome = Client::connect(cluster.kafka(leader), LIMIT)?.produce("t", 0, value.as_bytes())?;
    ensure!(outcome.is_ok(), "{value}: {outcome:?}");
    Ok(())
}

/// No configuration names all members: node 4, added while node 3 was down, leads when that comes back, and
/// node 5 does not know node 4.
#[test]
fn members_find_each_other_whatever_their_configurations_name() -> Result<()> {
    let mut cluster = three("")?;
    cluster.wait_ready()?;
    cluster.kill(3)?;
    let four = cluster.grow()?;
    cluster.launch(four)?;
    let leader = cluster.wait_leader()?;
    add(&cluster, leader, four)?;
    wait_seen(&cluster, &[1, 2, four], &[1, 2, 3, four])?;
    let (code, body) = cluster.post(leader, "/cluster/leader/transfer", &format!("{{\"to\": {four}}}"))?;
    ensure!(code == 200, "{body}");
    cluster.wait("four to lead", |cluster| cluster.leader().filter(|leader| *leader == four))?;
    // Node 3 knows nothing of node 4, which leads.
    cluster.launch(3)?;
    wait_voters(&cluster, &[1, 2, 3, four])?;
    produce(&cluster, "led by four")?;
    // Node 5's file does not name node 4 either.
    let five = cluster.grow()?;
    let file = std::fs::read_to_string(cluster.config(five))?;
    let start = file.find("    - id: 4").context("node 4 in the file")?;
    let end = file.find("    - id: 5").context("node 5 in the file")?;
    std::fs::write(cluster.config(five), format!("{}{}", &file[..start], &file[end..]))?;
    cluster.launch(five)?;
    add(&cluster, 1, five)?;
    wait_voters(&cluster, &[1, 2, 3, four, five])
}

/// Changes of members, each under a fault, while clients write and read.
struct Churn {
    cluster: Cluster,
    random: Rng,
    members: Vec<NodeId>,
    outside: Vec<NodeId>,
    done: Vec<String>,
}

impl Churn {
    fn start(seed: u64) -> Result<Self> {
        let mut cluster = three("    snapshot_interval: 200\n    segment_mb: 2\n")?;
        let outside = vec![cluster.grow()?, cluster.grow()?];
        let (random, members) = (Rng::with_seed(seed), vec![1, 2, 3]);
        Ok(Self { cluster, random, members, outside, done: Vec::new() })
    }

    fn one_of(&mut self, ids: &[NodeId]) -> NodeId {
        ids[self.random.usize(..ids.len())]
    }

    /// Makes one change, with a fault during it.
    fn round(&mut self) -> Result<()> {
        let grows = match self.members.len() {
            0..=3 => true,
            4 => self.random.bool(),
            _ => false,
        };
        let id = if grows { self.outside.remove(0) } else { self.one_of(&self.members.clone()) };
        if grows {
            self.cluster.launch(id)?;
        }
        let (asked, victim) = (self.one_of(&self.members.clone()), self.one_of(&self.members.clone()));
        let (kills, before) = (self.random.bool(), Duration::from_millis(self.random.u64(..100)));
        let (what, how) = (if grows { "add" } else { "remove" }, if kills { "dies" } else { "freezes" });
        self.done.push(format!("{what} {id} by {asked}, {victim} {how} after {before:?}"));
        let (address, path, body) = self.call(asked, id, grows);
        let method = if grows { "POST" } else { "DELETE" };
        // Under the fault it may fail; whether it took effect is seen afterwards.
        let under_fault = std::thread::spawn(move || tests::http::call(&address, method, &path, &body));
        std::thread::sleep(before);
        self.hurt(victim, kills)?;
        let _ = under_fault.join().expect("a request never panics");
        self.insist(id, grows)?;
        if grows {
            self.members.push(id);
            self.members.sort_unstable();
        } else {
            self.members.retain(|member| *member != id);
            self.let_go(id)?;
        }
        wait_voters(&self.cluster, &self.members)
    }

    fn call(&self, asked: NodeId, id: NodeId, grows: bool) -> (String, String, String) {
        let address = self.cluster.admin(asked).to_string();
        if grows {
            return (address, "/cluster/members".into(), self.cluster.join_request(id));
        }
        (address, format!("/cluster/members/{id}"), String::new())
    }

    /// Kills or freezes a node for a short time.
    fn hurt(&mut self, victim: NodeId, kills: bool) -> Result<()> {
        let away = Duration::from_millis(self.random.u64(20..800));
        if kills {
            // It may be the node that was just removed, and have ended already.
            let _ = self.cluster.kill(victim);
            std::thread::sleep(away);
            return self.cluster.launch(victim);
        }
        if self.cluster.signal(victim, Signal::STOP).is_ok() {
            std::thread::sleep(away);
            self.cluster.signal(victim, Signal::CONT)?;
        }
        Ok(())
    }

    /// Repeats the call until it succeeds, without faults.
    fn insist(&mut self, id: NodeId, grows: bool) -> Result<()> {
        let since = Instant::now();
        loop {
            let asked = self.one_of(&self.members.clone());
            let (address, path, body) = self.call(asked, id, grows);
            let method = if grows { "POST" } else { "DELETE" };
            let answer = tests::http::call(&address, method, &path, &body);
            if answer.as_ref().is_ok_and(|(code, _)| *code == 200) {
                return Ok(());
            }
            ensure!(since.elapsed() < SOON, "{:?}: node {asked} still says {answer:?}", since.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the removed node to end, and empties its data directory for a new one.
    fn let_go(&mut self, id: NodeId) -> Result<()> {
        let ended = self.cluster.reap(id)?;
        ensure!(ended.success(), "node {id} was removed and ended with {ended}: {}", self.cluster.log(id));
        wipe(&self.cluster, id)?;
        self.outside.push(id);
        Ok(())
    }

    /// Adds all nodes again, and checks that all logs are the same.
    fn finish(&mut self) -> Result<()> {
        for id in std::mem::take(&mut self.outside) {
            self.cluster.launch(id)?;
            self.insist(id, true)?;
        }
        wait_voters(&self.cluster, &[1, 2, 3, 4, 5])?;
        stop_and_compare(&mut self.cluster)
    }

    fn run(&mut self, rounds: u64) -> Result<()> {
        let (mut history, every) = (LoadHistory::default(), 10);
        for first in (0..rounds).step_by(every) {
            let load = Load::start(&self.cluster, "t", first);
            let outcome = (first..rounds.min(first + every as u64)).try_for_each(|_| self.round());
            load.finish(&mut history)?;
            outcome?;
            let leader = self.cluster.wait_ready()?;
            history.check(Client::connect(self.cluster.kafka(leader), LIMIT)?.read_all("t", 0)?)?;
        }
        let terms = leaders_by_term(self.cluster.ids().into_iter().map(|id| (id, self.cluster.log(id))))?;
        let (acknowledged, looks) = history.counts();
        println!(
            "{rounds} changes, {acknowledged} acknowledged writes, {looks} looks, {} leaders",
            terms.len()
        );
        ensure!(acknowledged > 0 && looks > 0, "the load did nothing");
        self.finish()
    }
}

#[test]
fn changes_of_members_under_faults_lose_no_acknowledged_write() -> Result<()> {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = setting("CHURN_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut churn = Churn::start(seed)?;
    let outcome = churn.run(setting("CHURN_ROUNDS").unwrap_or(6));
    outcome.with_context(|| format!("CHURN_SEED={seed}: {}", churn.done.join("; ")))
}

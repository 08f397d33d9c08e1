//! Tables: what nodes say -> verdict, reasons, notices.

use shared::api::{ClusterStatus, DiskProblem, Membership, PeerStatus, RaftRole, example};
use shared::ids::{ClusterId, NodeId};
use shared::spec::ClusterFile;

use super::{Overview, Verdict, overview};
use crate::cluster_file::template;
use crate::plan::desired::{self, DesiredFiles};
use crate::plan::facts::{ApiAnswer, Facts, HostInspection, NodeFacts};

/// A cluster of which everything can be changed.
pub struct World {
    /// Its file.
    pub spec: ClusterFile,
    /// What its nodes should run with.
    pub wanted: DesiredFiles,
    /// What was seen.
    pub facts: Facts,
}

const ID: ClusterId = ClusterId(uuid::uuid!("6f1c2f6e-0000-4000-8000-000000000001"));
const OTHER_ID: ClusterId = ClusterId(uuid::uuid!("6f1c2f6e-0000-4000-8000-000000000002"));

/// Three healthy nodes, led by n1 in term 12: those of the manual.
pub fn healthy(count: u8) -> World {
    let mut spec = template::local_spec("orders-prod", count, None);
    for node in &mut spec.cluster.nodes {
        node.host = format!("10.0.0.{}", node.id);
        (node.client_port, node.cluster_port, node.http_port) = (9000, 9100, 8080);
    }
    let wanted = desired::local(&spec, |id| format!("/data/n{id}").into());
    let nodes = spec.cluster.nodes.iter().map(|node| {
        let api = ApiAnswer::Status(Box::new(status(&spec, node.id, wanted.hash(node.id).unwrap())));
        (node.id, NodeFacts { host: HostInspection::NotAsked, api })
    });
    let facts = Facts { nodes: nodes.collect(), ..Facts::default() };
    World { spec, wanted, facts }
}

fn status(spec: &ClusterFile, id: NodeId, config_hash: &str) -> ClusterStatus {
    let leads = id == 1;
    let lag = |id: NodeId| if id == 2 { 2 } else { 0 };
    let peers = spec.cluster.nodes.iter().filter(|node| node.id != id).map(|node| PeerStatus {
        id: node.id,
        state: Some(if node.id == 1 { RaftRole::Leader } else { RaftRole::Follower }),
        match_index: leads.then(|| 48211 - lag(node.id)),
        host: node.host.clone(),
        cluster_port: node.cluster_port,
        client_port: node.client_port,
        http_port: node.http_port,
        advertised_host: None,
        membership: Membership::Voter,
        connected: true,
        last_contact_ms: Some(29 + node.id),
        lag: leads.then(|| lag(node.id)),
    });
    ClusterStatus {
        node_id: id,
        state: Some(if leads { RaftRole::Leader } else { RaftRole::Follower }),
        term: 12,
        commit_index: 48211,
        peers: peers.collect(),
        cluster_name: "orders-prod".to_owned(),
        cluster_id: Some(ID),
        leader: Some(1),
        applied_index: 48211 - lag(id),
        last_index: 48211,
        config_hash: config_hash.to_owned(),
        settings_hash: String::new(),
        started_at: "2026-01-31T10:15:30Z".to_owned(),
        ..example::status()
    }
}

impl World {
    /// What one node says.
    pub fn says(&mut self, id: NodeId) -> &mut ClusterStatus {
        match &mut self.facts.nodes.get_mut(&id).unwrap().api {
            ApiAnswer::Status(status) => status,
            ApiAnswer::Silent { .. } => panic!("n{id} is silent"),
        }
    }

    /// The node is gone, and whoever still answers has noticed.
    pub fn dies(&mut self, id: NodeId) {
        self.hides(id);
        for node in self.facts.nodes.values_mut() {
            let ApiAnswer::Status(status) = &mut node.api else { continue };
            for peer in status.peers.iter_mut().filter(|peer| peer.id == id) {
                peer.connected = false;
                peer.state = None;
            }
        }
    }

    /// The node cannot be reached from here, and that is all.
    pub fn hides(&mut self, id: NodeId) {
        self.facts.nodes.get_mut(&id).unwrap().api = ApiAnswer::silent("connection refused :8080");
    }

    /// What is made of it.
    pub fn overview(&self) -> Overview {
        overview(&self.spec, &self.facts, &self.wanted)
    }

    fn minority(&mut self) {
        self.dies(1);
        self.dies(2);
        self.without_leader();
    }

    fn rival(&mut self) {
        let status = self.says(2);
        (status.state, status.leader, status.term) = (Some(RaftRole::Leader), Some(2), 11);
    }

    /// n1 was cut off; n2, which leads now, cannot be reached from here.
    fn successor(&mut self) {
        self.hides(2);
        (self.says(3).leader, self.says(3).term) = (Some(2), 13);
    }

    fn without_leader(&mut self) {
        for node in self.facts.nodes.values_mut() {
            if let ApiAnswer::Status(status) = &mut node.api {
                status.leader = None;
                status.state = Some(RaftRole::Candidate);
            }
        }
    }
}

/// What happens to a healthy cluster of three.
type Change = fn(&mut World);

/// A name, a change, the verdict, and a part of one reason.
type Case = (&'static str, Change, Verdict, &'static str);

fn check(table: &[Case]) {
    for (name, change, verdict, reason) in table {
        let mut world = healthy(3);
        change(&mut world);
        let seen = world.overview();
        assert_eq!(seen.health, *verdict, "{name}: {:?}", seen.reasons);
        assert!(seen.reasons.iter().any(|line| line.contains(reason)), "{name}: {:?}", seen.reasons);
        assert_eq!(seen.nodes.len(), 3, "{name}: a node is a row, never dropped");
    }
}

#[test]
fn verdicts_on_majorities() {
    use Verdict::{Degraded, Healthy, Unavailable, Unknown};
    let table: [Case; 9] = [
        ("all well", |_| (), Healthy, "3 of 3 voters follow n1 in term 12"),
        ("a follower dies", |w| w.dies(3), Degraded, "n3 does not answer: connection refused :8080"),
        ("the last spare is gone", |w| w.dies(3), Degraded, "one more failure stops writes"),
        ("hidden only", |w| w.hides(3), Degraded, "connection refused :8080; the leader is connected to it"),
        ("the leader is hidden", |w| w.hides(1), Degraded, "n1 does not answer"),
        (
            "majority dies",
            |w| (2..=3).for_each(|id| w.dies(id)),
            Unavailable,
            "only 1 of 3 voters follow it; 2 are",
        ),
        (
            "minority without a leader",
            World::minority,
            Unavailable,
            "no leader: 1 of 3 voters answer, 2 are required",
        ),
        (
            "an election",
            World::without_leader,
            Unavailable,
            "no leader: 3 of 3 voters answer, an election is under way",
        ),
        ("nobody answers", |w| (1..=3).for_each(|id| w.dies(id)), Unknown, "n2 does not answer"),
    ];
    check(&table);
}

#[test]
fn verdicts_on_disks() {
    use Verdict::{Degraded, Unavailable};
    fn full(world: &mut World, ids: &[NodeId], problem: DiskProblem) {
        ids.iter().for_each(|id| world.says(*id).disk = Some(problem));
    }
    let table: [Case; 7] = [
        ("one is full", |w| full(w, &[2], DiskProblem::Full), Degraded, "disk full on n2: there is no room"),
        (
            "all are full",
            |w| full(w, &[1, 2, 3], DiskProblem::Full),
            Unavailable,
            "disk full on n1, n2, n3: there is no room",
        ),
        (
            "a majority is full",
            |w| full(w, &[1, 3], DiskProblem::Full),
            Unavailable,
            "1 of 3 voters can write",
        ),
        (
            "all are almost full",
            |w| full(w, &[1, 2, 3], DiskProblem::AlmostFull),
            Degraded,
            "disk almost full on n1, n2, n3",
        ),
        (
            "the leader takes nothing",
            |w| w.says(1).refuses_events = true,
            Unavailable,
            "the leader refuses events",
        ),
        (
            "one hangs",
            |w| full(w, &[3], DiskProblem::Stalled { seconds: 5 }),
            Degraded,
            "disk of n3: a write has not finished for 5 s",
        ),
        (
            "one is full and one is down",
            |w| {
                w.dies(3);
                full(w, &[2], DiskProblem::Full);
            },
            Unavailable,
            "1 of 3 voters can write",
        ),
    ];
    check(&table);
}

#[test]
fn verdicts_on_disagreement_and_lag() {
    use Verdict::{Degraded, Healthy, Unavailable};
    let table: [Case; 8] = [
        ("a successor", World::successor, Degraded, "n1 follows leader n1 in term 12, not n2 in term 13"),
        ("a leader that was cut off", World::rival, Degraded, "n2 says it leads in term 11, n1 in term 12"),
        (
            "followers of another",
            |w| w.says(3).leader = Some(2),
            Degraded,
            "n3 follows leader n2 in term 12, not n1",
        ),
        (
            "nobody follows",
            |w| (2..=3).for_each(|id| w.says(id).leader = None),
            Unavailable,
            "n1 leads, but only 1",
        ),
        (
            "two clusters",
            |w| w.says(3).cluster_id = Some(OTHER_ID),
            Degraded,
            "n3 belongs to another cluster: 6f1c",
        ),
        (
            "slow",
            |w| w.says(1).peers[1].lag = Some(LIMIT + 1),
            Degraded,
            "n3 is 101 entries behind the leader",
        ),
        ("at the limit", |w| w.says(1).peers[1].lag = Some(LIMIT), Healthy, "3 of 3"),
        ("cut off", |w| w.says(1).peers[1].connected = false, Degraded, "n1 has no connection to n3"),
    ];
    check(&table);
}

const LIMIT: u64 = crate::plan::agreement::LAG_LIMIT;

#[test]
fn what_is_worth_knowing_makes_nobody_ill() {
    let table: [(Change, &str); 6] = [
        (
            |w| w.says(3).version = "1.5.0".to_owned(),
            "more than one version is running: v1.4.2 on n1, n2, v1.5.0 on n3",
        ),
        (
            |w| w.says(2).config_hash = "another".to_owned(),
            "restart needed: cluster.yaml differs from the configuration that n2 runs with",
        ),
        (|w| w.says(2).wal_sync = false, "wal_sync is off on n2"),
        (|w| w.says(1).pending_change = true, "a membership change is in progress"),
        (|w| w.spec.cluster.nodes.truncate(2), "a member and not in cluster.yaml: n3"),
        (
            |w| {
                w.says(3).state = None;
                w.says(1).peers[1].membership = Membership::None;
            },
            "in cluster.yaml and not a member: n3",
        ),
    ];
    for (change, notice) in table {
        let mut world = healthy(3);
        change(&mut world);
        let seen = world.overview();
        assert_eq!(seen.health, Verdict::Healthy, "{notice}: {:?}", seen.reasons);
        assert!(seen.notices.iter().any(|line| line.starts_with(notice)), "{notice}: {:?}", seen.notices);
    }
    assert_eq!(healthy(3).overview().notices, Vec::<String>::new());
}

#[test]
fn voters_are_counted_as_they_are_now() {
    let counts = |world: &World| {
        let seen = world.overview();
        (seen.voters_up, seen.voters, seen.tolerates)
    };
    let mut five = healthy(5);
    assert_eq!(counts(&five), (5, 5, 2));
    five.dies(5);
    assert_eq!(counts(&five), (4, 5, 1));
    five.dies(4);
    assert_eq!(counts(&five), (3, 5, 0));
    five.says(1).peers[1].membership = Membership::Learner;
    assert_eq!(counts(&five), (2, 4, 0), "a learner does not vote");
}

#[test]
fn before_there_is_a_cluster_the_file_says_who_should_vote() {
    let mut world = healthy(3);
    for id in 1..=3 {
        let status = world.says(id);
        (status.state, status.membership, status.leader, status.cluster_id) =
            (None, Membership::None, None, None);
        status.peers.iter_mut().for_each(|peer| peer.membership = Membership::None);
    }
    let seen = world.overview();
    assert_eq!((seen.health, seen.voters, seen.voters_up), (Verdict::Unavailable, 3, 0));
    assert!(seen.reasons.contains(&"n2 is waiting to join".to_owned()), "{:?}", seen.reasons);
}

#[test]
fn a_leader_that_does_not_answer_is_named_as_such() {
    let mut world = healthy(3);
    world.hides(1);
    let reasons = world.overview().reasons;
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("n1 is the leader according to others, but does not answer")),
        "{reasons:?}"
    );
}

//! Tables: facts in, steps out.

use std::path::PathBuf;

use shared::api::{ClusterStatus, Membership, PeerStatus, RaftRole, example};
use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node};

use super::claims::Claims;
use super::desired::{self, DesiredFiles};
use super::down::{DownOptions, StopOptions, down, stop};
use super::facts::{ApiAnswer, Facts, HostFacts, HostInspection, Machine, NodeFacts, Process, TakenPort};
use super::layout::HostLayout;
use super::program::Program;
use super::provision::Remote;
use super::up::{UpOptions, up};
use super::{Action, Plan, Question};
use crate::cluster_file::template;

mod identity;
mod members;
mod recover;
mod restore;
mod rolling;
mod versions;

struct World {
    spec: ClusterFile,
    wanted: DesiredFiles,
    facts: Facts,
}

/// A local cluster of which `running` run, led by the first of them that is named leader.
fn world(count: u8, running: &[NodeId], leader: Option<NodeId>) -> World {
    let spec = template::local_spec("local", count, None);
    let wanted = desired::local(&spec, |id| PathBuf::from(format!("/d/n{id}/data")));
    let nodes = spec.cluster.nodes.iter().map(|node| {
        let id = node.id;
        let runs = running.contains(&id);
        let host = HostFacts {
            process: if runs {
                Process::Running { pid: 100 + u32::try_from(id).unwrap() }
            } else {
                Process::Stopped
            },
            config_hash: wanted.hash(id).map(str::to_owned),
            dirs: true,
            data_empty: false,
            current: None,
            installed: None,
            exe: None,
            taken: Vec::new(),
            claims: Claims::default(),
            machine: None,
        };
        let api = if runs {
            let others = spec.cluster.nodes.iter().filter(|node| node.id != id);
            let peers = others.map(voter).collect();
            ApiAnswer::Status(Box::new(ClusterStatus {
                peers,
                ..status(id, leader, wanted.hash(id).unwrap())
            }))
        } else {
            ApiAnswer::silent("connection refused")
        };
        (id, NodeFacts { host: HostInspection::Seen(Box::new(host)), api })
    });
    let facts = Facts { nodes: nodes.collect(), ..Facts::default() };
    World { spec, wanted, facts }
}

/// Another member, as a leader sees it.
pub fn voter(node: &Node) -> PeerStatus {
    PeerStatus {
        id: node.id,
        state: Some(RaftRole::Follower),
        match_index: Some(10),
        host: node.host.clone(),
        cluster_port: node.cluster_port,
        client_port: node.client_port,
        http_port: node.http_port,
        advertised_host: None,
        membership: Membership::Voter,
        connected: true,
        last_contact_ms: Some(1),
        lag: Some(0),
    }
}

pub fn status(id: NodeId, leader: Option<NodeId>, config_hash: &str) -> ClusterStatus {
    ClusterStatus {
        node_id: id,
        state: Some(if leader == Some(id) { RaftRole::Leader } else { RaftRole::Follower }),
        term: 3,
        commit_index: 10,
        peers: Vec::new(),
        cluster_name: "local".to_owned(),
        cluster_id: None,
        leader,
        applied_index: 10,
        last_index: 10,
        version: "0.1.0".to_owned(),
        config_hash: config_hash.to_owned(),
        settings_hash: String::new(),
        ..example::status()
    }
}

impl World {
    fn host(&mut self, id: NodeId) -> &mut HostFacts {
        match &mut self.facts.nodes.get_mut(&id).unwrap().host {
            HostInspection::Seen(host) => host,
            other => panic!("{other:?}"),
        }
    }

    fn up(&self, operation: &str, nodes: &[NodeId]) -> Plan {
        self.try_up(operation, nodes).unwrap()
    }

    fn try_up(&self, operation: &str, nodes: &[NodeId]) -> Result<Plan, super::Refusal> {
        let options = UpOptions {
            operation: operation.to_owned(),
            nodes: nodes.to_vec(),
            binary: Some(PathBuf::from("/bin/esnode")),
            ..UpOptions::default()
        };
        up(&self.spec, &self.wanted, &self.facts, &options)
    }

    fn stop(&self, nodes: &[NodeId]) -> Plan {
        stop(&self.spec, &self.facts, &StopOptions { nodes: nodes.to_vec(), ..StopOptions::default() })
            .unwrap()
    }
}

/// Steps of one stage are joined by `+`.
fn shape(plan: &Plan) -> Vec<String> {
    let stage =
        |stage: &super::Stage| stage.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>().join("+");
    plan.stages.iter().map(stage).collect()
}

#[test]
fn a_fresh_cluster_is_written_started_in_order_and_verified() {
    let mut world = world(3, &[], None);
    for id in 1..=3 {
        let host = world.host(id);
        (host.dirs, host.data_empty, host.config_hash) = (false, true, None);
    }
    let file = PathBuf::from("/d/cluster.yaml");
    let binary = Some(PathBuf::from("/bin/esnode"));
    let options =
        UpOptions { operation: "up".to_owned(), new_file: Some(file), binary, ..UpOptions::default() };
    let plan = up(&world.spec, &world.wanted, &world.facts, &options).unwrap();
    let expected = [
        "cluster.file",
        "n1.dirs+n2.dirs+n3.dirs",
        "n1.config+n2.config+n3.config",
        "n1.start",
        "n1.live",
        "n2.start",
        "n2.live",
        "n3.start",
        "n3.live",
        "cluster.leader",
        "cluster.verify",
    ];
    assert_eq!(shape(&plan), expected);
    assert_eq!(plan.changes(), 10);
}

#[test]
fn up_on_a_cluster_that_is_up_only_looks() {
    let plan = world(3, &[1, 2, 3], Some(2)).up("up", &[]);
    assert_eq!(shape(&plan), ["cluster.leader", "cluster.verify"]);
    assert_eq!(plan.changes(), 0);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn only_what_is_down_is_started() {
    let plan = world(3, &[1, 3], Some(3)).up("start", &[]);
    assert_eq!(shape(&plan), ["n2.start", "n2.live", "cluster.leader", "cluster.verify"]);
}

#[test]
fn only_what_was_named_is_started() {
    let world = world(5, &[1, 2, 3], Some(1));
    assert_eq!(shape(&world.up("start", &[5])), ["n5.start", "n5.live", "cluster.leader", "cluster.verify"]);
    assert_eq!(world.up("start", &[1]).changes(), 0);
}

#[test]
fn one_node_of_three_does_not_wait_for_a_leader_that_cannot_be() {
    let plan = world(3, &[], None).up("start", &[2]);
    assert_eq!(shape(&plan), ["n2.start", "n2.live"]);
    assert!(plan.notes[0].contains("1 of 3"), "{:?}", plan.notes);
}

#[test]
fn verification_asks_exactly_those_that_will_run() {
    let plan = world(5, &[1, 2], Some(1)).up("start", &[4]);
    let last = &plan.stages.last().unwrap().steps[0].action;
    assert_eq!(*last, Action::VerifyCluster { nodes: vec![1, 2, 4] });
}

#[test]
fn a_changed_file_is_given_to_the_node_and_a_running_one_is_not_restarted_behind_the_operators_back() {
    let mut world = world(3, &[1, 3], Some(1));
    world.spec.cluster.raft.heartbeat_interval = 40;
    world.wanted = desired::local(&world.spec, |id| PathBuf::from(format!("/d/n{id}/data")));
    let plan = world.up("up", &[]);
    let expected =
        ["n1.config+n2.config+n3.config", "n2.start", "n2.live", "cluster.leader", "cluster.verify"];
    assert_eq!(shape(&plan), expected);
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    assert!(plan.notes[1].contains("escli stop 3 && escli start 3"));
}

#[test]
fn a_taken_port_is_named_with_its_holder_and_another_base_is_offered() {
    let mut world = world(3, &[], None);
    world.host(2).taken = vec![TakenPort {
        port: 9001,
        key: "client_port".to_owned(),
        holder: Some("python3 (pid 4711)".to_owned()),
    }];
    world.facts.free_base_port = Some(12_000);
    let options = UpOptions {
        operation: "up".to_owned(),
        new_file: Some(PathBuf::from("/d/cluster.yaml")),
        ..UpOptions::default()
    };
    let refusal = up(&world.spec, &world.wanted, &world.facts, &options).unwrap_err();
    assert_eq!(refusal.reasons, ["port 9001 (client_port of node 2) is held by python3 (pid 4711)"]);
    assert_eq!((refusal.free_base_port, refusal.hints.len()), (Some(12_000), 0));
    // An existing cluster keeps its ports: clients and the other nodes know them.
    let refusal = world.try_up("up", &[]).unwrap_err();
    assert!(refusal.hints[0].contains("cluster.yaml"), "{:?}", refusal.hints);
}

#[test]
fn data_of_an_earlier_cluster_is_not_built_upon() {
    let world = world(3, &[], None);
    let new_file = Some(PathBuf::from("/d/cluster.yaml"));
    let binary = Some(PathBuf::from("/bin/esnode"));
    let options = UpOptions { new_file, binary, ..UpOptions::default() };
    let refusal = up(&world.spec, &world.wanted, &world.facts, &options).unwrap_err();
    assert_eq!(refusal.message, "/d holds data but no cluster.yaml");
}

#[test]
fn a_missing_program_matters_only_when_something_is_to_be_started() {
    let without = |world: &World| up(&world.spec, &world.wanted, &world.facts, &UpOptions::default());
    assert!(without(&world(3, &[1, 2], Some(1))).unwrap_err().message.contains("was not found"));
    assert_eq!(without(&world(3, &[1, 2, 3], Some(1))).unwrap().changes(), 0);
}

#[test]
fn unknown_nodes_and_unreachable_hosts_are_refused() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    assert!(world.try_up("start", &[7]).unwrap_err().message.contains("no node 7"));
    world.facts.nodes.get_mut(&3).unwrap().host =
        HostInspection::Unreachable { reason: "no route".to_owned(), details: Vec::new(), hints: Vec::new() };
    assert_eq!(world.try_up("up", &[]).unwrap_err().reasons, ["node 3: no route"]);
}

#[test]
fn followers_stop_first_the_leader_last() {
    assert_eq!(shape(&world(3, &[1, 2, 3], Some(1)).stop(&[])), ["n2.stop", "n3.stop", "n1.stop"]);
    assert_eq!(shape(&world(3, &[1, 2, 3], Some(1)).stop(&[1, 3])), ["n3.stop", "n1.stop"]);
    assert_eq!(shape(&world(3, &[2], None).stop(&[])), ["n2.stop"]);
    assert!(shape(&world(3, &[], None).stop(&[])).is_empty());
}

#[test]
fn losing_the_quorum_by_naming_nodes_is_asked_about() {
    let three = world(3, &[1, 2, 3], Some(1));
    assert_eq!(three.stop(&[2]).question, None);
    assert!(matches!(three.stop(&[1, 2]).question, Some(Question::Downtime { .. })));
    assert_eq!(three.stop(&[]).question, None, "all is what was asked for");
    assert!(matches!(world(3, &[1, 2], Some(1)).stop(&[2]).question, Some(Question::Downtime { .. })));
    assert_eq!(world(3, &[1], None).stop(&[1]).question, None, "there are no writes to lose");
    let options = StopOptions { nodes: vec![1, 2], allow_downtime: true, ..StopOptions::default() };
    assert_eq!(stop(&three.spec, &three.facts, &options).unwrap().question, None);
}

#[test]
fn purging_asks_for_the_name_and_happens_after_every_node_has_stopped() {
    let world = world(3, &[1, 2, 3], Some(3));
    let plain = down(&world.spec, &world.facts, &DownOptions::default()).unwrap();
    assert_eq!((shape(&plain).len(), plain.question), (3, None));
    let own_file = Some(PathBuf::from("/d/cluster.yaml"));
    let purge = DownOptions { purge: true, own_file, ..DownOptions::default() };
    let plan = down(&world.spec, &world.facts, &purge).unwrap();
    assert_eq!(
        shape(&plan),
        ["n1.stop", "n2.stop", "n3.stop", "n1.wipe+n2.wipe+n3.wipe", "cluster.remove-file"]
    );
    assert!(matches!(plan.question, Some(Question::TypeName { word, .. }) if word == "local"));
}

#[test]
fn ids_are_unique_and_a_plan_survives_its_journal() {
    let plan = world(9, &[], None).up("up", &[]);
    let mut ids: Vec<&str> = plan.steps().map(|step| step.id.as_str()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// A cluster on hosts of their own.
pub(crate) fn remote_spec(count: u8) -> ClusterFile {
    let nodes: String = (1..=count).map(|id| format!("    - {{ id: {id}, host: 10.0.0.{id} }}\n")).collect();
    shared::spec::parse("cluster.yaml", &format!("cluster:\n  name: prod\n  nodes:\n{nodes}")).unwrap()
}

/// Hosts with nothing on them but what every machine has.
pub(crate) fn remote_facts(spec: &ClusterFile) -> Facts {
    let machine = Machine {
        arch: "x86_64".to_owned(),
        systemd: true,
        free_data_mib: 10_000,
        free_install_mib: 10_000,
        ..Machine::default()
    };
    let host = HostFacts {
        process: Process::Stopped,
        config_hash: None,
        dirs: false,
        data_empty: true,
        current: None,
        installed: None,
        exe: None,
        taken: Vec::new(),
        claims: Claims::default(),
        machine: Some(machine),
    };
    let api = ApiAnswer::silent("connection refused");
    let node = NodeFacts { host: HostInspection::Seen(Box::new(host)), api };
    let nodes = spec.cluster.nodes.iter().map(|own| (own.id, node.clone()));
    Facts { nodes: nodes.collect(), ..Facts::default() }
}

fn remote_options(spec: &ClusterFile, named: bool) -> UpOptions {
    let program = Program {
        path: "/b/esnode".into(),
        release: "1.4.2-3fa9c1d2".to_owned(),
        sha256: "3fa9c1d2".to_owned(),
        mib: 15,
        arch: Some("x86_64".to_owned()),
        info: None,
    };
    let remote = Remote { layout: HostLayout::of(spec).unwrap(), program: Some(program), named };
    UpOptions { operation: "up".to_owned(), remote: Some(remote), ..UpOptions::default() }
}

fn plan_remote(facts: &Facts, named: bool) -> Vec<String> {
    let spec = remote_spec(3);
    let wanted = remote_wanted(&spec);
    let plan = up(&spec, &wanted, facts, &remote_options(&spec, named)).unwrap();
    plan.steps().map(|step| step.id.clone()).collect()
}

fn remote_wanted(spec: &ClusterFile) -> DesiredFiles {
    desired::remote(spec, &HostLayout::of(spec).unwrap(), |text| format!("hash of {}", text.len()))
}

/// The host of node `id` in `facts`.
fn host_of(facts: &mut Facts, id: NodeId) -> &mut HostFacts {
    match facts.nodes.get_mut(&id).map(|node| &mut node.host) {
        Some(HostInspection::Seen(host)) => host,
        other => panic!("{other:?}"),
    }
}

/// Everything is installed there, and nothing runs.
fn installed(facts: &mut Facts, id: NodeId) {
    let wanted = remote_wanted(&remote_spec(3));
    let host = host_of(facts, id);
    host.dirs = true;
    host.config_hash = wanted.hash(id).map(str::to_owned);
    let machine = host.machine.as_mut().unwrap();
    machine.user = true;
    machine.enabled = true;
    machine.unit = wanted.unit_hash(id).map(str::to_owned);
    machine.program = Some("3fa9c1d2".to_owned());
    host.current = Some("1.4.2-3fa9c1d2".to_owned());
}

#[test]
fn bare_hosts_get_everything_in_order() {
    let mut facts = remote_facts(&remote_spec(3));
    installed(&mut facts, 1);
    installed(&mut facts, 3);
    let steps = plan_remote(&facts, false);
    let expected = [
        "n2.user",
        "n2.dirs",
        "n2.binary",
        "n2.release",
        "n2.unit",
        "n2.config",
        "n1.start",
        "n1.live",
        "n2.start",
        "n2.live",
        "n3.start",
        "n3.live",
        "cluster.leader",
        "cluster.verify",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn up_is_no_upgrade() {
    let mut facts = remote_facts(&remote_spec(3));
    (1..=3).for_each(|id| installed(&mut facts, id));
    host_of(&mut facts, 1).current = Some("1.3.0".to_owned());
    let touches = |steps: &[String]| steps.iter().any(|step| step == "n1.release");
    assert!(!touches(&plan_remote(&facts, false)), "nobody asked for it");
    assert!(touches(&plan_remote(&facts, true)), "all are down, and it was named");
    host_of(&mut facts, 2).process = Process::Running { pid: 7 };
    assert!(!touches(&plan_remote(&facts, true)), "two versions at once are an upgrade's business");
}

#[test]
fn a_check_that_fails_refuses_all() {
    let spec = remote_spec(3);
    let mut facts = remote_facts(&spec);
    host_of(&mut facts, 2).machine.as_mut().unwrap().no_root =
        Some("sudo: a password is required".to_owned());
    let refusal = up(&spec, &remote_wanted(&spec), &facts, &remote_options(&spec, false)).unwrap_err();
    assert_eq!(refusal.reasons, ["node 2: sudo: a password is required"]);
    assert_eq!(refusal.hints.len(), 1);
}

#[test]
fn a_node_that_ends_and_is_started_again_is_stopped_like_one_that_runs() {
    for (process, why) in [(Process::Restarting, "restarting"), (Process::Unknown, "its state is unknown")] {
        let mut world = world(3, &[1, 2], Some(1));
        world.host(3).process = process;
        let plan = world.stop(&[]);
        assert_eq!(shape(&plan), ["n2.stop", "n3.stop", "n1.stop"]);
        assert_eq!(plan.stages[1].steps[0].why, why);
        assert_eq!(shape(&world.stop(&[3])), ["n3.stop"]);
        let options = DownOptions { purge: true, ..DownOptions::default() };
        let plan = down(&world.spec, &world.facts, &options).unwrap();
        assert_eq!(shape(&plan), ["n2.stop", "n3.stop", "n1.stop", "n1.wipe+n2.wipe+n3.wipe"]);
        assert!(shape(&world.up("up", &[])).contains(&"n3.start".to_owned()), "it does not run");
    }
}

#[test]
fn learners_are_no_part_of_the_majority_that_a_stop_leaves() {
    let mut world = world(3, &[1, 2, 3], Some(1));
    world.says(3).membership = Membership::Learner;
    for id in [1, 2] {
        let peers = &mut world.says(id).peers;
        peers.iter_mut().filter(|peer| peer.id == 3).for_each(|peer| peer.membership = Membership::Learner);
    }
    assert!(matches!(world.stop(&[2]).question, Some(Question::Downtime { .. })), "one voter of two is left");
    assert_eq!(world.stop(&[3]).question, None);
}

//! Plans `restart` and `reload`: one node at a time. Nodes that are down come first, then followers, and the leader
//! last, after it has transferred leadership to a follower that keeps up. The gates between nodes are steps of the
//! plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::{ClusterStatus, Membership};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::agreement::{self, Agreement};
use super::desired::DesiredFiles;
use super::facts::{Facts, HostFacts, NodeFacts};
use super::quorum::quorum;
use super::transfer::successor;
use super::up::{hosts, targets};
use super::{Action, Plan, Question, Refusal, Step};

/// The options of `restart` and `reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollOptions {
    /// The nodes; all if empty.
    pub nodes: Vec<NodeId>,
    /// Continue although the cluster loses its majority meanwhile.
    pub allow_downtime: bool,
    /// Kill a node that does not stop in time.
    pub force: bool,
    /// Path of the program; `None` if none was found.
    pub binary: Option<PathBuf>,
    /// The program was named for this command, so it takes precedence over the installed one.
    #[serde(default)]
    pub named: bool,
    /// Each node's process when the operation began; `None` for a node that was down. A node with another process now
    /// was restarted since. Empty if the operation has not begun.
    #[serde(default, with = "super::listed")]
    pub before: BTreeMap<NodeId, Option<String>>,
}

/// The part of the plan that is about one node.
#[derive(Clone, Debug)]
pub(super) struct NodeTurn {
    pub(super) id: NodeId,
    pub(super) why: String,
    pub(super) state: TurnState,
    /// Hash of the configuration file to write first.
    pub(super) write: Option<String>,
    /// Hash of the configuration that it must run with afterwards.
    pub(super) prove: Option<String>,
    /// The program to start it with; `None` if there is none.
    pub(super) binary: Option<PathBuf>,
    /// The release to change to.
    pub(super) switch: Option<ReleaseChange>,
}

/// A change from one release to another.
#[derive(Clone, Debug)]
pub(super) struct ReleaseChange {
    pub(super) to: String,
    /// The version that the node must report afterwards.
    pub(super) version: Option<String>,
    /// How long, in milliseconds, it must serve before the next node's turn.
    pub(super) soak_ms: u64,
    /// The release to return to if the node fails, and the path of its program.
    pub(super) back: Option<(String, PathBuf)>,
}

/// The state of a node before its turn. Nodes come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnState {
    /// It does not run, so starting it costs nothing.
    Down,
    /// This operation restarted it before it was interrupted.
    Restarted,
    /// It runs.
    Runs,
}

impl RollOptions {
    /// Records the nodes' processes, when they are first known.
    pub fn record_baseline(&mut self, facts: &Facts) {
        if !self.before.is_empty() {
            return;
        }
        for (id, node) in &facts.nodes {
            match (process(node), node.pid()) {
                (Some(process), _) => self.before.insert(*id, Some(process)),
                (None, None) => self.before.insert(*id, None),
                // The node runs and does not answer, so nobody could tell later whether its process is still the same.
                (None, Some(_)) => None,
            };
        }
    }

    /// Returns the program to start the node with: the one that was named, else the installed one, else the one that
    /// was found.
    fn program(&self, host: &HostFacts) -> Option<PathBuf> {
        let installed = host.installed.clone().filter(|_| !self.named);
        installed.or_else(|| self.binary.clone())
    }

    fn state(&self, id: NodeId, facts: &Facts) -> TurnState {
        let Some(node) = facts.nodes.get(&id).filter(|node| node.pid().is_some()) else {
            return TurnState::Down;
        };
        match (self.before.get(&id), process(node)) {
            (Some(before), Some(process)) if before.as_ref() != Some(&process) => TurnState::Restarted,
            _ => TurnState::Runs,
        }
    }

    /// Returns whether the node ran when the operation began.
    fn ran(&self, id: NodeId) -> bool {
        matches!(self.before.get(&id), Some(Some(_)))
    }
}

/// Returns a text that distinguishes a node's process from the one before. It needs both values, because the start time
/// is only known to the second, and process ids are reused.
fn process(node: &NodeFacts) -> Option<String> {
    Some(format!("{} since {}", node.pid()?, node.status()?.started_at))
}

/// Plans `restart`.
///
/// # Errors
/// Refuses unknown nodes, hosts that could not be inspected, nodes that were never deployed, and a loss of the
/// majority.
pub(super) fn restart(spec: &ClusterFile, facts: &Facts, options: &RollOptions) -> Result<Plan, Refusal> {
    let targets = targets(spec, &options.nodes)?;
    let mut turns = Vec::new();
    for (id, host) in hosts(facts, &targets)? {
        if host.config_hash.is_none() {
            return Err(Refusal::new(format!(
                "node {id} has no cluster.yaml on its host; no changes were made"
            ))
            .hint("create it:  escli up"));
        }
        let state = options.state(id, facts);
        let why = match state {
            TurnState::Down => "not running",
            TurnState::Restarted => "already restarted",
            TurnState::Runs => "running",
        };
        let binary = options.program(host);
        turns.push(NodeTurn {
            id,
            why: why.to_owned(),
            state,
            write: None,
            prove: None,
            binary,
            switch: None,
        });
    }
    let mut plan = Plan::new("restart", &spec.cluster.name);
    roll(&mut plan, spec, facts, turns, options)?;
    Ok(plan)
}

/// Plans `reload`.
///
/// # Errors
/// Those of [`restart`]; and a node that runs but does not answer, since its configuration is not known.
pub(super) fn reload(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &RollOptions,
) -> Result<Plan, Refusal> {
    let targets = targets(spec, &options.nodes)?;
    let mut plan = Plan::new("reload", &spec.cluster.name);
    let (mut turns, mut only_written) = (Vec::new(), Vec::new());
    for (id, host) in hosts(facts, &targets)? {
        let Some(hash) = wanted.hash(id) else { continue };
        if !host.dirs && host.config_hash.is_none() {
            plan.notes.push(format!("node {id} was never deployed: escli up"));
            continue;
        }
        let write = (host.config_hash.as_deref() != Some(hash)).then(|| hash.to_owned());
        let status = facts.nodes.get(&id).and_then(|node| node.status());
        if host.runs() && status.is_none() {
            return Err(Refusal::new(format!(
                "node {id} runs but does not answer on its admin port; no changes were made"
            ))
            .because("the configuration that it runs with is not known")
            .hint(format!("escli status --node {id}"))
            .hint(format!("if the admin port itself was changed:  escli restart {id}")));
        }
        let state = options.state(id, facts);
        let current = status.is_some_and(|status| wanted.is_run_by(status));
        let takes = match state {
            TurnState::Down => options.ran(id),
            TurnState::Restarted => true,
            TurnState::Runs => !current,
        };
        if takes {
            let state = if current { state } else { state.min_running() };
            let why = if current { "already restarted" } else { "runs with an older cluster.yaml" };
            let prove = Some(hash.to_owned());
            let binary = options.program(host);
            turns.push(NodeTurn { id, why: why.to_owned(), state, write, prove, binary, switch: None });
            continue;
        }
        if state == TurnState::Down {
            plan.notes.push(format!(
                "node {id} is down; it reads the new cluster.yaml when it starts: escli start {id}"
            ));
        }
        only_written.extend(write.map(|hash| Step::on(id, Action::WriteConfig { hash }, "differs")));
    }
    plan.stage("configure", only_written);
    roll(&mut plan, spec, facts, turns, options)?;
    Ok(plan)
}

impl TurnState {
    /// Treats a node that was restarted, but still runs with an older file, like any other that runs.
    fn min_running(self) -> Self {
        if self == Self::Restarted { Self::Runs } else { self }
    }
}

/// What the planner knows of the cluster.
struct Inventory {
    statuses: Vec<ClusterStatus>,
    now: Option<Agreement>,
    voters: usize,
    /// The nodes to ask during the operation.
    nodes: Vec<NodeId>,
}

pub(super) fn roll(
    plan: &mut Plan,
    spec: &ClusterFile,
    facts: &Facts,
    mut turns: Vec<NodeTurn>,
    options: &RollOptions,
) -> Result<(), Refusal> {
    if turns.is_empty() {
        return Ok(());
    }
    let inventory = inventory(spec, facts, options)?;
    let leader = inventory.now.map(|now| now.leader);
    let mut healthy: BTreeSet<NodeId> =
        agreement::healthy(&inventory.statuses, inventory.voters).into_iter().collect();
    turns.sort_by_key(|turn| (turn.state, leader == Some(turn.id), healthy.contains(&turn.id), turn.id));
    let mut cost = None;
    for turn in &turns {
        let left = healthy.iter().filter(|id| **id != turn.id).count();
        let costs =
            turn.state == TurnState::Runs && votes(&inventory, turn.id) && left < quorum(inventory.voters);
        if costs && cost.is_none() {
            cost = Some((turn.id, left));
        }
        stages(plan, &inventory, turn, &turns, !costs, options)?;
        if votes(&inventory, turn.id) {
            healthy.insert(turn.id);
        }
    }
    weigh(plan, spec, facts, &inventory, cost, options)?;
    let mut nodes = facts.running();
    nodes.extend(turns.iter().map(|turn| turn.id));
    nodes.sort_unstable();
    nodes.dedup();
    plan.stage("verify", vec![Step::cluster(Action::VerifyCluster { nodes }, "nodes were restarted")]);
    Ok(())
}

/// Checks that the cluster may be worked on. Without a majority it may only with `--allow-downtime`.
fn inventory(spec: &ClusterFile, facts: &Facts, options: &RollOptions) -> Result<Inventory, Refusal> {
    let statuses: Vec<ClusterStatus> = facts.statuses().map(|(_, status)| status.clone()).collect();
    let voters = agreement::voters(&statuses, spec.cluster.nodes.len());
    let nodes = spec.cluster.nodes.iter().map(|node| node.id).collect();
    let now = match agreement::sound(&statuses, voters) {
        Ok(now) => Some(now),
        Err(_) if options.allow_downtime && facts.running().len() < quorum(voters) => None,
        Err(reason) => {
            return Err(Refusal::new(
                "nodes can be restarted one by one only while the cluster has a leader; no changes were made",
            )
            .because(reason)
            .hint("see what is wrong:          escli health")
            .hint("start nodes that are down:  escli start"));
        }
    };
    Ok(Inventory { statuses, now, voters, nodes })
}

/// Returns whether the node is a voter. One that does not answer counts as a voter unless the leader says otherwise.
fn votes(inventory: &Inventory, id: NodeId) -> bool {
    let own = inventory.statuses.iter().find(|status| status.node_id == id).map(|status| status.membership);
    let head = inventory.now.and_then(|now| inventory.statuses.iter().find(|s| s.node_id == now.leader));
    let told = head.and_then(|head| head.peers.iter().find(|peer| peer.id == id)).map(|peer| peer.membership);
    own.or(told).unwrap_or(Membership::Voter) == Membership::Voter
}

/// Adds the stages for one node: gate, configuration file, transfer of leadership, stop, start, verification.
fn stages(
    plan: &mut Plan,
    inventory: &Inventory,
    turn: &NodeTurn,
    turns: &[NodeTurn],
    gated: bool,
    options: &RollOptions,
) -> Result<(), Refusal> {
    let id = turn.id;
    let runs = turn.state == TurnState::Runs;
    if runs && gated {
        let check = Action::CheckQuorum { nodes: inventory.nodes.clone() };
        plan.one(format!("check the quorum without n{id}"), Step::on(id, check, "before it is stopped"));
    }
    if let Some(hash) = &turn.write {
        plan.one(
            format!("configure n{id}"),
            Step::on(id, Action::WriteConfig { hash: hash.clone() }, "differs"),
        );
    }
    let leads = inventory.now.filter(|now| now.leader == id);
    if let Some(now) = leads.filter(|_| runs) {
        let others: Vec<NodeId> = turns.iter().map(|turn| turn.id).collect();
        if let Some(to) = successor(&inventory.statuses, inventory.voters, now, &others) {
            let why = format!("n{id} leads, and is restarted next");
            plan.one(format!("transfer leadership to n{to}"), Step::on(to, Action::TransferLeader, why));
        }
    }
    let begun = plan.stages.len();
    if runs {
        plan.one(
            format!("stop n{id}"),
            Step::on(id, Action::StopNode { force: options.force }, turn.why.clone()),
        );
    }
    if turn.state != TurnState::Restarted {
        start(plan, turn)?;
    }
    let proof = Action::AwaitCaughtUp { nodes: inventory.nodes.clone(), config: turn.prove.clone() };
    plan.one(format!("wait until n{id} has caught up"), Step::on(id, proof, "before the next node"));
    if let Some(switch) = &turn.switch {
        let ReleaseChange { version, soak_ms: ms, .. } = switch.clone();
        let soak = Action::Soak { nodes: inventory.nodes.clone(), version, ms };
        plan.one(format!("watch n{id} serve"), Step::on(id, soak, "before the next node"));
        let rescue = rescue_steps(turn, switch, inventory);
        plan.stages[begun..].iter_mut().for_each(|stage| stage.rescue.clone_from(&rescue));
    }
    Ok(())
}

/// Adds the stage that starts the node, with its new release if there is one.
fn start(plan: &mut Plan, turn: &NodeTurn) -> Result<(), Refusal> {
    let id = turn.id;
    let binary = turn.binary.clone().ok_or_else(|| {
        Refusal::new("the esnode program was not found; no changes were made")
            .hint("specify it:  --binary path/to/esnode")
    })?;
    if let Some(ReleaseChange { to, .. }) = &turn.switch {
        let switch = Action::SwitchRelease { release: to.clone() };
        plan.one(format!("switch n{id}"), Step::on(id, switch, turn.why.clone()));
    }
    let why = if turn.state == TurnState::Runs { "was stopped" } else { "not running" };
    plan.one(format!("start n{id}"), Step::on(id, Action::StartNode { binary }, why));
    plan.one(format!("wait until n{id} answers"), Step::on(id, Action::AwaitLive, "just started"));
    Ok(())
}

/// Returns the steps that return a node to its previous release if it fails with the new one.
fn rescue_steps(turn: &NodeTurn, switch: &ReleaseChange, inventory: &Inventory) -> Vec<Step> {
    let (id, why) = (turn.id, format!("{} does not serve on this node", switch.to));
    let Some((release, binary)) = &switch.back else { return Vec::new() };
    let actions = [
        Action::StopNode { force: true },
        Action::SwitchRelease { release: release.clone() },
        Action::StartNode { binary: binary.clone() },
        Action::AwaitLive,
        Action::AwaitCaughtUp { nodes: inventory.nodes.clone(), config: None },
    ];
    actions.into_iter().map(|action| Step::undo(id, action, why.clone())).collect()
}

/// Handles the first node whose stop costs the majority: asks the operator if that cannot be avoided, and refuses
/// otherwise.
fn weigh(
    plan: &mut Plan,
    spec: &ClusterFile,
    facts: &Facts,
    inventory: &Inventory,
    cost: Option<(NodeId, usize)>,
    options: &RollOptions,
) -> Result<(), Refusal> {
    let Some((id, left)) = cost.filter(|_| !options.allow_downtime) else { return Ok(()) };
    let (voters, needed, name) = (inventory.voters, quorum(inventory.voters), &spec.cluster.name);
    let text = format!(
        "the change would leave {left} of {voters} voters healthy without n{id}; {needed} are required: {name} would accept no writes"
    );
    if voters <= 2 {
        plan.question = Some(Question::Downtime { text });
        return Ok(());
    }
    let mut refusal = Refusal::new("this would cost the quorum; no changes were made").because(text);
    for node in spec.cluster.nodes.iter().map(|node| node.id).filter(|other| *other != id) {
        if let Err(reason) = agreement::keeps_up(node, &inventory.statuses, voters) {
            refusal = refusal.because(reason);
            if facts.nodes.get(&node).is_some_and(|node| node.pid().is_none()) {
                refusal = refusal.hint(format!("start it first:  escli start {node}"));
            }
        }
    }
    Err(refusal.hint(format!("to do it anyway:  escli {} --allow-downtime", plan.operation)))
}

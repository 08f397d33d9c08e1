//! Plans `up` and `start`: give nodes what they need, start those that are down, wait for a leader, verify. Running
//! nodes are left alone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::desired::DesiredFiles;
use super::facts::{Facts, HostFacts, HostInspection, Process};
use super::preflight::{Level, preflight};
use super::provision::{self, Remote};
use super::quorum::quorum;
use super::{Action, Plan, Refusal, Step};

/// The options of `up` and `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpOptions {
    /// The subcommand: `up` or `start`.
    pub operation: String,
    /// The nodes to start; all if empty.
    pub nodes: Vec<NodeId>,
    /// The cluster.yaml of a new local cluster, which is written first.
    pub new_file: Option<PathBuf>,
    /// Path of the program; `None` if none was found.
    pub binary: Option<PathBuf>,
    /// The program was named for this command, so it takes precedence over the installed one.
    #[serde(default)]
    pub named: bool,
    /// What remote hosts get; `None` for a local cluster.
    pub remote: Option<Remote>,
}

/// Plans `up` or `start`.
///
/// # Errors
/// Refuses unknown nodes, hosts that could not be inspected, and ports that are taken.
pub(super) fn up(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &UpOptions,
) -> Result<Plan, Refusal> {
    let targets = targets(spec, &options.nodes)?;
    let mut plan = Plan::new(&options.operation, &spec.cluster.name);
    let down = prepare(&mut plan, spec, wanted, facts, options, &targets)?;
    let hosts = hosts(facts, &targets)?;
    conclude(&mut plan, spec, facts, &down);
    for (id, host) in &hosts {
        let status = facts.nodes.get(id).and_then(|node| node.status());
        let stale = host.runs() && status.is_some_and(|status| !wanted.is_run_by(status));
        if stale {
            plan.notes.push(format!(
                "node {id} runs with an older cluster.yaml; it reads the new one when it restarts: \
                 escli stop {id} && escli start {id}"
            ));
        }
    }
    Ok(plan)
}

/// Adds the stages that make `targets` run. Returns the nodes that have to be started.
///
/// # Errors
/// Refuses hosts that could not be inspected or are not ready, and ports that are taken.
pub fn prepare(
    plan: &mut Plan,
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &UpOptions,
    targets: &[NodeId],
) -> Result<Vec<NodeId>, Refusal> {
    if let Some(remote) = &options.remote {
        plan.notes.extend(checked(spec, remote, facts, targets)?);
    }
    let hosts = hosts(facts, targets)?;
    let down: Vec<NodeId> = hosts.iter().filter(|(_, host)| !host.runs()).map(|(id, _)| *id).collect();
    refuse_taken_ports(&hosts, facts, options)?;
    refuse_orphaned_data(&hosts, options)?;
    if let Some(path) = &options.new_file {
        plan.stage(
            "describe",
            vec![Step::cluster(Action::WriteClusterFile { path: path.clone() }, "a new cluster")],
        );
    }
    match &options.remote {
        Some(remote) => install(plan, remote, wanted, facts, &hosts)?,
        None => directories(plan, &hosts),
    }
    configure(plan, wanted, &hosts);
    for (id, host) in hosts.iter().filter(|(id, _)| down.contains(id)) {
        let start = Action::StartNode { binary: program(host, options)? };
        plan.stage(format!("start n{id}"), vec![Step::on(*id, start, "not running")]);
        plan.stage(
            format!("wait until n{id} answers"),
            vec![Step::on(*id, Action::AwaitLive, "just started")],
        );
    }
    Ok(down)
}

/// Returns the nodes that a command is about: those that are named, or all.
///
/// # Errors
/// Refuses ids that are not in cluster.yaml.
pub fn targets(spec: &ClusterFile, named: &[NodeId]) -> Result<Vec<NodeId>, Refusal> {
    let all: Vec<NodeId> = spec.cluster.nodes.iter().map(|node| node.id).collect();
    let known = || all.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = named.iter().find(|id| !all.contains(id)) {
        return Err(Refusal::new(format!("there is no node {unknown} in cluster.yaml"))
            .because(format!("its nodes are {}", known())));
    }
    Ok(all.into_iter().filter(|id| named.is_empty() || named.contains(id)).collect())
}

/// Returns what was found on the hosts of `targets`.
///
/// # Errors
/// Refuses if one of them could not be inspected, since nobody knows what runs there.
pub fn hosts<'a>(facts: &'a Facts, targets: &[NodeId]) -> Result<Vec<(NodeId, &'a HostFacts)>, Refusal> {
    let mut seen = Vec::new();
    let mut refusal = Refusal::new("not every host can be inspected");
    for id in targets {
        match facts.nodes.get(id).map(|node| &node.host) {
            Some(HostInspection::Seen(host)) => seen.push((*id, &**host)),
            Some(HostInspection::Unreachable { reason, details, hints }) => {
                refusal = refusal.because(format!("node {id}: {reason}"));
                refusal.reasons.extend(details.iter().cloned());
                refusal.hints.extend(hints.iter().cloned());
            }
            Some(HostInspection::NotAsked) | None => {
                refusal = refusal.because(format!("node {id}: was not asked"));
            }
        }
    }
    if refusal.reasons.is_empty() { Ok(seen) } else { Err(refusal) }
}

fn refuse_taken_ports(
    hosts: &[(NodeId, &HostFacts)],
    facts: &Facts,
    options: &UpOptions,
) -> Result<(), Refusal> {
    let mut refusal = Refusal::new("ports are taken; no changes were made");
    for (id, host) in hosts {
        for taken in &host.taken {
            let holder = taken.holder.as_deref().unwrap_or("another process");
            refusal = refusal
                .because(format!("port {} ({} of node {id}) is held by {holder}", taken.port, taken.key));
        }
    }
    if refusal.reasons.is_empty() {
        return Ok(());
    }
    Err(match (facts.free_base_port, &options.new_file) {
        (Some(base), Some(_)) => Refusal { free_base_port: Some(base), ..refusal },
        _ => refusal.hint("stop that process, or change the ports in cluster.yaml, and try again"),
    })
}

/// Refuses data without its cluster.yaml: nobody knows the members of its cluster any more.
fn refuse_orphaned_data(hosts: &[(NodeId, &HostFacts)], options: &UpOptions) -> Result<(), Refusal> {
    let Some(folder) = options.new_file.as_ref().and_then(|file| file.parent()) else { return Ok(()) };
    let mut refusal = Refusal::new(format!("{} holds data but no cluster.yaml", folder.display()));
    for (id, _) in hosts.iter().filter(|(_, host)| !host.data_empty) {
        refusal = refusal.because(format!("node {id} has data of an earlier cluster"));
    }
    if refusal.reasons.is_empty() {
        return Ok(());
    }
    Err(refusal
        .hint("restore its cluster.yaml, or delete the data")
        .hint("or use another directory:  escli up --local --dir ANOTHER"))
}

/// Refuses if a check of the hosts fails; returns the warnings.
pub(super) fn checked(
    spec: &ClusterFile,
    remote: &Remote,
    facts: &Facts,
    targets: &[NodeId],
) -> Result<Vec<String>, Refusal> {
    let findings = preflight(spec, &remote.layout, remote.program.as_ref(), facts, targets);
    provision::refuse(&findings)?;
    let warnings = findings.iter().filter(|finding| finding.level == Level::Warning);
    Ok(warnings.map(|finding| format!("node {}: {}", finding.node, finding.text)).collect())
}

fn install(
    plan: &mut Plan,
    remote: &Remote,
    wanted: &DesiredFiles,
    facts: &Facts,
    hosts: &[(NodeId, &HostFacts)],
) -> Result<(), Refusal> {
    let machines = hosts.iter().filter_map(|(id, host)| Some((*id, *host, host.machine.as_ref()?)));
    let machines: Vec<_> = machines.collect();
    provision::refuse_without_program(remote, &machines)?;
    let any_runs = !facts.running().is_empty();
    provision::provision(plan, remote, wanted, &machines, any_runs);
    plan.notes.extend(provision::other_releases(remote, &machines, any_runs));
    Ok(())
}

/// Returns the program to start the node with: the one that was named, else the installed one, else the one that was
/// found.
fn program(host: &HostFacts, options: &UpOptions) -> Result<PathBuf, Refusal> {
    if let Some(remote) = &options.remote {
        return Ok(remote.layout.program().into());
    }
    let installed = host.installed.clone().filter(|_| !options.named);
    installed.or_else(|| options.binary.clone()).ok_or_else(provision::no_program)
}

fn directories(plan: &mut Plan, hosts: &[(NodeId, &HostFacts)]) {
    let dirs = hosts.iter().filter(|(_, host)| !host.dirs);
    plan.stage("prepare", dirs.map(|(id, _)| Step::on(*id, Action::EnsureDirs, "missing")).collect());
}

fn configure(plan: &mut Plan, wanted: &DesiredFiles, hosts: &[(NodeId, &HostFacts)]) {
    let configs = hosts.iter().filter_map(|(id, host)| {
        let hash = wanted.hash(*id)?;
        let why = match host.config_hash.as_deref() {
            Some(found) if found == hash => return None,
            Some(_) => "differs",
            None => "missing",
        };
        Some(Step::on(*id, Action::WriteConfig { hash: hash.to_owned() }, why))
    });
    plan.stage("configure", configs.collect());
}

/// Adds the steps that wait for a leader and verify the cluster, if enough nodes will run for a leader.
fn conclude(plan: &mut Plan, spec: &ClusterFile, facts: &Facts, starting: &[NodeId]) {
    let voters = spec.cluster.nodes.len();
    let mut will_run = facts.running();
    will_run.extend(starting);
    will_run.sort_unstable();
    will_run.dedup();
    if will_run.len() < quorum(voters) {
        plan.notes.push(format!(
            "{} of {voters} nodes will run; {} are required for a leader: the cluster accepts no writes until more are started",
            will_run.len(),
            quorum(voters)
        ));
        return;
    }
    let why = if starting.is_empty() { "check that everything is in order" } else { "nodes were started" };
    plan.stage("elect", vec![Step::cluster(Action::AwaitLeader { nodes: will_run.clone() }, why)]);
    plan.stage("verify", vec![Step::cluster(Action::VerifyCluster { nodes: will_run }, why)]);
}

impl HostFacts {
    /// Returns whether the node's process runs.
    pub fn runs(&self) -> bool {
        self.process.runs()
    }

    /// Returns whether the node is stopped: it does not run, and nothing will start it. In any other state, a command
    /// that stops nodes still has something to do.
    pub fn is_stopped(&self) -> bool {
        self.process == Process::Stopped
    }
}

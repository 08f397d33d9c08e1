//! PURE: plans what hosts need before their nodes can be started: user, directories, program, unit.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;
use shared::spec::Service;

use super::desired::DesiredFiles;
use super::facts::{HostFacts, Machine};
use super::layout::HostLayout;
use super::preflight::{Finding, Level};
use super::program::Program;
use super::{Action, Plan, Refusal, Step};

/// What remote hosts get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The layout of each host.
    pub layout: HostLayout,
    /// The program to install; `None` if there is none, or the installed one is used.
    pub program: Option<Program>,
    /// The operator has named the program.
    pub named: bool,
}

/// Returns the steps that give `hosts` what they lack, except the nodes' cluster.yaml.
pub fn provision(
    plan: &mut Plan,
    remote: &Remote,
    wanted: &DesiredFiles,
    hosts: &[(NodeId, &HostFacts, &Machine)],
    any_runs: bool,
) {
    let layout = &remote.layout;
    let users = hosts.iter().filter(|(_, _, machine)| !machine.user).filter_map(|(id, ..)| {
        let user = layout.user.clone()?;
        Some(Step::on(*id, Action::EnsureUser { user }, "missing"))
    });
    plan.stage("users", users.collect());
    let dirs = hosts.iter().filter(|(_, host, _)| !host.dirs);
    plan.stage("directories", dirs.map(|(id, ..)| Step::on(*id, Action::EnsureDirs, "missing")).collect());
    let taking: Vec<_> = hosts.iter().filter(|host| takes(remote, any_runs, host)).collect();
    let program = remote.program.iter();
    let copies = program.clone().flat_map(|program| taking.iter().map(move |host| (program, host)));
    let copies = copies.filter_map(|(program, (id, _, machine))| {
        let why = match machine.program.as_deref() {
            Some(found) if found == program.sha256 => return None,
            Some(_) => "damaged",
            None => "missing",
        };
        let Program { path, release, sha256, .. } = program.clone();
        Some(Step::on(*id, Action::PlaceBinary { source: path, release, sha256 }, why))
    });
    plan.stage("copy", copies.collect());
    let switches = program.flat_map(|program| taking.iter().map(move |host| (program, host)));
    let switches = switches.filter_map(|(program, (id, host, _))| {
        let why = match host.current.as_deref() {
            Some(found) if found == program.release => return None,
            Some(found) => format!("currently {found}"),
            None => "no release yet".to_owned(),
        };
        Some(Step::on(*id, Action::SwitchRelease { release: program.release.clone() }, why))
    });
    plan.stage("releases", switches.collect());
    if layout.service == Service::Systemd {
        plan.stage("units", units(wanted, hosts));
    }
}

/// Returns whether the host gets the operator's program: if it has none or the same one. It only gets another one if
/// that was named and the whole cluster is down; everything else is an upgrade, which is another command.
fn takes(remote: &Remote, any_runs: bool, (_, host, _): &(NodeId, &HostFacts, &Machine)) -> bool {
    let Some(program) = &remote.program else { return false };
    let another = host.current.as_ref().is_some_and(|current| *current != program.release);
    !host.runs() && (!another || remote.named && !any_runs)
}

fn units(wanted: &DesiredFiles, hosts: &[(NodeId, &HostFacts, &Machine)]) -> Vec<Step> {
    let unit = |(id, _, machine): &(NodeId, &HostFacts, &Machine)| {
        let hash = wanted.unit_hash(*id)?;
        let why = match machine.unit.as_deref() {
            Some(found) if found == hash && machine.enabled => return None,
            Some(found) if found == hash => "not enabled at boot",
            Some(_) => "differs",
            None => "missing",
        };
        Some(Step::on(*id, Action::InstallUnit { hash: hash.to_owned() }, why))
    };
    hosts.iter().filter_map(unit).collect()
}

/// Returns notes about nodes that keep another release than the operator's.
pub fn other_releases(
    remote: &Remote,
    hosts: &[(NodeId, &HostFacts, &Machine)],
    any_runs: bool,
) -> Vec<String> {
    let Some(program) = &remote.program else { return Vec::new() };
    let keeps = hosts.iter().filter(|host| !takes(remote, any_runs, host));
    let releases = keeps.filter_map(|(id, host, _)| Some((id, host.current.as_ref()?)));
    let others = releases.filter(|(_, current)| **current != program.release);
    others
        .map(|(id, current)| {
            format!("node {id} keeps release {current}; the local one is {}", program.release)
        })
        .collect()
}

/// Refuses to start nodes on hosts without any program.
///
/// # Errors
/// Names these nodes.
pub fn refuse_without_program(
    remote: &Remote,
    hosts: &[(NodeId, &HostFacts, &Machine)],
) -> Result<(), Refusal> {
    let bare = hosts.iter().filter(|(_, host, _)| !host.runs() && host.current.is_none());
    let bare: Vec<_> = bare.map(|(id, ..)| format!("node {id} has none installed")).collect();
    if remote.program.is_some() || bare.is_empty() {
        return Ok(());
    }
    Err(Refusal { reasons: bare, ..no_program() })
}

/// Returns the refusal for when no program was found.
pub fn no_program() -> Refusal {
    Refusal::new("the esnode program was not found; no changes were made")
        .because("looked in deploy.binary, $ESNODE, next to escli, and on the PATH")
        .hint("specify it:  --binary path/to/esnode")
        .hint("build it:    cargo build --release -p esnode")
}

/// Refuses an operation if a check failed.
///
/// # Errors
/// Has each failed check as a reason, and its hint as a hint.
pub fn refuse(findings: &[Finding]) -> Result<(), Refusal> {
    let mut refusal = Refusal::new("the hosts are not ready; no changes were made");
    for finding in findings.iter().filter(|finding| finding.level == Level::Failure) {
        refusal = refusal.because(format!("node {}: {}", finding.node, finding.text));
        refusal.reasons.extend(finding.details.iter().map(|line| format!("  {line}")));
        if let Some(hint) = finding.hint.as_ref().filter(|hint| !refusal.hints.contains(hint)) {
            refusal = refusal.hint(hint.clone());
        }
    }
    if refusal.reasons.is_empty() { Ok(()) } else { Err(refusal) }
}

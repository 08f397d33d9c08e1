//! Plans `restore`: a new cluster that continues where a backup ends. Every node gets the same copy of the log and
//! recovers from it; the rest is the plan of `up`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId};
use shared::spec::ClusterFile;

use super::desired::DesiredFiles;
use super::facts::{Facts, NodeFacts};
use super::up::{UpOptions, hosts, up};
use super::{Action, Plan, Refusal, Stage, Step};

/// The options of `restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// How the nodes are brought up.
    pub up: UpOptions,
    /// Path of the backup on the operator's machine.
    pub source: PathBuf,
    /// SHA-256 of its manifest, in hex, which identifies the backup.
    pub sum: String,
    /// Total length of its files, in bytes.
    pub bytes: u64,
    /// Identity of the new cluster, drawn when the operation began.
    pub cluster: ClusterId,
    /// No node had data when the operation began. Data that is there now comes from this operation.
    #[serde(default)]
    pub were_empty: bool,
}

impl RestoreOptions {
    /// Records that no node has data, when that is first known.
    pub fn record_baseline(&mut self, facts: &Facts) {
        let hosts: Vec<_> = facts.nodes.values().map(NodeFacts::host).collect();
        self.were_empty |=
            hosts.iter().all(|host| host.is_some_and(|host| host.data_empty && host.is_stopped()));
    }
}

/// Plans `restore`.
///
/// # Errors
/// Those of [`up`]; and if a node has data already.
pub(super) fn restore(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &RestoreOptions,
) -> Result<Plan, Refusal> {
    let all: Vec<NodeId> = spec.cluster.nodes.iter().map(|node| node.id).collect();
    let mut refusal = Refusal::new(format!("{} cannot be restored; no changes were made", spec.cluster.name));
    for (id, host) in hosts(facts, &all)? {
        if !options.were_empty && (!host.data_empty || !host.is_stopped()) {
            refusal = refusal.because(format!(
                "node {id} {}",
                if host.data_empty { "is not stopped" } else { "has data" }
            ));
        }
    }
    if !refusal.reasons.is_empty() {
        return Err(refusal
            .hint("restore into a cluster.yaml with other hosts")
            .hint("or, if the data is not needed:  escli down --purge-data"));
    }
    let mut plan = up(spec, wanted, facts, &options.up)?;
    let starts =
        |stage: &Stage| stage.steps.iter().any(|step| matches!(step.action, Action::StartNode { .. }));
    let Some(at) = plan.stages.iter().position(starts) else { return Ok(plan) };
    let programs = plan.steps().filter_map(|step| match &step.action {
        Action::StartNode { binary } => Some((step.node?, binary.clone())),
        _ => None,
    });
    let programs: Vec<_> = programs.collect();
    let copy = |(id, _): &(NodeId, PathBuf)| {
        let RestoreOptions { source, sum, cluster, bytes, .. } = options;
        let (source, sum) = (source.clone(), sum.clone());
        Step::on(*id, Action::PlaceBackup { source, sum, cluster: *cluster, bytes: *bytes }, "it has no data")
    };
    let own = |(id, binary): &(NodeId, PathBuf)| {
        let (binary, cluster, members) = (binary.clone(), options.cluster, all.clone());
        Step::on(*id, Action::Recover { binary, cluster, members }, "it is a new cluster")
    };
    let stage = |title: &str, steps| Stage { title: title.to_owned(), steps, rescue: Vec::new() };
    let copies = stage("copy the log", programs.iter().map(copy).collect());
    let owns = stage("start a new cluster from the log", programs.iter().map(own).collect());
    plan.stages.splice(at..at, [copies, owns]);
    Ok(plan)
}

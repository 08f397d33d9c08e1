//! `escli recover`: turns the arguments into a request to the planner.

use shared::ids::{ClusterId, NodeId};
use uuid::Uuid;

use super::again::CommandLine;
use super::operation::{Operation, finish};
use super::restart;
use super::target::{Change, Target};
use crate::cli::recover::Args;
use crate::cluster_file;
use crate::failure::{Exit, Failure};
use crate::plan::recover::RecoverOptions;
use crate::plan::request::Request;
use crate::settings::Settings;

/// Starts a new cluster from the log of one node.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let spec = cluster_file::load(settings)?.spec;
    let known = |id: &NodeId| spec.node(*id).is_some();
    if let Some(id) = args.lost.iter().chain([&args.survivor]).find(|id| !known(id)) {
        return Err(Failure::usage(format!("there is no node {id} in cluster.yaml")));
    }
    if args.lost.contains(&args.survivor) {
        return Err(Failure::usage(format!("node {} cannot be both lost and the survivor", args.survivor)));
    }
    let others: Vec<_> = spec.cluster.nodes.iter().filter(|node| node.id != args.survivor).cloned().collect();
    let target = Target::changing(settings, &Change { joining: None, leaving: others.clone() })?;
    let lost: Vec<String> = args.lost.iter().map(NodeId::to_string).collect();
    let retry = CommandLine::new(settings, "recover")
        .value("--survivor", Some(args.survivor))
        .value("--lost", Some(lost.join(",")));
    let request = Request::Recover(Box::new(RecoverOptions {
        survivor: args.survivor,
        others,
        lost: args.lost.clone(),
        cluster: ClusterId(Uuid::new_v4()),
        binary: restart::program(settings, &target, args.binary.as_deref())?,
        service: target.hosts.remote().map(|hosts| hosts.layout().service),
        file: target.file_to_write(),
        agreed: false,
    }));
    let confirm = args.confirm.as_deref();
    let operation =
        Operation { settings, target: &target, name: "recover", retry, confirm, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

//! `escli stop`.

use super::again::CommandLine;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::stop::Args;
use crate::failure::{Exit, Failure};
use crate::plan::down::StopOptions;
use crate::plan::request::Request;
use crate::settings::Settings;

/// Stops the nodes that are named, or all nodes.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let options =
        StopOptions { nodes: args.nodes.clone(), force: args.force, allow_downtime: args.allow_downtime };
    let retry = CommandLine::new(settings, "stop").nodes(&args.nodes);
    let request = Request::Stop(options);
    let operation =
        Operation { settings, target: &target, name: "stop", retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

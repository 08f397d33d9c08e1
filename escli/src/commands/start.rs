//! `escli start`.

use super::again::CommandLine;
use super::binary;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::start::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::up::UpOptions;
use crate::settings::Settings;

/// Starts the nodes that are down, among those that are named or among all.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let retry =
        CommandLine::new(settings, "start").nodes(&args.nodes).path("--binary", args.binary.as_deref());
    let options = UpOptions {
        operation: "start".to_owned(),
        nodes: args.nodes.clone(),
        new_file: None,
        // On remote hosts, what is installed is started, unless another program is named.
        remote: target.provide(args.binary.as_deref(), args.binary.is_some())?,
        binary: binary::find(settings, args.binary.as_deref(), target.named_binary())?,
        named: args.binary.is_some(),
    };
    let request = Request::Up(Box::new(options));
    let operation =
        Operation { settings, target: &target, name: "start", retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

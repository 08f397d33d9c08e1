//! `escli restart`, and the part that `escli reload` shares with it.

use std::path::{Path, PathBuf};

use shared::ids::NodeId;

use super::again::CommandLine;
use super::binary;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::restart::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::rolling::RollOptions;
use crate::settings::Settings;

/// Restarts the nodes that are named, or all nodes, one at a time.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let given = Given { nodes: &args.nodes, binary: args.binary.as_deref(), force: args.force };
    roll(settings, "restart", &given, args.allow_downtime, Request::Restart).await
}

/// The arguments that both commands have.
pub(super) struct Given<'a> {
    pub(super) nodes: &'a [NodeId],
    pub(super) binary: Option<&'a Path>,
    pub(super) force: bool,
}

/// Runs a rolling restart for one of the two commands.
pub(super) async fn roll(
    settings: &Settings,
    name: &str,
    given: &Given<'_>,
    allow_downtime: bool,
    request: fn(RollOptions) -> Request,
) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let retry = CommandLine::new(settings, name).nodes(given.nodes).path("--binary", given.binary);
    let request = request(RollOptions {
        nodes: given.nodes.to_vec(),
        allow_downtime,
        force: given.force,
        binary: program(settings, &target, given.binary)?,
        named: given.binary.is_some(),
        ..RollOptions::default()
    });
    let operation =
        Operation { settings, target: &target, name, retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

/// Returns the program for the restart. On hosts it is the installed one; only an upgrade changes that.
pub(super) fn program(
    settings: &Settings,
    target: &Target,
    named: Option<&Path>,
) -> Result<Option<PathBuf>, Failure> {
    match target.hosts.remote() {
        Some(_) if named.is_some() => Err(Failure::usage(
            "--binary is for local clusters: on remote hosts the installed program is started",
        )),
        Some(hosts) => Ok(Some(hosts.layout().program().into())),
        None => binary::find(settings, named, target.named_binary()),
    }
}

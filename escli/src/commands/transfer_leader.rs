//! `escli transfer-leader`.

use super::again::CommandLine;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::transfer_leader::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::plan::transfer::TransferOptions;
use crate::settings::Settings;

/// Transfers leadership to another node.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let retry = CommandLine::new(settings, "transfer-leader").value("--to", args.to);
    let request = Request::TransferLeader(TransferOptions { to: args.to });
    let (name, confirm) = ("transfer-leader", None);
    let operation = Operation { settings, target: &target, name, retry, confirm, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

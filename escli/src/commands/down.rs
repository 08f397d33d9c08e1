//! `escli down`.

use super::again::CommandLine;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::down::Args;
use crate::failure::{Exit, Failure};
use crate::plan::down::DownOptions;
use crate::plan::request::Request;
use crate::settings::Settings;

/// Stops every node; with `--purge-data` also deletes all data.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let options = DownOptions {
        force: args.force,
        purge: args.purge_data,
        own_file: target.own_file().filter(|_| args.purge_data),
    };
    let retry = CommandLine::new(settings, "down").flag("--purge-data", args.purge_data);
    let confirm = args.confirm.as_deref();
    let request = Request::Down(options);
    let operation =
        Operation { settings, target: &target, name: "down", retry, confirm, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

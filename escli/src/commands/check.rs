//! `escli check`: checks whether hosts are ready for their nodes, and repairs what it can with `--fix`.

use super::again::CommandLine;
use super::operation::Operation;
use super::target::Target;
use super::{binary, failures};
use crate::cli::check::Args;
use crate::failure::{Exit, Failure};
use crate::plan::preflight::{Level, preflight};
use crate::plan::provision::Remote;
use crate::plan::request::Request;
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::report::Report;
use crate::view::{self, check};

/// Checks every host and prints the findings. With `--fix`, repairs first.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid, or the cluster is local, which needs no check; with
/// `--fix` also those of [`Operation::run`].
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let binary = binary::find(settings, args.binary.as_deref(), target.named_binary())?;
    let named = args.binary.is_some() || target.named_binary().is_some();
    let Some(remote) = target.provide(binary.as_deref(), named)? else {
        return Err(Failure::usage(
            "all nodes of this cluster run on this machine: there is nothing to check",
        )
        .hint("to see what would be done:  escli up --local --dry-run"));
    };
    let fixed = if args.fix { fix(settings, &target, &remote).await? } else { None };
    if args.fix && settings.dry_run {
        return Ok(Exit::Ok);
    }
    let facts = target.inspect(settings, true).await;
    let ids = targets(&target.spec, &[])?;
    let findings = preflight(&target.spec, &remote.layout, remote.program.as_ref(), &facts, &ids);
    let document = check::document(target.name(), &findings, fixed.as_ref());
    view::show(settings, &document, |paint| check::text(&document, paint));
    let error = fixed.as_ref().and_then(|report| report.error.as_ref());
    if let Some(error) = error.filter(|_| !settings.output.is_machine()) {
        view::warn(settings, error);
    }
    let exit = fixed.as_ref().map_or(Exit::Ok, failures::exit_of);
    let fails = findings.iter().any(|finding| finding.level == Level::Failure);
    Ok(if exit == Exit::Ok && fails { Exit::Refused } else { exit })
}

/// Runs the repairs; shows them with `--dry-run`.
async fn fix(settings: &Settings, target: &Target, remote: &Remote) -> Result<Option<Report>, Failure> {
    let operation = Operation {
        settings,
        target,
        name: "check",
        retry: CommandLine::new(settings, "check").flag("--fix", true),
        confirm: None,
        request: Request::Fix(Box::new(remote.clone())),
        resumes: None,
    };
    operation.run().await
}

//! `escli upgrade`.

use std::collections::BTreeMap;
use std::path::Path;

use shared::ids::NodeId;

use super::again::{CommandLine, word};
use super::operation::{Operation, finish};
use super::target::Target;
use super::{binary, history};
use crate::cli::upgrade::{Args, What};
use crate::cluster_file;
use crate::engine::observe::observe;
use crate::engine::past::PastOperation;
use crate::engine::ports::Hosts;
use crate::failure::{Exit, Failure};
use crate::hosts::ClusterHosts;
use crate::overview::rollout::{Last, rollout};
use crate::plan::Question;
use crate::plan::facts::Process;
use crate::plan::program::Program;
use crate::plan::request::Request;
use crate::plan::rolling::RollOptions;
use crate::plan::upgrade::UpgradeOptions;
use crate::settings::Settings;
use crate::view;

/// Upgrades the cluster; or shows, resumes or abandons the last upgrade.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        None => begin(settings, args).await,
        Some(What::Status) => status(settings).await,
        Some(What::Resume) => resume(settings).await,
        Some(What::Abort) => {
            let exit = history::abort(settings, &last(settings)?)?;
            view::remark(settings, "to see what every node runs:  escli upgrade status");
            Ok(exit)
        }
    }
}

async fn begin(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let path = args.binary.as_deref().ok_or_else(|| {
        Failure::usage("--binary is missing: the program to upgrade to")
            .hint("escli upgrade --binary path/to/esnode")
    })?;
    let mut target = Target::open(settings)?;
    let path = binary::find(settings, Some(path), None)?.unwrap_or_else(|| path.to_owned());
    let program = binary::program(&path)?;
    runs_here(&program, target.hosts.remote().is_none())?;
    let remote = target.provide(Some(&path), true)?;
    let options = UpgradeOptions {
        roll: RollOptions {
            allow_downtime: args.allow_downtime,
            force: args.force,
            binary: remote.as_ref().map(|remote| remote.layout.program().into()),
            named: true,
            ..RollOptions::default()
        },
        program,
        soak_ms: u64::try_from(args.soak.as_millis()).unwrap_or(u64::MAX),
        pause_after: if args.canary { Some(1) } else { args.pause_after.map(usize::from) },
        no_rollback: args.no_rollback,
        keep_way_back: args.keep_way_back,
        allow_downgrade: args.allow_downgrade,
        allow_skip: args.allow_skip,
        remote,
        adopted: adopted(&target.hosts).await,
        ..UpgradeOptions::default()
    };
    let exit = operate(settings, &target, options).await?;
    let asks = args.canary && exit == Exit::Ok && !settings.dry_run;
    if !asks || !settings.env.can_ask || settings.output.is_machine() {
        return Ok(exit);
    }
    let text = "the first node serves with the new version; the other nodes are next".to_owned();
    if view::ask(settings, &Question::Confirm { text }) { resume(settings).await } else { Ok(exit) }
}

async fn operate(settings: &Settings, target: &Target, mut options: UpgradeOptions) -> Result<Exit, Failure> {
    if let ClusterHosts::Local(hosts) = &target.hosts {
        options.releases = hosts.layout().releases();
    }
    let retry = CommandLine::new(settings, "upgrade").path("--binary", Some(&options.program.path));
    let request = Request::Upgrade(Box::new(options));
    let operation =
        Operation { settings, target, name: "upgrade", retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    Ok(finish(settings, report.as_ref()))
}

/// Checks that a program for local nodes can run here. One that does not even print its version would fail at the first
/// node.
fn runs_here(program: &Program, is_local: bool) -> Result<(), Failure> {
    let here = program.arch.as_deref().is_none_or(|arch| arch == std::env::consts::ARCH);
    if let (true, false, Some(arch)) = (is_local, here, &program.arch) {
        let (path, this) = (program.path.display(), std::env::consts::ARCH);
        return Err(Failure::new(
            Exit::Refused,
            format!("{path} is built for {arch}, this machine is {this}; no changes were made"),
        ));
    }
    if here && program.info.is_none() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} does not report its version; no changes were made", program.path.display()),
        )
        .hint(format!("try it:  {} --version --json", word(&program.path))));
    }
    Ok(())
}

/// Returns the programs of local nodes that do not run from a release directory.
async fn adopted(hosts: &ClusterHosts) -> BTreeMap<NodeId, Program> {
    let mut found = BTreeMap::new();
    let ClusterHosts::Local(local) = hosts else { return found };
    for id in local.ids() {
        let Ok(host) = hosts.inspect(id).await else { continue };
        let Process::Running { pid } = host.process else { continue };
        if host.current.is_none() && host.runs_release().is_none() {
            // The file that the process was started from may have been replaced; this link leads to the program that
            // runs.
            let program = binary::program(Path::new(&format!("/proc/{pid}/exe")));
            found.extend(program.ok().map(|program| (id, program)));
        }
    }
    found
}

/// Returns the last upgrade of this cluster.
fn last(settings: &Settings) -> Result<PastOperation, Failure> {
    let name = cluster_file::load(settings)?.spec.cluster.name;
    let (all, _) = history::operations(settings)?;
    let of_this = |past: &PastOperation| past.plan.operation == "upgrade" && past.plan.cluster == name;
    all.into_iter().rfind(of_this).ok_or_else(|| {
        Failure::usage(format!("{name} was never upgraded from this account"))
            .hint("start one:  escli upgrade --binary path/to/esnode")
    })
}

async fn resume(settings: &Settings) -> Result<Exit, Failure> {
    let past = last(settings)?;
    let paused = match past.origin.as_ref().map(|origin| &origin.request) {
        Some(Request::Upgrade(options)) if !past.end.is_open() && options.pause_after.is_some() => options,
        _ => return history::resume(settings, &past).await,
    };
    let mut target = Target::open(settings)?;
    let remote = target.provide(Some(&paused.program.path), true)?;
    let options = UpgradeOptions {
        pause_after: None,
        remote,
        adopted: adopted(&target.hosts).await,
        from: BTreeMap::new(),
        ..(**paused).clone()
    };
    operate(settings, &target, options).await
}

async fn status(settings: &Settings) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let facts = observe(&target.spec, &target.hosts, &target.cluster, settings.concurrency, false).await;
    let last = last(settings).ok().map(|past| Last {
        operation_id: past.id.clone(),
        release: match past.origin.as_ref().map(|origin| &origin.request) {
            Some(Request::Upgrade(options)) => Some(options.program.release.clone()),
            _ => None,
        },
        state: past.end.word(),
    });
    let document = rollout(target.name(), &facts, last);
    view::show(settings, &document, |paint| view::upgrade::text(&document, paint));
    Ok(Exit::Ok)
}

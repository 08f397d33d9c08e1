//! `escli check`: what speaks against bringing nodes up on their hosts.

use super::binary;
use super::target::Target;
use crate::cli::check::Args;
use crate::exit::{Exit, Failure};
use crate::observe::observe;
use crate::plan::preflight::{Level, preflight};
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::{self, check};

/// Looks at every host and says what was found.
///
/// # Errors
/// Usage; a cluster of this machine has nothing to be checked.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let binary = binary::find(settings, args.binary.as_deref(), target.named_binary())?;
    let Some(remote) = target.provide(binary.as_deref(), false)? else {
        return Err(Failure::usage(
            "all nodes of this cluster are processes of this machine: nothing to check",
        )
        .hint("escli up --local --dry-run shows what would be done"));
    };
    let facts = observe(&target.spec, &target.hosts, &target.cluster, settings.concurrency, true).await;
    let ids = targets(&target.spec, &[])?;
    let findings = preflight(&target.spec, &remote.layout, remote.program.as_ref(), &facts, &ids);
    let document = check::document(target.name(), &findings);
    view::show(settings, &document, |paint| check::text(&document, paint));
    let fails = findings.iter().any(|finding| finding.level == Level::Failure);
    Ok(if fails { Exit::Refused } else { Exit::Ok })
}

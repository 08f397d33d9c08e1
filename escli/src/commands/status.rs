//! `escli status`: prints the state of the cluster once.

use super::probe::Probe;
use crate::cli::status::Args;
use crate::failure::{Exit, Failure};
use crate::overview::Liveness;
use crate::settings::Settings;
use crate::view::{self, status};

/// Prints the state of every node, or everything about one node.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let probe = Probe::open(settings)?;
    let only = args.node.map(|id| probe.require(id)).transpose()?;
    let mut seen = probe.inspect().await;
    let Some(id) = only else {
        view::show(settings, &seen, |paint| status::text(&seen, view::is_wide(settings), paint));
        return Ok(if seen.is_reachable() { Exit::Ok } else { Exit::Unreachable });
    };
    seen.nodes.retain(|node| node.id == id);
    view::show(settings, &seen, |paint| {
        let rows = seen.nodes.iter().map(|node| status::detail(node, paint));
        format!("{}\n{}", status::headline(&seen, paint), rows.collect::<String>())
    });
    let answers = seen.node(id).is_some_and(|node| node.state != Liveness::Unreachable);
    Ok(if answers { Exit::Ok } else { Exit::Unreachable })
}

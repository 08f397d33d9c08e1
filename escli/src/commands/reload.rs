//! `escli reload`.

use super::restart::{Given, roll};
use crate::cli::reload::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::settings::Settings;

/// Updates the nodes' configuration files, and restarts the nodes that run with an older one.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let given = Given { nodes: &args.nodes, binary: args.binary.as_deref(), force: args.force };
    roll(settings, "reload", &given, args.allow_downtime, Request::Reload).await
}

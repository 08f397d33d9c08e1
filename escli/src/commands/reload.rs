//! `escli reload`.

use super::restart::{Given, roll};
use crate::cli::reload::Args;
use crate::failure::{Exit, Failure};
use crate::plan::request::Request;
use crate::settings::Settings;

/// Gives nodes their changed cluster.yaml and restarts those that run with an older one.
///
/// # Errors
/// Usage; or the lock is taken.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let given = Given { nodes: &args.nodes, binary: args.binary.as_deref(), force: args.force };
    roll(settings, "reload", &given, args.allow_downtime, Request::Reload).await
}

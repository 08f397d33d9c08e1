//! `escli explain`.

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli explain                     every key of cluster.yaml
  escli explain deploy.ssh          one section
  escli explain cluster.raft.heartbeat_interval")]
pub struct Args {
    /// A key, as a path with dots; all keys by default.
    #[arg(value_name = "KEY", add = ArgValueCandidates::new(complete::keys))]
    pub key: Option<String>,
}

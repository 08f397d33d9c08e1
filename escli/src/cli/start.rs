//! `escli start`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli start                       whatever is down
  escli start 2 3
  escli start --dry-run")]
pub struct Args {
    /// Ids of the nodes; all that are down when none is given.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// The node's program. Without it: deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

//! `escli start`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli start                       all nodes that are down
  escli start 2 3
  escli start --dry-run")]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3 [default: all that are down].
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// The esnode program [default: deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

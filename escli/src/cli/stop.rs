//! `escli stop`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli stop 3                      the others keep running
  escli stop                        all: followers first, the leader last
  escli stop 2 3 --allow-downtime   although the rest has no quorum")]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// Stop nodes even if the cluster accepts no writes afterwards.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not stop in time (SIGKILL); it recovers from its log at the next start.
    #[arg(long)]
    pub force: bool,
}

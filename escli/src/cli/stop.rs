//! `escli stop`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli stop 3                      the others go on
  escli stop                        all: followers first, the leader last
  escli stop 2 3 --allow-downtime   the rest has no majority")]
pub struct Args {
    /// The nodes, such as 2 n3 or 2,3; all when none is given.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// Stop them even when the rest cannot accept writes any more.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not end by itself (SIGKILL); it recovers from its log on the next start.
    #[arg(long)]
    pub force: bool,
}

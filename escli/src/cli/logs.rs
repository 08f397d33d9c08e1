//! `escli logs`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Lines of several nodes are merged by time.\n\n\
Examples:
  escli logs                        the last 100 lines of every node
  escli logs 2 -n 1000
  escli logs -f | grep -i election
  escli logs -o json | jq -r 'select(.node == 1) | .line'")]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// Keep printing new lines until Ctrl-C; rotated and truncated files are followed.
    #[arg(short, long)]
    pub follow: bool,
    /// Start with this many lines of each node.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub lines: usize,
    /// Print lines unchanged; by default control characters are escaped.
    #[arg(long)]
    pub raw: bool,
}

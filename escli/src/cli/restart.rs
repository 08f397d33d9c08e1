//! `escli restart`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nodes that are down come first, then followers, the leader last, after it has handed over. Before each stop the
others must have a majority without the node; after each start it must answer, follow the leader and have caught
up. What fails stops there (exit 4), and `escli history resume` goes on from there.\n\n\
Examples:
  escli restart                     all, one at a time
  escli restart 2 3
  escli restart --dry-run           the steps in their order
  escli restart --allow-downtime    where one or two nodes are all there is"
)]
pub struct Args {
    /// The nodes, such as 2 n3 or 2,3; all when none is given.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// How nodes are always restarted; may be said, and changes nothing.
    #[arg(long)]
    pub rolling: bool,
    /// Restart nodes even when the others cannot accept writes meanwhile.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not end by itself (SIGKILL); it recovers from its log on the next start.
    #[arg(long)]
    pub force: bool,
    /// The node's program. Without it: deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

//! `escli restart`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts nodes that are down first, then restarts followers, and the leader last, after it has
transferred leadership. Before a node is stopped, the others must have a quorum without it; after it
was started, it must answer, follow the leader and catch up. A failure stops the operation (exit
code 4); `escli history resume` continues it.\n\n\
Examples:
  escli restart                     all, one at a time
  escli restart 2 3
  escli restart --dry-run           the steps in their order
  escli restart --allow-downtime    for clusters of one or two nodes"
)]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// Accepted for compatibility: restarts are always rolling.
    #[arg(long)]
    pub rolling: bool,
    /// Restart nodes even if the cluster accepts no writes meanwhile.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not stop in time (SIGKILL); it recovers from its log at the next start.
    #[arg(long)]
    pub force: bool,
    /// The esnode program [default: deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

//! `escli reload`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nodes that run with what cluster.yaml says are left alone; the others are restarted one at a time, as `escli restart`
does it, and must run with the new file afterwards.\n\n\
Examples:
  escli diff; escli reload
  escli reload 2
  escli reload --dry-run            which nodes would be restarted, and in which order"
)]
pub struct Args {
    /// The nodes, such as 2 n3 or 2,3; all when none is given.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
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

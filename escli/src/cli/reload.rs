//! `escli reload`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nodes that already run with the current cluster.yaml are not restarted. The others are restarted one
at a time, as by `escli restart`, and must run with the new file afterwards.\n\n\
Examples:
  escli diff; escli reload
  escli reload 2
  escli reload --dry-run            which nodes would be restarted, and in which order"
)]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
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

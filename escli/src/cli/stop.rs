//! `escli stop`.

use shared::ids::NodeId;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of the nodes; all when none is given.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<NodeId>,
    /// Stop them even when the rest cannot accept writes any more.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not end by itself (SIGKILL); it recovers from its log on the next start.
    #[arg(long)]
    pub force: bool,
}

//! `escli start`.

use std::path::PathBuf;

use shared::ids::NodeId;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of the nodes; all that are down when none is given.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<NodeId>,
    /// The node's program. Without it: deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

//! `escli recover`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The last way out, for when a majority is gone for good: its disks are lost, its machines burnt. One node that is left
becomes a new cluster of its own, with everything in its log. What the others acknowledged and it had not received
yet IS LOST. While a majority could still be started, this is refused; so it is where another node holds more.
Nodes of the cluster before are stopped where they can be reached, and never serve with the new one.\n\n\
Afterwards take others in:  escli add-node 2 --host db2.example\n\n\
Examples:
  escli recover --survivor 2 --lost 1,3 --dry-run
  escli recover --survivor 2 --lost 1,3
  escli recover --survivor 2 --lost 1,3 --yes --confirm recover-orders-from-2"
)]
pub struct Args {
    /// The node that carries on: of those left, the one whose log reaches furthest.
    #[arg(long, value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub survivor: NodeId,
    /// The nodes that are lost for good.
    #[arg(long, value_parser = super::node, value_name = "ID", value_delimiter = ',', required = true, add = ArgValueCandidates::new(complete::node_ids))]
    pub lost: Vec<NodeId>,
    /// The node's program. Without it: what is installed, deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// With --yes: the words that would have to be typed.
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

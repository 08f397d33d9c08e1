//! `escli recover`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Recovers from permanent loss of quorum, when the disks of a majority are lost. One surviving node becomes a new cluster
of its own, with everything in its log. Events that the other nodes acknowledged and the survivor had not received ARE
LOST. escli refuses while a majority could still be started, and when another node has a longer log. Other nodes of the
old cluster are stopped where they can be reached, and can never join the new one.\n\n\
Add nodes afterwards:  escli add-node 2 --host db2.example\n\n\
Examples:
  escli recover --survivor 2 --lost 1,3 --dry-run
  escli recover --survivor 2 --lost 1,3
  escli recover --survivor 2 --lost 1,3 --yes --confirm recover-orders-from-2"
)]
pub struct Args {
    /// The surviving node with the longest log.
    #[arg(long, value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub survivor: NodeId,
    /// The nodes that are permanently lost.
    #[arg(long, value_parser = super::node, value_name = "ID", value_delimiter = ',', required = true, add = ArgValueCandidates::new(complete::node_ids))]
    pub lost: Vec<NodeId>,
    /// The esnode program [default: the installed one, deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// The confirmation that would have to be typed, for --yes.
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

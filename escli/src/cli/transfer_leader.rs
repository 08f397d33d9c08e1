//! `escli transfer-leader`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `transfer-leader`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Refused for a node that is down, is not a voter, or has not caught up.\n\n\
Examples:
  escli transfer-leader             to any follower that has caught up
  escli transfer-leader --to 2
  escli transfer-leader --to 2 --dry-run")]
pub struct Args {
    /// The new leader [default: a follower that has caught up].
    #[arg(long, value_parser = super::node, value_name = "NODE", add = ArgValueCandidates::new(complete::node_ids))]
    pub to: Option<NodeId>,
}

//! `escli transfer-leader`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `transfer-leader`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Refused for a node that is down, does not vote, or lags.\n\n\
Examples:
  escli transfer-leader             to the follower that has the most
  escli transfer-leader --to 2
  escli transfer-leader --to 2 --dry-run")]
pub struct Args {
    /// The wanted leader; the most caught-up follower when none is named.
    #[arg(long, value_parser = super::node, value_name = "NODE", add = ArgValueCandidates::new(complete::node_ids))]
    pub to: Option<NodeId>,
}

//! `escli status`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 when a node answers, 7 when none does.\n\n\
Examples:
  escli status
  escli status -o wide              adds ports, terms, indexes, start times, and the lag of consumer groups
  escli status --node 2             everything about one node
  escli status -o json | jq -r '.nodes[] | select(.state != \"up\") | .id'
  escli status -o json | jq -r '.groups.groups[] | select(.lag > 1000) | .name'")]
pub struct Args {
    /// Show everything about one node.
    #[arg(long, value_parser = super::node, value_name = "NODE", add = ArgValueCandidates::new(complete::node_ids))]
    pub node: Option<NodeId>,
}

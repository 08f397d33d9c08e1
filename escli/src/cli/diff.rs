//! `escli diff`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Three things are compared for each node: what cluster.yaml says it should be given, the file that lies on its host,
and what its process was started with.

Exit codes: 0 when all say the same, 11 when there are differences.\n\n\
Examples:
  escli diff
  escli diff 2
  escli diff -o json | jq -r '.nodes[] | select(.disk != \"same\") | .id'
  escli diff || escli reload"
)]
pub struct Args {
    /// The nodes, such as 2 n3 or 2,3; all when none is given.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
}

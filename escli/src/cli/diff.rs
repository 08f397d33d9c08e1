//! `escli diff`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Compares three things for each node: the configuration that cluster.yaml wants, the file on the
node's host, and the configuration that its process was started with.

Exit codes: 0 when there are no differences, 11 when there are.\n\n\
Examples:
  escli diff
  escli diff 2
  escli diff -o json | jq -r '.nodes[] | select(.disk != \"same\") | .id'
  escli diff || escli reload"
)]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = super::node, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
}

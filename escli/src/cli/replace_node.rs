//! `escli replace-node`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use super::add_node::NewNode;
use super::remove_node::Removal;
use crate::cli::complete;

/// Arguments of `replace-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The new node joins and votes before the old one goes, in one plan. The old one's host may be dead.\n\n\
Examples:
  escli replace-node 2 4 --host 10.0.0.4
  escli replace-node 2 4 --host 10.0.0.4 --purge --yes --confirm orders"
)]
pub struct Args {
    /// Id of the node that goes.
    #[arg(value_parser = super::node, value_name = "OLD", add = ArgValueCandidates::new(complete::node_ids))]
    pub old: NodeId,
    /// Id of the node that comes: a number that no member has.
    #[arg(value_name = "NEW", value_parser = super::node)]
    pub new: NodeId,
    /// Where the new one is.
    #[command(flatten)]
    pub node: NewNode,
    /// How the old one goes.
    #[command(flatten)]
    pub removal: Removal,
}

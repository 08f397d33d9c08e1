//! `escli replace-node`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use super::add_node::NewNode;
use super::remove_node::Removal;
use crate::cli::complete;

/// Arguments of `replace-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The new node joins and becomes a voter before the old one is removed, in one plan. The host of the
old node may be dead.\n\n\
Examples:
  escli replace-node 2 4 --host 10.0.0.4
  escli replace-node 2 4 --host 10.0.0.4 --purge --yes --confirm orders"
)]
pub struct Args {
    /// Id of the node to replace.
    #[arg(value_parser = super::node, value_name = "OLD", add = ArgValueCandidates::new(complete::node_ids))]
    pub old: NodeId,
    /// Id of the new node: a number that no member has.
    #[arg(value_name = "NEW", value_parser = super::node)]
    pub new: NodeId,
    /// Where the new node is, and what it runs.
    #[command(flatten)]
    pub node: NewNode,
    /// How the old node is removed.
    #[command(flatten)]
    pub removal: Removal,
}

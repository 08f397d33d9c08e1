//! `escli remove-node`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `remove-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A leader transfers leadership first. The node is removed from the cluster, and stopped only after a
majority knows; then it is removed from cluster.yaml. A node whose host is dead can be removed while
the others have a quorum. Its data is kept unless you pass --purge, but the node cannot rejoin with
it: to reuse the machine, delete the data and add it.\n\n\
Examples:
  escli remove-node 4
  escli remove-node 4 --purge --yes --confirm orders
  escli remove-node 4 --dry-run"
)]
pub struct Args {
    /// Id of the node to remove.
    #[arg(value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub id: NodeId,
    /// How the node is removed.
    #[command(flatten)]
    pub removal: Removal,
}

/// How a node is removed.
#[derive(Debug, clap::Args)]
pub struct Removal {
    /// Also delete the data of the node.
    #[arg(long)]
    pub purge: bool,
    /// Kill the node if it does not stop in time (SIGKILL).
    #[arg(long)]
    pub force: bool,
    /// Continue even if the cluster tolerates no failure afterwards.
    #[arg(long)]
    pub allow_downtime: bool,
    /// The cluster's name, for --purge without a terminal; also needs --yes.
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

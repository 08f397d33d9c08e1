//! `escli remove-node`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `remove-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A leader hands over first. The cluster lets the node go, a majority knows, and only then is it stopped; then
cluster.yaml names it no more. A node whose host is dead can be removed while the others have a majority. Its data
stays until --purge, and cannot be used again: to take the machine back, wipe it and add it.\n\n\
Examples:
  escli remove-node 4
  escli remove-node 4 --purge --yes --confirm orders
  escli remove-node 4 --dry-run"
)]
pub struct Args {
    /// Id of the node.
    #[arg(value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub id: NodeId,
    /// How it goes.
    #[command(flatten)]
    pub removal: Removal,
}

/// How a node goes.
#[derive(Debug, clap::Args)]
pub struct Removal {
    /// Delete its data as well.
    #[arg(long)]
    pub purge: bool,
    /// Kill it when it does not end by itself (SIGKILL).
    #[arg(long)]
    pub force: bool,
    /// Go on where the cluster tolerates no failure afterwards.
    #[arg(long)]
    pub allow_downtime: bool,
    /// With --purge and --yes: the cluster's name, instead of typing it.
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

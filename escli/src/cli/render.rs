//! `escli render`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The output is the same, byte for byte, for the same cluster.yaml. Defaults are written out.\n\n\
Examples:
  escli render                      the files of all nodes, one YAML document each
  escli render --node 2
  escli render --out rendered       rendered/n1/cluster.yaml, rendered/n2/cluster.yaml, ...
  diff <(escli render --node 1) <(ssh node1 cat /opt/eventstream/config/cluster.yaml)"
)]
pub struct Args {
    /// Print only the file of this node.
    #[arg(long, value_parser = super::node, value_name = "NODE", add = ArgValueCandidates::new(complete::node_ids))]
    pub node: Option<NodeId>,
    /// Write nI/cluster.yaml for every node to this directory.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}

//! `escli add-node`, and what `replace-node` says of a new node as well.

use std::path::PathBuf;

use shared::ids::NodeId;

/// Arguments of `add-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The host is prepared, the node started, and reached from every member; then it joins as a learner, gets the log, and
is made a voter by the leader as soon as it keeps up. Then cluster.yaml names it, with everything else in it as you
wrote it, and every node's own file is refreshed; nobody is restarted. A node that does not catch up is taken out
again (--timeout). What was interrupted goes on with `escli history resume`.\n\n\
Examples:
  escli add-node 4 --host 10.0.0.4
  escli add-node 4                  a node that cluster.yaml names already
  escli add-node 4 --local          on this machine, with the next ports
  escli add-node 4 --host 10.0.0.4 --dry-run"
)]
pub struct Args {
    /// Its id: a number that no member has.
    #[arg(value_name = "ID", value_parser = super::node)]
    pub id: NodeId,
    /// Where it is.
    #[command(flatten)]
    pub node: NewNode,
    /// It gets the log and never votes.
    #[arg(long)]
    pub learner_only: bool,
}

/// Where a new node is, and what it runs.
#[derive(Debug, clap::Args)]
pub struct NewNode {
    /// Name or address of its host.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The local cluster: host and ports follow from the nodes that are there.
    #[arg(long, conflicts_with = "host")]
    pub local: bool,
    /// Kafka clients connect there [default: 9000].
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<u16>,
    /// The other nodes connect there [default: 9100].
    #[arg(long, value_name = "PORT")]
    pub cluster_port: Option<u16>,
    /// Port of its admin API [default: 8080].
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// What Kafka clients are told instead of its host.
    #[arg(long, value_name = "HOST")]
    pub advertised_host: Option<String>,
    /// The node's program. Without it: deploy.binary, $ESNODE, beside escli, the PATH.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

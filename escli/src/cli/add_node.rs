//! `escli add-node`, and the options of a new node that `replace-node` has as well.

use std::path::PathBuf;

use shared::ids::NodeId;

/// Arguments of `add-node`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prepares the host, starts the node, and checks that every member reaches it. The node then joins as
a learner, receives the log, and the leader promotes it to a voter as soon as it has caught up.
Finally the node is added to cluster.yaml, which otherwise stays as you wrote it, and every node's
own file is updated; no node is restarted. A node that does not catch up within --timeout is removed
again. Resume an interrupted operation with `escli history resume`.\n\n\
Examples:
  escli add-node 4 --host 10.0.0.4
  escli add-node 4                  a node that is already in cluster.yaml
  escli add-node 4 --local          on this machine, with the next free ports
  escli add-node 4 --host 10.0.0.4 --dry-run"
)]
pub struct Args {
    /// Id of the new node: a number that no member has.
    #[arg(value_name = "ID", value_parser = super::node)]
    pub id: NodeId,
    /// Where the node is, and what it runs.
    #[command(flatten)]
    pub node: NewNode,
    /// Keep the node a learner: it receives the log and never votes.
    #[arg(long)]
    pub learner_only: bool,
}

/// Where a new node is, and what it runs.
#[derive(Debug, clap::Args)]
pub struct NewNode {
    /// Host name or address of the node.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Add to the local cluster: host and ports follow from its existing nodes.
    #[arg(long, conflicts_with = "host")]
    pub local: bool,
    /// Port for Kafka clients [default: 9000].
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<u16>,
    /// Port for the other nodes [default: 9100].
    #[arg(long, value_name = "PORT")]
    pub cluster_port: Option<u16>,
    /// Port of the admin API [default: 8080].
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Host name given to Kafka clients instead of the host.
    #[arg(long, value_name = "HOST")]
    pub advertised_host: Option<String>,
    /// The esnode program [default: deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

//! The command line of `esnode`.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use shared::ids::NodeId;
use uuid::Uuid;

/// A node of a replicated event log that speaks the Kafka wire protocol.
///
/// Runs one node of the cluster that cluster.yaml describes. On SIGTERM it transfers leadership, makes
/// everything durable and exits with 0.
#[derive(Debug, Parser)]
#[command(
    name = "esnode",
    disable_version_flag = true,
    after_help = "Examples:\n  esnode --node-id=1 --config=/opt/eventstream/config/cluster.yaml\n  esnode --version --json"
)]
pub struct Args {
    /// Which node of cluster.yaml this is; overrides cluster.node_id
    #[arg(long, value_name = "ID")]
    pub node_id: Option<u64>,
    /// The cluster's configuration
    #[arg(long, value_name = "FILE", default_value = "cluster.yaml")]
    pub config: PathBuf,
    /// Log level: error, warn, info, debug or trace; `module=level` sets it for one module
    #[arg(long, value_name = "FILTER", env = "ESNODE_LOG", default_value = "info")]
    pub log: String,
    /// Print the version and exit
    #[arg(long, short = 'V', action = ArgAction::SetTrue)]
    pub version: bool,
    /// With --version: print all build information as JSON
    #[arg(long, requires = "version")]
    pub json: bool,
    /// Offline task to do instead of running the node
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// Offline tasks, for a node that does not run.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Recover from permanent loss of quorum: start a new cluster from this node's log. Unsafe; use as a last
    /// resort.
    ///
    /// Entries that other nodes had committed and this node does not have are lost. Run it on the one
    /// surviving node, or, with the copies of a backup, on every node of the new cluster. No node of the old
    /// cluster may ever run again. `escli recover` and `escli restore` check all of this; run this command by
    /// hand only if they cannot be used.
    #[command(
        after_help = "Example:\n  esnode --config=cluster.yaml --node-id=2 recover --cluster-id=$(uuidgen) --members=2"
    )]
    Recover {
        /// Id of the new cluster: a UUID that was never used before
        #[arg(long, value_name = "UUID")]
        cluster_id: Uuid,
        /// Ids of all members of the new cluster
        #[arg(long, value_name = "ID", value_delimiter = ',', required = true)]
        members: Vec<NodeId>,
    },
    /// Check every file of the data directory and report corruption; read-only
    ///
    /// The node must be stopped. Exits with 0 if everything is intact, with 1 if anything is damaged. A torn
    /// tail, which a crash leaves and the next start cuts off, is reported as harmless.
    #[command(after_help = "Example:\n  esnode verify --data-dir /var/lib/eventstream/raft")]
    Verify {
        /// The node's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

//! The command line of `esnode`.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use shared::ids::NodeId;
use uuid::Uuid;

/// A node of a replicated event log that speaks the Kafka wire protocol.
///
/// It keeps its part of the cluster that cluster.yaml describes, until SIGTERM: then it hands leadership over, makes
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
    /// What to log: error, warn, info, debug or trace, also per module
    #[arg(long, value_name = "FILTER", env = "ESNODE_LOG", default_value = "info")]
    pub log: String,
    /// Print the version and exit
    #[arg(long, short = 'V', action = ArgAction::SetTrue)]
    pub version: bool,
    /// With --version: everything about the build, as JSON
    #[arg(long, requires = "version")]
    pub json: bool,
    /// Something else than to run
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// What esnode does besides running.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Let another cluster carry on with the log in this node's data directory: the last way out
    ///
    /// For a cluster that has lost its quorum for good, on the one node that is to carry on; or for the copies of a backup, on
    /// every node of the new cluster alike. The cluster before must never run again beside it. `escli recover` and `escli
    /// restore` see to all of that; call this by hand only if they cannot.
    #[command(
        after_help = "Example:\n  esnode --config=cluster.yaml --node-id=2 rebuild --cluster-id=$(uuidgen) --members=2"
    )]
    Rebuild {
        /// The new cluster's identity, never used before: a UUID
        #[arg(long, value_name = "UUID")]
        cluster_id: Uuid,
        /// All members of the new cluster
        #[arg(long, value_name = "ID", value_delimiter = ',', required = true)]
        members: Vec<NodeId>,
    },
    /// Read all that a node that does not run has on its disk, and say what is not as it was written; changes nothing
    ///
    /// Exits with 0 if all is whole, with 1 if anything is damaged. What a crash leaves, and the next start cuts, is said
    /// and is no damage.
    #[command(after_help = "Example:\n  esnode verify --data-dir /var/lib/eventstream/raft")]
    Verify {
        /// The node's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The verdict as JSON
        #[arg(long)]
        json: bool,
    },
}

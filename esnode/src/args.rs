//! The command line of `esnode`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

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
}

//! `escli restore`.

use std::path::PathBuf;

use super::up;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(
    after_help = "Brings the cluster of cluster.yaml up, as `escli up` does, with everything that is in a backup. Its nodes must have no
data. The cluster is a new one, with as many nodes as cluster.yaml names and wherever they are; topics, events and
offsets are those of the backup. The backup is verified first, and again on every host.\n\n\
Examples:
  escli restore orders-monday.tar --dry-run
  escli restore orders-monday.tar
  escli restore orders-monday.tar --local --nodes 1 --dir ./look"
)]
pub struct Args {
    /// The backup: a file, or for a cluster on this machine a folder as well.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How the cluster comes up.
    #[command(flatten)]
    pub up: up::Args,
}

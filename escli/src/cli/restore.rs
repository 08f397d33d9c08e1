//! `escli restore`.

use std::path::PathBuf;

use super::up;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(
    after_help = "Brings up the cluster of cluster.yaml, as `escli up` does, with the contents of a backup. Its nodes
must have no data. It is a new cluster, and may have other nodes than the one that was backed up;
topics, events and offsets are those of the backup. The backup is verified first, and again on every
host.\n\n\
Examples:
  escli restore orders-monday.tar --dry-run
  escli restore orders-monday.tar
  escli restore orders-monday.tar --local --nodes 1 --dir ./look"
)]
pub struct Args {
    /// The backup: a file, or for a local cluster also a directory.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The options of `up`.
    #[command(flatten)]
    pub up: up::Args,
}

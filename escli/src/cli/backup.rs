//! `escli backup`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The backup contains everything that was acknowledged before the command started: topics, events, and
the state of producers. It is taken from a follower that has caught up, so the leader is not slowed
down and writes continue. Every file's checksum is verified during the copy; an incomplete backup is
deleted. A path that ends in .tar creates one file, any other path a directory. Only you can read
the backup.\n\n\
Examples:
  escli backup
  escli backup /backups/orders-monday.tar
  escli backup --node 3 /backups/orders
  escli verify /backups/orders-monday.tar"
)]
pub struct Args {
    /// Where to write the backup [default: ./eventstream-NAME-TIME.tar].
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Take the backup from this node.
    #[arg(long, value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub node: Option<NodeId>,
}

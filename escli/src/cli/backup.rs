//! `escli backup`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything that was acknowledged when the command began is in it: topics, events, and what is known of producers.
The copy comes from a follower that keeps up, so that the leader has nothing to do with it, and writes go on. Each
file's checksum is checked on the way; what is not whole leaves nothing behind. A name that ends in .tar gives one
file, any other a folder. It holds everybody's events, and is readable by you alone.\n\n\
Examples:
  escli backup
  escli backup /backups/orders-monday.tar
  escli backup --node 3 /backups/orders
  escli verify /backups/orders-monday.tar"
)]
pub struct Args {
    /// Where to write it. Without it: eventstream-NAME-TIME.tar, here.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Take it from this node.
    #[arg(long, value_parser = super::node, value_name = "ID", add = ArgValueCandidates::new(complete::node_ids))]
    pub node: Option<NodeId>,
}

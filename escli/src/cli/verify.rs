//! `escli verify`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads every byte that counts and changes none. What a crash leaves behind, and the next start cuts, is told from
damage; of a backup every checksum is checked as well. A node that runs is not verified: it reads its disk over and over by itself, and says so when something is
wrong. The exit code is 0 when all is whole, 1 when anything is damaged, 3 where a node runs.\n\n\
Examples:
  escli stop 2 && escli verify 2; escli start 2
  escli verify 1 2 3 -o json
  escli verify orders-monday.tar"
)]
pub struct Args {
    /// Stopped nodes, such as 2 n3 or 2,3, or backups (./n2 when one is called like a node).
    #[arg(value_name = "NODE|PATH", required = true, add = ArgValueCandidates::new(complete::node_ids))]
    pub what: Vec<PathBuf>,
}

//! `escli verify`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;

use crate::cli::complete;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads all files and changes none. Traces of a crash, which the next start removes, are distinguished
from corruption; the checksums of a backup are verified as well. Only stopped nodes can be verified:
a running node checks its disk continuously and logs what it finds. The exit code is 0 when nothing
is damaged, 1 when something is, and 3 when a node is running.\n\n\
Examples:
  escli stop 2 && escli verify 2; escli start 2
  escli verify 1 2 3 -o json
  escli verify orders-monday.tar"
)]
pub struct Args {
    /// Stopped nodes, such as 2 n3 or 2,3, or backups (write ./n2 for a backup with the name of a node).
    #[arg(value_name = "NODE|PATH", required = true, add = ArgValueCandidates::new(complete::node_ids))]
    pub what: Vec<PathBuf>,
}

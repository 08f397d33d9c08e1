//! `escli upgrade`.

use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `upgrade`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The program is copied to every host and checked there before the first node is touched. Then one
node is upgraded at a time: nodes that are down first, then followers, and the leader last, after it
has transferred leadership to an upgraded node. Before a node is stopped, the others must have a
quorum without it; after it was started, it must report the new version, follow the leader, catch
up, and serve without a break for --soak. A node that does not is rolled back, and the upgrade stops
there (exit code 4). If the new version has a newer on-disk format, the last step raises the format:
after that, no downgrade is possible. --keep-way-back skips that step. An older version, or one that
skips a minor version, is refused unless you allow it.\n\n\
Examples:
  escli upgrade --binary ./esnode --dry-run
  escli upgrade --binary ./esnode
  escli upgrade --binary ./esnode --canary --soak 10m     one follower, then ask
  escli upgrade status
  escli upgrade resume"
)]
pub struct Args {
    /// What to do about the last upgrade.
    #[command(subcommand)]
    pub what: Option<What>,
    /// The new esnode program.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
    /// How long each node must serve without a break before the next one is upgraded.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    pub soak: Duration,
    /// Upgrade one follower, then ask; stop there without a terminal.
    #[arg(long, conflicts_with = "pause_after")]
    pub canary: bool,
    /// Stop after this many nodes; `escli upgrade resume` continues.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub pause_after: Option<u8>,
    /// Leave a node that fails as it is, for inspection.
    #[arg(long)]
    pub no_rollback: bool,
    /// Do not raise the on-disk format, so that a downgrade stays possible. To raise it later, run the same upgrade again
    /// without this option.
    #[arg(long)]
    pub keep_way_back: bool,
    /// Allow an older version.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Allow skipping a minor version.
    #[arg(long)]
    pub allow_skip: bool,
    /// Upgrade nodes even if the cluster accepts no writes meanwhile.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not stop in time (SIGKILL).
    #[arg(long)]
    pub force: bool,
}

/// What to do about the last upgrade.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Show what every node runs, and the progress of the last upgrade.
    Status,
    /// Resume the last upgrade.
    Resume,
    /// Abandon the last upgrade; the nodes stay as they are.
    Abort,
}

//! `escli upgrade`.

use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `upgrade`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The program is copied to every host and checked there before the first node is touched. Then one node at a time: those
that are down, followers, the leader last, after it has handed over to one that was upgraded. Before each stop the
others must have a majority without the node; after each start it must report the version, follow the leader, have
caught up, and serve steadily for --soak. A node that does not returns to what it ran before, and the upgrade stops
there (exit 4). When all were upgraded, and the new version has a newer on-disk format, the last step raises it: from
then on there is no way back to the version before. --keep-way-back leaves that step out. An older version, or one further than the next, is refused unless that was said.\n\n\
Examples:
  escli upgrade --binary ./esnode --dry-run
  escli upgrade --binary ./esnode
  escli upgrade --binary ./esnode --canary --soak 10m     one follower, then ask
  escli upgrade status
  escli upgrade resume"
)]
pub struct Args {
    /// What to do instead of beginning one.
    #[command(subcommand)]
    pub what: Option<What>,
    /// The new program.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
    /// For how long each node must serve steadily before the next one's turn.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    pub soak: Duration,
    /// Upgrade one follower, then ask; without a terminal stop there.
    #[arg(long, conflicts_with = "pause_after")]
    pub canary: bool,
    /// Stop after so many nodes; `escli upgrade resume` goes on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub pause_after: Option<u8>,
    /// Leave a node that fails as it is, for a look.
    #[arg(long)]
    pub no_rollback: bool,
    /// Do not raise the on-disk format at the end, so that there is a way back to the version before. The same upgrade
    /// once more, without this option, raises it.
    #[arg(long)]
    pub keep_way_back: bool,
    /// An older version is meant.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// A version further than the next one is meant.
    #[arg(long)]
    pub allow_skip: bool,
    /// Upgrade nodes even when the others cannot accept writes meanwhile.
    #[arg(long)]
    pub allow_downtime: bool,
    /// Kill a node that does not end by itself (SIGKILL).
    #[arg(long)]
    pub force: bool,
}

/// What to do about an upgrade.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// What every node runs, and how far the last upgrade came.
    Status,
    /// Go on with the last upgrade.
    Resume,
    /// Give the last upgrade up; the nodes stay as they are.
    Abort,
}

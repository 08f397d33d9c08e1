//! `escli alerts`.

use std::time::Duration;

/// Arguments of `alerts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What is looked at:
  node down       raft_peers_connected < cluster_size - 1, or a node that does not answer
  slow follower   raft_replication_lag > 100
  unstable        raft_elections_total rate > 1/min
  write failure   raft_commit_index stuck for > 30s while something waits to be committed

What the window is too short for is called \"not judged\", never fine; 65s tell everything.

Exit codes: 0 when none fires, 10 when one does.\n\n\
Examples:
  escli alerts
  escli alerts --window 65s
  escli alerts -o json | jq -r '.alerts[] | select(.state == \"firing\") | .findings[]'")]
pub struct Args {
    /// Look for this long before judging.
    #[arg(long, value_parser = super::duration, default_value = "5s", value_name = "TIME")]
    pub window: Duration,
}

//! `escli alerts`.

use std::time::Duration;

/// Arguments of `alerts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Conditions:
  node down       raft_peers_connected < cluster_size - 1, or a node does not answer
  slow follower   raft_replication_lag > 100
  unstable        raft_elections_total rate > 1/min
  write failure   raft_commit_index stuck for > 30s while entries wait to be committed

A condition for which the window is too short is reported as \"not evaluated\", never as ok; 65s are enough for all of them.

Exit codes: 0 when no alert fires, 10 when one does.\n\n\
Examples:
  escli alerts
  escli alerts --window 65s
  escli alerts -o json | jq -r '.alerts[] | select(.state == \"firing\") | .findings[]'")]
pub struct Args {
    /// Observe the cluster for this long first.
    #[arg(long, value_parser = super::duration, default_value = "5s", value_name = "TIME")]
    pub window: Duration,
}

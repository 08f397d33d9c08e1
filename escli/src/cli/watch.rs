//! `escli watch`.

use std::time::Duration;

use crate::overview::Until;

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal, shows a live view (q quits) with the commit rate of the cluster, the rate and lag of each node over
time, and the consumer groups with the most lag; elsewhere, and with -o json, prints one line of JSON per poll.

Conditions:
  healthy     the verdict is HEALTHY
  leader      there is a leader that a majority follows
  caught-up   every node has applied everything that was committed at the start
  version=V   every node runs version V

Exit codes: 0 when the condition is met, 5 when --timeout passed first, 130 when interrupted.\n\n\
Examples:
  escli watch
  escli watch --until healthy --timeout 30s
  escli watch --interval 200ms -o json | jq -c '[.leader, .term]'"
)]
pub struct Args {
    /// Exit when this condition is met: healthy, leader, caught-up or version=V.
    #[arg(long, value_name = "STATE", add = clap_complete::ArgValueCandidates::new(crate::cli::complete::states))]
    pub until: Option<Until>,
    /// Time between two polls.
    #[arg(long, value_parser = super::duration, default_value = "1s", value_name = "TIME")]
    pub interval: Duration,
}

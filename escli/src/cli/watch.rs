//! `escli watch`.

use std::time::Duration;

use crate::overview::Until;

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal a live view (q quits) with the commit rate of the cluster, and rate and lag of each node over time;
elsewhere, and with -o json, one line of JSON for each look.

What can be waited for:
  healthy     the verdict is HEALTHY
  leader      somebody leads, and a majority follows
  caught-up   every node has applied what was committed when the waiting began
  version=V   every node runs version V

Exit codes: 0 when it has come, 5 when --timeout passed first, 130 when it was quit before.\n\n\
Examples:
  escli watch
  escli watch --until healthy --timeout 30s
  escli watch --interval 200ms -o json | jq -c '[.leader, .term]'"
)]
pub struct Args {
    /// End when this has come: healthy, leader, caught-up or version=V.
    #[arg(long, value_name = "STATE", add = clap_complete::ArgValueCandidates::new(crate::cli::complete::states))]
    pub until: Option<Until>,
    /// Time between two looks.
    #[arg(long, value_parser = super::duration, default_value = "1s", value_name = "TIME")]
    pub interval: Duration,
}

//! `escli check`.

use std::path::PathBuf;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks, and without --fix changes nothing: can every host be reached and logged in to, can things be done as root, is there
systemd, does the program run there, is there room, are the ports free or the node's own, is the clock right, does
every node reach every other one's cluster_port. `escli up` begins with the same checks.

--fix puts right what can be put right from here, then looks again: a missing user, directories that are missing or have
the wrong owner or mode, what broken uploads left. Clocks, firewalls and unknown host keys are yours: what is found has a
hint with the command. --dry-run shows the steps.

Exit codes: 0 nothing speaks against it, 3 something does (with --fix: still does).\n\n\
Examples:
  escli check
  escli check --fix --dry-run
  escli check --binary ./esnode -o json | jq -r '.findings[] | select(.level == \"failure\") | .text'"
)]
pub struct Args {
    /// The node's program that is to run there.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Put right what can be put right from here.
    #[arg(long)]
    pub fix: bool,
}

//! `escli check`.

use std::path::PathBuf;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Checks, for every host: SSH login, root access, systemd, whether esnode runs there, disk space,
whether the ports are free or held by the node, the clock, and whether the host reaches the
cluster_port of every other node. Changes nothing without --fix. `escli up` starts with the same
checks.

--fix repairs what it can, then checks again: it creates a missing user, creates directories or
corrects their owner and mode, and deletes leftovers of failed uploads. Clocks, firewalls and
unknown host keys it leaves to you, with a hint that names the command. --dry-run shows the steps.

Exit codes: 0 when no check fails, 3 when one does (with --fix: still does).\n\n\
Examples:
  escli check
  escli check --fix --dry-run
  escli check --binary ./esnode -o json | jq -r '.findings[] | select(.level == \"failure\") | .text'"
)]
pub struct Args {
    /// The esnode program that is to run on the hosts.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Repair what can be repaired from here.
    #[arg(long)]
    pub fix: bool,
}

//! `escli exec`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// Parses a node; anything else is probably the command.
fn target(text: &str) -> Result<NodeId, String> {
    super::node(text)
        .map_err(|expected| format!("{expected}; the command goes after --: escli exec -- {text} ..."))
}

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every line of output is labelled with its node. Arguments are passed on unchanged; to use pipes or
variables of the host, pass one argument to a shell there. The exit code is 0 when the command
exited with 0 on every host, else 1.\n\n\
Examples:
  escli exec -- uptime
  escli exec 1 3 -- df -h /var/lib/eventstream
  escli exec -- sh -c 'journalctl -u eventstream | grep -c election'"
)]
pub struct Args {
    /// Nodes, such as 2 n3 or 2,3; all of them by default.
    #[arg(value_name = "NODE", value_parser = target, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// The command to run on the hosts.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

//! `escli exec`.

use clap_complete::ArgValueCandidates;
use shared::ids::NodeId;

use crate::cli::complete;

/// A node, or else probably the command.
fn target(text: &str) -> Result<NodeId, String> {
    super::node(text)
        .map_err(|expected| format!("{expected}; the command comes behind --: escli exec -- {text} ..."))
}

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every line is labelled with its node. Words are passed on as they are; for pipes and variables on the hosts, give
one word to a shell there. The exit code is 0 when the command ended with 0 on every host, else 1.\n\n\
Examples:
  escli exec -- uptime
  escli exec 1 3 -- df -h /var/lib/eventstream
  escli exec -- sh -c 'journalctl -u eventstream | grep -c election'"
)]
pub struct Args {
    /// The nodes, such as 2 n3 or 2,3; all when none is given.
    #[arg(value_name = "NODE", value_parser = target, value_delimiter = ',', add = ArgValueCandidates::new(complete::node_ids))]
    pub nodes: Vec<NodeId>,
    /// What to run on their hosts.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

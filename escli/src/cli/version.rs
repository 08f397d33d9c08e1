//! `escli version`.

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "To see the version of the nodes, run `escli status`.\n\n\
Examples:
  escli version
  escli version -o json | jq -r .version")]
pub struct Args {}

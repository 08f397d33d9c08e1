//! `escli version`.

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What the nodes run is a matter of `escli status`.\n\n\
Examples:
  escli version
  escli version -o json | jq -r .version")]
pub struct Args {}

//! `escli plan`.

use std::path::PathBuf;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 when there is nothing to change, 11 when there is.\n\n\
Examples:
  escli plan
  escli plan -o json | jq -r '.steps[].id'
  escli plan || escli up")]
pub struct Args {
    /// The esnode program [default: deploy.binary, $ESNODE, next to escli, PATH].
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub binary: Option<PathBuf>,
}

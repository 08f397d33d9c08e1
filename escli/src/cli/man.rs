//! `escli man`.

use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  escli man | man -l -
  escli man watch | man -l -
  escli man --out ~/.local/share/man/man1")]
pub struct Args {
    /// The command whose page to print [default: escli itself].
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
    /// Write all pages to this directory.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, conflicts_with = "command")]
    pub out: Option<PathBuf>,
}

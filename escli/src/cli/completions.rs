//! `escli completions`.

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {}

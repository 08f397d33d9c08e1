//! `escli health`.

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct Args {}

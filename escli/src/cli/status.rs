//! `escli status`.

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

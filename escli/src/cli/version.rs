//! `escli version`.

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {}

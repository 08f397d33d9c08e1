//! `escli logs`.

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {}

//! `escli validate`.

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {}

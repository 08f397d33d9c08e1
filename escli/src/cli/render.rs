//! `escli render`.

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {}

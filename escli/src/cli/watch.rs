//! `escli watch`.

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Args {}

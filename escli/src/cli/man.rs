//! `escli man`.

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {}

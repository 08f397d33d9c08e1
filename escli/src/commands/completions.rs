//! `escli completions`.

use crate::cli::completions::Args;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// Runs it.
pub async fn run(_settings: &Settings, _args: &Args) -> Result<Exit, Failure> {
    Err(Failure::failed("completions is not there yet"))
}

//! `escli version`.

use serde::Serialize;

use crate::cli::version::Args;
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::settings::Settings;
use crate::view;

/// The document of `version`. `version` and `build` are as in `esnode --version --json`.
#[derive(Debug, Serialize)]
struct Version {
    schema_version: u32,
    version: &'static str,
    build: &'static str,
}

/// Prints the version of this escli.
///
/// # Errors
/// None.
pub async fn run(settings: &Settings, _args: &Args) -> Result<Exit, Failure> {
    let version = Version {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        build: env!("STAMPED_BUILD"),
    };
    view::show(settings, &version, |_| format!("escli {} ({})\n", version.version, version.build));
    Ok(Exit::Ok)
}

//! `escli health`: the verdict with its reasons.

use super::probe::Probe;
use crate::cli::health::Args;
use crate::failure::{Exit, Failure};
use crate::overview::Verdict;
use crate::settings::Settings;
use crate::view::{self, status};

/// Prints the verdict with its reasons; the exit code tells the verdict as well.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid.
pub async fn run(settings: &Settings, _args: &Args) -> Result<Exit, Failure> {
    let seen = Probe::open(settings)?.inspect().await;
    if !settings.quiet || settings.output.is_machine() {
        view::show(settings, &seen, |paint| status::health(&seen, paint));
    }
    Ok(match seen.health {
        Verdict::Healthy => Exit::Ok,
        Verdict::Degraded | Verdict::Unavailable => Exit::Unhealthy,
        Verdict::Unknown => Exit::Unreachable,
    })
}

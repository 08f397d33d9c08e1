//! The result of `backup`, and its progress.

use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use shared::backup::Manifest;
use shared::ids::NodeId;

use super::paint::Paint;
use super::report::duration;
use crate::output::SCHEMA_VERSION;
use crate::settings::Settings;

/// The document of `backup`.
#[derive(Debug, Serialize)]
pub struct BackupDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    path: &'a Path,
    /// The node that sent the backup.
    node: NodeId,
    bytes: u64,
    files: usize,
    first_index: u64,
    last_index: u64,
    taken_at: &'a str,
    duration_ms: u64,
}

/// Returns the document of a backup at `path` that took this long.
pub fn document<'a>(path: &'a Path, manifest: &'a Manifest, took: Duration) -> BackupDocument<'a> {
    BackupDocument {
        schema_version: SCHEMA_VERSION,
        cluster: &manifest.cluster_name,
        path,
        node: manifest.node,
        bytes: manifest.bytes(),
        files: manifest.files.len(),
        first_index: manifest.first_index,
        last_index: manifest.last_index,
        taken_at: &manifest.taken_at,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Returns one line about the backup.
pub fn text(document: &BackupDocument<'_>, paint: Paint) -> String {
    let BackupDocument { cluster, path, node, bytes, first_index, last_index, duration_ms, .. } = document;
    let rate = bytes.saturating_mul(1000) / (*duration_ms).max(1);
    format!(
        "backup {cluster}: {}, entries {first_index} to {last_index} from n{node}, {} in {} ({}/s): {}\n",
        paint.good("complete"),
        HumanBytes(*bytes),
        duration(*duration_ms),
        HumanBytes(rate),
        path.display()
    )
}

/// Shows bytes and rate while a backup arrives, on a terminal.
pub struct Meter(ProgressBar);

impl Meter {
    /// Returns a meter at 0 bytes.
    pub fn new(settings: &Settings) -> Self {
        let shown = settings.env.stderr_is_terminal && !settings.quiet && !settings.output.is_machine();
        let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{spinner} {bytes} ({bytes_per_sec})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self(bar)
    }

    /// Adds bytes that have arrived.
    pub fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

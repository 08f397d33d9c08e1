//! `escli monitoring`.

use serde::Serialize;

use crate::cli::monitoring::Args;
use crate::cluster_file;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::monitoring::{RULES, RULES_FILE, dashboard, scrape};
use crate::output::SCHEMA_VERSION;
use crate::settings::Settings;
use crate::view;

/// The document of `monitoring`.
#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    cluster: String,
    /// Paths of the files written.
    files: Vec<String>,
}

/// Writes the configuration for Prometheus and Grafana.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if the directory cannot be written to.
pub fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let spec = cluster_file::load(settings)?.spec;
    let pretty = serde_json::to_string_pretty(&dashboard(&spec))
        .map_err(|error| Failure::failed(format!("cannot write the dashboard: {error}")))?;
    let texts = [
        ("prometheus.yml", scrape(&spec)),
        (RULES_FILE, RULES.to_owned()),
        ("eventstream-dashboard.json", pretty + "\n"),
    ];
    let mut written = Vec::new();
    for (name, text) in texts {
        let path = settings.env.path(&args.out).join(name);
        files::write_atomically(&path, &text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        written.push(path.display().to_string());
    }
    let document =
        Document { schema_version: SCHEMA_VERSION, cluster: spec.cluster.name.clone(), files: written };
    view::show(settings, &document, |_| document.files.iter().map(|path| format!("{path}\n")).collect());
    Ok(Exit::Ok)
}

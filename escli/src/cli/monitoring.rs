//! `escli monitoring`.

use std::path::PathBuf;

/// Arguments of `monitoring`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes prometheus.yml (every node of cluster.yaml), eventstream-rules.yml (the four documented alerts) and
eventstream-dashboard.json (for Grafana: Dashboards, New, Import). Files that are there are replaced; write them again
when members come or go. `escli alerts` judges the same conditions without Prometheus.\n\n\
Examples:
  escli monitoring
  escli monitoring --out /etc/prometheus
  promtool check config monitoring/prometheus.yml"
)]
pub struct Args {
    /// The directory; created when missing.
    #[arg(long, value_name = "DIR", default_value = "monitoring", value_hint = clap::ValueHint::DirPath)]
    pub out: PathBuf,
}

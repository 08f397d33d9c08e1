//! `escli monitoring`.

use std::path::PathBuf;

/// Arguments of `monitoring`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes prometheus.yml (every node of cluster.yaml), eventstream-rules.yml (the four documented
alerts, and two for consumer groups: one falls behind, one lags and has no members) and
eventstream-dashboard.json (for Grafana: Dashboards, New, Import). Existing files are replaced. Run the
command again when nodes join or leave. `escli alerts` evaluates the four without Prometheus.

The leader serves series for the 100 consumer groups with the most lag; eventstream_groups_left_off counts
the others.\n\n\
Examples:
  escli monitoring
  escli monitoring --out /etc/prometheus
  promtool check config monitoring/prometheus.yml"
)]
pub struct Args {
    /// The directory to write to; created if missing.
    #[arg(long, value_name = "DIR", default_value = "monitoring", value_hint = clap::ValueHint::DirPath)]
    pub out: PathBuf,
}

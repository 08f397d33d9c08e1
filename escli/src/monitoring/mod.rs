//! PURE: the configuration that Prometheus and Grafana need to monitor a cluster: a scrape configuration, alert rules,
//! and a dashboard.

use serde_json::{Value, json};
use shared::spec::{ClusterFile, authority};

/// The alert rules. They hold for every cluster that is scraped.
pub const RULES: &str = include_str!("rules.yml");
/// The name by which the scrape configuration refers to them.
pub const RULES_FILE: &str = "eventstream-rules.yml";
/// Seconds between two scrapes. The 30 seconds that the rules look back contain six.
const SCRAPE_S: u32 = 5;

/// Returns a scrape configuration with every node of the cluster.
pub fn scrape(spec: &ClusterFile) -> String {
    let name = &spec.cluster.name;
    let mut text = format!(
        "# Every node of {name}. Written by `escli monitoring`; run it again when nodes join or leave.\n\
         global:\n  scrape_interval: {SCRAPE_S}s\n  evaluation_interval: {SCRAPE_S}s\n\
         rule_files: [{RULES_FILE}]\n\
         scrape_configs:\n  - job_name: eventstream\n    static_configs:\n"
    );
    for node in &spec.cluster.nodes {
        text.push_str(&format!(
            "      - targets: [\"{}\"]\n        labels: {{ cluster: \"{name}\", node: \"{}\" }}\n",
            authority(&node.host, node.http_port),
            node.id
        ));
    }
    text
}

/// A panel: its title, type, query, unit and legend.
type Panel = (&'static str, &'static str, String, &'static str, &'static str);

fn panels(only: &str) -> [Panel; 12] {
    [
        ("Leader", "stat", format!("max(raft_leader{only})"), "short", "leader"),
        ("Nodes up", "stat", format!("sum(up{only})"), "short", "nodes"),
        (
            "Commits per second",
            "timeseries",
            format!("rate(raft_commit_index{only}[1m])"),
            "ops",
            "n{{node}}",
        ),
        (
            "Replication lag (entries)",
            "timeseries",
            format!("raft_replication_lag{only}"),
            "short",
            "n{{node}}",
        ),
        (
            "Elections per minute",
            "timeseries",
            format!("increase(raft_elections_total{only}[1m])"),
            "short",
            "n{{node}}",
        ),
        ("Connected peers", "timeseries", format!("raft_peers_connected{only}"), "short", "n{{node}}"),
        (
            "Log sync time, mean",
            "timeseries",
            format!(
                "rate(eventstream_log_sync_seconds_sum{only}[1m]) / rate(eventstream_log_sync_seconds_count{only}[1m])"
            ),
            "s",
            "n{{node}}",
        ),
        (
            "Bytes produced per second",
            "timeseries",
            format!("rate(eventstream_kafka_produce_bytes_total{only}[1m])"),
            "Bps",
            "n{{node}}",
        ),
        (
            "Bytes fetched per second",
            "timeseries",
            format!("rate(eventstream_kafka_fetch_bytes_total{only}[1m])"),
            "Bps",
            "n{{node}}",
        ),
        ("Log size", "timeseries", format!("eventstream_log_bytes{only}"), "bytes", "n{{node}}"),
        (
            "Client connections",
            "timeseries",
            format!("eventstream_kafka_connections{only}"),
            "short",
            "n{{node}}",
        ),
        (
            "Lag by consumer group (events)",
            "timeseries",
            format!("max by (group) (eventstream_group_lag{only})"),
            "short",
            "{{group}}",
        ),
    ]
}

/// Returns a Grafana dashboard for one cluster. Its data source is chosen when it is imported.
pub fn dashboard(spec: &ClusterFile) -> Value {
    let name = &spec.cluster.name;
    let only = format!("{{cluster=\"{name}\"}}");
    let panels = panels(&only);
    let panels = panels.iter().zip(0..).map(|((title, kind, query, unit, legend), index)| {
        json!({
            "id": index + 1,
            "title": title,
            "type": kind,
            "datasource": { "type": "prometheus", "uid": "${source}" },
            "gridPos": { "x": index % 2 * 12, "y": index / 2 * 8, "w": 12, "h": 8 },
            "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
            "targets": [{ "refId": "A", "expr": query, "legendFormat": legend }],
        })
    });
    json!({
        "uid": format!("eventstream-{name}"),
        "title": format!("EventStream {name}"),
        "tags": ["eventstream"],
        "schemaVersion": 36,
        "refresh": "5s",
        "time": { "from": "now-30m", "to": "now" },
        "templating": { "list": [
            { "name": "source", "label": "Data source", "type": "datasource", "query": "prometheus" },
        ] },
        "panels": panels.collect::<Vec<_>>(),
    })
}

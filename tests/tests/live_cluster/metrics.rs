//! The metrics whose names are promised to operators.

use anyhow::Result;
use tests::cluster::Cluster;

#[test]
fn every_node_serves_the_promised_metrics() -> Result<()> {
    const PROMISED: [&str; 10] = [
        "raft_term",
        "raft_commit_index",
        "raft_apply_index",
        "raft_leader",
        "raft_state",
        "raft_peers_connected",
        "raft_replication_lag",
        "raft_elections_total",
        "raft_append_entries_sent",
        "raft_votes_received",
    ];
    let cluster = Cluster::ready(3)?;
    for id in cluster.ids() {
        let (code, text) = cluster.get(id, "/metrics")?;
        assert_eq!(code, 200);
        for name in PROMISED {
            let families = text.lines().filter(|line| line.starts_with(&format!("# TYPE {name} "))).count();
            assert_eq!(families, 1, "{name} on node {id}");
        }
        let connected = text.lines().find_map(|line| line.strip_prefix("raft_peers_connected "));
        assert_eq!(connected, Some("2"), "on node {id}");
    }
    Ok(())
}

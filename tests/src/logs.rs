//! The logs that stopped nodes hold, compared byte for byte.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use esnode::storage;
use shared::ids::NodeId;

use crate::cluster::Cluster;

/// Stops every node, and checks that each ends well and that all hold what was committed before.
pub fn stop_and_compare(cluster: &mut Cluster) -> Result<()> {
    let committed = cluster.status(cluster.wait_ready()?)?.commit_index;
    cluster.stop_all()?;
    same_logs(cluster.ids().into_iter().map(|id| (id, cluster.data_dir(id))), committed)
}

/// Checks that the logs in the data directories of stopped nodes hold the same entries, at least up to
/// `floor`.
pub fn same_logs(dirs: impl Iterator<Item = (NodeId, PathBuf)>, floor: u64) -> Result<()> {
    let mut logs = Vec::new();
    for (id, dir) in dirs {
        let (log, ..) = storage::open(&dir, storage::Options::default())?;
        logs.push((id, log));
    }
    let common = logs.iter().map(|(_, log)| log.last_index()).min().unwrap_or(0);
    ensure!(common >= floor, "a node ends at {common}, before {floor}");
    // What has left one of them is packed, or deleted.
    let mut low = logs.iter().map(|(_, log)| log.first_index()).max().unwrap_or(1);
    while low <= floor {
        let mut chunks = Vec::new();
        for (id, log) in &logs {
            chunks.push((*id, log.entries(low, floor + 1, 1 << 20)?));
        }
        let (first, reference) = &chunks[0];
        for (id, entries) in &chunks[1..] {
            ensure!(entries == reference, "nodes {first} and {id} differ from index {low} on");
        }
        low += reference.len() as u64;
    }
    Ok(())
}

//! `esnode recover`: starts a new cluster from the log in a node's data directory.
//!
//! It is for the one survivor of a permanent loss of quorum, and for the copies of a backup. An interrupted recovery is
//! completed by the same command. Until it is complete, a node that starts on the directory cannot take part in any
//! cluster.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use shared::backup::{MANIFEST, Manifest, SUM};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use crate::consensus::{ConfState, MAX_NUMBER};
use crate::entry::HardState;
use crate::process::config::Config;
use crate::replica::{Snapshot, is_recovered, recover};
use crate::state_machine::StateMachine;
use crate::storage::data_dir::DataDir;
use crate::storage::{self, Batch, Log, Recovered, Wal};

/// Largest payload that is read at once, in bytes.
const READ_BYTES: u64 = 8 << 20;

/// The lost nodes may have held elections that this log does not show. The new cluster begins so many terms later,
/// because consumers may have read events of those terms: with the same term again, other events would pass for those,
/// and clients ignore a leader epoch that is lower than the highest they know.
const UNKNOWN_TERMS: u64 = 1 << 16;

/// The result of a recovery, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// The cluster whose log it was; `None` if it was never bootstrapped.
    pub from_cluster: Option<ClusterId>,
    /// The new cluster.
    pub cluster: ClusterId,
    /// Its members.
    pub members: Vec<NodeId>,
    /// Highest index of the log, including the entries that the recovery has written.
    pub last_index: u64,
    /// Number of entries that are not known to have been committed. They are kept, although they may never have been
    /// acknowledged.
    pub uncertain: u64,
    /// False if an earlier call had already completed the recovery.
    pub changed: bool,
}

/// Makes the data directory of the configured node, which must be stopped, part of the new `cluster` with these
/// `members`.
///
/// # Errors
/// If the node runs, a member is not in its configuration, the log is damaged, or the file system refuses.
pub fn run(config: &Config, cluster: ClusterId, members: &[NodeId]) -> Result<RecoveryReport> {
    let known = config.member_ids();
    let stranger = members.iter().find(|id| !known.contains(id));
    ensure!(stranger.is_none(), "node {} is not in cluster.nodes", stranger.copied().unwrap_or_default());
    ensure!(members.contains(&config.node_id), "node {} must be one of the members", config.node_id);
    let mut data_dir = open(&config.data_dir(), config.node_id)?;
    let report = Recovery::open(&data_dir, config)?.start_cluster(cluster, members)?;
    data_dir.update(|identity| {
        if identity.cluster_id != Some(cluster) {
            identity.store_id = StoreId(Uuid::new_v4());
            identity.cluster_id = Some(cluster);
        }
    })?;
    for file in [SUM, MANIFEST] {
        let path = data_dir.path().join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("deleting {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(report)
}

fn open(dir: &Path, node_id: NodeId) -> Result<DataDir> {
    ensure!(dir.join("log").exists(), "{} has no log to recover from", dir.display());
    let file = dir.join(MANIFEST);
    if DataDir::is_at(dir) || !file.exists() {
        return Ok(DataDir::open(dir, node_id)?);
    }
    let text = fs::read(&file).with_context(|| file.display().to_string())?;
    let Manifest { format, initial_members, .. } =
        serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    Ok(DataDir::adopt(dir, node_id, format, initial_members)?)
}

/// A log, and the state that all of its entries lead to.
struct Recovery {
    log: Log,
    wal: Wal,
    hard_state: HardState,
    snapshot: Snapshot,
}

impl Recovery {
    fn open(data_dir: &DataDir, config: &Config) -> Result<Self> {
        let segment_bytes = config.file.cluster.storage.segment_mb << 20;
        let (log, wal, recovered) =
            storage::open(data_dir.path(), storage::Options { sync: true, segment_bytes })?;
        let Recovered { hard_state, snapshot, .. } = recovered;
        let initial_members =
            || ConfState { voters: data_dir.identity().voters.clone(), ..ConfState::default() };
        let snapshot = match snapshot {
            Some(snapshot) => Snapshot::decode(&snapshot.payload)?,
            None => Snapshot { conf_state: initial_members(), state: StateMachine::default() },
        };
        let mut recovery = Self { log, wal, hard_state, snapshot };
        recovery.replay()?;
        Ok(recovery)
    }

    /// Applies the whole log, committed or not.
    fn replay(&mut self) -> Result<()> {
        let last = self.log.last_index();
        ensure!(last > 0, "the log is empty: there is nothing to recover");
        while self.snapshot.state.applied_index() < last {
            let next = self.snapshot.state.applied_index() + 1;
            for entry in self.log.entries(next, last + 1, READ_BYTES)? {
                self.snapshot.follow(&entry)?;
            }
        }
        Ok(())
    }

    fn start_cluster(mut self, cluster: ClusterId, members: &[NodeId]) -> Result<RecoveryReport> {
        let last = self.log.last_index();
        let from_cluster = self.snapshot.state.cluster_id();
        let report = |last_index, uncertain, changed| RecoveryReport {
            from_cluster,
            cluster,
            members: members.to_vec(),
            last_index,
            uncertain,
            changed,
        };
        if is_recovered(&self.snapshot, cluster, members) {
            return Ok(report(last, 0, false));
        }
        let uncertain = last - self.hard_state.commit.min(last);
        let term = next_term(self.hard_state.term, self.log.term(last)?.unwrap_or_default())?;
        let entries = recover(&self.snapshot, cluster, members, term);
        let end = entries.last().map_or(last, |entry| entry.index);
        let hard_state = Some(HardState { term, vote: 0, commit: end });
        self.wal.write(&Batch { hard_state, entries })?;
        self.wal.sync()?;
        self.wal.close()?;
        Ok(report(end, uncertain, true))
    }
}

/// Returns the term of the entries that follow a log whose last term is `logged`, in a data directory whose node has
/// `seen` a term. A `seen` that no election can exceed did not come from an election, and no vote was given in it; it
/// is ignored.
fn next_term(seen: u64, logged: u64) -> Result<u64> {
    let reached = |term: u64| term < MAX_NUMBER - UNKNOWN_TERMS;
    let seen = if reached(seen) { seen } else { 0 };
    ensure!(
        reached(logged),
        "the log ends in term {logged}, which no election reaches: it was damaged, or written by another program. \
         Recover from another node's data directory, or restore a backup"
    );
    Ok(seen.max(logged) + UNKNOWN_TERMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_no_election_reaches_is_passed_over_or_refused() {
        let behind_seven = 7 + UNKNOWN_TERMS;
        for (seen, logged) in [(7, 5), (5, 7), (u64::MAX, 7), (MAX_NUMBER, 7)] {
            assert_eq!(next_term(seen, logged).unwrap(), behind_seven);
        }
        for logged in [MAX_NUMBER, u64::MAX] {
            assert!(next_term(7, logged).unwrap_err().to_string().contains("no election reaches"));
        }
    }
}

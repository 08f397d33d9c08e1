//! `esnode rebuild`: another cluster carries on with the log that lies in a node's data directory.
//!
//! For the one survivor of a cluster that has lost its quorum for good, and for the copies of a backup. Every step can be
//! repeated: whatever ends it in the middle, the same call again brings it to its end, and until then no node that
//! starts on the directory can take part in anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use shared::backup::{MANIFEST, Manifest, SUM};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use crate::consensus::{ConfState, MAX_NUMBER};
use crate::driver::{Image, carry_on, is_carried_on};
use crate::entry::HardState;
use crate::process::config::Config;
use crate::state_machine::StateMachine;
use crate::storage::identity::DataDir;
use crate::storage::{self, Batch, Log, Recovered, Wal};

/// Payload read in one go.
const READ_BYTES: u64 = 8 << 20;

/// Terms that may have begun among the nodes that are lost, unnoticed here: the cluster that carries on begins behind
/// them. What a consumer has read in one of those would otherwise look like what is written in it now, and clients take a
/// lower leader epoch than they know for stale news.
const MISSED_TERMS: u64 = 1 << 16;

/// What was made of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// The cluster whose log it was, if it had come so far as to have an identity.
    pub from_cluster: Option<ClusterId>,
    /// The cluster that carries on.
    pub cluster: ClusterId,
    /// Its members.
    pub members: Vec<NodeId>,
    /// Highest index of the log, with what was written behind it.
    pub last_index: u64,
    /// What of it is not known to have been committed: it may never have been acknowledged, and is kept.
    pub uncertain: u64,
    /// False when it had been done before.
    pub changed: bool,
}

/// Makes the data directory of the configured node, which must not run, one of `cluster` with these members.
///
/// # Errors
/// The node runs, the members are not in its configuration, the log is damaged, or the system refuses.
pub fn run(config: &Config, cluster: ClusterId, members: &[NodeId]) -> Result<Rebuilt> {
    let known = config.member_ids();
    let stranger = members.iter().find(|id| !known.contains(id));
    ensure!(stranger.is_none(), "node {} is not in cluster.nodes", stranger.copied().unwrap_or_default());
    ensure!(members.contains(&config.node_id), "node {} must be one of the members", config.node_id);
    let mut data_dir = open(&config.data_dir(), config.node_id)?;
    let rebuilt = Rebuilding::open(&data_dir, config)?.carry_on(cluster, members)?;
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
    Ok(rebuilt)
}

fn open(dir: &Path, node_id: NodeId) -> Result<DataDir> {
    ensure!(dir.join("log").exists(), "{} holds no log: there is nothing to carry on with", dir.display());
    let file = dir.join(MANIFEST);
    if DataDir::is_at(dir) || !file.exists() {
        return Ok(DataDir::open(dir, node_id)?);
    }
    let text = fs::read(&file).with_context(|| file.display().to_string())?;
    let Manifest { format, initial_members, .. } =
        serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    Ok(DataDir::adopt(dir, node_id, format, initial_members)?)
}

/// A log, and all that it has led to.
struct Rebuilding {
    log: Log,
    wal: Wal,
    hard_state: HardState,
    image: Image,
}

impl Rebuilding {
    fn open(data_dir: &DataDir, config: &Config) -> Result<Self> {
        let segment_bytes = config.file.cluster.storage.segment_mb << 20;
        let (log, wal, recovered) =
            storage::open(data_dir.path(), storage::Options { sync: true, segment_bytes })?;
        let Recovered { hard_state, checkpoint, .. } = recovered;
        let founders = || ConfState { voters: data_dir.identity().voters.clone(), ..ConfState::default() };
        let image = match checkpoint {
            Some(checkpoint) => Image::decode(&checkpoint.payload)?,
            None => Image { conf_state: founders(), stream: StateMachine::default() },
        };
        let mut rebuilding = Self { log, wal, hard_state, image };
        rebuilding.replay()?;
        Ok(rebuilding)
    }

    /// Applies the whole log, committed or not.
    fn replay(&mut self) -> Result<()> {
        let last = self.log.last_index();
        ensure!(last > 0, "the log is empty: there is nothing to carry on with");
        while self.image.stream.applied_index() < last {
            let next = self.image.stream.applied_index() + 1;
            for entry in self.log.entries(next, last + 1, READ_BYTES)? {
                self.image.follow(&entry)?;
            }
        }
        Ok(())
    }

    fn carry_on(mut self, cluster: ClusterId, members: &[NodeId]) -> Result<Rebuilt> {
        let last = self.log.last_index();
        let from_cluster = self.image.stream.cluster_id();
        let rebuilt = |last_index, uncertain, changed| Rebuilt {
            from_cluster,
            cluster,
            members: members.to_vec(),
            last_index,
            uncertain,
            changed,
        };
        if is_carried_on(&self.image, cluster, members) {
            return Ok(rebuilt(last, 0, false));
        }
        let uncertain = last - self.hard_state.commit.min(last);
        let term = next_term(self.hard_state.term, self.log.term(last)?.unwrap_or_default())?;
        let entries = carry_on(&self.image, cluster, members, term);
        let end = entries.last().map_or(last, |entry| entry.index);
        let hard_state = Some(HardState { term, vote: 0, commit: end });
        self.wal.write(&Batch { hard_state, entries })?;
        self.wal.sync()?;
        self.wal.close()?;
        Ok(rebuilt(end, uncertain, true))
    }
}

/// The term of what comes behind a log that ends in term `logged`, in a directory where a node has `seen` this one. What no
/// election reaches was not seen in one, and no vote was given in it: it ends with the old cluster.
fn next_term(seen: u64, logged: u64) -> Result<u64> {
    let reached = |term: u64| term < MAX_NUMBER - MISSED_TERMS;
    let seen = if reached(seen) { seen } else { 0 };
    ensure!(
        reached(logged),
        "the log ends in term {logged}, which no election reaches: it was damaged, or written to by something else. Go on \
         with another node's directory, or restore a backup"
    );
    Ok(seen.max(logged) + MISSED_TERMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_no_election_reaches_is_passed_over_or_refused() {
        let behind_seven = 7 + MISSED_TERMS;
        for (seen, logged) in [(7, 5), (5, 7), (u64::MAX, 7), (MAX_NUMBER, 7)] {
            assert_eq!(next_term(seen, logged).unwrap(), behind_seven);
        }
        for logged in [MAX_NUMBER, u64::MAX] {
            assert!(next_term(7, logged).unwrap_err().to_string().contains("no election reaches"));
        }
    }
}

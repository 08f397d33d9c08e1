//! What clients of a cluster saw under faults, every write and every read with its time, and the rules that
//! all of it must obey together.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use shared::ids::NodeId;

use crate::client::Event;

/// One event that a producer tried to write. Each value is tried as one event, whatever the outcome.
#[derive(Clone, Debug)]
pub struct Write {
    /// Name of the producer, unique in a history.
    pub producer: String,
    /// Number of the event, from 0, among those of its producer.
    pub number: u64,
    /// Whether it was sent again, under the same sequence number, until it was acknowledged.
    pub idempotent: bool,
    /// When it was first sent.
    pub sent: Instant,
    /// When and at which offset it was acknowledged.
    pub acknowledged: Option<(Instant, i64)>,
}

impl Write {
    /// The value in the log.
    pub fn value(&self) -> String {
        format!("{}-{}", self.producer, self.number)
    }
}

/// A reader's question where the log ends.
#[derive(Clone, Copy, Debug)]
pub struct EndRead {
    /// When it asked.
    pub asked: Instant,
    /// The answer: the offset after the newest event.
    pub end: i64,
}

/// Everything that clients of one partition saw so far.
#[derive(Default)]
pub struct LoadHistory {
    writes: Vec<Write>,
    ends: Vec<EndRead>,
    read: Vec<Event>,
    log: Vec<Event>,
}

/// Acknowledgements by time, each with the highest offset acknowledged until then.
struct Acknowledged(Vec<(Instant, i64)>);

impl Acknowledged {
    fn of(writes: &[Write]) -> Self {
        let mut times: Vec<_> = writes.iter().filter_map(|write| write.acknowledged).collect();
        times.sort_unstable();
        let mut highest = -1;
        for (_, offset) in &mut times {
            highest = highest.max(*offset);
            *offset = highest;
        }
        Self(times)
    }

    /// Returns the highest offset acknowledged before `time`, -1 if none was.
    fn before(&self, time: Instant) -> i64 {
        let known = self.0.partition_point(|(at, _)| *at < time);
        known.checked_sub(1).map_or(-1, |last| self.0[last].1)
    }
}

impl LoadHistory {
    /// Adds what clients did and saw.
    pub fn extend(&mut self, writes: Vec<Write>, ends: Vec<EndRead>, read: Vec<Event>) {
        self.writes.extend(writes);
        self.ends.extend(ends);
        self.read.extend(read);
    }

    /// Returns the number of acknowledged writes and of answered questions where the log ends.
    pub fn counts(&self) -> (usize, usize) {
        (self.writes.iter().filter(|write| write.acknowledged.is_some()).count(), self.ends.len())
    }

    /// Checks everything against `log`, the whole partition as it is now.
    pub fn check(&mut self, log: Vec<Event>) -> Result<()> {
        self.check_unchanged(&log)?;
        let offsets = offsets(&log)?;
        self.check_complete(&offsets)?;
        self.check_order(&offsets)?;
        self.check_reads_are_fresh()?;
        self.log = log;
        self.read.clear();
        Ok(())
    }

    /// What was in the log or was read by anybody is still there.
    fn check_unchanged(&self, log: &[Event]) -> Result<()> {
        for event in self.log.iter().chain(&self.read) {
            let now = usize::try_from(event.offset).ok().and_then(|offset| log.get(offset));
            ensure!(now == Some(event), "{event:?} was read and is lost: {now:?} is there now");
        }
        Ok(())
    }

    /// Every acknowledged write is in the log at its offset, and nothing else is that nobody wrote.
    fn check_complete(&self, offsets: &BTreeMap<String, i64>) -> Result<()> {
        let mut unknown: HashMap<&str, i64> =
            offsets.iter().map(|(value, at)| (value.as_str(), *at)).collect();
        for write in &self.writes {
            let value = write.value();
            let found = unknown.remove(value.as_str());
            match (write.acknowledged, found) {
                (Some((_, offset)), Some(found)) if offset == found => {}
                (Some((_, offset)), found) => {
                    bail!("{value} was acknowledged at {offset} and is lost: found at {found:?}")
                }
                (None, _) if write.idempotent => {
                    bail!("{value} was never acknowledged, however often it was tried")
                }
                (None, _) => {}
            }
        }
        ensure!(unknown.is_empty(), "never written, or written twice in the history: {unknown:?}");
        Ok(())
    }

    /// A write that was sent after another was acknowledged comes after it in the log. The writes of an
    /// idempotent producer are in the order of their numbers.
    fn check_order(&self, offsets: &BTreeMap<String, i64>) -> Result<()> {
        let acknowledged = Acknowledged::of(&self.writes);
        let mut last: HashMap<&str, i64> = HashMap::new();
        for write in &self.writes {
            let Some(offset) = offsets.get(&write.value()) else { continue };
            let earlier = acknowledged.before(write.sent);
            ensure!(
                earlier < *offset,
                "{} is at {offset}, but was sent after {earlier} was acknowledged",
                write.value()
            );
            if write.idempotent {
                let before = last.insert(&write.producer, *offset).unwrap_or(-1);
                ensure!(before < *offset, "{} is at {offset}, before its predecessor", write.value());
            }
        }
        Ok(())
    }

    /// Whoever asks where the log ends is told of everything acknowledged until then.
    fn check_reads_are_fresh(&self) -> Result<()> {
        let acknowledged = Acknowledged::of(&self.writes);
        for read in &self.ends {
            let newest = acknowledged.before(read.asked);
            ensure!(newest < read.end, "a reader was told {} when {newest} was acknowledged", read.end);
        }
        Ok(())
    }
}

/// Returns the offset of each value. Offsets have no gaps, and no value is there twice.
fn offsets(log: &[Event]) -> Result<BTreeMap<String, i64>> {
    let mut offsets = BTreeMap::new();
    for (event, expected) in log.iter().zip(0..) {
        ensure!(event.offset == expected, "offset {} where {expected} was due", event.offset);
        let value = String::from_utf8(event.value.to_vec()).context("a value that nobody wrote")?;
        if let Some(first) = offsets.insert(value.clone(), expected) {
            bail!("{value} is there twice: at {first} and {expected}");
        }
    }
    Ok(offsets)
}

/// Returns which node led in which term, according to the nodes' logs.
///
/// # Errors
/// When two nodes led in one term.
pub fn leaders_by_term(logs: impl Iterator<Item = (NodeId, String)>) -> Result<BTreeMap<u64, NodeId>> {
    let mut leaders = BTreeMap::new();
    for (node, log) in logs {
        for line in log.lines().filter(|line| line.contains("now Leader ")) {
            let term = line.split("term=").nth(1).and_then(|rest| rest.split(' ').next());
            let term =
                term.and_then(|term| term.parse().ok()).with_context(|| format!("no term in: {line}"))?;
            let first = *leaders.entry(term).or_insert(node);
            ensure!(first == node, "nodes {first} and {node} both led in term {term}");
        }
    }
    Ok(leaders)
}

#[cfg(test)]
mod tests;

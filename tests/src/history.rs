//! Every produce (time, outcome) against every consumed (offset, value): what clients of a cluster saw while it was
//! hurt, and the rules that all of it must obey together.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use shared::ids::NodeId;

use crate::client::Event;

/// One event that a producer tried to write. It tries each value as one event, whatever it is told.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which producer; unique in a history.
    pub producer: String,
    /// Ascends by one from event to event of a producer.
    pub number: u64,
    /// Whether it was tried again, under the same sequence number, until it was acknowledged.
    pub idempotent: bool,
    /// When it was first sent.
    pub sent: Instant,
    /// When and at which offset it was acknowledged.
    pub acknowledged: Option<(Instant, i64)>,
}

impl Write {
    /// What stands in the log.
    pub fn value(&self) -> String {
        format!("{}-{}", self.producer, self.number)
    }
}

/// A reader's look at the end of the log.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it asked.
    pub asked: Instant,
    /// The offset after the newest event, as it was told.
    pub end: i64,
}

/// All that happened to one partition so far.
#[derive(Default)]
pub struct History {
    writes: Vec<Write>,
    looks: Vec<Look>,
    read: Vec<Event>,
    log: Vec<Event>,
}

/// Acknowledgements in the order of their times, each with the highest offset acknowledged until then.
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

    /// The highest offset of which somebody was told before `time`; -1 for none.
    fn before(&self, time: Instant) -> i64 {
        let known = self.0.partition_point(|(at, _)| *at < time);
        known.checked_sub(1).map_or(-1, |last| self.0[last].1)
    }
}

impl History {
    /// Adds what clients did.
    pub fn extend(&mut self, writes: Vec<Write>, looks: Vec<Look>, read: Vec<Event>) {
        self.writes.extend(writes);
        self.looks.extend(looks);
        self.read.extend(read);
    }

    /// How many writes were acknowledged, how many looks at the end were answered.
    pub fn size(&self) -> (usize, usize) {
        (self.writes.iter().filter(|write| write.acknowledged.is_some()).count(), self.looks.len())
    }

    /// Judges all that happened by `log`, the whole partition as it stands now.
    pub fn check(&mut self, log: Vec<Event>) -> Result<()> {
        self.nothing_changed(&log)?;
        let places = places(&log)?;
        self.nothing_lost_or_invented(&places)?;
        self.order_kept(&places)?;
        self.reads_fresh()?;
        self.log = log;
        self.read.clear();
        Ok(())
    }

    /// What stood in the log or was read by anybody stands there still.
    fn nothing_changed(&self, log: &[Event]) -> Result<()> {
        for event in self.log.iter().chain(&self.read) {
            let now = usize::try_from(event.offset).ok().and_then(|offset| log.get(offset));
            ensure!(now == Some(event), "{event:?} was read and is lost: {now:?} stands there");
        }
        Ok(())
    }

    fn nothing_lost_or_invented(&self, places: &BTreeMap<String, i64>) -> Result<()> {
        let mut unknown: HashMap<&str, i64> =
            places.iter().map(|(value, at)| (value.as_str(), *at)).collect();
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

    /// A write that was sent after another was acknowledged stands after it; an idempotent producer's writes stand
    /// in the order of their numbers.
    fn order_kept(&self, places: &BTreeMap<String, i64>) -> Result<()> {
        let acknowledged = Acknowledged::of(&self.writes);
        let mut last: HashMap<&str, i64> = HashMap::new();
        for write in &self.writes {
            let Some(offset) = places.get(&write.value()) else { continue };
            let earlier = acknowledged.before(write.sent);
            ensure!(
                earlier < *offset,
                "{} stands at {offset}, but was sent after {earlier} was acknowledged",
                write.value()
            );
            if write.idempotent {
                let before = last.insert(&write.producer, *offset).unwrap_or(-1);
                ensure!(before < *offset, "{} stands at {offset}, before its forerunner", write.value());
            }
        }
        Ok(())
    }

    /// Whoever asks for the end of the log is told of everything acknowledged until then.
    fn reads_fresh(&self) -> Result<()> {
        let acknowledged = Acknowledged::of(&self.writes);
        for look in &self.looks {
            let newest = acknowledged.before(look.asked);
            ensure!(newest < look.end, "a reader was told {} when {newest} was acknowledged", look.end);
        }
        Ok(())
    }
}

/// Where each value stands; offsets have no gaps and no value stands twice.
fn places(log: &[Event]) -> Result<BTreeMap<String, i64>> {
    let mut places = BTreeMap::new();
    for (event, expected) in log.iter().zip(0..) {
        ensure!(event.offset == expected, "offset {} where {expected} was due", event.offset);
        let value = String::from_utf8(event.value.to_vec()).context("a value that nobody wrote")?;
        if let Some(first) = places.insert(value.clone(), expected) {
            bail!("{value} stands twice: at {first} and {expected}");
        }
    }
    Ok(places)
}

/// Who led in which term, by what the nodes logged; fails when two led in one.
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

//! How a node reads a partition: the state says where in the log to start, the log has the batches.

use std::collections::{BTreeSet, VecDeque};

use esnode::batch_index::Wanted;
use esnode::batch_index::recent::RecentBatches;
use esnode::state_machine::batch::BatchHeader;
use esnode::state_machine::command::Command;
use esnode::state_machine::{StateMachine, Topic, TopicId};

use super::bugs::Bug;
use super::client::{Answer, Body};
use super::log::Replayed;
use super::records::{self, Value};

/// Values in one answer to a reader.
const MAX_READ: usize = 16;

/// Answers a read from what this node has applied.
pub fn read(stream: &StateMachine, log: &Replayed, body: &Body) -> Answer {
    let Body::Read { topic, partition, from, .. } = body else { return Answer::UnknownTopic };
    let Some(topic) = stream.topic(topic) else { return Answer::UnknownTopic };
    let next = high_watermark(topic, *partition);
    let from = (*from).clamp(start_offset(topic, *partition), next);
    match values(stream, log, topic, *partition, from, MAX_READ) {
        Some(values) => Answer::Read { from, next, values },
        // Another node's log is there already, and the state that goes with it not yet.
        None => Answer::Unknown,
    }
}

/// Everything in a partition and where it begins; nothing when this node does not know the topic.
pub fn whole(stream: &StateMachine, log: &Replayed, topic: &str, partition: u32) -> (i64, Vec<Value>) {
    let Some(topic) = stream.topic(topic) else { return (0, Vec::new()) };
    let start = start_offset(topic, partition);
    let found = values(stream, log, topic, partition, start, usize::MAX);
    let found = found.expect("what is kept is in the log");
    let end = start + found.len() as i64;
    assert_eq!(end, high_watermark(topic, partition), "a partition's log and its end disagree");
    (start, found)
}

/// Compares the recent batches of a partition, by which readers find what was applied last, with the log itself.
pub fn compare_recent(
    stream: &StateMachine,
    log: &Replayed,
    recent: &RecentBatches,
    topic: &str,
    partition: u32,
) {
    let Some(topic) = stream.topic(topic) else { return };
    let found =
        recent.find((topic.id, partition), Wanted::Offset(start_offset(topic, partition)), usize::MAX);
    let Some(first) = found.first() else { return };
    let mut values = Vec::new();
    for (batch, next) in found.iter().zip(found.iter().skip(1).map(Some).chain([None])) {
        let entry = log.entry(batch.entry).expect("what is applied is in the log");
        let from = batch.offset as usize;
        let bytes = entry.data.slice(from..from + batch.batch.length as usize);
        values.extend(records::decode(&bytes).expect("only batches that producers sent are in the log"));
        let end = next.map_or(high_watermark(topic, partition), |next| next.batch.base_offset);
        assert_eq!(batch.batch.end_offset(), end, "a recent batch does not join the next one");
    }
    let first = first.batch.base_offset.max(start_offset(topic, partition));
    let expected = self::values(stream, log, topic, partition, first, usize::MAX);
    assert!(
        expected.is_some_and(|expected| values.ends_with(&expected)),
        "the recent batches are not what the log has"
    );
}

fn start_offset(topic: &Topic, partition: u32) -> i64 {
    topic.partitions[partition as usize].start_offset()
}

fn high_watermark(topic: &Topic, partition: u32) -> i64 {
    topic.partitions[partition as usize].high_watermark()
}

/// At most `limit` values from offset `from` on; `None` when the log does not hold them.
fn values(
    stream: &StateMachine,
    log: &Replayed,
    topic: &Topic,
    partition: u32,
    from: i64,
    limit: usize,
) -> Option<Vec<Value>> {
    let state = &topic.partitions[partition as usize];
    let mut found = Vec::new();
    if from >= state.high_watermark() {
        return Some(found);
    }
    let start = state.locate(from).expect("an offset below the end is somewhere");
    let mut offset = start.base_offset;
    for index in start.index..=stream.applied_index() {
        let entry = log.entry(index)?;
        for (ordinal, command) in (0..).zip(Command::decode_all(&entry.data)) {
            let Ok(Command::Append { topic: id, partition: number, batch }) = command else { continue };
            if id != topic.id || number != partition || state.is_rejected(index, ordinal) {
                continue;
            }
            // Whole batches before the wanted one need not be decoded.
            let header = BatchHeader::parse(&batch).expect("only batches that producers sent are in the log");
            if offset + header.records() <= from {
                offset += header.records();
                continue;
            }
            for value in records::decode(&batch).expect("only batches that producers sent are in the log") {
                if offset >= from {
                    found.push(value);
                }
                offset += 1;
                if found.len() == limit {
                    return Some(found);
                }
            }
        }
    }
    Some(found)
}

/// What committed readers see of a topic's first partition, which keeps all of its events: by the aborted transactions
/// and the markers, as Kafka's clients do it.
pub fn committed(stream: &StateMachine, log: &Replayed, topic: TopicId, bug: Option<Bug>) -> Vec<Value> {
    let Some(topic) = stream.topic_by_id(topic) else { return Vec::new() };
    let state = &topic.partitions[0];
    let (mut offset, end) = (0, state.last_stable_offset());
    let mut aborted = VecDeque::from(state.aborted_between(0, end));
    let (mut passed_over, mut found) = (BTreeSet::new(), Vec::new());
    let first = state.first_index().unwrap_or(stream.applied_index() + 1);
    for index in first..=stream.applied_index() {
        let entry = log.entry(index).expect("what is kept is in the log");
        for (ordinal, command) in (0..).zip(Command::decode_all(&entry.data)) {
            for (id, number, batch) in command.into_iter().flat_map(Command::batches) {
                let is_here = (id, number) == (topic.id, 0) && !state.is_rejected(index, ordinal);
                if !is_here || offset >= end {
                    continue;
                }
                let header = BatchHeader::read(&batch).expect("only batches are in the log");
                while let Some(next) = aborted.pop_front_if(|next| next.first <= offset) {
                    passed_over.insert(next.producer);
                }
                offset += header.records();
                if header.is_control() {
                    passed_over.remove(&header.producer_id);
                } else if !passed_over.contains(&header.producer_id) || bug == Some(Bug::ReadAborted) {
                    found.extend(
                        records::decode(&batch).expect("only batches that producers sent are in the log"),
                    );
                }
            }
        }
    }
    found
}

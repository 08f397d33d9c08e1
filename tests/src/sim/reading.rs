//! How a node reads a partition: the state says where in the log to start, the log has the batches.

use esnode::stream::batch::BatchHeader;
use esnode::stream::command::Command;
use esnode::stream::{Stream, Topic};

use super::client::{Answer, Body};
use super::disk::Replayed;
use super::records::{self, Value};

/// Values in one answer to a reader.
const MAX_READ: usize = 16;

/// Answers a read from what this node has applied.
pub fn read(stream: &Stream, log: &Replayed, body: &Body) -> Answer {
    let Body::Read { topic, partition, from, .. } = body else { return Answer::UnknownTopic };
    let Some(topic) = stream.topic(topic) else { return Answer::UnknownTopic };
    let next = next_offset(topic, *partition);
    let from = (*from).clamp(0, next);
    Answer::Read { from, next, values: values(stream, log, topic, *partition, from, MAX_READ) }
}

/// Everything in a partition; nothing when this node does not know the topic.
pub fn whole(stream: &Stream, log: &Replayed, topic: &str, partition: u32) -> Vec<Value> {
    let Some(topic) = stream.topic(topic) else { return Vec::new() };
    let found = values(stream, log, topic, partition, 0, usize::MAX);
    assert_eq!(found.len() as i64, next_offset(topic, partition), "a partition's log and its end disagree");
    found
}

fn next_offset(topic: &Topic, partition: u32) -> i64 {
    topic.partitions[partition as usize].next_offset()
}

/// At most `limit` values from offset `from` on.
fn values(
    stream: &Stream,
    log: &Replayed,
    topic: &Topic,
    partition: u32,
    from: i64,
    limit: usize,
) -> Vec<Value> {
    let state = &topic.partitions[partition as usize];
    let mut found = Vec::new();
    if from >= state.next_offset() {
        return found;
    }
    let start = state.locate(from).expect("an offset below the end is somewhere");
    let mut offset = start.base_offset;
    for index in start.index..=stream.applied_index() {
        let entry = log.entry(index).expect("what is applied is durable");
        for (ordinal, command) in (0..).zip(Command::decode_all(&entry.data)) {
            let Ok(Command::Append { topic: id, partition: number, batch }) = command else { continue };
            if id != topic.id || number != partition || state.is_void(index, ordinal) {
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
                    return found;
                }
            }
        }
    }
    found
}

//! Retention: Kafka's settings for how long events are kept, and which events are to be deleted.
//!
//! Only the leader evaluates this. The result goes through the log as [`Command::DeleteRecords`], so that every replica
//! deletes the same events. The age of an event counts from its append, by the log's clock, whatever timestamp its
//! producer gave it. A cluster in format 1 has no such clock, so there the timestamps and the leader's wall clock
//! count.

use super::Topic;
use crate::state_machine::clock::LogClock;
use crate::state_machine::command::Command;
use crate::state_machine::{Partition, StateMachine};

/// Kafka's name of the time that events are kept, in milliseconds; -1 is forever.
pub const RETENTION_MS: &str = "retention.ms";
/// Kafka's name of the bytes that a partition keeps at least; -1 is all.
pub const RETENTION_BYTES: &str = "retention.bytes";

/// How much of a partition is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events that were appended longer ago than this, in ms, are deleted; `None` keeps them forever.
    pub ms: Option<u64>,
    /// The oldest events are deleted as long as at least this many bytes of newer ones remain; `None` keeps all.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Returns the topic's own settings, with those of `self` where it has none. In Kafka every negative number means
    /// no limit.
    #[must_use]
    pub fn of(self, topic: &Topic) -> Self {
        let own = |key| topic.configs.get(key).and_then(|value| value.parse::<i64>().ok());
        Self {
            ms: own(RETENTION_MS).map_or(self.ms, |ms| u64::try_from(ms).ok()),
            bytes: own(RETENTION_BYTES).map_or(self.bytes, |bytes| u64::try_from(bytes).ok()),
        }
    }

    /// Returns the first offset to keep at time `now`.
    fn first_kept(self, partition: &Partition, clock: &LogClock, now: i64) -> i64 {
        let by_time = self.ms.map(|ms| {
            let since = now.saturating_sub_unsigned(ms);
            let index = clock.first_since(since);
            index.map_or_else(|| partition.first_since(since), |index| partition.first_from(index))
        });
        let by_size = self.bytes.map(|bytes| partition.first_within(bytes));
        by_time.max(by_size).unwrap_or(0)
    }
}

/// Returns the commands that delete what is due at time `now` (ms since 1970, by the log's clock if it ticks).
/// `default` holds for topics without settings of their own.
pub fn due(state_machine: &StateMachine, default: Retention, now: i64) -> Vec<Command> {
    let mut due = Vec::new();
    for topic in state_machine.topics() {
        let retention = default.of(topic);
        for (number, partition) in (0..).zip(&topic.partitions) {
            let start_offset = retention.first_kept(partition, state_machine.clock(), now);
            if start_offset > partition.start_offset() {
                due.push(Command::DeleteRecords { topic: topic.id, partition: number, start_offset });
            }
        }
    }
    due
}

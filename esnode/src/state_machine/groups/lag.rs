//! How far groups are behind.

use super::Group;
use crate::state_machine::StateMachine;

/// How far a group is behind, in offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Of all partitions in which it has committed an offset.
    pub total: u64,
    /// Of the one in which it is furthest behind.
    pub max: u64,
}

impl StateMachine {
    /// How far the group is behind the high watermarks. Takes time for each offset that it has committed.
    pub fn lag(&self, group: &Group) -> Lag {
        let mut lag = Lag::default();
        for ((topic, number), committed) in group.offsets().iter() {
            let topic = self.topic_by_id(topic);
            let Some(partition) = topic.and_then(|topic| topic.partitions.get(number as usize)) else {
                continue;
            };
            // A client may commit what it likes, also beyond the end.
            let behind = partition.high_watermark().saturating_sub(committed.offset);
            let behind = u64::try_from(behind).unwrap_or(0);
            lag.total = lag.total.saturating_add(behind);
            lag.max = lag.max.max(behind);
        }
        lag
    }
}

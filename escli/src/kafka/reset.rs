//! PURE: which offsets a reset gives to a group, and what that means for each partition.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::TopicPartition;
use super::offsets::OffsetRange;
use super::position::Position;

/// The topics, or partitions of one, that a reset is about: `orders`, or `orders:0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The topic.
    pub topic: String,
    /// Its partitions; all of them when empty.
    pub partitions: Vec<i32>,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        let separators = std::iter::once(':').chain(std::iter::repeat(','));
        self.partitions
            .iter()
            .zip(separators)
            .try_for_each(|(partition, mark)| write!(f, "{mark}{partition}"))
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partitions) =
            text.split_once(':').map_or((text, None), |(topic, list)| (topic, Some(list)));
        let number = |text: &str| text.parse().ok().filter(|number| *number >= 0);
        let numbers = partitions.map(|list| list.split(',').map(number).collect::<Option<Vec<_>>>());
        match numbers.unwrap_or_else(|| Some(Vec::new())) {
            Some(partitions) if !topic.is_empty() => Ok(Self { topic: topic.to_owned(), partitions }),
            _ => Err("expected a topic, such as orders, or partitions of it, such as orders:0,2".to_owned()),
        }
    }
}

/// One partition of a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Which partition.
    pub partition: TopicPartition,
    /// The offset that is committed now, if any is.
    pub before: Option<i64>,
    /// The offset that is to be committed.
    pub after: i64,
    /// Where the partition begins and ends.
    pub range: OffsetRange,
}

impl Reset {
    /// Returns whether the reset changes anything.
    pub fn is_change(&self) -> bool {
        self.before != Some(self.after)
    }

    /// Returns the number of events that the group has not read and will not read.
    pub fn skipped(&self) -> i64 {
        let unread = self.before.unwrap_or(self.range.start).max(self.range.start);
        (self.after - unread).max(0)
    }
}

/// Returns what a reset does to each partition in `ranges`, in order. `at_time` has the offsets of the time that is meant.
pub fn plan(
    committed: &BTreeMap<TopicPartition, i64>,
    ranges: &BTreeMap<TopicPartition, OffsetRange>,
    to: Position,
    at_time: &BTreeMap<TopicPartition, i64>,
) -> Vec<Reset> {
    let reset = |(partition, range): (&TopicPartition, &OffsetRange)| {
        let after = match to {
            Position::Beginning => range.start,
            Position::End => range.end,
            // A committed offset outside the partition would leave it to each consumer where to begin.
            Position::Offset(offset) => range.closest(offset),
            Position::Time(_) | Position::Age(_) => at_time.get(partition).copied().unwrap_or(range.end),
        };
        Reset {
            partition: partition.clone(),
            before: committed.get(partition).copied(),
            after,
            range: *range,
        }
    };
    ranges.iter().map(reset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn planned(to: &str) -> Vec<Reset> {
        let range = |start, end| OffsetRange { start, end };
        let committed = BTreeMap::from([(at(0), 15), (at(1), 5)]);
        let ranges = BTreeMap::from([(at(0), range(10, 20)), (at(1), range(0, 5)), (at(2), range(3, 9))]);
        plan(&committed, &ranges, to.parse().unwrap(), &BTreeMap::from([(at(0), 12)]))
    }

    fn after(to: &str) -> Vec<i64> {
        planned(to).iter().map(|reset| reset.after).collect()
    }

    #[test]
    fn a_reset_stays_within_each_partition() {
        assert_eq!(after("earliest"), [10, 0, 3]);
        assert_eq!(after("latest"), [20, 5, 9]);
        assert_eq!(after("4"), [10, 4, 4]);
        assert_eq!(after("100"), [20, 5, 9]);
        assert_eq!(after("1h"), [12, 5, 9], "where nothing happened since then, there is nothing to read");
    }

    #[test]
    fn what_would_never_be_read_is_counted() {
        let skipped = |to: &str| planned(to).iter().map(Reset::skipped).collect::<Vec<_>>();
        assert_eq!(skipped("latest"), [5, 0, 6], "of a partition without a committed offset, all of it");
        assert_eq!(skipped("earliest"), [0, 0, 0]);
        let changes: Vec<_> = planned("latest").iter().map(Reset::is_change).collect();
        assert_eq!(changes, [true, false, true]);
    }

    #[test]
    fn a_scope_is_a_topic_or_some_of_its_partitions() {
        let scope = |topic: &str, partitions: &[i32]| Scope {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!("orders".parse(), Ok(scope("orders", &[])));
        assert_eq!("orders:0,2".parse(), Ok(scope("orders", &[0, 2])));
        assert_eq!(scope("orders", &[0, 2]).to_string(), "orders:0,2");
        for wrong in ["", ":0", "orders:", "orders:x", "orders:-1", "orders:0,"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }
}

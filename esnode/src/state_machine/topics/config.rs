//! Kafka's settings of topics: their names, types and allowed values.
//!
//! A setting that is accepted is also obeyed. One that would change what clients see, and is not supported, is refused
//! with the reason; so is one that Kafka does not know. Settings about a Kafka broker's files have no visible effect.
//! Clients send them routinely, so they are stored and returned.

use std::ops::RangeInclusive;

use super::Topic;
use super::retention::{RETENTION_BYTES, RETENTION_MS};
use crate::entry::MAX_BATCH;
use crate::state_machine::StateMachine;

/// Kafka's name of the largest batch that a topic takes.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// Largest batch of a topic without this setting, in bytes; Kafka's default.
const DEFAULT_MESSAGE_BYTES: usize = 1_048_588;
/// The first on-disk format in which an entry may be larger than the segments of a young log.
const LARGE_ENTRIES_FORMAT: u16 = 2;
const CLEANUP_POLICY: &str = "cleanup.policy";
const MIN_INSYNC: &str = "min.insync.replicas";
const BEFORE_MS: &str = "message.timestamp.before.max.ms";
const AFTER_MS: &str = "message.timestamp.after.max.ms";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const LOG_APPEND_TIME: &str = "LogAppendTime";

/// The type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Text.
    Text,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// Any number.
    Double,
    /// Texts separated by commas.
    List,
}

/// The values that a setting accepts.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// Whole numbers from the first to the last.
    Within(i64, i64),
    /// Any number from 0 to 1.
    Part,
    /// True and false.
    Either,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// This alone, for the reason.
    Only(&'static str, &'static str),
    /// Only the size of a majority of the nodes, since a batch is acknowledged when that many have it.
    Majority,
}

/// One of Kafka's settings of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// The name under which a broker of Kafka has the default of all topics; empty if it has none.
    pub broker_key: &'static str,
    /// What it is when nobody says.
    pub default: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    taken: Taken,
}

const fn setting(
    key: &'static str,
    broker_key: &'static str,
    default: &'static str,
    kind: Kind,
    taken: Taken,
) -> Setting {
    Setting { key, broker_key, default, kind, taken }
}

const AS_SENT: &str = "batches are kept as their producer has compressed them";
const NOT_TIERED: &str = "there is no remote storage";
const ALL: Taken = Taken::Within(0, i64::MAX);
const ALL_OR_NONE: Taken = Taken::Within(-1, i64::MAX);
const LARGEST: i64 = MAX_BATCH as i64;
const INT: i64 = i32::MAX as i64;

/// All settings, by name.
pub const SETTINGS: [Setting; 32] = [
    setting(
        CLEANUP_POLICY,
        "log.cleanup.policy",
        "delete",
        Kind::List,
        Taken::Only(
            "delete",
            "there is no compaction yet, and a topic that waits for it would lose its keys to retention",
        ),
    ),
    setting("compression.gzip.level", "compression.gzip.level", "-1", Kind::Int, Taken::Only("-1", AS_SENT)),
    setting("compression.lz4.level", "compression.lz4.level", "9", Kind::Int, Taken::Only("9", AS_SENT)),
    setting("compression.type", "compression.type", "producer", Kind::Text, Taken::Only("producer", AS_SENT)),
    setting("compression.zstd.level", "compression.zstd.level", "3", Kind::Int, Taken::Only("3", AS_SENT)),
    // Of compaction, which there is none of.
    setting("delete.retention.ms", "log.cleaner.delete.retention.ms", "86400000", Kind::Long, ALL),
    setting("file.delete.delay.ms", "log.segment.delete.delay.ms", "60000", Kind::Long, ALL),
    // What is acknowledged has been synced by a majority, whatever these say.
    setting(
        "flush.messages",
        "log.flush.interval.messages",
        "9223372036854775807",
        Kind::Long,
        Taken::Within(1, i64::MAX),
    ),
    setting("flush.ms", "log.flush.interval.ms", "9223372036854775807", Kind::Long, ALL),
    setting(
        "follower.replication.throttled.replicas",
        "",
        "",
        Kind::List,
        Taken::Only("", "replication is not throttled"),
    ),
    setting("index.interval.bytes", "log.index.interval.bytes", "4096", Kind::Int, Taken::Within(0, INT)),
    setting(
        "leader.replication.throttled.replicas",
        "",
        "",
        Kind::List,
        Taken::Only("", "replication is not throttled"),
    ),
    setting(
        "local.retention.bytes",
        "log.local.retention.bytes",
        "-2",
        Kind::Long,
        Taken::Only("-2", NOT_TIERED),
    ),
    setting("local.retention.ms", "log.local.retention.ms", "-2", Kind::Long, Taken::Only("-2", NOT_TIERED)),
    setting(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        "9223372036854775807",
        Kind::Long,
        Taken::Within(1, i64::MAX),
    ),
    setting(MAX_MESSAGE_BYTES, "message.max.bytes", "1048588", Kind::Int, Taken::Within(0, LARGEST)),
    setting(
        "message.downconversion.enable",
        "log.message.downconversion.enable",
        "true",
        Kind::Boolean,
        Taken::Either,
    ),
    setting(AFTER_MS, "log.message.timestamp.after.max.ms", "9223372036854775807", Kind::Long, ALL),
    setting(BEFORE_MS, "log.message.timestamp.before.max.ms", "9223372036854775807", Kind::Long, ALL),
    setting(
        TIMESTAMP_TYPE,
        "log.message.timestamp.type",
        "CreateTime",
        Kind::Text,
        Taken::OneOf(&["CreateTime", LOG_APPEND_TIME]),
    ),
    setting("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "0.5", Kind::Double, Taken::Part),
    setting("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", "0", Kind::Long, ALL),
    setting(MIN_INSYNC, "min.insync.replicas", "1", Kind::Int, Taken::Majority),
    setting("preallocate", "log.preallocate", "false", Kind::Boolean, Taken::Either),
    setting("remote.storage.enable", "", "false", Kind::Boolean, Taken::Only("false", NOT_TIERED)),
    setting(RETENTION_BYTES, "log.retention.bytes", "-1", Kind::Long, ALL_OR_NONE),
    setting(RETENTION_MS, "log.retention.ms", "-1", Kind::Long, ALL_OR_NONE),
    setting("segment.bytes", "log.segment.bytes", "1073741824", Kind::Int, Taken::Within(14, INT)),
    setting("segment.index.bytes", "log.index.size.max.bytes", "10485760", Kind::Int, Taken::Within(4, INT)),
    setting("segment.jitter.ms", "log.roll.jitter.ms", "0", Kind::Long, ALL),
    setting("segment.ms", "log.roll.ms", "604800000", Kind::Long, Taken::Within(1, i64::MAX)),
    setting(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        "false",
        Kind::Boolean,
        Taken::Only("false", "only nodes that have all that was acknowledged lead"),
    ),
];

/// Kafka's setting of this name.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Checks a setting for a topic in a cluster of `nodes` nodes.
///
/// # Errors
/// Why the value is refused, as a text for clients.
pub fn check(key: &str, value: &str, nodes: usize) -> Result<(), String> {
    let Some(setting) = find(key) else { return Err(format!("there is no setting {key}")) };
    if setting.taken.accepts(value, nodes) {
        return Ok(());
    }
    Err(format!("{key} is {value:?}; {}", setting.documentation(nodes)))
}

impl Setting {
    /// What it takes in a cluster of so many nodes, and why nothing else.
    pub fn documentation(&self, nodes: usize) -> String {
        match self.taken {
            Taken::Within(from, to) => format!("it must be a whole number from {from} to {to}"),
            Taken::Part => "it must be a number from 0 to 1".to_owned(),
            Taken::Either => "it must be true or false".to_owned(),
            Taken::OneOf(values) => format!("it must be one of {}", values.join(", ")),
            Taken::Only(only, why) => format!("only {only:?} is served: {why}"),
            Taken::Majority => format!(
                "it must be a whole number from 1 to {}: an event is acknowledged when a majority of the nodes has it",
                majority(nodes)
            ),
        }
    }
}

impl Taken {
    fn accepts(self, value: &str, nodes: usize) -> bool {
        let within =
            |from: i64, to: i64| value.parse::<i64>().is_ok_and(|number| (from..=to).contains(&number));
        match self {
            Self::Within(from, to) => within(from, to),
            Self::Part => value.parse::<f64>().is_ok_and(|part| (0.0..=1.0).contains(&part)),
            Self::Either => ["true", "false"].contains(&value),
            Self::OneOf(values) => values.contains(&value),
            Self::Only(only, _) => value == only,
            Self::Majority => within(1, majority(nodes)),
        }
    }
}

fn majority(nodes: usize) -> i64 {
    i64::try_from(nodes / 2 + 1).unwrap_or(1)
}

fn number(topic: &Topic, key: &str) -> Option<i64> {
    topic.configs.get(key).and_then(|value| value.parse().ok())
}

/// Bytes of the largest batch that the topic takes.
pub fn largest_batch(state_machine: &StateMachine, topic: &Topic) -> usize {
    let asked = number(topic, MAX_MESSAGE_BYTES).map(|bytes| usize::try_from(bytes).unwrap_or(0));
    // Programs that only read older formats cannot write an entry larger than a segment.
    let most = if state_machine.format() >= LARGE_ENTRIES_FORMAT { MAX_BATCH } else { DEFAULT_MESSAGE_BYTES };
    asked.unwrap_or(DEFAULT_MESSAGE_BYTES).min(most)
}

/// Whether the topic's records get the time of their append, in place of their producer's.
pub fn is_log_append_time(topic: &Topic) -> bool {
    topic.configs.get(TIMESTAMP_TYPE).is_some_and(|kind| kind == LOG_APPEND_TIME)
}

/// Timestamps that the topic's records may come with at time `now`, all in ms since 1970.
pub fn timestamps(topic: &Topic, now: i64) -> RangeInclusive<i64> {
    if is_log_append_time(topic) {
        return i64::MIN..=i64::MAX;
    }
    let from = number(topic, BEFORE_MS).map_or(i64::MIN, |ms| now.saturating_sub(ms));
    let to = number(topic, AFTER_MS).map_or(i64::MAX, |ms| now.saturating_add(ms));
    from..=to
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_machine::Partitions;

    #[test]
    fn every_default_is_taken_and_the_table_is_in_order() {
        for setting in &SETTINGS {
            assert_eq!(check(setting.key, setting.default, 1), Ok(()), "{}", setting.key);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.key));
    }

    #[test]
    fn what_would_not_hold_is_refused() {
        for (key, value) in [
            ("retention.msec", "1"),
            ("no.such", "1"),
            (CLEANUP_POLICY, "compact"),
            (CLEANUP_POLICY, "compact,delete"),
            (TIMESTAMP_TYPE, "AppendTime"),
            ("compression.type", "zstd"),
            (MIN_INSYNC, "3"),
            (MIN_INSYNC, "0"),
            (MAX_MESSAGE_BYTES, "16777216"),
            (MAX_MESSAGE_BYTES, "-1"),
            (RETENTION_MS, "-2"),
            (RETENTION_MS, "a day"),
            ("unclean.leader.election.enable", "true"),
            ("preallocate", "yes"),
            ("min.cleanable.dirty.ratio", "2"),
        ] {
            assert!(check(key, value, 3).is_err(), "{key}={value}");
        }
        let why = check(CLEANUP_POLICY, "compact", 3).unwrap_err();
        assert!(why.starts_with("cleanup.policy is \"compact\"; only \"delete\" is served: "), "{why}");
        for (key, value) in [
            (MIN_INSYNC, "2"),
            (MAX_MESSAGE_BYTES, "15728640"),
            (RETENTION_MS, "-1"),
            (TIMESTAMP_TYPE, LOG_APPEND_TIME),
            ("segment.bytes", "50000000"),
            ("segment.ms", "600000"),
        ] {
            assert_eq!(check(key, value, 3), Ok(()), "{key}={value}");
        }
    }

    #[test]
    fn what_gets_the_time_of_its_append_may_come_with_any() {
        let topic = |configs: &[(&str, &str)]| {
            let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Topic {
                id: 1,
                name: "t".to_owned(),
                configs: configs.collect(),
                partitions: Partitions::default(),
            }
        };
        let limits = [(BEFORE_MS, "10"), (AFTER_MS, "5")];
        assert_eq!(timestamps(&topic(&limits), 100), 90..=105);
        let appended = topic(&[limits[0], limits[1], (TIMESTAMP_TYPE, LOG_APPEND_TIME)]);
        assert!(is_log_append_time(&appended) && !is_log_append_time(&topic(&limits)));
        assert_eq!(timestamps(&appended, 100), i64::MIN..=i64::MAX);
    }
}

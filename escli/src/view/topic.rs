//! PURE: topics as text and as documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Cell;
use serde::Serialize;
use shared::ids::NodeId;

use super::paint::Paint;
use super::table::{self, NOTHING, number};
use crate::kafka::TopicPartition;
use crate::kafka::metadata::Topic;
use crate::kafka::offsets::OffsetRange;
use crate::kafka::topics::Config;
use crate::output::SCHEMA_VERSION;

/// The document of `topic list`.
#[derive(Debug, Serialize)]
pub struct ListDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    topics: Vec<ListRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ListRow<'a> {
    name: &'a str,
    id: String,
    partitions: usize,
    #[serde(skip)]
    events: Option<i64>,
}

/// The document of `topic list`; with `ranges` it has the number of events for the wide table.
pub fn list_document<'a>(
    cluster: &'a str,
    topics: &'a [Topic],
    ranges: Option<&BTreeMap<TopicPartition, OffsetRange>>,
) -> ListDocument<'a> {
    let row = |topic: &'a Topic| ListRow {
        name: &topic.name,
        id: topic.id.to_string(),
        partitions: topic.partitions.len(),
        events: ranges.map(|ranges| events(topic, ranges).unwrap_or_default()),
    };
    ListDocument { schema_version: SCHEMA_VERSION, cluster, topics: topics.iter().map(row).collect() }
}

/// Number of events of a topic, if it is known of each partition.
fn events(topic: &Topic, ranges: &BTreeMap<TopicPartition, OffsetRange>) -> Option<i64> {
    let range = |index| ranges.get(&TopicPartition::new(&topic.name, index));
    topic.partitions.iter().map(|partition| Some(range(partition.index)?.len())).sum()
}

/// One row for each topic.
pub fn list(document: &ListDocument, wide: bool, paint: Paint) -> String {
    if document.topics.is_empty() {
        return "no topics yet\n".to_owned();
    }
    let mut header = vec!["TOPIC", "PARTITIONS"];
    if wide {
        header.extend(["EVENTS", "ID"]);
    }
    let rows = document.topics.iter().map(|row| {
        let mut cells = vec![Cell::new(row.name), number(Some(row.partitions))];
        if wide {
            cells.extend([number(row.events), Cell::new(&row.id)]);
        }
        cells
    });
    table::text(header, rows, paint) + "\n"
}

/// What is known of a topic.
#[derive(Debug)]
pub struct Description<'a> {
    /// Its partitions.
    pub topic: &'a Topic,
    /// Where partitions begin and end, where that is known.
    pub ranges: &'a BTreeMap<TopicPartition, OffsetRange>,
    /// Its settings, by key.
    pub configs: BTreeMap<String, Config>,
}

/// The document of `topic describe`.
#[derive(Debug, Serialize)]
pub struct DescribeDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    topics: Vec<TopicDocument<'a>>,
    /// Why the offsets are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct TopicDocument<'a> {
    name: &'a str,
    id: String,
    events: Option<i64>,
    partitions: Vec<PartitionRow<'a>>,
    configs: Vec<ConfigRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow<'a> {
    partition: i32,
    leader: Option<NodeId>,
    replicas: &'a [NodeId],
    in_sync: &'a [NodeId],
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

#[derive(Debug, Serialize)]
struct ConfigRow {
    key: String,
    value: String,
    is_set: bool,
}

/// The document of `topic describe`; `note` says why offsets are not known.
pub fn describe_document<'a>(
    cluster: &'a str,
    described: Vec<Description<'a>>,
    note: Option<String>,
) -> DescribeDocument<'a> {
    let topics = described.into_iter().map(topic_document).collect();
    DescribeDocument { schema_version: SCHEMA_VERSION, cluster, topics, note }
}

fn topic_document(Description { topic, ranges, configs }: Description) -> TopicDocument {
    let partitions = topic.partitions.iter().map(|partition| {
        let range = ranges.get(&TopicPartition::new(&topic.name, partition.index));
        PartitionRow {
            partition: partition.index,
            leader: partition.leader,
            replicas: &partition.replicas,
            in_sync: &partition.in_sync,
            start_offset: range.map(|range| range.start),
            end_offset: range.map(|range| range.end),
        }
    });
    let config = |(key, Config { value, is_set })| ConfigRow { key, value, is_set };
    TopicDocument {
        name: &topic.name,
        id: topic.id.to_string(),
        events: events(topic, ranges),
        partitions: partitions.collect(),
        configs: configs.into_iter().map(config).collect(),
    }
}

/// Partitions and settings of each topic; those settings that were not set only where tables are `wide`.
pub fn describe(document: &DescribeDocument, wide: bool, paint: Paint) -> String {
    let topics: Vec<_> = document.topics.iter().map(|topic| describe_one(topic, wide, paint)).collect();
    let mut text = topics.join("\n");
    if let Some(note) = &document.note {
        let _ = writeln!(text, "{} {note}", paint.warn("!"));
    }
    text
}

fn describe_one(topic: &TopicDocument, wide: bool, paint: Paint) -> String {
    let count = topic.partitions.len();
    let events = topic.events.map_or_else(String::new, |events| format!(" · {events} events"));
    let id = if wide { format!(" · id {}", topic.id) } else { String::new() };
    let mut text = format!("{}  {count} partitions{events}{id}\n", paint.bold(topic.name));
    let header = vec!["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END"];
    let rows = topic.partitions.iter().map(|row| {
        vec![
            Cell::new(row.partition),
            Cell::new(row.leader.map_or_else(|| NOTHING.to_owned(), |id| format!("n{id}"))),
            Cell::new(nodes(row.replicas)),
            Cell::new(nodes(row.in_sync)),
            number(row.start_offset),
            number(row.end_offset),
        ]
    });
    text += &(table::text(header, rows, paint) + "\n");
    let shown: Vec<_> = topic.configs.iter().filter(|config| wide || config.is_set).collect();
    if !shown.is_empty() {
        let rows = shown.iter().map(|config| {
            let source = if config.is_set { "topic" } else { "default" };
            vec![Cell::new(&config.key), Cell::new(&config.value), Cell::new(source)]
        });
        text += &(table::text(vec!["SETTING", "VALUE", "FROM"], rows, paint) + "\n");
    }
    text
}

fn nodes(ids: &[NodeId]) -> String {
    ids.iter().map(|id| format!("n{id}")).collect::<Vec<_>>().join(" ")
}

/// What is done to topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They come to be.
    Create,
    /// Their partitions or settings change.
    Alter,
    /// They go, with their events.
    Delete,
}

/// The document of `topic create`, `alter` and `delete`.
#[derive(Debug, Serialize)]
pub struct ChangeDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    operation: Change,
    dry_run: bool,
    topics: Vec<Changed>,
}

/// A topic that was changed, or would be.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Number of partitions, where it matters or is known.
    pub partitions: Option<i32>,
}

/// The document of a change.
pub fn change_document(
    cluster: &str,
    operation: Change,
    dry_run: bool,
    topics: Vec<Changed>,
) -> ChangeDocument<'_> {
    ChangeDocument { schema_version: SCHEMA_VERSION, cluster, operation, dry_run, topics }
}

/// One line for each topic.
pub fn change(document: &ChangeDocument) -> String {
    let verb = match (document.operation, document.dry_run) {
        (Change::Create, false) => "created",
        (Change::Create, true) => "would create",
        (Change::Alter, false) => "altered",
        (Change::Alter, true) => "would alter",
        (Change::Delete, false) => "deleted",
        (Change::Delete, true) => "would delete",
    };
    let line = |topic: &Changed| {
        let count = topic.partitions.map_or_else(String::new, |count| match count {
            1 => " (1 partition)".to_owned(),
            count => format!(" ({count} partitions)"),
        });
        format!("{verb} {}{count}\n", topic.name)
    };
    document.topics.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::kafka::metadata::Partition;

    fn orders() -> Topic {
        let partition =
            |index, leader| Partition { index, leader, replicas: vec![1, 2, 3], in_sync: vec![1, 3] };
        let partitions = vec![partition(0, Some(1)), partition(1, None)];
        Topic { name: "orders".to_owned(), id: Uuid::from_u128(7), partitions }
    }

    fn ranges() -> BTreeMap<TopicPartition, OffsetRange> {
        let range =
            |partition, start, end| (TopicPartition::new("orders", partition), OffsetRange { start, end });
        BTreeMap::from([range(0, 10, 1200), range(1, 0, 5)])
    }

    #[test]
    fn topics_are_listed_with_their_events_in_the_wide_table_only() {
        let topics = [orders()];
        let plain = list_document("c", &topics, None);
        assert_eq!(list(&plain, false, Paint::default()), "TOPIC   PARTITIONS\norders           2\n");
        let ranges = ranges();
        let wide = list(&list_document("c", &topics, Some(&ranges)), true, Paint::default());
        assert!(
            wide.lines().nth(1).unwrap().contains("1195  00000000-0000-0000-0000-000000000007"),
            "{wide}"
        );
        assert_eq!(list(&list_document("c", &[], None), false, Paint::default()), "no topics yet\n");
    }

    #[test]
    fn a_topic_is_described_also_where_nobody_leads() {
        let (topic, ranges) = (orders(), ranges());
        let config = |value: &str, is_set| Config { value: value.to_owned(), is_set };
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), config("1000", true)),
            ("retention.bytes".to_owned(), config("-1", false)),
        ]);
        let description = || Description { topic: &topic, ranges: &ranges, configs: configs.clone() };
        let document = describe_document("c", vec![description()], None);
        let text = describe(&document, false, Paint::default());
        let expected = "\
orders  2 partitions · 1195 events
PARTITION  LEADER  REPLICAS  IN SYNC  START  END
0          n1      n1 n2 n3  n1 n3       10  1200
1          -       n1 n2 n3  n1 n3        0     5
SETTING       VALUE  FROM
retention.ms  1000   topic
";
        assert_eq!(text, expected);
        assert!(describe(&document, true, Paint::default()).contains("retention.bytes  -1     default"));
        let unknown = BTreeMap::new();
        let blind = Description { ranges: &unknown, ..description() };
        let text = describe(
            &describe_document("c", vec![blind], Some("partition 0 of orders has no leader".to_owned())),
            false,
            Paint::default(),
        );
        assert!(
            text.starts_with("orders  2 partitions\n")
                && text.ends_with("! partition 0 of orders has no leader\n"),
            "{text}"
        );
    }

    #[test]
    fn a_change_says_what_was_done_or_would_be() {
        let topics = || vec![Changed { name: "orders".to_owned(), partitions: Some(3) }];
        let said = |operation, dry_run| change(&change_document("c", operation, dry_run, topics()));
        assert_eq!(said(Change::Create, false), "created orders (3 partitions)\n");
        assert_eq!(said(Change::Delete, true), "would delete orders (3 partitions)\n");
    }
}

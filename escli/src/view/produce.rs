//! PURE: what `produce` wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::kafka::producer::Written;
use crate::output::SCHEMA_VERSION;

/// The document of `produce`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema_version: u32,
    cluster: &'a str,
    topic: &'a str,
    written: u64,
    partitions: Vec<Row>,
    duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    partition: i32,
    events: u64,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

/// The document of what was acknowledged.
pub fn document<'a>(
    cluster: &'a str,
    topic: &'a str,
    written: &BTreeMap<i32, Written>,
    duration: Duration,
) -> Document<'a> {
    let row = |(partition, written): (&i32, &Written)| Row {
        partition: *partition,
        events: written.count,
        first_offset: written.first,
        last_offset: written.last,
    };
    Document {
        schema_version: SCHEMA_VERSION,
        cluster,
        topic,
        written: written.values().map(|written| written.count).sum(),
        partitions: written.iter().map(row).collect(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    }
}

/// One line.
pub fn text(document: &Document) -> String {
    let events = if document.written == 1 { "event" } else { "events" };
    let partitions = document.partitions.len();
    let spread = if partitions > 1 { format!(" in {partitions} partitions") } else { String::new() };
    format!("{} {events} written to {}{spread}\n", document.written, document.topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_counted() {
        let written = |count, first| Written { count, first: Some(first), last: Some(first + 1) };
        let mut all = BTreeMap::from([(0, written(2, 5))]);
        assert_eq!(text(&document("c", "orders", &all, Duration::ZERO)), "2 events written to orders\n");
        all.insert(2, written(1, 0));
        let both = document("c", "orders", &all, Duration::from_millis(12));
        assert_eq!(text(&both), "3 events written to orders in 2 partitions\n");
        assert_eq!(serde_json::to_value(&both).unwrap()["partitions"][1]["partition"], 2);
        assert_eq!(
            text(&document("c", "orders", &BTreeMap::new(), Duration::ZERO)),
            "0 events written to orders\n"
        );
    }
}

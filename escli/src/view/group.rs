//! PURE: consumer groups as text and as documents.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Cell;
use serde::Serialize;

use super::paint::Paint;
use super::table::{self, NOTHING, number};
use crate::kafka::TopicPartition;
use crate::kafka::groups::{Group, GroupListing, Member};
use crate::kafka::reset::Reset;
use crate::output::SCHEMA_VERSION;

/// The document of `group list`.
#[derive(Debug, Serialize)]
pub struct ListDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    groups: Vec<ListRow>,
}

#[derive(Debug, Serialize)]
struct ListRow {
    name: String,
    state: String,
    protocol_type: String,
}

/// The document of `group list`.
pub fn list_document(cluster: &str, groups: Vec<GroupListing>) -> ListDocument<'_> {
    let row = |GroupListing { name, state, protocol_type }| ListRow { name, state, protocol_type };
    ListDocument { schema_version: SCHEMA_VERSION, cluster, groups: groups.into_iter().map(row).collect() }
}

/// One row for each group.
pub fn list(document: &ListDocument, paint: Paint) -> String {
    if document.groups.is_empty() {
        return "no groups yet\n".to_owned();
    }
    let rows = document
        .groups
        .iter()
        .map(|row| vec![Cell::new(&row.name), Cell::new(&row.state), cell(&row.protocol_type)]);
    table::text(vec!["GROUP", "STATE", "TYPE"], rows, paint) + "\n"
}

fn cell(text: &str) -> Cell {
    Cell::new(if text.is_empty() { NOTHING } else { text })
}

/// The document of `group describe`.
#[derive(Debug, Serialize)]
pub struct DescribeDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    groups: Vec<Described>,
}

/// A group with its members and its lag.
#[derive(Debug, Serialize)]
pub struct Described {
    name: String,
    state: String,
    protocol: String,
    /// Sum over all partitions.
    lag: i64,
    members: Vec<MemberRow>,
    partitions: Vec<PartitionRow>,
}

#[derive(Debug, Serialize)]
struct MemberRow {
    id: String,
    instance: Option<String>,
    client: String,
    host: String,
    /// Number of partitions that it reads.
    partitions: usize,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    /// `null` when the partition was deleted.
    end_offset: Option<i64>,
    lag: Option<i64>,
    /// The client that reads it.
    member: Option<String>,
}

/// A group, with what it has committed and where its partitions end.
pub fn described(
    group: Group,
    committed: &BTreeMap<TopicPartition, i64>,
    ends: &BTreeMap<TopicPartition, i64>,
) -> Described {
    let read =
        || group.members.iter().flat_map(|member| member.assignment.iter().map(move |at| (at, member)));
    let all: BTreeSet<_> = committed.keys().chain(read().map(|(at, _)| at)).collect();
    let row = |at: &TopicPartition| {
        let (committed_offset, end_offset) = (committed.get(at).copied(), ends.get(at).copied());
        PartitionRow {
            topic: at.topic.clone(),
            partition: at.partition,
            committed_offset,
            end_offset,
            lag: committed_offset.zip(end_offset).map(|(committed, end)| (end - committed).max(0)),
            member: read().find(|(read, _)| *read == at).map(|(_, member)| member.client.clone()),
        }
    };
    let partitions: Vec<_> = all.into_iter().map(row).collect();
    let member = |member: &Member| MemberRow {
        id: member.id.clone(),
        instance: member.instance.clone(),
        client: member.client.clone(),
        host: member.host.clone(),
        partitions: member.assignment.len(),
    };
    Described {
        lag: partitions.iter().filter_map(|row| row.lag).sum(),
        members: group.members.iter().map(member).collect(),
        partitions,
        name: group.name,
        state: group.state,
        protocol: group.protocol,
    }
}

/// The document of `group describe`.
pub fn describe_document(cluster: &str, groups: Vec<Described>) -> DescribeDocument<'_> {
    DescribeDocument { schema_version: SCHEMA_VERSION, cluster, groups }
}

/// Each group with its members and its partitions.
pub fn describe(document: &DescribeDocument, paint: Paint) -> String {
    let groups: Vec<_> = document.groups.iter().map(|group| describe_one(group, paint)).collect();
    groups.join("\n")
}

fn describe_one(group: &Described, paint: Paint) -> String {
    let members = match group.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut text = format!("{}  {} · {members} · lag {}\n", paint.bold(&group.name), group.state, group.lag);
    if !group.members.is_empty() {
        let rows = group.members.iter().map(|row| {
            vec![cell(&row.client), cell(&row.host), number(Some(row.partitions)), Cell::new(&row.id)]
        });
        text += &(table::text(vec!["MEMBER", "HOST", "PARTITIONS", "ID"], rows, paint) + "\n");
    }
    if !group.partitions.is_empty() {
        let rows = group.partitions.iter().map(|row| {
            vec![
                Cell::new(&row.topic),
                number(Some(row.partition)),
                number(row.committed_offset),
                number(row.end_offset),
                number(row.lag),
                cell(row.member.as_deref().unwrap_or_default()),
            ]
        });
        let header = vec!["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
        text += &(table::text(header, rows, paint) + "\n");
    }
    text
}

/// The document of `group reset-offsets`.
#[derive(Debug, Serialize)]
pub struct ResetDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    group: &'a str,
    dry_run: bool,
    partitions: Vec<ResetRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ResetRow<'a> {
    topic: &'a str,
    partition: i32,
    before: Option<i64>,
    after: i64,
    start_offset: i64,
    end_offset: i64,
}

/// The document of a reset.
pub fn reset_document<'a>(
    cluster: &'a str,
    group: &'a str,
    dry_run: bool,
    plan: &'a [Reset],
) -> ResetDocument<'a> {
    let row = |reset: &'a Reset| ResetRow {
        topic: &reset.partition.topic,
        partition: reset.partition.partition,
        before: reset.before,
        after: reset.after,
        start_offset: reset.range.start,
        end_offset: reset.range.end,
    };
    let partitions = plan.iter().map(row).collect();
    ResetDocument { schema_version: SCHEMA_VERSION, cluster, group, dry_run, partitions }
}

/// Every partition before and after.
pub fn reset(document: &ResetDocument, paint: Paint) -> String {
    let rows = document.partitions.iter().map(|row| {
        vec![
            Cell::new(row.topic),
            number(Some(row.partition)),
            number(row.before),
            number(Some(row.after)),
            number(Some((row.end_offset - row.after).max(0))),
        ]
    });
    let table = table::text(vec!["TOPIC", "PARTITION", "BEFORE", "AFTER", "LAG"], rows, paint);
    let changes = document.partitions.iter().filter(|row| row.before != Some(row.after)).count();
    let verb = if document.dry_run { "would set" } else { "set" };
    format!("{table}\n{verb} {changes} offsets of group {}\n", document.group)
}

/// The document of `group delete`.
#[derive(Debug, Serialize)]
pub struct DeleteDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    operation: &'static str,
    dry_run: bool,
    groups: Vec<String>,
}

/// The document of groups that were deleted, or would be.
pub fn delete_document(cluster: &str, dry_run: bool, groups: Vec<String>) -> DeleteDocument<'_> {
    DeleteDocument { schema_version: SCHEMA_VERSION, cluster, operation: "delete", dry_run, groups }
}

/// One line for each group.
pub fn deleted(document: &DeleteDocument) -> String {
    let verb = if document.dry_run { "would delete" } else { "deleted" };
    document.groups.iter().map(|group| format!("{verb} {group}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::offsets::OffsetRange;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn billing(members: Vec<Member>) -> Group {
        let text = |text: &str| text.to_owned();
        Group { name: text("billing"), state: text("Stable"), protocol: text("range"), members }
    }

    #[test]
    fn the_lag_is_what_is_not_committed_yet() {
        let member = Member {
            id: "c-1".to_owned(),
            instance: None,
            client: "c".to_owned(),
            host: "/10.0.0.9".to_owned(),
            assignment: vec![at(0), at(2)],
        };
        let committed = BTreeMap::from([(at(0), 5), (at(1), 9)]);
        let ends = BTreeMap::from([(at(0), 12), (at(1), 9), (at(2), 3)]);
        let document = describe_document("c", vec![described(billing(vec![member]), &committed, &ends)]);
        let expected = "\
billing  Stable · 1 member · lag 7
MEMBER  HOST       PARTITIONS  ID
c       /10.0.0.9           2  c-1
TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER
orders          0          5   12    7  c
orders          1          9    9    0  -
orders          2          -    3    -  c
";
        assert_eq!(describe(&document, Paint::default()), expected);
    }

    #[test]
    fn what_was_committed_of_a_deleted_topic_has_no_lag() {
        let group = described(billing(Vec::new()), &BTreeMap::from([(at(0), 5)]), &BTreeMap::new());
        assert_eq!((group.lag, group.partitions[0].lag), (0, None));
    }

    #[test]
    fn a_reset_is_shown_before_and_after() {
        let range = OffsetRange { start: 0, end: 20 };
        let plan = [
            Reset { partition: at(0), before: Some(5), after: 20, range },
            Reset { partition: at(1), before: None, after: 7, range },
            Reset { partition: at(2), before: Some(20), after: 20, range },
        ];
        let text = reset(&reset_document("c", "billing", true, &plan), Paint::default());
        let expected = "\
TOPIC   PARTITION  BEFORE  AFTER  LAG
orders          0       5     20    0
orders          1       -      7   13
orders          2      20     20    0
would set 2 offsets of group billing
";
        assert_eq!(text, expected);
    }
}

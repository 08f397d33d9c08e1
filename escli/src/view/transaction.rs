//! PURE: transactions as text and as documents.

use comfy_table::Cell;
use jiff::Timestamp;
use serde::Serialize;

use super::paint::Paint;
use super::table::{self, number};
use crate::kafka::transactions::{Transaction, TransactionListing};
use crate::output::SCHEMA_VERSION;

/// The document of `transaction list`.
#[derive(Debug, Serialize)]
pub struct ListDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    transactions: Vec<ListRow>,
}

#[derive(Debug, Serialize)]
struct ListRow {
    id: String,
    state: String,
    producer_id: i64,
}

/// The document of `transaction list`.
pub fn list_document(cluster: &str, listed: Vec<TransactionListing>) -> ListDocument<'_> {
    let row = |TransactionListing { id, state, producer_id }| ListRow { id, state, producer_id };
    let transactions = listed.into_iter().map(row).collect();
    ListDocument { schema_version: SCHEMA_VERSION, cluster, transactions }
}

/// One row for each transactional id.
pub fn list(document: &ListDocument, paint: Paint) -> String {
    if document.transactions.is_empty() {
        return "no transactional ids yet\n".to_owned();
    }
    let rows = document.transactions.iter();
    let rows = rows.map(|row| vec![Cell::new(&row.id), Cell::new(&row.state), number(Some(row.producer_id))]);
    table::text(vec!["TRANSACTIONAL ID", "STATE", "PRODUCER"], rows, paint) + "\n"
}

/// The document of `transaction describe`.
#[derive(Debug, Serialize)]
pub struct DescribeDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    transactions: Vec<Described>,
}

#[derive(Debug, Serialize)]
struct Described {
    id: String,
    state: String,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: i32,
    /// When the one under way began; `null` if none is.
    began: Option<String>,
    began_ms: Option<i64>,
    partitions: Vec<PartitionRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
}

/// The document of `transaction describe`.
pub fn describe_document(cluster: &str, described: Vec<Transaction>) -> DescribeDocument<'_> {
    let transactions = described.into_iter().map(|of| {
        let partitions =
            of.partitions.into_iter().map(|at| PartitionRow { topic: at.topic, partition: at.partition });
        Described {
            id: of.id,
            state: of.state,
            producer_id: of.producer_id,
            producer_epoch: of.producer_epoch,
            timeout_ms: of.timeout_ms,
            began: of.began_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|at| at.to_string()),
            began_ms: of.began_ms,
            partitions: partitions.collect(),
        }
    });
    DescribeDocument { schema_version: SCHEMA_VERSION, cluster, transactions: transactions.collect() }
}

/// Each transactional id with its partitions.
pub fn describe(document: &DescribeDocument, paint: Paint) -> String {
    let each: Vec<_> = document.transactions.iter().map(|each| describe_one(each, paint)).collect();
    each.join("\n")
}

fn describe_one(of: &Described, paint: Paint) -> String {
    let since = of.began.as_ref().map(|began| format!(" since {began}")).unwrap_or_default();
    let mut text = format!(
        "{}  {}{since} · producer {}, epoch {} · timeout {} ms\n",
        paint.bold(&of.id),
        of.state,
        of.producer_id,
        of.producer_epoch,
        of.timeout_ms
    );
    if !of.partitions.is_empty() {
        let rows = of.partitions.iter().map(|at| vec![Cell::new(&at.topic), number(Some(at.partition))]);
        text += &(table::text(vec!["TOPIC", "PARTITION"], rows, paint) + "\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::TopicPartition;

    fn ongoing() -> Transaction {
        Transaction {
            id: "billing".to_owned(),
            state: "Ongoing".to_owned(),
            producer_id: 7,
            producer_epoch: 2,
            timeout_ms: 60_000,
            began_ms: Some(1_700_000_000_000),
            partitions: vec![TopicPartition::new("orders", 1)],
        }
    }

    #[test]
    fn a_transaction_under_way_says_since_when_and_where() {
        let idle = Transaction { began_ms: None, partitions: Vec::new(), state: "Empty".into(), ..ongoing() };
        let document = describe_document("c", vec![ongoing(), idle]);
        let text = describe(&document, Paint::default());
        let (first, second) = text.split_once("\n\n").unwrap();
        let head = "billing  Ongoing since 2023-11-14T22:13:20Z · producer 7, epoch 2 · timeout 60000 ms\n";
        assert!(first.starts_with(head) && first.contains("orders"), "{text}");
        assert!(second.starts_with("billing  Empty · producer 7"), "{text}");
    }

    #[test]
    fn ids_are_listed_or_none_is() {
        let listing =
            TransactionListing { id: "billing".to_owned(), state: "Ongoing".to_owned(), producer_id: 7 };
        let text = list(&list_document("c", vec![listing]), Paint::default());
        assert!(text.starts_with("TRANSACTIONAL ID") && text.contains("billing") && text.contains("Ongoing"));
        assert_eq!(list(&list_document("c", Vec::new()), Paint::default()), "no transactional ids yet\n");
    }
}

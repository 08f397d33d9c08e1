//! PURE: transactions as text and as documents.

use comfy_table::Cell;
use jiff::Timestamp;
use serde::Serialize;

use super::paint::Paint;
use super::report::duration;
use super::table::{self, number};
use crate::kafka::TopicPartition;
use crate::kafka::transactions::{Transaction, TransactionListing};
use crate::output::{SCHEMA_VERSION, printable};

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
    /// For how long it has been under way; `null` if none is.
    age_ms: Option<u64>,
}

/// The document of `transaction list`: first those under way, which are given by their age, then the others by name.
pub fn list_document<'a>(
    cluster: &'a str,
    listed: Vec<TransactionListing>,
    ongoing: &[Transaction],
    now: Timestamp,
) -> ListDocument<'a> {
    let place = |id: &str| ongoing.iter().position(|each| each.id == id);
    let row = |TransactionListing { id, state, producer_id }| {
        let age_ms = place(&id).and_then(|place| age(&ongoing[place], now));
        ListRow { id, state, producer_id, age_ms }
    };
    let mut transactions: Vec<_> = listed.into_iter().map(row).collect();
    transactions.sort_by_cached_key(|row| (place(&row.id).unwrap_or(usize::MAX), row.id.clone()));
    ListDocument { schema_version: SCHEMA_VERSION, cluster, transactions }
}

/// For how long the transaction has been under way, in ms. The clocks of the cluster and of escli may differ.
fn age(of: &Transaction, now: Timestamp) -> Option<u64> {
    of.began_ms.map(|began| u64::try_from(now.as_millisecond() - began).unwrap_or(0))
}

/// Why whoever reads committed events gets none of this partition from this offset on: of the transactions under way, which
/// are given by their age, the first one with events in it.
pub fn holder(at: &TopicPartition, offset: i64, ongoing: &[Transaction], now: Timestamp) -> String {
    let holder = ongoing.iter().find(|each| each.partitions.contains(at));
    let which = holder.map_or_else(
        || "a transaction that was under way".to_owned(),
        |of| {
            let since = age(of, now).map(duration).unwrap_or_default();
            format!(
                "transaction {} of producer {}, under way for {since}",
                printable::line(&of.id),
                of.producer_id
            )
        },
    );
    format!(
        "{at} is read up to offset {offset} only: what follows waits for {which}; see escli transaction list"
    )
}

/// One row for each transactional id.
pub fn list(document: &ListDocument, paint: Paint) -> String {
    if document.transactions.is_empty() {
        return "no transactional ids yet\n".to_owned();
    }
    let rows = document.transactions.iter();
    let rows = rows.map(|row| {
        let age = row.age_ms.map_or_else(|| "-".to_owned(), duration);
        vec![Cell::new(&row.id), Cell::new(&row.state), Cell::new(age), number(Some(row.producer_id))]
    });
    table::text(vec!["TRANSACTIONAL ID", "STATE", "FOR", "PRODUCER"], rows, paint) + "\n"
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
    /// For how long it has been under way.
    age_ms: Option<u64>,
    partitions: Vec<PartitionRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
}

/// The document of `transaction describe`.
pub fn describe_document(cluster: &str, described: Vec<Transaction>, now: Timestamp) -> DescribeDocument<'_> {
    let transactions = described.into_iter().map(|of| {
        let age_ms = age(&of, now);
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
            age_ms,
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
    let timeout = u64::try_from(of.timeout_ms).unwrap_or(0);
    let times_out = match of.age_ms {
        Some(age) if age >= timeout => {
            format!("for {}, past its timeout: about to be aborted", duration(age))
        }
        Some(age) => format!("for {}, times out in {}", duration(age), duration(timeout - age)),
        None => format!("timeout {}", duration(timeout)),
    };
    let mut text = format!(
        "{}  {}{since} · {times_out} · producer {}, epoch {}\n",
        paint.bold(&of.id),
        of.state,
        of.producer_id,
        of.producer_epoch,
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

    fn after(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

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
        let document = describe_document("c", vec![ongoing(), idle], after(33_000));
        let text = describe(&document, Paint::default());
        let (first, second) = text.split_once("\n\n").unwrap();
        let head =
            "billing  Ongoing since 2023-11-14T22:13:20Z · for 33.0 s, times out in 27.0 s · producer 7";
        assert!(first.starts_with(head) && first.contains("orders"), "{text}");
        assert!(second.starts_with("billing  Empty · timeout 1 min 0 s · producer 7, epoch 2\n"), "{text}");
        let late = describe(&describe_document("c", vec![ongoing()], after(60_000)), Paint::default());
        assert!(late.contains(" · for 1 min 0 s, past its timeout: about to be aborted · "), "{late}");
    }

    #[test]
    fn a_reader_of_committed_events_hears_for_whom_it_waits() {
        let (at, other) = (TopicPartition::new("orders", 1), TopicPartition::new("orders", 2));
        let second = Transaction { id: "younger".to_owned(), ..ongoing() };
        let said = holder(&at, 12, &[ongoing(), second], after(185_000));
        let expected = "partition 1 of orders is read up to offset 12 only: what follows waits for transaction \
                        billing of producer 7, under way for 3 min 5 s; see escli transaction list";
        assert_eq!(said, expected);
        let said = holder(&other, 12, &[ongoing()], after(0));
        assert!(said.contains("waits for a transaction that was under way"), "{said}");
    }

    #[test]
    fn ids_are_listed_or_none_is() {
        let listing =
            TransactionListing { id: "billing".to_owned(), state: "Ongoing".to_owned(), producer_id: 7 };
        let named = |id: &str| TransactionListing { id: id.to_owned(), ..listing.clone() };
        let older = Transaction { id: "older".to_owned(), ..ongoing() };
        let listed = ["archive", "billing", "older"].map(named).to_vec();
        let text = list(&list_document("c", listed, &[older, ongoing()], after(185_000)), Paint::default());
        let ids = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default());
        assert_eq!(ids.collect::<Vec<_>>(), ["TRANSACTIONAL", "older", "billing", "archive"], "{text}");
        assert!(text.contains("Ongoing") && text.contains("3 min 5 s"), "{text}");
        let none = list_document("c", Vec::new(), &[], after(0));
        assert_eq!(list(&none, Paint::default()), "no transactional ids yet\n");
    }
}

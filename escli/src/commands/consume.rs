//! `escli consume`: events out, a line each.

use jiff::Timestamp;

use super::kafka::Kafka;
use crate::cli::consume::Args;
use crate::failure::{Exit, Failure};
use crate::kafka::KafkaClient;
use crate::kafka::consumer::{Batch, Consumer};
use crate::settings::Settings;
use crate::view::{self, event, transaction};

/// Prints events until there are no more, or for ever.
///
/// # Errors
/// Usage; the topic cannot be read.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut kafka = Kafka::open(settings)?;
    let client = &mut kafka.client;
    let (only, follow) = (&args.partitions, args.follow);
    let mut consumer = Consumer::open(client, &args.topic, only, args.from, follow, args.isolation).await?;
    let style =
        event::Style { output: settings.output, key_separator: args.key_separator.clone(), is_raw: args.raw };
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut is_told = false;
    while left > 0 && !consumer.is_finished() {
        is_told = is_told || tell_holder(settings, client, &consumer).await;
        for batch in consumer.next(client).await? {
            if !print(settings, &style, &batch, &mut left) {
                return Ok(Exit::Ok);
            }
        }
    }
    if left > 0 && !is_told {
        tell_holder(settings, client, &consumer).await;
    }
    Ok(Exit::Ok)
}

/// Tells which transaction holds back events, if any does. Returns whether it did.
async fn tell_holder(settings: &Settings, client: &mut KafkaClient, consumer: &Consumer) -> bool {
    let Some((at, offset)) = consumer.held_back() else { return false };
    // Whatever cannot be told is no reason to fail: all that there is was read.
    let listed = client.transactions().await.unwrap_or_default();
    let ongoing = client.ongoing(&listed).await.unwrap_or_default();
    view::remark(settings, &transaction::holder(at, offset, &ongoing, Timestamp::now()));
    true
}

/// Prints at most `left` events. Returns `false` when nobody reads any more.
fn print(settings: &Settings, style: &event::Style, batch: &Batch, left: &mut u64) -> bool {
    if let Some((from, to)) = batch.skipped {
        let partition = batch.partition;
        view::remark(
            settings,
            &format!(
                "partition {partition}: offsets {from} to {} were deleted before they could be read",
                to - 1
            ),
        );
    }
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(batch.events.len());
    *left -= count as u64;
    let mut bytes = Vec::new();
    for one in &batch.events[..count] {
        event::append(&mut bytes, style, batch.partition, one);
    }
    bytes.is_empty() || view::put_bytes(&bytes)
}

//! Record batches as a producer would send them, each record a number that no other record has.

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use esnode::state_machine::transactions::ProducerIdentity;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A record's value: unique in a run.
pub type Value = u64;

/// The value that `producer` draws as its `number`th.
pub fn value(producer: usize, number: u64) -> Value {
    ((producer as u64) << 32) | number
}

/// Who drew a value, and as which.
pub fn origin(value: Value) -> (usize, usize) {
    let index = |part| usize::try_from(part).expect("a part of a number fits");
    (index(value >> 32), index(value & u64::from(u32::MAX)))
}

/// Who sends a batch: producer id, epoch 0, and the sequence number of its first record; `None` when plain.
pub type Sequence = Option<(i64, i32)>;

/// Whoever is no idempotent producer.
const NOBODY: (ProducerIdentity, i32) = (ProducerIdentity { id: -1, epoch: -1 }, -1);

/// Encodes `values` as one batch of magic 2.
pub fn encode(values: &[Value], sequence: Sequence, timestamp: i64) -> anyhow::Result<Bytes> {
    let (producer, first) = sequence.map_or(NOBODY, |(id, first)| (ProducerIdentity { id, epoch: 0 }, first));
    batch(values, producer, first, timestamp, false)
}

/// Encodes one value as a batch of the producer's transaction.
pub fn in_transaction(
    value: Value,
    producer: ProducerIdentity,
    sequence: i32,
    timestamp: i64,
) -> anyhow::Result<Bytes> {
    batch(&[value], producer, sequence, timestamp, true)
}

fn batch(
    values: &[Value],
    producer: ProducerIdentity,
    first: i32,
    timestamp: i64,
    transactional: bool,
) -> anyhow::Result<Bytes> {
    let records: Vec<_> = (0..)
        .zip(values)
        .map(|(at, value): (i32, _)| Record {
            transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(at),
            // The encoder begins a new batch where the sequence breaks, also at producers that have none.
            sequence: first + at,
            timestamp,
            key: None,
            value: Some(Bytes::copy_from_slice(&value.to_le_bytes())),
            headers: IndexMap::new(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options)?;
    Ok(out.freeze())
}

/// The values of a batch, in order.
pub fn decode(batch: &Bytes) -> anyhow::Result<Vec<Value>> {
    let set = RecordBatchDecoder::decode(&mut batch.clone())?;
    set.records
        .iter()
        .map(|record| {
            let bytes = record.value.as_deref().context("a record without a value")?;
            Ok(u64::from_le_bytes(bytes.try_into().context("a value of another length")?))
        })
        .collect()
}

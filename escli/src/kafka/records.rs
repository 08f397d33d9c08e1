//! PURE: events as record batches (magic 2), written and read.

use std::collections::BTreeSet;
use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use shared::codec::{Codec, MAX_DECOMPRESSED};

/// Bytes of a batch before its records.
const HEADER: usize = 61;
/// Where fields of the header are.
const LENGTH_AT: usize = 8;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const MAX_TIMESTAMP_AT: usize = 35;
/// Bytes before and with the length field, which it does not count.
const BEFORE_LENGTH: usize = 12;
/// Most bytes that a record takes beside its key, its value and its headers: attributes and five numbers.
const RECORD_OVERHEAD: usize = 36;
/// Most bytes that the lengths of a header's name and value take.
const HEADER_OVERHEAD: usize = 10;

/// An event to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
}

impl NewEvent {
    /// Bytes that it takes in a batch, at most, with `headers`.
    pub fn size(&self, headers: &[(String, Bytes)]) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = headers.iter().map(|(key, value)| key.len() + value.len() + HEADER_OVERHEAD);
        length(&self.key) + length(&self.value) + headers.sum::<usize>() + RECORD_OVERHEAD
    }
}

/// Bytes that a batch takes beside its events.
pub const BATCH_OVERHEAD: usize = HEADER;

/// What all events of a batch have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Id of the idempotent producer.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of the first event.
    pub sequence: i32,
    /// When it is written, in ms since 1970.
    pub timestamp: i64,
}

/// Encodes a batch. Every event has the same headers, whose names are distinct.
///
/// # Errors
/// Why it cannot be encoded, such as an event of more than 2 GiB.
pub fn encode(events: &[NewEvent], headers: &[(String, Bytes)], of: &BatchHeader) -> Result<Bytes, String> {
    let headers: IndexMap<_, _> = headers
        .iter()
        .map(|(key, value)| (StrBytes::from_string(key.clone()), Some(value.clone())))
        .collect();
    let record = |(event, delta): (&NewEvent, i32)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: of.producer_id,
        producer_epoch: of.producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: delta.into(),
        sequence: of.sequence.wrapping_add(delta),
        timestamp: of.timestamp,
        key: event.key.clone(),
        value: event.value.clone(),
        headers: headers.clone(),
    };
    let records: Vec<_> = events.iter().zip(0..).map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).map_err(|error| error.to_string())?;
    Ok(batch.freeze())
}

/// An event that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its offset.
    pub offset: i64,
    /// When it happened, as its producer says, or when it was appended; ms since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order; a name may come more than once.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What a fetch brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The events from the wanted offset on, in order.
    pub events: Vec<Event>,
    /// Offset to go on with; `None` when not even one whole batch came.
    pub next: Option<i64>,
}

/// A batch that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its offset.
    pub offset: i64,
    /// The offset after it, by its own account.
    pub next: i64,
    /// What is wrong with it.
    pub why: String,
}

/// Decodes the events of `records` from offset `from` on. A batch that is cut at the end is left out, and so is what
/// comes from a damaged one on unless that is the first.
///
/// `aborted` are transactions whose events are left out: offset of the first event, and id of the producer.
///
/// # Errors
/// Which batch cannot be read, and why.
pub fn decode(mut records: Bytes, from: i64, mut aborted: Vec<(i64, i64)>) -> Result<Fetched, Fault> {
    let mut fetched = Fetched::default();
    aborted.sort_unstable_by(|one, other| other.cmp(one));
    // Producers whose transaction, as far as it was read, is an aborted one.
    let mut aborting = BTreeSet::new();
    while let Some(batch) = next_batch(&mut records) {
        let offset = (&batch[..]).get_i64();
        let next = offset.saturating_add((&batch[LAST_OFFSET_DELTA_AT..]).get_i32().into()).saturating_add(1);
        while let Some((_, producer)) = aborted.pop_if(|(first, _)| *first < next) {
            aborting.insert(producer);
        }
        let mut events = match batch_events(&batch, &mut aborting) {
            Ok(events) => events,
            // What came before it counts; the fault comes up again when it is first.
            Err(_) if fetched.next.is_some() => break,
            Err(why) => return Err(Fault { offset, next, why }),
        };
        // A fetch in the middle of a batch brings the whole batch.
        events.retain(|event| event.offset >= from);
        fetched.events.append(&mut events);
        fetched.next = Some(next.max(from));
    }
    Ok(fetched)
}

/// The next whole batch.
fn next_batch(records: &mut Bytes) -> Option<Bytes> {
    let mut length = records.get(LENGTH_AT..BEFORE_LENGTH)?;
    let length = usize::try_from(length.get_i32()).ok()?;
    let end = BEFORE_LENGTH.checked_add(length).filter(|end| (HEADER..=records.len()).contains(end))?;
    Some(records.split_to(end))
}

/// The events of a batch, without control records, and none of a transaction that was aborted.
fn batch_events(batch: &Bytes, aborting: &mut BTreeSet<i64>) -> Result<Vec<Event>, String> {
    let infos =
        RecordBatchDecoder::decode_batch_info(&mut batch.clone()).map_err(|error| error.to_string())?;
    let info = infos.first().ok_or("its format is not 2")?;
    let field = |at: usize| &batch[at..];
    if info.control {
        // A producer has one transaction after the other, so this is the end of that one.
        aborting.remove(&info.producer_id);
        return Ok(Vec::new());
    }
    if info.transactional && aborting.contains(&info.producer_id) {
        return Ok(Vec::new());
    }
    let codec = Codec::of(field(ATTRIBUTES_AT).get_i16()).ok_or("its compression is unknown")?;
    let mut body = decompressed(codec, batch.slice(HEADER..))?;
    let appended =
        (info.timestamp_type == TimestampType::LogAppend).then(|| field(MAX_TIMESTAMP_AT).get_i64());
    let mut events = Vec::new();
    for number in 0..info.record_count {
        let record = record(&mut body).ok_or_else(|| format!("record {number} is damaged"))?;
        let timestamp = appended.unwrap_or(info.min_timestamp.saturating_add(record.timestamp));
        let offset = info.min_offset.saturating_add(record.offset);
        events.push(Event { offset, timestamp, ..record });
    }
    Ok(events)
}

fn decompressed(codec: Codec, body: Bytes) -> Result<Bytes, String> {
    if codec == Codec::None {
        return Ok(body);
    }
    let mut out = Vec::new();
    let limit = MAX_DECOMPRESSED as u64 + 1;
    codec.reader(&body).take(limit).read_to_end(&mut out).map_err(|error| error.to_string())?;
    if out.len() > MAX_DECOMPRESSED {
        return Err(format!("its events take more than {MAX_DECOMPRESSED} bytes once decompressed"));
    }
    Ok(out.into())
}

/// One record, with its offset and time as differences to those of the batch.
fn record(body: &mut Bytes) -> Option<Event> {
    let mut record = piece(body)??;
    record.try_get_i8().ok()?; // attributes, of which Kafka uses none
    let timestamp = varint(&mut record)?;
    let offset = varint(&mut record)?;
    let key = piece(&mut record)?;
    let value = piece(&mut record)?;
    let count = varint(&mut record)?;
    // A header takes two bytes at least.
    let count = usize::try_from(count).ok().filter(|count| *count <= record.len() / 2)?;
    let headers =
        (0..count).map(|_| Some((piece(&mut record)??, piece(&mut record)?))).collect::<Option<_>>()?;
    Some(Event { offset, timestamp, key, value, headers })
}

/// Bytes behind their length, which is -1 for none.
#[allow(clippy::option_option, reason = "damaged, absent and there are three things")]
fn piece(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    match varint(bytes)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
            Some(Some(bytes.split_to(length)))
        }
    }
}

/// A zigzag number of 1 to 10 bytes.
fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut raw = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        raw |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decode(records: Bytes, from: i64) -> Result<Fetched, Fault> {
        super::decode(records, from, Vec::new())
    }

    fn header(sequence: i32) -> BatchHeader {
        BatchHeader { producer_id: 7, producer_epoch: 0, sequence, timestamp: 1_700_000_000_123 }
    }

    fn event(key: Option<&str>, value: Option<&str>) -> NewEvent {
        let bytes = |text: Option<&str>| text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        NewEvent { key: bytes(key), value: bytes(value) }
    }

    fn two() -> Vec<NewEvent> {
        vec![event(Some("k"), Some("first")), event(None, Some("second"))]
    }

    /// The batch at this offset, as a log has it.
    fn at(batch: &Bytes, offset: i64) -> Bytes {
        [&offset.to_be_bytes(), &batch[8..]].concat().into()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let headers = [("trace".to_owned(), Bytes::from_static(b"\xff\0"))];
        let batch = encode(&two(), &headers, &header(0)).unwrap();
        let Fetched { events, next } = decode(at(&batch, 40), 0).unwrap();
        assert_eq!(next, Some(42));
        let first = Event {
            offset: 40,
            timestamp: 1_700_000_000_123,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"first")),
            headers: vec![(Bytes::from_static(b"trace"), Some(Bytes::from_static(b"\xff\0")))],
        };
        assert_eq!(events[0], first);
        assert_eq!((events[1].offset, &events[1].key), (41, &None));
    }

    #[test]
    fn a_batch_is_one_batch_whatever_the_sequence_number() {
        for sequence in [0, 5, i32::MAX] {
            let batch = encode(&two(), &[], &header(sequence)).unwrap();
            let infos = RecordBatchDecoder::decode_batch_info(&mut batch.clone()).unwrap();
            assert_eq!(infos.len(), 1, "{sequence}");
            assert_eq!((infos[0].base_sequence, infos[0].record_count), (sequence, 2));
        }
    }

    #[test]
    fn an_events_size_is_never_underestimated() {
        let headers = [("h".repeat(200), Bytes::from(vec![1; 300]))];
        let events = vec![event(Some(&"k".repeat(70)), Some(&"v".repeat(10_000))), event(None, None)];
        let batch = encode(&events, &headers, &header(0)).unwrap();
        let estimate = events.iter().map(|event| event.size(&headers)).sum::<usize>() + BATCH_OVERHEAD;
        assert!((batch.len()..batch.len() + 150).contains(&estimate), "{estimate} for {}", batch.len());
    }

    #[test]
    fn only_whole_batches_count_and_only_from_the_wanted_offset_on() {
        let batch = encode(&two(), &[], &header(0)).unwrap();
        let both = [at(&batch, 0), at(&batch, 2)].concat();
        let Fetched { events, next } = decode(Bytes::from(both.clone()), 1).unwrap();
        assert_eq!(
            (events.iter().map(|event| event.offset).collect::<Vec<_>>(), next),
            (vec![1, 2, 3], Some(4))
        );
        let cut = decode(Bytes::from(both[..both.len() - 1].to_vec()), 0).unwrap();
        assert_eq!((cut.events.len(), cut.next), (2, Some(2)));
        assert_eq!(decode(Bytes::from_static(&[0; 11]), 0), Ok(Fetched::default()));
    }

    #[test]
    fn a_damaged_batch_is_named_by_its_offset() {
        let mut bytes = at(&encode(&two(), &[], &header(0)).unwrap(), 40).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let behind = [&at(&encode(&two(), &[], &header(0)).unwrap(), 38)[..], &bytes].concat();
        let before = decode(behind.into(), 0).unwrap();
        assert_eq!((before.events.len(), before.next), (2, Some(40)), "what came before it counts");
        let fault = decode(bytes.into(), 0).unwrap_err();
        assert!(
            (fault.offset, fault.next) == (40, 42) && fault.why.contains("redundancy check"),
            "{fault:?}"
        );
    }

    /// The batch with its records compressed by gzip, or with other attributes.
    fn changed(batch: &Bytes, attributes: u8, body: &[u8]) -> Bytes {
        let mut bytes = [&batch[..HEADER], body].concat();
        bytes[ATTRIBUTES_AT + 1] = attributes;
        let length = u32::try_from(bytes.len() - BEFORE_LENGTH).unwrap();
        bytes[LENGTH_AT..BEFORE_LENGTH].copy_from_slice(&length.to_be_bytes());
        let sum = crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        bytes.into()
    }

    /// CRC-32C, bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
        })
    }

    #[test]
    fn events_of_aborted_transactions_are_left_out_and_no_others() {
        let batch = encode(&two(), &[], &header(0)).unwrap();
        let body = &batch[HEADER..];
        let (of_transaction, marker) = (changed(&batch, 1 << 4, body), changed(&batch, 3 << 4, body));
        // An aborted transaction, a committed one of the same producer, and events without any.
        let all = [&of_transaction, &marker, &of_transaction, &marker, &batch];
        let log: Vec<u8> = all.iter().zip(0..).flat_map(|(each, number)| at(each, 2 * number)).collect();
        let read = |aborted| {
            let fetched = super::decode(Bytes::from(log.clone()), 0, aborted).unwrap();
            assert_eq!(fetched.next, Some(10));
            fetched.events.iter().map(|event| event.offset).collect::<Vec<_>>()
        };
        assert_eq!(read(vec![(0, 7)]), [4, 5, 8, 9]);
        assert_eq!(read(vec![(4, 7), (0, 7)]), [8, 9]);
        assert_eq!(read(vec![(0, 8)]), [0, 1, 4, 5, 8, 9], "of another producer");
    }

    #[test]
    fn compressed_batches_are_read_and_control_batches_are_skipped() {
        let batch = encode(&two(), &[], &header(0)).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&batch[HEADER..]).unwrap();
        let compressed = changed(&batch, 1, &gzip.finish().unwrap());
        assert_eq!(decode(compressed, 0), decode(batch.clone(), 0));
        let control = decode(changed(&batch, 1 << 5, &batch[HEADER..]), 0).unwrap();
        assert_eq!((control.events.len(), control.next), (0, Some(2)));
        let appended = decode(changed(&batch, 1 << 3, &batch[HEADER..]), 0).unwrap();
        assert_eq!(appended.events[0].timestamp, 1_700_000_000_123);
    }

    #[test]
    fn numbers_are_zigzag_and_end() {
        let table: [(&[u8], Option<i64>); 6] = [
            (&[0], Some(0)),
            (&[1], Some(-1)),
            (&[2], Some(1)),
            (&[0xac, 0x02], Some(150)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(i64::MIN)),
            (&[0xff; 11], None),
        ];
        for (bytes, number) in table {
            assert_eq!(varint(&mut Bytes::from_static(bytes)), number, "{bytes:?}");
        }
    }
}

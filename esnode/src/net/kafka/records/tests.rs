//! Batches made by an independent encoder.

use bytes::BytesMut;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::*;

fn records(timestamps: &[i64], value: usize) -> Vec<Record> {
    (0..)
        .zip(timestamps)
        .map(|(offset, timestamp)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: NO_SEQUENCE + i32::try_from(offset).unwrap(),
            timestamp: *timestamp,
            key: Some("key".into()),
            value: Some(vec![b'x'; value].into()),
            headers: IndexMap::new(),
        })
        .collect()
}

fn encoded(records: &[Record]) -> Bytes {
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, records, &options).unwrap();
    out.freeze()
}

/// A batch with records of these timestamps.
pub fn batch(timestamps: &[i64]) -> Bytes {
    encoded(&records(timestamps, 10))
}

/// The batch with one byte changed and a CRC that fits.
fn patched(batch: &Bytes, at: usize, byte: u8) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at] = byte;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[test]
fn one_batch_or_several_are_slices_of_what_was_sent() {
    let (one, two) = (batch(&[1, 2, 3]), batch(&[4]));
    assert_eq!(split(one.clone()), Ok(vec![one.clone()]));
    let both: Bytes = [&one[..], &two[..]].concat().into();
    let batches = split(both.clone()).unwrap();
    assert_eq!(batches, [one, two]);
    assert_eq!(batches[0].as_ptr(), both.as_ptr());
}

#[test]
fn no_changed_byte_under_the_crc_goes_unnoticed() {
    let sent = batch(&[1, 2, 3]);
    for at in 17..sent.len() {
        let mut changed = sent.to_vec();
        changed[at] ^= 0x40;
        assert_eq!(split(changed.into()), Err(ResponseError::CorruptMessage), "byte {at}");
    }
}

#[test]
fn every_cut_is_refused() {
    let sent = batch(&[1, 2, 3]);
    for length in 1..sent.len() {
        assert!(split(sent.slice(..length)).is_err(), "cut at {length}");
    }
    assert_eq!(split(Bytes::new()), Err(ResponseError::InvalidRecord));
}

#[test]
fn what_the_log_cannot_keep_is_refused_by_the_fitting_code() {
    let sent = batch(&[1, 2, 3]);
    for version in [0, 1] {
        let old = patched(&sent, 16, version);
        assert_eq!(split(old), Err(ResponseError::UnsupportedForMessageFormat), "magic {version}");
    }
    assert_eq!(split(patched(&sent, 22, 0x10)), Err(ResponseError::InvalidRecord), "transactional");
    assert_eq!(split(patched(&sent, 22, 0x20)), Err(ResponseError::InvalidRecord), "control");
    assert_eq!(split(patched(&sent, 60, 2)), Err(ResponseError::InvalidRecord), "count");
    assert_eq!(split(patched(&sent, 60, 0)), Err(ResponseError::InvalidRecord), "no records");
    let large = encoded(&records(&[1], MAX_PAYLOAD));
    assert_eq!(split(large), Err(ResponseError::MessageTooLarge));
    let largest = encoded(&records(&[1], MAX_PAYLOAD - OVERHEAD - HEADER - 20));
    assert!(split(largest).is_ok());
}

#[test]
fn a_delivered_batch_has_its_offsets_and_still_its_crc() {
    let mut out = b"before".to_vec();
    deliver(&batch(&[5, 6]), 1000, 7, &mut out);
    let mut delivered = Bytes::from(out).slice(6..);
    assert!(split(delivered.clone()).is_ok());
    let records = RecordBatchDecoder::decode(&mut delivered).unwrap().records;
    let seen: Vec<_> = records.iter().map(|record| (record.offset, record.partition_leader_epoch)).collect();
    assert_eq!(seen, [(1000, 7), (1001, 7)]);
}

#[test]
fn a_time_finds_the_first_record_at_or_after_it() {
    let sent = batch(&[100, 300, 200, 400]);
    for (time, found) in [
        (0, Some((0, 100))),
        (100, Some((0, 100))),
        (101, Some((1, 300))),
        (301, Some((3, 400))),
        (401, None),
    ] {
        assert_eq!(first_since(&sent, time), found, "{time}");
    }
}

#[test]
fn a_compressed_batch_is_found_by_its_first_record() {
    let compressed = patched(&batch(&[100, 300]), 22, 4);
    assert_eq!(first_since(&compressed, 200), Some((0, 300)));
    assert_eq!(first_since(&compressed, 301), None);
}

#[test]
fn records_that_lie_about_their_lengths_are_survived() {
    let mut random = fastrand::Rng::with_seed(3);
    let sent = batch(&[100, 200, 300]);
    for _ in 0..10_000 {
        let mut changed = sent.to_vec();
        for _ in 0..3 {
            let at = random.usize(HEADER..changed.len());
            changed[at] = random.u8(..);
        }
        let _ = first_since(&changed, random.i64(0..500));
    }
}

#[test]
fn a_batch_cannot_claim_more_records_than_its_bytes_hold() {
    let claim = |batch: &Bytes, count: i32| {
        let mut batch = batch.to_vec();
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        patched(&batch.into(), 16, 2)
    };
    let sent = batch(&[1, 2, 3]);
    assert_eq!(split(claim(&sent, i32::MAX)), Err(ResponseError::InvalidRecord));
    assert!(split(claim(&sent, 3)).is_ok());
    // What is compressed may hold any number.
    assert!(split(patched(&claim(&sent, i32::MAX), 22, 4)).is_ok());
}

#[test]
fn a_producer_id_without_a_sequence_is_refused_before_the_log() {
    let sent = patched(&batch(&[1]), 43, 0);
    assert_eq!(split(sent), Err(ResponseError::InvalidRecord));
}

#[test]
fn a_record_that_claims_an_offset_elsewhere_is_found_inside_its_batch() {
    let mut sent = batch(&[100, 200]).to_vec();
    // Length (1 byte), attributes, timestamp delta, offset delta: the largest varint takes the bytes behind it.
    let offset = HEADER + 3;
    sent.splice(offset..=offset, [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert_eq!(first_since(&sent, 100), Some((1, 100)));
}

//! Batches made by an independent encoder.

use std::io::Write;

use bytes::{Bytes, BytesMut};
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

fn rules() -> Rules {
    Rules { version: 9, largest: 1 << 20, timestamps: i64::MIN..=i64::MAX, transactional: false }
}

fn code(sent: &[u8]) -> Result<(), ResponseError> {
    check(sent, &rules()).map_err(|(code, _)| code)
}

/// The batch with its records replaced by `records`, compressed by codec `codec`.
fn packed(batch: &Bytes, codec: u8, records: &[u8]) -> Bytes {
    let mut packed = [&batch[..HEADER], records].concat();
    let length = i32::try_from(packed.len() - 12).unwrap();
    packed[8..12].copy_from_slice(&length.to_be_bytes());
    patched(&packed.into(), 22, codec)
}

fn gzip(records: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(records).unwrap();
    out.finish().unwrap()
}

fn snappy(records: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(1000) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend(block);
    }
    out
}

fn raw_snappy(records: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(records).unwrap()
}

fn lz4(records: &[u8]) -> Vec<u8> {
    let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
    out.write_all(records).unwrap();
    out.finish().unwrap()
}

fn zstd(records: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(records, ruzstd::encoding::CompressionLevel::Fastest)
}

type Compress = fn(&[u8]) -> Vec<u8>;
const CODECS: [(u8, Compress); 5] = [(1, gzip), (2, snappy), (2, raw_snappy), (3, lz4), (4, zstd)];

#[test]
fn there_is_one_batch_for_each_partition() {
    let (one, two) = (batch(&[1, 2, 3]), batch(&[4]));
    assert_eq!(code(&one), Ok(()));
    assert_eq!(code(&[&one[..], &two[..]].concat()), Err(ResponseError::InvalidRecord));
    assert_eq!(code(&[]), Err(ResponseError::InvalidRecord));
}

#[test]
fn no_changed_byte_under_the_crc_goes_unnoticed() {
    let sent = batch(&[1, 2, 3]);
    for at in 17..sent.len() {
        let mut changed = sent.to_vec();
        changed[at] ^= 0x40;
        assert!(code(&changed).is_err(), "byte {at}");
        if at >= HEADER {
            assert_eq!(code(&changed), Err(ResponseError::CorruptMessage), "byte {at}");
        }
    }
}

#[test]
fn every_cut_is_refused() {
    let sent = batch(&[1, 2, 3]);
    for length in 0..sent.len() {
        assert!(code(&sent[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn what_the_log_cannot_keep_is_refused_by_the_fitting_code() {
    let sent = batch(&[1, 2, 3]);
    for version in [0, 1] {
        let old = patched(&sent, 16, version);
        assert_eq!(code(&old), Err(ResponseError::UnsupportedForMessageFormat), "magic {version}");
    }
    assert_eq!(code(&patched(&sent, 22, 0x10)), Err(ResponseError::InvalidRecord), "transactional");
    let of_transaction = Rules { transactional: true, ..rules() };
    assert!(check(&sent, &of_transaction).is_err(), "in no transaction");
    assert_eq!(code(&patched(&sent, 22, 0x20)), Err(ResponseError::InvalidRecord), "control");
    assert_eq!(code(&patched(&sent, 60, 2)), Err(ResponseError::InvalidRecord), "count");
    assert_eq!(code(&patched(&sent, 60, 0)), Err(ResponseError::InvalidRecord), "no records");
    assert_eq!(code(&patched(&sent, 43, 0)), Err(ResponseError::InvalidRecord), "an id without a sequence");
    for codec in 5..=7 {
        assert_eq!(code(&patched(&sent, 22, codec)), Err(ResponseError::UnsupportedCompressionType));
    }
    let largest = Rules { largest: sent.len(), ..rules() };
    assert_eq!(check(&sent, &largest), Ok(()));
    let smaller = Rules { largest: sent.len() - 1, ..rules() };
    assert_eq!(check(&sent, &smaller).map_err(|(code, _)| code), Err(ResponseError::MessageTooLarge));
    let timed = |timestamps| check(&sent, &Rules { timestamps, ..rules() }).map_err(|(code, _)| code);
    assert_eq!(timed(1..=3), Ok(()));
    for timestamps in [2..=3, 1..=2] {
        assert_eq!(timed(timestamps), Err(ResponseError::InvalidTimestamp));
    }
}

#[test]
fn what_is_compressed_is_read_through() {
    let sent = batch(&(0..5000).collect::<Vec<_>>());
    for (codec, compress) in CODECS {
        let compressed = packed(&sent, codec, &compress(&sent[HEADER..]));
        assert!(compressed.len() < sent.len(), "codec {codec}");
        assert_eq!(check(&compressed, &rules()), Ok(()), "codec {codec}");
        assert_eq!(Decoded::new(&compressed).unwrap().count(), 5000);
        assert_eq!(first_since(&compressed, 0, 1234), Some((1234, 1234)), "codec {codec}");
        let cut = packed(&sent, codec, &compress(&sent[HEADER..sent.len() - 1]));
        assert_eq!(code(&cut), Err(ResponseError::InvalidRecord), "codec {codec}: cut");
        let more = packed(&sent, codec, &compress(&[&sent[HEADER..], b"x"].concat()));
        assert_eq!(code(&more), Err(ResponseError::InvalidRecord), "codec {codec}: more");
        let plain = packed(&sent, codec, &sent[HEADER..]);
        assert_eq!(code(&plain), Err(ResponseError::InvalidRecord), "codec {codec}: not compressed");
    }
    let zstd = packed(&sent, 4, &zstd(&sent[HEADER..]));
    let old = Rules { version: 6, ..rules() };
    let refused = check(&zstd, &old).map_err(|(code, _)| code);
    assert_eq!(refused, Err(ResponseError::UnsupportedCompressionType));
}

#[test]
fn a_batch_cannot_claim_more_records_than_it_holds_nor_give_them_other_offsets() {
    let claim = |batch: &Bytes, count: i32| {
        let mut batch = batch.to_vec();
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        patched(&batch.into(), 16, 2)
    };
    let sent = batch(&[1, 2, 3]);
    assert_eq!(code(&claim(&sent, 3)), Ok(()));
    let mut skipping = records(&[1, 2, 3], 10);
    skipping[2].offset = 3;
    let skipping = claim(&encoded(&skipping), 3);
    assert_eq!(code(&skipping), Err(ResponseError::InvalidRecord));
    for (codec, compress) in CODECS {
        let compressed = packed(&sent, codec, &compress(&sent[HEADER..]));
        for count in [2, 4, i32::MAX] {
            assert_eq!(code(&claim(&sent, count)), Err(ResponseError::InvalidRecord));
            assert_eq!(code(&claim(&compressed, count)), Err(ResponseError::InvalidRecord), "codec {codec}");
        }
        let skipping = packed(&skipping, codec, &compress(&skipping[HEADER..]));
        assert_eq!(code(&skipping), Err(ResponseError::InvalidRecord), "codec {codec}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_has_gone_off() {
    // One record of 300 MiB: its length, and so many zeroes.
    let mut record = vec![0x80, 0x80, 0x80, 0xac, 0x02];
    record.resize(65 << 20, 0);
    let sent = batch(&[1]);
    let bomb = packed(&sent, 1, &gzip(&record));
    assert!(bomb.len() < 100_000);
    let started = std::time::Instant::now();
    assert_eq!(code(&bomb), Err(ResponseError::MessageTooLarge));
    assert!(started.elapsed().as_millis() < 50, "its length says it");
    // Many records.
    let one = [0x80, 0x80, 0x02, 0, 0, 0, 1]; // 16 KiB
    let mut record = one.to_vec();
    record.resize((16 << 10) + 3, 0);
    let many = gzip(&record.repeat(4200));
    let mut bomb = packed(&sent, 1, &many).to_vec();
    bomb[23..27].copy_from_slice(&4199i32.to_be_bytes());
    bomb[57..61].copy_from_slice(&4200i32.to_be_bytes());
    let read = Decoded::new(&bomb).unwrap();
    let faults: Vec<_> = read.filter_map(Result::err).map(|fault| fault.to_string()).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    // A block of snappy that claims 4 GiB.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(code(&packed(&sent, 2, &claim)), Err(ResponseError::InvalidRecord));
}

#[test]
fn frames_back_to_back_are_one_stream() {
    let sent = batch(&[1, 2, 3]);
    let (one, two) = sent[HEADER..].split_at(20);
    for (codec, compress) in [(1, gzip as Compress), (4, zstd)] {
        let frames = [compress(one), compress(two)].concat();
        assert_eq!(code(&packed(&sent, codec, &frames)), Ok(()), "codec {codec}");
    }
}

#[test]
fn a_delivered_batch_has_its_offsets_and_still_its_crc() {
    let mut out = b"before".to_vec();
    deliver(&batch(&[5, 6]), 1000, 7, &mut out);
    let mut delivered = Bytes::from(out).slice(6..);
    assert_eq!(code(&delivered), Ok(()));
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
        assert_eq!(first_since(&sent, 0, time), found, "{time}");
    }
    assert_eq!((first_since(&sent, 1, 100), first_since(&sent, 2, 400)), (Some((1, 300)), Some((3, 400))));
    assert_eq!((first_since(&sent, 2, 300), first_since(&sent, 4, 0)), (Some((3, 400)), None));
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
        let _ = first_since(&changed, 0, random.i64(0..500));
    }
}

#[test]
fn a_record_that_claims_an_offset_elsewhere_is_found_inside_its_batch() {
    let mut sent = batch(&[100, 200]).to_vec();
    // Length (1 byte), attributes, timestamp delta, offset delta: the largest varint takes the bytes behind it.
    let offset = HEADER + 3;
    sent.splice(offset..=offset, [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    sent[HEADER] += 2 * 9;
    assert_eq!(first_since(&sent, 0, 100), Some((1, 100)));
}

#[test]
fn an_append_time_is_that_of_every_record() {
    let appended = with_append_time(&batch(&[1000, 3000, 2000]), 5000);
    let header = BatchHeader::read(&appended).unwrap();
    assert!(header.is_intact(&appended) && header.max_timestamp == 5000);
    let mut bytes = appended.clone();
    let read = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
    assert!(read.iter().all(|record| record.timestamp_type == TimestampType::LogAppend));
    assert_eq!(first_since(&appended, 0, 4000), Some((0, 5000)));
    assert_eq!(first_since(&appended, 2, 5000), Some((2, 5000)));
    assert_eq!(first_since(&appended, 0, 5001), None);
    assert_eq!(code(&appended), Err(ResponseError::InvalidTimestamp), "it is the log's to give");
}

#[test]
fn a_record_without_a_timestamp_is_within_every_limit() {
    let rules = Rules { timestamps: 900..=1100, ..rules() };
    let code = |timestamp| check(&batch(&[timestamp]), &rules).map_err(|(code, _)| code);
    assert_eq!((code(-1), code(1000)), (Ok(()), Ok(())));
    assert_eq!(
        (code(0), code(1101)),
        (Err(ResponseError::InvalidTimestamp), Err(ResponseError::InvalidTimestamp))
    );
}

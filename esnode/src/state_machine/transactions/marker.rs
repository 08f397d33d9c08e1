//! The marker that ends a transaction in a partition: a control batch, as clients expect it. It is not in the log, but made
//! from the entry that ends the transaction; in the partition it takes one offset.

use bytes::{BufMut, Bytes, BytesMut};

use super::change::Ending;
use crate::state_machine::batch::{CONTROL, HEADER, TRANSACTIONAL};

/// Bytes of a marker.
pub const MARKER: usize = HEADER + 17;

/// The marker of a transaction that ends so.
pub fn marker(ending: &Ending) -> Bytes {
    let mut batch = BytesMut::with_capacity(MARKER);
    batch.put_i64(0); // base offset
    batch.put_i32(66); // bytes from here on: MARKER - 12
    batch.put_i32(-1); // leader epoch
    batch.put_u8(2); // magic
    batch.put_u32(0); // CRC, below
    batch.put_i16(TRANSACTIONAL | CONTROL);
    batch.put_i32(0); // last offset delta
    batch.put_i64(ending.time); // base timestamp
    batch.put_i64(ending.time); // max timestamp
    batch.put_i64(ending.producer.id);
    batch.put_i16(ending.producer.epoch);
    batch.put_i32(-1); // base sequence
    batch.put_i32(1); // records
    // One record; lengths and deltas are zigzag varints of one byte.
    batch.put_slice(&[
        32, // length: 16
        0,  // attributes
        0,  // timestamp delta
        0,  // offset delta
        8,  // key: 4 bytes
    ]);
    batch.put_i16(0); // version
    batch.put_i16(i16::from(ending.commit)); // kind
    batch.put_u8(12); // value: 6 bytes
    batch.put_i16(0); // version
    batch.put_i32(0); // coordinator epoch
    batch.put_u8(0); // headers
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

//! The header of a Kafka record batch (magic 2), read without looking at the records.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//! ```
//!
//! Big endian. `length` counts from byte 12. The checksum covers everything from byte 21, so base offset and leader
//! epoch may be written without touching it.

/// Bytes before the records.
pub const HEADER: usize = 61;

/// What the state machine needs of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Records, minus one.
    pub last_offset_delta: i32,
    /// Newest timestamp among the records, in ms.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
}

impl BatchHeader {
    /// Reads the header of a whole batch; `None` when the bytes are not one. Does not check the checksum: the leader
    /// has done so before it proposed the batch.
    pub fn parse(batch: &[u8]) -> Option<Self> {
        let length = i32::from_be_bytes(field(batch, 8)?);
        let count = i32::from_be_bytes(field(batch, 57)?);
        let header = Self {
            last_offset_delta: i32::from_be_bytes(field(batch, 23)?),
            max_timestamp: i64::from_be_bytes(field(batch, 35)?),
            producer_id: i64::from_be_bytes(field(batch, 43)?),
            producer_epoch: i16::from_be_bytes(field(batch, 51)?),
            base_sequence: i32::from_be_bytes(field(batch, 53)?),
        };
        let whole = usize::try_from(length).ok()? + 12 == batch.len();
        let sound = batch[16] == 2 && count >= 1 && header.last_offset_delta.checked_add(1)? == count;
        let sequenced = header.producer_id < 0 || (header.base_sequence >= 0 && header.producer_epoch >= 0);
        (whole && sound && sequenced).then_some(header)
    }

    /// Records in the batch.
    pub fn records(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

//! The header of a Kafka record batch (magic 2), read without looking at the records.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//! ```
//!
//! Big endian. `length` counts from byte 12. The checksum covers everything from byte 21, so base offset and
//! leader epoch may be written without touching it.

use crate::state_machine::transactions::ProducerIdentity;

/// Bytes before the records.
pub const HEADER: usize = 61;
/// Set in the attributes of a batch that is part of a transaction.
pub const TRANSACTIONAL: i16 = 0x10;
/// Set in the attributes of a marker, which ends a transaction.
pub const CONTROL: i16 = 0x20;
/// Where `length` counts from.
const LENGTH_FROM: usize = 12;
/// Where the checksum's cover begins.
const CRC_FROM: usize = 21;

/// The fields of a batch's header that anybody here looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// Format of the batch; 2 is the only one with this header.
    pub magic: u8,
    /// CRC32C as the producer wrote it.
    pub crc: u32,
    /// Compression, kind of timestamps, and what the batch is for.
    pub attributes: i16,
    /// Offset of the last record, counted from the first.
    pub last_offset_delta: i32,
    /// Timestamp (ms) that those of the records are counted from.
    pub base_timestamp: i64,
    /// Newest timestamp among the records, in ms.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
    /// Number of records, as the producer says.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the fields, whatever they say; `None` when `batch` is shorter than a header.
    pub fn read(batch: &[u8]) -> Option<Self> {
        let bytes = batch.first_chunk::<HEADER>()?;
        Some(Self {
            magic: bytes[16],
            crc: u32::from_be_bytes(field(bytes, 17)?),
            attributes: i16::from_be_bytes(field(bytes, 21)?),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)?),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)?),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)?),
            producer_id: i64::from_be_bytes(field(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
            base_sequence: i32::from_be_bytes(field(bytes, 53)?),
            count: i32::from_be_bytes(field(bytes, 57)?),
        })
    }

    /// Reads the header of a whole batch; `None` when the bytes are not one. Does not check the checksum: the
    /// leader has done so before it proposed the batch.
    pub fn parse(batch: &[u8]) -> Option<Self> {
        let whole = extent(batch)?.0 == batch.len();
        Self::read(batch).filter(|header| whole && header.is_sound())
    }

    /// Whether the fields make sense together.
    pub fn is_sound(&self) -> bool {
        let counted = self.count >= 1 && self.last_offset_delta == self.count - 1;
        let sequenced = self.producer_id < 0 || (self.base_sequence >= 0 && self.producer_epoch >= 0);
        self.magic == 2 && counted && sequenced
    }

    /// Whether the checksum is the one of `batch`, whose header this is.
    pub fn is_intact(&self, batch: &[u8]) -> bool {
        batch.get(CRC_FROM..).is_some_and(|covered| crc32c::crc32c(covered) == self.crc)
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker, which ends a transaction, and holds no event.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The idempotent producer.
    pub fn producer(&self) -> ProducerIdentity {
        ProducerIdentity { id: self.producer_id, epoch: self.producer_epoch }
    }

    /// Records in the batch.
    pub fn records(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }
}

/// The bytes that the batch at the start of `bytes` claims to take, and its format; `None` when there are too
/// few to tell or the claim is negative. All formats have both in the same places.
pub fn extent(bytes: &[u8]) -> Option<(usize, u8)> {
    let length = usize::try_from(i32::from_be_bytes(field(bytes, 8)?)).ok()?;
    Some((length.saturating_add(LENGTH_FROM), *bytes.get(16)?))
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

//! The encoding of a transaction's change, as the log holds it:
//!
//! ```text
//! 1 Init           timeout i32 | 1 and producer, or 0
//! 2 AddPartitions  producer | partitions
//! 3 AddGroup       producer | group
//! 4 CommitOffsets  producer | group | member | instance | generation i32 | count u32, then per offset:
//!                  topic u32 | partition u32 | offset i64 | leader epoch i32 | metadata
//! 5 End            producer | commit u8 | fence u8 | time i64 | partitions
//! 6 Expire         unused since i64
//! ```
//!
//! Each begins with its number, one byte. A producer is its id, i64, and its epoch, i16. Partitions are a count, u32, and
//! for each: topic u32 | partition u32.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::change::{Ending, ProducerIdentity, TransactionChange};
use crate::state_machine::command::wire::{get_partitions, get_text, put_bytes, put_partitions};
use crate::state_machine::groups::OffsetCommit;

impl TransactionChange {
    /// Appends its encoding.
    pub(in crate::state_machine) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Init { timeout_ms, known } => {
                out.put_u8(1);
                out.put_i32_le(*timeout_ms);
                out.put_u8(known.is_some().into());
                known.iter().for_each(|known| put_producer(out, *known));
            }
            Self::AddPartitions { producer, partitions } => {
                out.put_u8(2);
                put_producer(out, *producer);
                put_partitions(out, partitions);
            }
            Self::AddGroup { producer, group } => {
                out.put_u8(3);
                put_producer(out, *producer);
                put_bytes(out, group.as_bytes());
            }
            Self::CommitOffsets { producer, group, commit } => {
                out.put_u8(4);
                put_producer(out, *producer);
                put_bytes(out, group.as_bytes());
                commit.encode(out);
            }
            Self::End(ending) => {
                out.put_u8(5);
                put_producer(out, ending.producer);
                out.put_u8(ending.commit.into());
                out.put_u8(ending.fence.into());
                out.put_i64_le(ending.time);
                put_partitions(out, &ending.partitions);
            }
            Self::Expire { unused_since } => {
                out.put_u8(6);
                out.put_i64_le(*unused_since);
            }
        }
    }

    /// Reads one back; `None` if these bytes are not one.
    pub(in crate::state_machine) fn decode(bytes: &mut Bytes) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            1 => Self::Init { timeout_ms: bytes.try_get_i32_le().ok()?, known: get_known(bytes)? },
            2 => Self::AddPartitions { producer: get_producer(bytes)?, partitions: get_partitions(bytes)? },
            3 => Self::AddGroup { producer: get_producer(bytes)?, group: get_text(bytes)? },
            4 => Self::CommitOffsets {
                producer: get_producer(bytes)?,
                group: get_text(bytes)?,
                commit: OffsetCommit::decode(bytes)?,
            },
            5 => Self::End(Ending {
                producer: get_producer(bytes)?,
                commit: bytes.try_get_u8().ok()? != 0,
                fence: bytes.try_get_u8().ok()? != 0,
                time: bytes.try_get_i64_le().ok()?,
                partitions: get_partitions(bytes)?,
            }),
            6 => Self::Expire { unused_since: bytes.try_get_i64_le().ok()? },
            _ => return None,
        })
    }
}

fn put_producer(out: &mut BytesMut, ProducerIdentity { id, epoch }: ProducerIdentity) {
    out.put_i64_le(id);
    out.put_i16_le(epoch);
}

fn get_producer(bytes: &mut Bytes) -> Option<ProducerIdentity> {
    Some(ProducerIdentity { id: bytes.try_get_i64_le().ok()?, epoch: bytes.try_get_i16_le().ok()? })
}

fn get_known(bytes: &mut Bytes) -> Option<Option<ProducerIdentity>> {
    match bytes.try_get_u8().ok()? {
        0 => Some(None),
        1 => get_producer(bytes).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_machine::groups::CommittedOffset;

    fn changes() -> Vec<TransactionChange> {
        let producer = ProducerIdentity { id: 7, epoch: 3 };
        let offset = CommittedOffset { offset: 7, leader_epoch: 2, metadata: "m".to_owned(), committed: 0 };
        let commit = OffsetCommit {
            member: "a".to_owned(),
            instance: Some("i".to_owned()),
            generation: 3,
            offsets: vec![(1, 2, offset)],
        };
        let partitions = vec![(1, 2), (3, 4)];
        vec![
            TransactionChange::Init { timeout_ms: 60_000, known: None },
            TransactionChange::Init { timeout_ms: 60_000, known: Some(producer) },
            TransactionChange::AddPartitions { producer, partitions: partitions.clone() },
            TransactionChange::AddGroup { producer, group: "g".to_owned() },
            TransactionChange::CommitOffsets { producer, group: "g".to_owned(), commit },
            TransactionChange::End(Ending { producer, commit: true, fence: false, time: 5, partitions }),
            TransactionChange::Expire { unused_since: 9 },
        ]
    }

    #[test]
    fn changes_read_back_and_nothing_shorter_does() {
        for change in changes() {
            let mut out = BytesMut::new();
            change.encode(&mut out);
            let whole = out.freeze();
            assert_eq!(TransactionChange::decode(&mut whole.clone()), Some(change.clone()));
            for length in 0..whole.len() {
                assert_eq!(
                    TransactionChange::decode(&mut whole.slice(..length)),
                    None,
                    "{change:?} {length}"
                );
            }
        }
    }
}

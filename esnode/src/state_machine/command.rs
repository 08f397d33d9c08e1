//! Commands that the log's entries carry, their encoding, and the state machine's replies.
//!
//! ```text
//! 1 Found            cluster id, 16 bytes
//! 2 Bind             node u64 | store id, 16 bytes
//! 3 CreateTopic      name | partitions u32 | count u32, then per configuration: key | value
//! 4 DeleteTopic      name
//! 5 AllocateProducer
//! 6 Append           topic u32 | partition u32 | batch
//! 7 Trim             topic u32 | partition u32 | offset i64
//! 8 AlterTopic       name | count u32, then per configuration: key | 1 and value, or 0
//! 9 RaiseFormat      version u16
//! 10 CarryOn         cluster id, 16 bytes
//! 11 Clock           ms i64 | time of day i64 | doubted u8 | made up i64
//! 12 CreatePartitions  name | count u32
//! 13 DeleteNumbered  topic u32
//! ```
//!
//! Programs that read only on-disk format 1 know the commands up to 10: those behind it are proposed in later formats.
//! Each begins with its number, one byte. Texts and the batch are a u32 length and bytes. Little endian throughout.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shared::ids::{ClusterId, NodeId, StoreId};
use uuid::Uuid;

use super::clock::Tick;
use super::{FIRST_FORMAT, MAX_PARTITIONS_IN_ALL, TopicId};

/// One change of the stream's state. An entry's payload is one or more of them, back to back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Founds the cluster: the first leader's first command. Later ones change nothing.
    Found {
        /// Drawn at random by that leader.
        cluster_id: ClusterId,
    },
    /// Binds a member to its data directory; refused when it is bound to another one.
    Bind {
        /// The member.
        node: NodeId,
        /// Its data directory.
        store: StoreId,
    },
    /// Creates a topic.
    CreateTopic {
        /// Valid by Kafka's rules; checked again when applied.
        name: String,
        /// At least one.
        partitions: u32,
        /// Kafka's topic configuration, verbatim.
        configs: BTreeMap<String, String>,
    },
    /// Deletes a topic and its events.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Draws a new producer id.
    AllocateProducer,
    /// Appends one record batch (magic 2) to a partition.
    Append {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// The batch as the producer sent it.
        batch: Bytes,
    },
    /// Forgets the oldest events of a partition.
    Trim {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// First offset to keep.
        start_offset: i64,
    },
    /// Changes a topic's configuration.
    AlterTopic {
        /// Its name.
        name: String,
        /// What to set, and with `None` what to take back.
        changes: BTreeMap<String, Option<String>>,
    },
    /// From here on data is written in a newer on-disk format, which every member reads; never lowers it.
    RaiseFormat {
        /// The format's version.
        to: u16,
    },
    /// Another cluster carries on from here: the one before has lost its quorum for good, or this is a copy of its log.
    CarryOn {
        /// The new cluster's.
        cluster_id: ClusterId,
    },
    /// Lets the log's clock go on. Only in a cluster of format 2 and above: older programs do not know it.
    Clock(Tick),
    /// Gives a topic more partitions. From on-disk format 2 on.
    CreatePartitions {
        /// Its name.
        name: String,
        /// How many it is to have, with those that it has.
        count: u32,
    },
    /// Deletes the topic with this number, whatever has its name by then. From on-disk format 2 on.
    DeleteNumbered {
        /// Its number.
        topic: TopicId,
    },
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Founded (now or before), bound, deleted, grown, trimmed, altered, raised, ticked.
    Done,
    /// The new topic's number.
    TopicCreated(TopicId),
    /// The new producer id; its epoch is 0.
    ProducerAllocated(i64),
    /// Where the batch begins; for a retry of an idempotent producer, where it began the first time.
    Appended {
        /// Offset of its first record.
        base_offset: i64,
        /// Oldest offset kept in the partition.
        log_start_offset: i64,
    },
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is bound to another data directory.
    #[error("the node is bound to another data directory")]
    BoundElsewhere,
    /// A topic of that name exists.
    #[error("the topic exists")]
    TopicExists,
    /// No such topic or partition.
    #[error("no such topic or partition")]
    UnknownTopic,
    /// Name or number of partitions is not allowed.
    #[error("the topic's name or number of partitions is not allowed")]
    InvalidTopic,
    /// The cluster has as many partitions as it may.
    #[error("all topics together can have {MAX_PARTITIONS_IN_ALL} partitions")]
    TooManyPartitions,
    /// The topics' configurations are as large as they may be.
    #[error("the configurations of all topics are as large as the cluster can hold")]
    TooMuchConfig,
    /// The batch is not one that the log accepts.
    #[error("the record batch is malformed")]
    InvalidBatch,
    /// An idempotent producer skipped or repeated sequence numbers.
    #[error("sequence number out of order")]
    OutOfOrderSequence,
    /// A newer instance of the producer is known.
    #[error("the producer's epoch is fenced")]
    FencedEpoch,
}

/// A payload that is not a sequence of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed command at byte {at}")]
pub struct Malformed {
    /// Offset in the payload of the command.
    pub at: usize,
}

impl Command {
    /// The on-disk format from which on it may be proposed: programs that read only older ones do not know it.
    pub fn since(&self) -> u16 {
        match self {
            Self::Clock(_) | Self::CreatePartitions { .. } | Self::DeleteNumbered { .. } => 2,
            _ => FIRST_FORMAT,
        }
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Found { cluster_id } => put_cluster(out, 1, *cluster_id),
            Self::Bind { node, store } => {
                out.put_u8(2);
                out.put_u64_le(*node);
                out.put_slice(store.0.as_bytes());
            }
            Self::CreateTopic { name, partitions, configs } => {
                out.put_u8(3);
                put_bytes(out, name.as_bytes());
                out.put_u32_le(*partitions);
                put_length(out, configs.len());
                for text in configs.iter().flat_map(|(key, value)| [key, value]) {
                    put_bytes(out, text.as_bytes());
                }
            }
            Self::DeleteTopic { name } => {
                out.put_u8(4);
                put_bytes(out, name.as_bytes());
            }
            Self::AllocateProducer => out.put_u8(5),
            Self::Append { topic, partition, batch } => {
                out.reserve(13 + batch.len());
                out.put_u8(6);
                out.put_u32_le(*topic);
                out.put_u32_le(*partition);
                put_bytes(out, batch);
            }
            Self::Trim { topic, partition, start_offset } => {
                out.put_u8(7);
                out.put_u32_le(*topic);
                out.put_u32_le(*partition);
                out.put_i64_le(*start_offset);
            }
            Self::AlterTopic { name, changes } => {
                out.put_u8(8);
                put_bytes(out, name.as_bytes());
                put_length(out, changes.len());
                for (key, value) in changes {
                    put_bytes(out, key.as_bytes());
                    out.put_u8(value.is_some().into());
                    value.iter().for_each(|value| put_bytes(out, value.as_bytes()));
                }
            }
            Self::RaiseFormat { to } => {
                out.put_u8(9);
                out.put_u16_le(*to);
            }
            Self::CarryOn { cluster_id } => put_cluster(out, 10, *cluster_id),
            Self::Clock(Tick { ms, wall, doubted, made_up }) => {
                out.put_u8(11);
                out.put_i64_le(*ms);
                out.put_i64_le(*wall);
                out.put_u8((*doubted).into());
                out.put_i64_le(*made_up);
            }
            Self::CreatePartitions { name, count } => {
                out.put_u8(12);
                put_bytes(out, name.as_bytes());
                out.put_u32_le(*count);
            }
            Self::DeleteNumbered { topic } => {
                out.put_u8(13);
                out.put_u32_le(*topic);
            }
        }
    }

    /// The commands of a payload, in order; batches are slices of it, not copies. Ends after the first error.
    pub fn decode_all(payload: &Bytes) -> impl Iterator<Item = Result<Command, Malformed>> {
        let total = payload.len();
        let mut rest = payload.clone();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let at = total - rest.len();
            let command = decode(&mut rest).ok_or(Malformed { at });
            if command.is_err() {
                rest.clear();
            }
            Some(command)
        })
    }
}

fn decode(bytes: &mut Bytes) -> Option<Command> {
    Some(match bytes.try_get_u8().ok()? {
        1 => Command::Found { cluster_id: ClusterId(get_uuid(bytes)?) },
        2 => Command::Bind { node: bytes.try_get_u64_le().ok()?, store: StoreId(get_uuid(bytes)?) },
        3 => {
            let name = get_text(bytes)?;
            let partitions = bytes.try_get_u32_le().ok()?;
            // Each configuration takes bytes of the payload, so a claimed count cannot make this long.
            let count = bytes.try_get_u32_le().ok()?;
            let configs =
                (0..count).map(|_| Some((get_text(bytes)?, get_text(bytes)?))).collect::<Option<_>>()?;
            Command::CreateTopic { name, partitions, configs }
        }
        4 => Command::DeleteTopic { name: get_text(bytes)? },
        5 => Command::AllocateProducer,
        6 => Command::Append {
            topic: bytes.try_get_u32_le().ok()?,
            partition: bytes.try_get_u32_le().ok()?,
            batch: get_bytes(bytes)?,
        },
        7 => Command::Trim {
            topic: bytes.try_get_u32_le().ok()?,
            partition: bytes.try_get_u32_le().ok()?,
            start_offset: bytes.try_get_i64_le().ok()?,
        },
        8 => {
            let name = get_text(bytes)?;
            let count = bytes.try_get_u32_le().ok()?;
            let changes = (0..count).map(|_| get_change(bytes)).collect::<Option<_>>()?;
            Command::AlterTopic { name, changes }
        }
        9 => Command::RaiseFormat { to: bytes.try_get_u16_le().ok()? },
        10 => Command::CarryOn { cluster_id: ClusterId(get_uuid(bytes)?) },
        11 => Command::Clock(Tick {
            ms: bytes.try_get_i64_le().ok()?,
            wall: bytes.try_get_i64_le().ok()?,
            doubted: bytes.try_get_u8().ok()? != 0,
            made_up: bytes.try_get_i64_le().ok()?,
        }),
        12 => Command::CreatePartitions { name: get_text(bytes)?, count: bytes.try_get_u32_le().ok()? },
        13 => Command::DeleteNumbered { topic: bytes.try_get_u32_le().ok()? },
        _ => return None,
    })
}

fn put_cluster(out: &mut BytesMut, number: u8, cluster: ClusterId) {
    out.put_u8(number);
    out.put_slice(cluster.0.as_bytes());
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

fn get_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn get_text(bytes: &mut Bytes) -> Option<String> {
    String::from_utf8(get_bytes(bytes)?.into()).ok()
}

fn get_change(bytes: &mut Bytes) -> Option<(String, Option<String>)> {
    let key = get_text(bytes)?;
    let value = match bytes.try_get_u8().ok()? {
        0 => None,
        1 => Some(get_text(bytes)?),
        _ => return None,
    };
    Some((key, value))
}

fn get_uuid(bytes: &mut Bytes) -> Option<Uuid> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    Some(Uuid::from_bytes(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn commands() -> Vec<Command> {
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        vec![
            Command::Found { cluster_id: ClusterId(Uuid::from_u128(7)) },
            Command::Bind { node: 3, store: StoreId(Uuid::from_u128(9)) },
            Command::CreateTopic { name: "orders".to_owned(), partitions: 3, configs },
            Command::DeleteTopic { name: "orders".to_owned() },
            Command::AllocateProducer,
            Command::Append { topic: 1, partition: 2, batch: Bytes::from_static(b"batch") },
            Command::Trim { topic: 1, partition: 2, start_offset: 9 },
            Command::AlterTopic {
                name: "orders".to_owned(),
                changes: BTreeMap::from([
                    ("retention.bytes".to_owned(), Some("1".to_owned())),
                    ("retention.ms".to_owned(), None),
                ]),
            },
            Command::RaiseFormat { to: 2 },
            Command::CarryOn { cluster_id: ClusterId(Uuid::from_u128(8)) },
            Command::Clock(Tick { ms: 1_700_000_000_000, wall: -1, doubted: true, made_up: 3 }),
            Command::CreatePartitions { name: "orders".to_owned(), count: 5 },
            Command::DeleteNumbered { topic: 1 },
        ]
    }

    fn encoded(commands: &[Command]) -> Bytes {
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut out));
        out.freeze()
    }

    #[test]
    fn commands_read_back() {
        let read: Result<Vec<_>, _> = Command::decode_all(&encoded(&commands())).collect();
        assert_eq!(read, Ok(commands()));
    }

    #[test]
    fn a_batch_is_a_slice_of_the_payload() {
        let payload = encoded(&commands()[5..]);
        let Some(Ok(Command::Append { batch, .. })) = Command::decode_all(&payload).next() else {
            panic!("an append")
        };
        assert!(payload.as_ptr_range().contains(&batch.as_ptr()));
    }

    #[test]
    fn a_cut_payload_is_malformed_at_its_last_command() {
        let payload = encoded(&commands());
        for length in 1..payload.len() {
            let read: Vec<_> = Command::decode_all(&payload.slice(..length)).collect();
            let whole = read.iter().filter(|command| command.is_ok()).count();
            let cut: Vec<_> = read.into_iter().flatten().collect();
            assert_eq!(cut, commands()[..whole]);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let count = Command::decode_all(&Bytes::from(bytes.clone())).count();
            prop_assert!(count <= bytes.len());
        }
    }
}

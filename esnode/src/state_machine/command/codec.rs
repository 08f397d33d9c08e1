//! Encoding and decoding of commands. Their layout is described in [`super`].

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shared::ids::{ClusterId, StoreId};
use uuid::Uuid;

use super::wire::{get_bytes, get_text, put_bytes, put_length};
use super::{Command, Malformed};
use crate::state_machine::clock::Tick;
use crate::state_machine::groups::{GROUPS_FORMAT, GroupChange};
use crate::state_machine::transactions::{TRANSACTIONS_FORMAT, TransactionChange};
use crate::state_machine::{FIRST_FORMAT, TopicId};

impl Command {
    /// Returns the on-disk format from which on the command may be proposed; programs that only read older formats do
    /// not know it.
    pub fn since(&self) -> u16 {
        match self {
            Self::Clock(_) | Self::CreatePartitions { .. } | Self::DeleteTopicById { .. } => 2,
            Self::Group { .. } => GROUPS_FORMAT,
            Self::Transaction { .. } => TRANSACTIONS_FORMAT,
            _ => FIRST_FORMAT,
        }
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Bootstrap { cluster_id } => put_cluster(out, 1, *cluster_id),
            Self::Bind { node, store } => {
                out.put_u8(2);
                out.put_u64_le(*node);
                out.put_slice(store.0.as_bytes());
            }
            Self::CreateTopic { name, partitions, configs } => {
                out.put_u8(3);
                put_bytes(out, name.as_bytes());
                out.put_u32_le(*partitions);
                put_configs(out, configs);
            }
            Self::DeleteTopic { name } => {
                out.put_u8(4);
                put_bytes(out, name.as_bytes());
            }
            Self::AllocateProducer => out.put_u8(5),
            Self::Append { topic, partition, batch } => {
                out.reserve(13 + batch.len());
                put_partition(out, 6, *topic, *partition);
                put_bytes(out, batch);
            }
            Self::DeleteRecords { topic, partition, start_offset } => {
                put_partition(out, 7, *topic, *partition);
                out.put_i64_le(*start_offset);
            }
            Self::AlterTopic { name, changes } => {
                out.put_u8(8);
                put_bytes(out, name.as_bytes());
                put_changes(out, changes);
            }
            Self::RaiseFormat { to } => {
                out.put_u8(9);
                out.put_u16_le(*to);
            }
            Self::RecoverCluster { cluster_id } => put_cluster(out, 10, *cluster_id),
            Self::Clock(tick) => put_tick(out, tick),
            Self::CreatePartitions { name, count } => {
                out.put_u8(12);
                put_bytes(out, name.as_bytes());
                out.put_u32_le(*count);
            }
            Self::DeleteTopicById { topic } => {
                out.put_u8(13);
                out.put_u32_le(*topic);
            }
            Self::Group { group, change } => {
                out.put_u8(14);
                put_bytes(out, group.as_bytes());
                change.encode(out);
            }
            Self::Transaction { id, change } => {
                out.put_u8(15);
                put_bytes(out, id.as_bytes());
                change.encode(out);
            }
        }
    }

    /// Returns the commands of a payload, in order. Batches are slices of it, not copies. The iterator ends after the
    /// first error.
    pub fn decode_all(payload: &Bytes) -> impl Iterator<Item = Result<Command, Malformed>> {
        Self::decode_with_places(payload).map(|decoded| decoded.map(|(_, command)| command))
    }

    /// As [`Command::decode_all`], each with its place in the payload.
    pub fn decode_with_places(
        payload: &Bytes,
    ) -> impl Iterator<Item = Result<(Range<usize>, Command), Malformed>> {
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
            Some(command.map(|command| (at..total - rest.len(), command)))
        })
    }
}

fn decode(bytes: &mut Bytes) -> Option<Command> {
    Some(match bytes.try_get_u8().ok()? {
        1 => Command::Bootstrap { cluster_id: ClusterId(get_uuid(bytes)?) },
        2 => Command::Bind { node: bytes.try_get_u64_le().ok()?, store: StoreId(get_uuid(bytes)?) },
        3 => Command::CreateTopic {
            name: get_text(bytes)?,
            partitions: bytes.try_get_u32_le().ok()?,
            configs: get_configs(bytes)?,
        },
        4 => Command::DeleteTopic { name: get_text(bytes)? },
        5 => Command::AllocateProducer,
        6 => Command::Append {
            topic: bytes.try_get_u32_le().ok()?,
            partition: bytes.try_get_u32_le().ok()?,
            batch: get_bytes(bytes)?,
        },
        7 => Command::DeleteRecords {
            topic: bytes.try_get_u32_le().ok()?,
            partition: bytes.try_get_u32_le().ok()?,
            start_offset: bytes.try_get_i64_le().ok()?,
        },
        8 => Command::AlterTopic { name: get_text(bytes)?, changes: get_changes(bytes)? },
        9 => Command::RaiseFormat { to: bytes.try_get_u16_le().ok()? },
        10 => Command::RecoverCluster { cluster_id: ClusterId(get_uuid(bytes)?) },
        11 => Command::Clock(get_tick(bytes)?),
        12 => Command::CreatePartitions { name: get_text(bytes)?, count: bytes.try_get_u32_le().ok()? },
        13 => Command::DeleteTopicById { topic: bytes.try_get_u32_le().ok()? },
        14 => Command::Group { group: get_text(bytes)?, change: GroupChange::decode(bytes)? },
        15 => Command::Transaction { id: get_text(bytes)?, change: TransactionChange::decode(bytes)? },
        _ => return None,
    })
}

fn put_cluster(out: &mut BytesMut, number: u8, cluster: ClusterId) {
    out.put_u8(number);
    out.put_slice(cluster.0.as_bytes());
}

fn put_partition(out: &mut BytesMut, number: u8, topic: TopicId, partition: u32) {
    out.put_u8(number);
    out.put_u32_le(topic);
    out.put_u32_le(partition);
}

fn put_tick(out: &mut BytesMut, Tick { ms, wall, doubted, made_up }: &Tick) {
    out.put_u8(11);
    out.put_i64_le(*ms);
    out.put_i64_le(*wall);
    out.put_u8((*doubted).into());
    out.put_i64_le(*made_up);
}

fn put_configs(out: &mut BytesMut, configs: &BTreeMap<String, String>) {
    put_length(out, configs.len());
    for text in configs.iter().flat_map(|(key, value)| [key, value]) {
        put_bytes(out, text.as_bytes());
    }
}

fn put_changes(out: &mut BytesMut, changes: &BTreeMap<String, Option<String>>) {
    put_length(out, changes.len());
    for (key, value) in changes {
        put_bytes(out, key.as_bytes());
        out.put_u8(value.is_some().into());
        value.iter().for_each(|value| put_bytes(out, value.as_bytes()));
    }
}

fn get_tick(bytes: &mut Bytes) -> Option<Tick> {
    Some(Tick {
        ms: bytes.try_get_i64_le().ok()?,
        wall: bytes.try_get_i64_le().ok()?,
        doubted: bytes.try_get_u8().ok()? != 0,
        made_up: bytes.try_get_i64_le().ok()?,
    })
}

/// Each configuration takes bytes of the payload, so a false count cannot make this loop long.
fn get_configs(bytes: &mut Bytes) -> Option<BTreeMap<String, String>> {
    let count = bytes.try_get_u32_le().ok()?;
    (0..count).map(|_| Some((get_text(bytes)?, get_text(bytes)?))).collect()
}

fn get_changes(bytes: &mut Bytes) -> Option<BTreeMap<String, Option<String>>> {
    let count = bytes.try_get_u32_le().ok()?;
    (0..count).map(|_| get_change(bytes)).collect()
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
            Command::Bootstrap { cluster_id: ClusterId(Uuid::from_u128(7)) },
            Command::Bind { node: 3, store: StoreId(Uuid::from_u128(9)) },
            Command::CreateTopic { name: "orders".to_owned(), partitions: 3, configs },
            Command::DeleteTopic { name: "orders".to_owned() },
            Command::AllocateProducer,
            Command::Append { topic: 1, partition: 2, batch: Bytes::from_static(b"batch") },
            Command::DeleteRecords { topic: 1, partition: 2, start_offset: 9 },
            Command::AlterTopic {
                name: "orders".to_owned(),
                changes: BTreeMap::from([
                    ("retention.bytes".to_owned(), Some("1".to_owned())),
                    ("retention.ms".to_owned(), None),
                ]),
            },
            Command::RaiseFormat { to: 2 },
            Command::RecoverCluster { cluster_id: ClusterId(Uuid::from_u128(8)) },
            Command::Clock(Tick { ms: 1_700_000_000_000, wall: -1, doubted: true, made_up: 3 }),
            Command::CreatePartitions { name: "orders".to_owned(), count: 5 },
            Command::DeleteTopicById { topic: 1 },
            Command::Group { group: "g".to_owned(), change: GroupChange::CompleteJoin { generation: 1 } },
            Command::Transaction {
                id: "t".to_owned(),
                change: TransactionChange::Expire { unused_since: 1 },
            },
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

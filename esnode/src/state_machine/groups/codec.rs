//! The encoding of a group's change, as the log holds it:
//!
//! ```text
//! 1 Join           member | new u8 | instance | client id | host | session timeout i32 | rebalance timeout i32 | type |
//!                  count u32, then per protocol: name | metadata
//! 2 CompleteJoin   generation i32
//! 3 Assign         member | generation i32 | count u32, then per member: member | assignment
//! 4 Leave          count u32, then per member: member | instance
//! 5 Commit         member | instance | generation i32 | count u32, then per offset:
//!                  topic u32 | partition u32 | offset i64 | leader epoch i32 | metadata
//! 6 Delete
//! 7 DeleteOffsets  count u32, then per partition: topic u32 | partition u32
//! 8 Expire         committed i64
//! ```
//!
//! Those of the consumer protocol, from 20 on, are in [`super::consumer`]. Each begins with its number, one byte. An
//! instance is 0, or 1 and a text.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::change::{GroupChange, Joining, Leaving, OffsetCommit};
use super::consumer::ConsumerChange;
use super::offsets::CommittedOffset;
use super::protocol::Protocol;
use crate::state_machine::command::wire::{
    get_all, get_bytes, get_partition, get_partitions, get_text, put_bytes, put_length, put_partitions,
};

impl GroupChange {
    /// Appends its encoding.
    pub(in crate::state_machine) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Join(joining) => put_joining(out, joining),
            Self::CompleteJoin { generation } => {
                out.put_u8(2);
                out.put_i32_le(*generation);
            }
            Self::Assign { member, generation, assignments } => {
                out.put_u8(3);
                put_bytes(out, member.as_bytes());
                out.put_i32_le(*generation);
                put_length(out, assignments.len());
                for (member, assignment) in assignments {
                    put_bytes(out, member.as_bytes());
                    put_bytes(out, assignment);
                }
            }
            Self::Leave(leaving) => {
                out.put_u8(4);
                put_length(out, leaving.len());
                for Leaving { member, instance } in leaving {
                    put_bytes(out, member.as_bytes());
                    put_instance(out, instance.as_deref());
                }
            }
            Self::Commit(commit) => {
                out.put_u8(5);
                commit.encode(out);
            }
            Self::Delete => out.put_u8(6),
            Self::DeleteOffsets(partitions) => {
                out.put_u8(7);
                put_partitions(out, partitions);
            }
            Self::Expire { committed } => {
                out.put_u8(8);
                out.put_i64_le(*committed);
            }
            Self::Consumer(change) => change.encode(out),
        }
    }

    /// Reads one back; `None` if these bytes are not one.
    pub(in crate::state_machine) fn decode(bytes: &mut Bytes) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            1 => Self::Join(get_joining(bytes)?),
            2 => Self::CompleteJoin { generation: bytes.try_get_i32_le().ok()? },
            3 => Self::Assign {
                member: get_text(bytes)?,
                generation: bytes.try_get_i32_le().ok()?,
                assignments: get_all(bytes, |bytes| Some((get_text(bytes)?, get_bytes(bytes)?)))?,
            },
            4 => Self::Leave(get_all(bytes, |bytes| {
                Some(Leaving { member: get_text(bytes)?, instance: get_instance(bytes)? })
            })?),
            5 => Self::Commit(OffsetCommit::decode(bytes)?),
            6 => Self::Delete,
            7 => Self::DeleteOffsets(get_partitions(bytes)?),
            8 => Self::Expire { committed: bytes.try_get_i64_le().ok()? },
            number => Self::Consumer(ConsumerChange::decode(number, bytes)?),
        })
    }
}

fn put_joining(out: &mut BytesMut, joining: &Joining) {
    out.put_u8(1);
    put_bytes(out, joining.member.as_bytes());
    out.put_u8(joining.is_new.into());
    put_instance(out, joining.instance.as_deref());
    put_bytes(out, joining.client_id.as_bytes());
    put_bytes(out, joining.client_host.as_bytes());
    out.put_i32_le(joining.session_timeout);
    out.put_i32_le(joining.rebalance_timeout);
    put_bytes(out, joining.protocol_type.as_bytes());
    put_length(out, joining.protocols.len());
    for Protocol { name, metadata } in &joining.protocols {
        put_bytes(out, name.as_bytes());
        put_bytes(out, metadata);
    }
}

fn get_joining(bytes: &mut Bytes) -> Option<Joining> {
    Some(Joining {
        member: get_text(bytes)?,
        is_new: bytes.try_get_u8().ok()? != 0,
        instance: get_instance(bytes)?,
        client_id: get_text(bytes)?,
        client_host: get_text(bytes)?,
        session_timeout: bytes.try_get_i32_le().ok()?,
        rebalance_timeout: bytes.try_get_i32_le().ok()?,
        protocol_type: get_text(bytes)?,
        protocols: get_all(bytes, |bytes| {
            Some(Protocol { name: get_text(bytes)?, metadata: get_bytes(bytes)? })
        })?,
    })
}

impl OffsetCommit {
    /// Appends its encoding.
    pub(in crate::state_machine) fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.member.as_bytes());
        put_instance(out, self.instance.as_deref());
        out.put_i32_le(self.generation);
        put_length(out, self.offsets.len());
        for (topic, partition, offset) in &self.offsets {
            out.put_u32_le(*topic);
            out.put_u32_le(*partition);
            out.put_i64_le(offset.offset);
            out.put_i32_le(offset.leader_epoch);
            put_bytes(out, offset.metadata.as_bytes());
        }
    }

    /// Reads one back; `None` if these bytes are not one.
    pub(in crate::state_machine) fn decode(bytes: &mut Bytes) -> Option<Self> {
        Some(Self {
            member: get_text(bytes)?,
            instance: get_instance(bytes)?,
            generation: bytes.try_get_i32_le().ok()?,
            offsets: get_all(bytes, |bytes| {
                let (topic, partition) = get_partition(bytes)?;
                let offset = CommittedOffset {
                    offset: bytes.try_get_i64_le().ok()?,
                    leader_epoch: bytes.try_get_i32_le().ok()?,
                    metadata: get_text(bytes)?,
                    committed: 0,
                };
                Some((topic, partition, offset))
            })?,
        })
    }
}

fn put_instance(out: &mut BytesMut, instance: Option<&str>) {
    put_option(out, instance, |out, instance| put_bytes(out, instance.as_bytes()));
}

fn get_instance(bytes: &mut Bytes) -> Option<Option<String>> {
    get_option(bytes, get_text)
}

/// Appends what may be absent: 0, or 1 and what `put` appends.
pub(super) fn put_option<T>(out: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    out.put_u8(value.is_some().into());
    if let Some(value) = value {
        put(out, value);
    }
}

/// Takes what [`put_option`] appended.
pub(super) fn get_option<T>(
    bytes: &mut Bytes,
    get: impl FnOnce(&mut Bytes) -> Option<T>,
) -> Option<Option<T>> {
    match bytes.try_get_u8().ok()? {
        0 => Some(None),
        1 => get(bytes).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_machine::groups::consumer::assignor::Assignor;
    use crate::state_machine::groups::consumer::{Heartbeat, Pattern};

    fn consumer_changes() -> Vec<ConsumerChange> {
        let text = |text: &str| Some(text.to_owned());
        let nothing = Heartbeat {
            member: "a".to_owned(),
            epoch: 3,
            instance: None,
            rack: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout: None,
            topics: None,
            pattern: None,
            assignor: None,
            owned: None,
        };
        let pattern = Pattern { regex: "t|u".to_owned(), topics: ["t".to_owned()].into() };
        let no_pattern = Heartbeat { pattern: Some(None), ..nothing.clone() };
        let all = Heartbeat {
            instance: text("i"),
            rack: text("r"),
            rebalance_timeout: Some(5),
            topics: Some(["t".to_owned(), "u".to_owned()].into()),
            pattern: Some(Some(pattern.clone())),
            assignor: Some(Assignor::Range),
            owned: Some([(1, 2), (1, 3)].into()),
            ..nothing.clone()
        };
        vec![
            ConsumerChange::Heartbeat(nothing),
            ConsumerChange::Heartbeat(no_pattern),
            ConsumerChange::Match(pattern),
            ConsumerChange::Heartbeat(all),
            ConsumerChange::ReleaseInstance { member: "a".to_owned(), instance: "i".to_owned() },
            ConsumerChange::Fence { member: "a".to_owned(), epoch: 3 },
        ]
    }

    fn changes() -> Vec<GroupChange> {
        let offset = CommittedOffset { offset: 7, leader_epoch: 2, metadata: "m".to_owned(), committed: 0 };
        let commit = OffsetCommit {
            member: "a".to_owned(),
            instance: Some("i".to_owned()),
            generation: 3,
            offsets: vec![(1, 2, offset)],
        };
        let joining = Joining {
            member: "a".to_owned(),
            is_new: true,
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: 10_000,
            rebalance_timeout: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"x") }],
        };
        vec![
            GroupChange::Join(joining),
            GroupChange::CompleteJoin { generation: 1 },
            GroupChange::Assign {
                member: "a".to_owned(),
                generation: 1,
                assignments: vec![("a".to_owned(), Bytes::from_static(b"y"))],
            },
            GroupChange::Leave(vec![Leaving { member: "a".to_owned(), instance: Some("i".to_owned()) }]),
            GroupChange::Commit(commit),
            GroupChange::Delete,
            GroupChange::DeleteOffsets(vec![(1, 2)]),
            GroupChange::Expire { committed: 9 },
        ]
    }

    #[test]
    fn changes_read_back_and_nothing_shorter_does() {
        let all = changes().into_iter().chain(consumer_changes().into_iter().map(GroupChange::Consumer));
        for change in all {
            let mut out = BytesMut::new();
            change.encode(&mut out);
            let whole = out.freeze();
            assert_eq!(GroupChange::decode(&mut whole.clone()), Some(change.clone()));
            for length in 0..whole.len() {
                assert_eq!(GroupChange::decode(&mut whole.slice(..length)), None, "{change:?} {length}");
            }
        }
    }
}

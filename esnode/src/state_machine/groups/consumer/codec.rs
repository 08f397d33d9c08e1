//! The encoding of the changes of a group of the consumer protocol, as the log holds them:
//!
//! ```text
//! 20 Heartbeat        member | epoch i32 | instance | rack | client id | host | rebalance timeout i32, -1 if absent |
//!                     topics | pattern | assignor | owned
//! 21 ReleaseInstance  member | instance
//! 22 Fence            member | epoch i32
//! 23 Match            pattern
//! ```
//!
//! Each begins with its number, one byte. Whatever may be absent is 0, or 1 and what it is: instance, rack and assignor
//! a text, `topics` a count u32 and as many texts, `owned` a count u32, then per partition: topic u32 | partition u32, and
//! `pattern` 0 for none, or 1 and a pattern. A pattern is its text, a count u32 and the names that it matches.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::assignor::Assignor;
use super::change::{ConsumerChange, Heartbeat, Pattern};
use crate::state_machine::command::wire::{
    get_all, get_partitions, get_text, put_bytes, put_length, put_partitions,
};
use crate::state_machine::groups::codec::{get_option, put_option};

impl ConsumerChange {
    /// Appends its encoding.
    pub(in crate::state_machine::groups) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Heartbeat(heartbeat) => put_heartbeat(out, heartbeat),
            Self::ReleaseInstance { member, instance } => {
                out.put_u8(21);
                put_bytes(out, member.as_bytes());
                put_bytes(out, instance.as_bytes());
            }
            Self::Fence { member, epoch } => {
                out.put_u8(22);
                put_bytes(out, member.as_bytes());
                out.put_i32_le(*epoch);
            }
            Self::Match(pattern) => {
                out.put_u8(23);
                put_pattern(out, pattern);
            }
        }
    }

    /// Reads back what follows its number; `None` if these bytes are not one.
    pub(in crate::state_machine::groups) fn decode(number: u8, bytes: &mut Bytes) -> Option<Self> {
        Some(match number {
            20 => Self::Heartbeat(get_heartbeat(bytes)?),
            21 => Self::ReleaseInstance { member: get_text(bytes)?, instance: get_text(bytes)? },
            22 => Self::Fence { member: get_text(bytes)?, epoch: bytes.try_get_i32_le().ok()? },
            23 => Self::Match(get_pattern(bytes)?),
            _ => return None,
        })
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_texts(out: &mut BytesMut, texts: &BTreeSet<String>) {
    put_length(out, texts.len());
    texts.iter().for_each(|text| put_text(out, text));
}

fn get_texts(bytes: &mut Bytes) -> Option<BTreeSet<String>> {
    get_all(bytes, get_text).map(|texts| texts.into_iter().collect())
}

fn put_pattern(out: &mut BytesMut, pattern: &Pattern) {
    put_text(out, &pattern.regex);
    put_texts(out, &pattern.topics);
}

fn get_pattern(bytes: &mut Bytes) -> Option<Pattern> {
    Some(Pattern { regex: get_text(bytes)?, topics: get_texts(bytes)? })
}

fn put_heartbeat(out: &mut BytesMut, heartbeat: &Heartbeat) {
    out.put_u8(20);
    put_text(out, &heartbeat.member);
    out.put_i32_le(heartbeat.epoch);
    put_option(out, heartbeat.instance.as_deref(), put_text);
    put_option(out, heartbeat.rack.as_deref(), put_text);
    put_text(out, &heartbeat.client_id);
    put_text(out, &heartbeat.client_host);
    out.put_i32_le(heartbeat.rebalance_timeout.unwrap_or(-1));
    put_option(out, heartbeat.topics.as_ref(), put_texts);
    put_option(out, heartbeat.pattern.as_ref(), |out, pattern| {
        put_option(out, pattern.as_ref(), put_pattern);
    });
    put_option(out, heartbeat.assignor, |out, assignor| put_text(out, assignor.name()));
    put_option(out, heartbeat.owned.as_ref(), put_partitions);
}

fn get_heartbeat(bytes: &mut Bytes) -> Option<Heartbeat> {
    Some(Heartbeat {
        member: get_text(bytes)?,
        epoch: bytes.try_get_i32_le().ok()?,
        instance: get_option(bytes, get_text)?,
        rack: get_option(bytes, get_text)?,
        client_id: get_text(bytes)?,
        client_host: get_text(bytes)?,
        rebalance_timeout: Some(bytes.try_get_i32_le().ok()?).filter(|timeout| *timeout >= 0),
        topics: get_option(bytes, get_texts)?,
        pattern: get_option(bytes, |bytes| get_option(bytes, get_pattern))?,
        assignor: get_option(bytes, |bytes| Assignor::named(&get_text(bytes)?))?,
        owned: get_option(bytes, get_partitions)?.map(|owned| owned.into_iter().collect()),
    })
}

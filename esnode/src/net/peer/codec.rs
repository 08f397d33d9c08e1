//! Raft messages as bytes: fixed-width little-endian fields, entry data verbatim.
//!
//! Decoding takes any bytes: it never panics, and never holds more memory than a small multiple of the input.
//! Entry data and contexts come out as slices of the input. `sync_log` and protobuf's unknown fields do not travel.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::ProtobufEnum;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};

use super::frame::{Encoded, FrameError, Kind};

/// Messages are gathered into one frame up to this many bytes; beyond it the next frame begins.
const FRAME_TARGET: usize = 1 << 20;
/// Data below this is copied beside its neighbours: cheaper than one more slice in the vectored write.
const COPY_BELOW: usize = 2 << 10;
/// Type, flags, eleven 64-bit fields, context length, number of entries.
const MESSAGE_FIXED: usize = 2 + 11 * 8 + 4 + 4;
/// Type, term, index, data length, context length.
const ENTRY_FIXED: usize = 1 + 8 + 8 + 4 + 4;

const REJECT: u8 = 1;
const SNAPSHOT: u8 = 2;
const METADATA: u8 = 4;
const CONF_STATE: u8 = 8;
const AUTO_LEAVE: u8 = 16;
const ALL_FLAGS: u8 = 31;

/// Bytes that `message` takes in a frame's body.
pub fn encoded_len(message: &Message) -> usize {
    let entries = message.entries.iter().map(|entry| ENTRY_FIXED + entry.data.len() + entry.context.len());
    MESSAGE_FIXED + message.context.len() + entries.sum::<usize>() + snapshot_len(message)
}

/// Appends `messages` to `frames`, none with a body above `max_body`. Returns how many messages were left out
/// because even alone they exceed it.
pub fn encode(messages: &[Message], max_body: usize, frames: &mut Vec<Encoded>) -> u64 {
    let mut body = Body::default();
    let mut left_out = 0;
    for message in messages {
        let length = encoded_len(message);
        if length > max_body {
            left_out += 1;
            continue;
        }
        if body.len > 0 && (body.len + length > max_body || body.len >= FRAME_TARGET) {
            frames.push(Encoded::new(Kind::Messages, std::mem::take(&mut body).finish()));
        }
        body.len += length;
        body.message(message);
    }
    if body.len > 0 {
        frames.push(Encoded::new(Kind::Messages, body.finish()));
    }
    left_out
}

/// The messages in a frame's body.
pub fn decode(mut body: Bytes) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::with_capacity(1);
    while body.has_remaining() {
        messages.push(message(&mut body)?);
    }
    Ok(messages)
}

/// A frame's body while it is put together: small parts side by side, large data by reference.
#[derive(Default)]
struct Body {
    parts: Vec<Bytes>,
    tail: BytesMut,
    /// Bytes once all that was announced is in.
    len: usize,
}

impl Body {
    fn message(&mut self, message: &Message) {
        self.tail.put_u8(u8::try_from(message.msg_type.value()).expect("Raft has 19 message types"));
        self.tail.put_u8(flags(message));
        for field in [
            message.to,
            message.from,
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.commit_term,
            message.request_snapshot,
            message.reject_hint,
            message.deprecated_priority,
        ] {
            self.tail.put_u64_le(field);
        }
        self.tail.put_i64_le(message.priority);
        self.count(message.context.len());
        self.count(message.entries.len());
        self.data(&message.context);
        if let Some(snapshot) = message.snapshot.as_ref() {
            self.snapshot(snapshot);
        }
        for entry in &message.entries {
            self.tail.put_u8(u8::try_from(entry.entry_type.value()).expect("Raft has 3 entry types"));
            self.tail.put_u64_le(entry.term);
            self.tail.put_u64_le(entry.index);
            self.count(entry.data.len());
            self.count(entry.context.len());
            self.data(&entry.data);
            self.data(&entry.context);
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.count(snapshot.data.len());
        self.data(&snapshot.data);
        let Some(metadata) = snapshot.metadata.as_ref() else { return };
        self.tail.put_u64_le(metadata.index);
        self.tail.put_u64_le(metadata.term);
        let Some(conf) = metadata.conf_state.as_ref() else { return };
        for ids in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
            self.count(ids.len());
            for id in ids {
                self.tail.put_u64_le(*id);
            }
        }
    }

    fn count(&mut self, count: usize) {
        self.tail.put_u32_le(u32::try_from(count).expect("below the frame limit, which fits 32 bits"));
    }

    fn data(&mut self, data: &Bytes) {
        if data.len() < COPY_BELOW {
            self.tail.put_slice(data);
        } else {
            self.parts.push(self.tail.split().freeze());
            self.parts.push(data.clone());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.parts.push(self.tail.freeze());
        self.parts
    }
}

fn flags(message: &Message) -> u8 {
    let snapshot = message.snapshot.as_ref();
    let metadata = snapshot.and_then(|snapshot| snapshot.metadata.as_ref());
    let conf = metadata.and_then(|metadata| metadata.conf_state.as_ref());
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(message.reject, REJECT)
        | flag(snapshot.is_some(), SNAPSHOT)
        | flag(metadata.is_some(), METADATA)
        | flag(conf.is_some(), CONF_STATE)
        | flag(conf.is_some_and(|conf| conf.auto_leave), AUTO_LEAVE)
}

fn snapshot_len(message: &Message) -> usize {
    let Some(snapshot) = message.snapshot.as_ref() else { return 0 };
    let data = 4 + snapshot.data.len();
    let Some(metadata) = snapshot.metadata.as_ref() else { return data };
    let Some(conf) = metadata.conf_state.as_ref() else { return data + 16 };
    let ids = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
    data + 16 + ids.iter().map(|ids| 4 + 8 * ids.len()).sum::<usize>()
}

fn message(body: &mut Bytes) -> Result<Message, FrameError> {
    let mut message = Message::new();
    message.msg_type = MessageType::from_i32(i32::from(body.try_get_u8()?)).ok_or(FrameError::Malformed)?;
    let flags = body.try_get_u8()?;
    if flags & !ALL_FLAGS != 0 {
        return Err(FrameError::Malformed);
    }
    message.reject = flags & REJECT != 0;
    for field in [
        &mut message.to,
        &mut message.from,
        &mut message.term,
        &mut message.log_term,
        &mut message.index,
        &mut message.commit,
        &mut message.commit_term,
        &mut message.request_snapshot,
        &mut message.reject_hint,
        &mut message.deprecated_priority,
    ] {
        *field = body.try_get_u64_le()?;
    }
    message.priority = body.try_get_i64_le()?;
    let context = body.try_get_u32_le()? as usize;
    let entries = body.try_get_u32_le()? as usize;
    message.context = data(body, context)?;
    if flags & SNAPSHOT != 0 {
        message.snapshot = Some(snapshot(body, flags)?).into();
    }
    bounded(body, entries, ENTRY_FIXED)?;
    message.entries = (0..entries).map(|_| entry(body)).collect::<Result<Vec<_>, _>>()?.into();
    Ok(message)
}

fn entry(body: &mut Bytes) -> Result<Entry, FrameError> {
    let mut entry = Entry::new();
    entry.entry_type = EntryType::from_i32(i32::from(body.try_get_u8()?)).ok_or(FrameError::Malformed)?;
    entry.term = body.try_get_u64_le()?;
    entry.index = body.try_get_u64_le()?;
    let length = body.try_get_u32_le()? as usize;
    let context = body.try_get_u32_le()? as usize;
    entry.data = data(body, length)?;
    entry.context = data(body, context)?;
    Ok(entry)
}

fn snapshot(body: &mut Bytes, flags: u8) -> Result<Snapshot, FrameError> {
    let mut snapshot = Snapshot::new();
    let length = body.try_get_u32_le()? as usize;
    snapshot.data = data(body, length)?;
    if flags & METADATA == 0 {
        return Ok(snapshot);
    }
    let mut metadata = SnapshotMetadata::new();
    metadata.index = body.try_get_u64_le()?;
    metadata.term = body.try_get_u64_le()?;
    if flags & CONF_STATE != 0 {
        let mut conf = ConfState::new();
        conf.auto_leave = flags & AUTO_LEAVE != 0;
        for ids in [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing, &mut conf.learners_next]
        {
            let count = body.try_get_u32_le()? as usize;
            bounded(body, count, 8)?;
            *ids = (0..count).map(|_| body.try_get_u64_le()).collect::<Result<Vec<_>, _>>()?;
        }
        metadata.conf_state = Some(conf).into();
    }
    snapshot.metadata = Some(metadata).into();
    Ok(snapshot)
}

fn data(body: &mut Bytes, length: usize) -> Result<Bytes, FrameError> {
    bounded(body, length, 1)?;
    // An empty slice would still hold on to the whole frame.
    Ok(if length == 0 { Bytes::new() } else { body.split_to(length) })
}

/// Checks that `count` things of at least `size` bytes can be in what remains, before room is made for them.
fn bounded(body: &Bytes, count: usize, size: usize) -> Result<(), FrameError> {
    if count.saturating_mul(size) <= body.remaining() { Ok(()) } else { Err(FrameError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{FrameReader, HEADER, write_frames};
    use super::*;

    fn bytes_of(data: Vec<u8>) -> Bytes {
        Bytes::from(data)
    }

    prop_compose! {
        fn any_entry()(
            kind in 0..3i32, term: u64, index: u64,
            data in proptest::collection::vec(any::<u8>(), 0..6000),
            context in proptest::collection::vec(any::<u8>(), 0..30),
        ) -> Entry {
            let mut entry = Entry::new();
            entry.entry_type = EntryType::from_i32(kind).unwrap();
            (entry.term, entry.index) = (term, index);
            (entry.data, entry.context) = (bytes_of(data), bytes_of(context));
            entry
        }
    }

    prop_compose! {
        fn any_snapshot()(
            depth in 0..3, index: u64, term: u64, auto_leave: bool,
            data in proptest::collection::vec(any::<u8>(), 0..5000),
            ids in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 0..9), 4),
        ) -> Snapshot {
            let mut snapshot = Snapshot::new();
            snapshot.data = bytes_of(data);
            let mut metadata = SnapshotMetadata::new();
            (metadata.index, metadata.term) = (index, term);
            if depth == 2 {
                let mut conf = ConfState::new();
                [conf.voters, conf.learners, conf.voters_outgoing, conf.learners_next] = ids.try_into().unwrap();
                conf.auto_leave = auto_leave;
                metadata.conf_state = Some(conf).into();
            }
            if depth > 0 {
                snapshot.metadata = Some(metadata).into();
            }
            snapshot
        }
    }

    prop_compose! {
        fn any_message()(
            kind in 0..19i32, reject: bool, priority: i64, n in any::<[u64; 10]>(),
            entries in proptest::collection::vec(any_entry(), 0..5),
            snapshot in proptest::option::of(any_snapshot()),
            context in proptest::collection::vec(any::<u8>(), 0..40),
        ) -> Message {
            let mut message = Message::new();
            message.msg_type = MessageType::from_i32(kind).unwrap();
            (message.to, message.from, message.term, message.log_term) = (n[0], n[1], n[2], n[3]);
            (message.index, message.commit, message.commit_term) = (n[4], n[5], n[6]);
            (message.request_snapshot, message.reject_hint, message.deprecated_priority) = (n[7], n[8], n[9]);
            (message.reject, message.priority) = (reject, priority);
            message.entries = entries.into();
            message.snapshot = snapshot.into();
            message.context = bytes_of(context);
            message
        }
    }

    /// Through the wire and back: the bodies of the frames, in order.
    fn bodies(messages: &[Message], max_body: usize) -> Vec<Bytes> {
        let (mut frames, mut wire) = (Vec::new(), Vec::new());
        assert_eq!(encode(messages, max_body, &mut frames), 0);
        write_frames(&mut wire, &frames).unwrap();
        let mut reader = FrameReader::new(max_body);
        let mut source = wire.as_slice();
        let mut bodies = Vec::new();
        while !source.is_empty() {
            reader.fill(&mut source).unwrap();
            while let Some((kind, body)) = reader.next_frame().unwrap() {
                assert_eq!(kind, Kind::Messages);
                bodies.push(body);
            }
        }
        bodies
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn messages_come_back_as_they_were(messages in proptest::collection::vec(any_message(), 0..6)) {
            let bodies = bodies(&messages, 16 << 20);
            let length: usize = bodies.iter().map(Bytes::len).sum();
            prop_assert_eq!(length, messages.iter().map(encoded_len).sum::<usize>());
            let mut back = Vec::new();
            for body in bodies {
                back.extend(decode(body).unwrap());
            }
            prop_assert_eq!(back, messages);
        }

        #[test]
        fn any_cut_of_a_message_is_an_error(message in any_message()) {
            let body = bodies(std::slice::from_ref(&message), 16 << 20).remove(0);
            for cut in (1..body.len()).step_by(body.len() / 50 + 1) {
                prop_assert_eq!(decode(body.slice(..cut)), Err(FrameError::Malformed));
            }
        }
    }

    fn append(entries: usize, size: usize) -> Message {
        let mut message = Message::new();
        message.msg_type = MessageType::MsgAppend;
        (message.to, message.from, message.term) = (2, 1, 7);
        message.entries = (0..entries)
            .map(|index| {
                let mut entry = Entry::new();
                (entry.index, entry.data) = (index as u64, bytes_of(vec![7; size]));
                entry
            })
            .collect::<Vec<_>>()
            .into();
        message
    }

    /// Mutated bodies go to the decoder itself, past the checksum that would catch nearly all of them.
    #[test]
    fn a_hundred_thousand_mutated_bodies_do_no_harm() {
        let mut random = fastrand::Rng::with_seed(1);
        let originals: Vec<Vec<u8>> = [append(0, 0), append(3, 40), append(20, 10)]
            .iter()
            .map(|message| bodies(std::slice::from_ref(message), 16 << 20)[0].to_vec())
            .collect();
        let mut decoded = 0;
        for _ in 0..100_000 {
            let mut bytes = originals[random.usize(..originals.len())].clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => bytes[at] ^= 1 << random.u8(..8),
                    1 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.usize(..4)],
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.u8(..)),
                }
            }
            let length = bytes.len();
            if let Ok(messages) = decode(Bytes::from(bytes)) {
                decoded += 1;
                assert_eq!(messages.iter().map(encoded_len).sum::<usize>(), length);
            }
        }
        assert!(
            decoded > 10_000,
            "the mutations should leave many bodies readable, to reach deep: {decoded}"
        );
    }

    #[test]
    fn a_count_that_cannot_be_true_makes_no_room() {
        let mut body = bodies(&[append(1, 1)], 1 << 20)[0].to_vec();
        let entries = MESSAGE_FIXED - 4;
        body[entries..MESSAGE_FIXED].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(Bytes::from(body)), Err(FrameError::Malformed));
    }

    #[test]
    fn entry_data_is_copied_on_neither_side() {
        let message = append(2, 100_000);
        let mut body = Body::default();
        body.message(&message);
        let parts = body.finish();
        assert_eq!(parts[1].as_ptr(), message.entries[0].data.as_ptr());
        assert_eq!(parts[3].as_ptr(), message.entries[1].data.as_ptr());

        let frame = bodies(&[message], 16 << 20).remove(0);
        let range = frame.as_ptr_range();
        let back = decode(frame.clone()).unwrap();
        assert!(range.contains(&back[0].entries[1].data.as_ptr()));
    }

    #[test]
    fn frames_keep_to_the_limit_and_too_large_a_message_is_left_out() {
        let max_body = 10_000;
        let messages = vec![append(1, 4000), append(1, 4000), append(1, 4000), append(1, 10_000)];
        let mut frames = Vec::new();
        assert_eq!(encode(&messages, max_body, &mut frames), 1);
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|frame| frame.len() - HEADER <= max_body));
    }
}

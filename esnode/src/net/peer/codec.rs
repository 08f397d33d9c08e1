//! Raft messages as bytes: fixed-width little-endian fields, entry data verbatim.
//!
//! Decoding takes any bytes: it never panics, and never holds more memory than a small multiple of the input.
//! Entry data and contexts come out as slices of the input.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{Encoded, FrameError, Kind};
use crate::consensus::{ConfState, Message, MessageType, SnapshotMetadata};
use crate::entry::{Entry, EntryKind};

/// Size up to which messages are put into one frame, in bytes.
const FRAME_TARGET: usize = 1 << 20;
/// Data below this size is copied next to its neighbours, which is cheaper than one more element of the vectored write.
const COPY_BELOW: usize = 2 << 10;
/// Type, flags, eight 64-bit fields, context length, number of entries.
const MESSAGE_FIXED: usize = 2 + 8 * 8 + 4 + 4;
/// Kind, term, index, data length.
const ENTRY_FIXED: usize = 1 + 8 + 8 + 4;

const REJECT: u8 = 1;
const SNAPSHOT: u8 = 2;
const AUTO_LEAVE: u8 = 4;
const ALL_FLAGS: u8 = 7;

/// Bytes that `message` takes in a frame's body.
pub fn encoded_len(message: &Message) -> usize {
    let entries = message.entries.iter().map(|entry| ENTRY_FIXED + entry.data.len());
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

/// The body of a frame that is being built: small parts are copied together, large data is shared.
#[derive(Default)]
struct Body {
    parts: Vec<Bytes>,
    tail: BytesMut,
    /// Length of the body in bytes when it is complete.
    len: usize,
}

impl Body {
    fn message(&mut self, message: &Message) {
        self.tail.put_u8(message.kind as u8);
        self.tail.put_u8(flags(message));
        for field in [
            message.to,
            message.from,
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.commit_term,
            message.reject_hint,
        ] {
            self.tail.put_u64_le(field);
        }
        self.count(message.context.len());
        self.count(message.entries.len());
        self.data(&message.context);
        if let Some(snapshot) = &message.snapshot {
            self.snapshot(snapshot);
        }
        for entry in &message.entries {
            self.tail.put_u8(entry.kind as u8);
            self.tail.put_u64_le(entry.term);
            self.tail.put_u64_le(entry.index);
            self.count(entry.data.len());
            self.data(&entry.data);
        }
    }

    fn snapshot(&mut self, snapshot: &SnapshotMetadata) {
        self.tail.put_u64_le(snapshot.index);
        self.tail.put_u64_le(snapshot.term);
        for ids in lists(&snapshot.conf_state) {
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
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let auto_leave = message.snapshot.as_ref().is_some_and(|snapshot| snapshot.conf_state.auto_leave);
    flag(message.reject, REJECT) | flag(message.snapshot.is_some(), SNAPSHOT) | flag(auto_leave, AUTO_LEAVE)
}

/// Returns the lists of members in `conf`, in the order in which they are sent.
fn lists(conf: &ConfState) -> [&Vec<u64>; 4] {
    [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next]
}

fn snapshot_len(message: &Message) -> usize {
    let Some(snapshot) = &message.snapshot else { return 0 };
    16 + lists(&snapshot.conf_state).iter().map(|ids| 4 + 8 * ids.len()).sum::<usize>()
}

fn message(body: &mut Bytes) -> Result<Message, FrameError> {
    let kind = MessageType::from_u8(body.try_get_u8()?).ok_or(FrameError::Malformed)?;
    let mut message = Message { kind, ..Message::default() };
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
        &mut message.reject_hint,
    ] {
        *field = body.try_get_u64_le()?;
    }
    let context = body.try_get_u32_le()? as usize;
    let entries = body.try_get_u32_le()? as usize;
    message.context = data(body, context)?;
    if flags & SNAPSHOT != 0 {
        message.snapshot = Some(snapshot(body, flags & AUTO_LEAVE != 0)?);
    }
    bounded(body, entries, ENTRY_FIXED)?;
    message.entries = (0..entries).map(|_| entry(body)).collect::<Result<_, _>>()?;
    Ok(message)
}

fn entry(body: &mut Bytes) -> Result<Entry, FrameError> {
    let kind = EntryKind::from_u8(body.try_get_u8()?).ok_or(FrameError::Malformed)?;
    let (term, index) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
    let length = body.try_get_u32_le()? as usize;
    Ok(Entry { index, term, kind, data: data(body, length)? })
}

fn snapshot(body: &mut Bytes, auto_leave: bool) -> Result<SnapshotMetadata, FrameError> {
    let (index, term) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
    let mut conf = ConfState { auto_leave, ..ConfState::default() };
    for ids in [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing, &mut conf.learners_next] {
        let count = body.try_get_u32_le()? as usize;
        bounded(body, count, 8)?;
        *ids = (0..count).map(|_| body.try_get_u64_le()).collect::<Result<_, _>>()?;
    }
    Ok(SnapshotMetadata { index, term, conf_state: conf })
}

fn data(body: &mut Bytes, length: usize) -> Result<Bytes, FrameError> {
    bounded(body, length, 1)?;
    // An empty slice would still hold on to the whole frame.
    Ok(if length == 0 { Bytes::new() } else { body.split_to(length) })
}

/// Checks that `count` things of at least `size` bytes fit into the rest, before memory is allocated for them.
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
            kind in 0..3u8, term: u64, index: u64,
            data in proptest::collection::vec(any::<u8>(), 0..6000),
        ) -> Entry {
            Entry { index, term, kind: EntryKind::from_u8(kind).unwrap(), data: bytes_of(data) }
        }
    }

    prop_compose! {
        fn any_snapshot()(
            index: u64, term: u64, auto_leave: bool,
            ids in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 0..9), 4),
        ) -> SnapshotMetadata {
            let [voters, learners, voters_outgoing, learners_next] = ids.try_into().unwrap();
            let conf_state = ConfState { voters, learners, voters_outgoing, learners_next, auto_leave };
            SnapshotMetadata { index, term, conf_state }
        }
    }

    prop_compose! {
        fn any_message()(
            kind in 1..11u8, reject: bool, n in any::<[u64; 8]>(),
            entries in proptest::collection::vec(any_entry(), 0..5),
            snapshot in proptest::option::of(any_snapshot()),
            context in proptest::collection::vec(any::<u8>(), 0..40),
        ) -> Message {
            let [to, from, term, log_term, index, commit, commit_term, reject_hint] = n;
            Message {
                kind: MessageType::from_u8(kind).unwrap(),
                from,
                to,
                term,
                log_term,
                index,
                commit,
                commit_term,
                reject,
                reject_hint,
                context: bytes_of(context),
                entries,
                snapshot,
            }
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
        let entry = |index| Entry { index, term: 0, kind: EntryKind::Normal, data: bytes_of(vec![7; size]) };
        let entries = (0..entries as u64).map(entry).collect();
        Message { kind: MessageType::Append, from: 1, to: 2, term: 7, entries, ..Message::default() }
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
    fn a_type_that_does_not_travel_is_malformed() {
        let body = bodies(&[append(0, 0)], 1 << 20)[0].to_vec();
        for kind in [0, 11, u8::MAX] {
            assert_eq!(decode([&[kind], &body[1..]].concat().into()), Err(FrameError::Malformed));
        }
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

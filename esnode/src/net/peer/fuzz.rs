//! The peer port for fuzzers: frames, greetings, refusals and Raft messages.

use bytes::Bytes;
use shared::ids::StoreId;
use shared::spec::MAX_NODES;
use uuid::Uuid;

use super::codec;
use super::frame::{Encoded, FrameReader, HEADER, Kind, LENGTH_AND_CRC, write_frames};
use super::greeting::{Answer, Greeting};
use super::handshake::{Expected, accept};
use super::refused::Refused;
use super::{Formats, Hello};
use crate::process::version::PROTOCOL;

/// Largest body taken here; real connections take more, and nothing else changes with it.
const MAX_BODY: usize = 1 << 20;

/// What one connection may bring: frames as they are, then with checksums that fit.
pub fn fuzz(bytes: &[u8]) {
    read(bytes);
    read(&mended(bytes));
}

fn read(mut bytes: &[u8]) {
    let mut frames = FrameReader::new(MAX_BODY);
    while !bytes.is_empty() && frames.fill(&mut bytes).is_ok() {
        loop {
            match frames.next_frame() {
                Ok(Some((kind, body))) => decode(kind, body),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// What is understood reads back the same.
fn decode(kind: Kind, body: Bytes) {
    match kind {
        Kind::Hello | Kind::FilesHello => {
            let Ok(greeting) = Greeting::decode(body) else { return };
            assert_eq!(Greeting::decode(only_body(&[greeting.encode()])), Ok(greeting.clone()));
            let _ = accept(&ours(), PROTOCOL, &greeting, Expected::Member);
        }
        Kind::Refused => {
            let Ok(refused) = Refused::decode(body) else { return };
            assert!(!refused.text.contains(char::is_control), "it goes into logs");
            assert_eq!(
                Refused::decode(only_body(&[refused.encode()])).map(|back| back.code),
                Ok(refused.code)
            );
        }
        Kind::Messages => {
            let length = body.len();
            let Ok(messages) = codec::decode(body) else { return };
            assert_eq!(messages.iter().map(codec::encoded_len).sum::<usize>(), length);
            for message in &messages {
                let mut frames = Vec::new();
                assert_eq!(codec::encode(std::slice::from_ref(message), MAX_BODY, &mut frames), 0);
                assert_eq!(codec::decode(only_body(&frames)).as_deref(), Ok(std::slice::from_ref(message)));
            }
        }
        // What is asked of files, and answered, is JSON or opaque.
        Kind::Keepalive | Kind::FilesAsk | Kind::FilesOffer | Kind::FilesWant | Kind::FilesPiece => {}
        Kind::Ask | Kind::Own => drop(Answer::decode(body)),
    }
}

fn ours() -> Hello {
    let store = StoreId(Uuid::from_u128(1));
    let initial_voters = [0; MAX_NODES];
    Hello {
        node: 1,
        store,
        cluster: None,
        fresh: true,
        members: 9,
        initial_voters,
        your_store: None,
        formats: Formats::default(),
    }
}

fn only_body(frames: &[Encoded]) -> Bytes {
    let mut wire = Vec::new();
    write_frames(&mut wire, frames).expect("memory takes all");
    Bytes::from(wire).slice(HEADER..)
}

/// The same frames with checksums that fit, as far as the lengths make sense.
pub fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEADER) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at.saturating_add(LENGTH_AND_CRC).saturating_add(length.max(1));
        let Some(covered) = bytes.get(at + LENGTH_AND_CRC..end) else { break };
        let crc = crc32c::crc32c(covered);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use shared::ids::ClusterId;

    use super::super::refused::RefusalCode;
    use super::*;
    use crate::consensus::{ConfState, Message, MessageType, SnapshotMetadata};
    use crate::entry::{Entry, EntryKind};
    use crate::fuzz::seeds;

    fn wire(frames: &[Encoded]) -> Vec<u8> {
        let mut wire = Vec::new();
        write_frames(&mut wire, frames).unwrap();
        wire
    }

    fn greeting(hello: Hello) -> Encoded {
        let at = ("10.0.0.2".to_owned(), 9100);
        let names = vec![(1, "10.0.0.1".to_owned(), 9100), (2, "10.0.0.2".to_owned(), 9100)];
        let greeting = Greeting {
            protocol: PROTOCOL,
            to: 1,
            incarnation: 7,
            revision: 1,
            hello,
            at,
            token: Some(5),
            names,
        };
        greeting.encode()
    }

    fn message(kind: MessageType) -> Message {
        Message { kind, from: 2, to: 1, term: 5, log_term: 4, index: 17, commit: 16, ..Message::default() }
    }

    fn append() -> Message {
        let entries = (18..21u8).map(|index| {
            let kind = if index == 20 { EntryKind::ConfChangeV2 } else { EntryKind::Normal };
            Entry { index: index.into(), term: 5, kind, data: vec![index; 20].into() }
        });
        Message { entries: entries.collect(), ..message(MessageType::Append) }
    }

    fn snapshot() -> Message {
        let conf_state = ConfState { voters: vec![1, 2, 3], learners: vec![4], ..ConfState::default() };
        let snapshot = Some(SnapshotMetadata { index: 40, term: 5, conf_state });
        Message { snapshot, ..message(MessageType::Snapshot) }
    }

    #[test]
    fn the_committed_seeds_of_peers() {
        let cluster = Some(ClusterId(Uuid::from_u128(11)));
        let hello = Hello { node: 2, store: StoreId(Uuid::from_u128(2)), ..ours() };
        let bound = Hello { cluster, fresh: false, your_store: Some(ours().store), ..hello };
        let messages = |messages: &[Message]| {
            let mut frames = vec![greeting(bound)];
            codec::encode(messages, MAX_BODY, &mut frames);
            wire(&frames)
        };
        let refused = Refused { code: RefusalCode::ForeignCluster, text: "another cluster".into() };
        let votes = [MessageType::RequestPreVote, MessageType::RequestVote, MessageType::RequestVoteResponse];
        let seeds = [
            ("fresh", wire(&[greeting(hello)])),
            ("bound", wire(&[greeting(bound), Encoded::new(Kind::Keepalive, Vec::new())])),
            ("refused", wire(&[refused.encode()])),
            ("append", messages(&[append()])),
            (
                "heartbeat",
                messages(&[message(MessageType::Heartbeat), message(MessageType::HeartbeatResponse)]),
            ),
            ("votes", messages(&votes.map(message))),
            ("snapshot", messages(&[snapshot(), append()])),
        ];
        seeds::check("peer", &seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into());
    }
}

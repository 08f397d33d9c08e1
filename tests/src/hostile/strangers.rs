//! Strangers on the peer port: they know everything that a node tells, are not members, and send whatever
//! could do harm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use esnode::consensus::{Message, MessageType};
use esnode::stream::command::Command;
use fastrand::Rng;
use shared::ids::{ClusterId, NodeId, StoreId};

/// How long a stranger waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// Connections that it leaves half open at each node, more than a node allows.
const HALF_OPEN: usize = 100;

// Kinds of frames.
const HELLO: u8 = 1;
const MESSAGES: u8 = 4;
const FILES_HELLO: u8 = 5;
const FILES_ASK: u8 = 6;
const FILES_OFFER: u8 = 7;
const OWN: u8 = 11;

/// What a stranger knows of a cluster.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// The peer ports that it connects to.
    pub ports: Vec<(NodeId, SocketAddr)>,
    /// Identity of every member's data directory.
    pub stores: Vec<(NodeId, StoreId)>,
    /// Term of its messages.
    pub term: u64,
    /// Index about as high as that of the last entry of the log.
    pub last: u64,
}

/// Strangers at work.
pub struct Strangers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Connections made so far.
    pub attempts: Arc<AtomicU64>,
    /// How often a node has offered them files.
    pub offers: Arc<AtomicU64>,
}

/// Returns the identity of a data directory, which a node tells every peer that it greets.
pub fn store_of(data_dir: &std::path::Path) -> Result<StoreId> {
    let text = std::fs::read_to_string(data_dir.join("identity"))?;
    let json = text.lines().next().context("an empty identity")?;
    let identity: serde_json::Value = serde_json::from_str(json)?;
    Ok(serde_json::from_value(identity["store_id"].clone())?)
}

impl Strangers {
    /// Starts two strangers at each node. They pretend to be any of `names`.
    pub fn start(knowledge: &Knowledge, names: &[NodeId], say: fn(&mut Rng, &Knowledge) -> Vec<u8>) -> Self {
        let (attempts, offers) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let at_each = knowledge.ports.iter().flat_map(|port| [*port; 2]).zip(0..);
        let threads = at_each.map(|((node, address), seed)| {
            let (knowledge, names) = (knowledge.clone(), names.to_vec());
            let (stop, attempts, offers) = (stop.clone(), attempts.clone(), offers.clone());
            thread::spawn(move || {
                let mut random = Rng::with_seed(seed);
                let mut held = std::collections::VecDeque::new();
                while !stop.load(Relaxed) {
                    attempts.fetch_add(1, Relaxed);
                    let from = names[random.usize(..names.len())];
                    let offered = intrude(&mut random, &knowledge, (from, node, address), say, &mut held);
                    offers.fetch_add(u64::from(offered), Relaxed);
                    held.truncate(HALF_OPEN);
                }
            })
        });
        Self { threads: threads.collect(), stop, attempts, offers }
    }

    /// Stops them.
    pub fn finish(self) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the thread ignores all errors"));
    }
}

/// Makes one connection as `from`. Returns whether files were offered.
fn intrude(
    random: &mut Rng,
    knowledge: &Knowledge,
    (from, to, address): (NodeId, NodeId, SocketAddr),
    say: fn(&mut Rng, &Knowledge) -> Vec<u8>,
    held: &mut std::collections::VecDeque<TcpStream>,
) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, RESPONSE_TIMEOUT) else { return false };
    let _ = stream.set_read_timeout(Some(RESPONSE_TIMEOUT));
    let _ = stream.set_write_timeout(Some(RESPONSE_TIMEOUT));
    let files = random.u8(..4) == 0;
    if random.u8(..4) > 0 {
        let kind = if files { FILES_HELLO } else { HELLO };
        let mut said = greeting(random, knowledge, kind, from, to);
        for _ in 0..random.u32(1..5) {
            let messages = (0..random.u32(1..4)).flat_map(|_| {
                let mut message = say(random, knowledge);
                message[2..10].copy_from_slice(&to.to_le_bytes());
                message[10..18].copy_from_slice(&from.to_le_bytes());
                message
            });
            said.extend(if files {
                frame(FILES_ASK, &0u64.to_le_bytes())
            } else {
                frame(MESSAGES, &messages.collect::<Vec<_>>())
            });
            let claims = [&random.u128(..).to_le_bytes()[..], &[1]].concat();
            said.extend(frame(OWN, &claims).into_iter().filter(|_| random.bool()).collect::<Vec<_>>());
        }
        let _ = stream.write_all(&said);
    }
    let mut answer = vec![0; 4096];
    let read = if random.u8(..8) == 0 { stream.read(&mut answer).unwrap_or(0) } else { 0 };
    answer.truncate(read);
    held.push_front(stream);
    files && offers_files(&answer)
}

fn offers_files(mut answer: &[u8]) -> bool {
    while let Some(head) = answer.get(..9) {
        if head[8] == FILES_OFFER {
            return true;
        }
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        answer = answer.get(8 + length..).unwrap_or_default();
    }
    false
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("small");
    esnode::fuzz::mended_frames(&[&length.to_le_bytes()[..], &[0, 0, 0, 0, kind], body].concat())
}

/// A greeting of this version or of the one before; see `Greeting::encode`.
fn greeting(random: &mut Rng, knowledge: &Knowledge, kind: u8, from: NodeId, to: NodeId) -> Vec<u8> {
    const CLUSTER_AND_YOUR_STORE: u8 = 6;
    let store =
        |id| knowledge.stores.iter().find(|(node, _)| *node == id).map_or(7, |(_, store)| store.0.as_u128());
    let mut body = [&b"ESPR"[..], &[1, 0, 1, 0]].concat();
    for number in [to, random.u64(..), random.u64(..100), from] {
        body.extend(number.to_le_bytes());
    }
    body.extend([0; 4]);
    body.push(CLUSTER_AND_YOUR_STORE);
    for id in [store(from), knowledge.cluster.0.as_u128(), store(to)] {
        body.extend(id.to_le_bytes());
    }
    let members = knowledge.stores.iter().map(|(node, _)| *node).chain(std::iter::repeat(0)).take(9);
    members.for_each(|member| body.extend(member.to_le_bytes()));
    // A port, and no host; then on-disk formats 1 and 2, of which 1 is written.
    body.extend([0x8c, 0x23, 0, 0, 1, 0, 2, 0, 1, 0]);
    if random.bool() {
        body.extend(random.u128(..).to_le_bytes());
        body.push(0);
    }
    frame(kind, &body)
}

/// Encodes a message as `codec` does. The caller fills in sender and receiver.
fn encode(message: &Message) -> Vec<u8> {
    const SNAPSHOT: u8 = 2 | 4 | 8;
    let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
    let mut bytes =
        vec![message.get_msg_type() as u8, u8::from(message.reject) | if snapshot { SNAPSHOT } else { 0 }];
    let Message { term, log_term, index, commit, commit_term, .. } = *message;
    for number in [0, 0, term, log_term, index, commit, commit_term, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(u32::try_from(message.entries.len()).expect("few").to_le_bytes());
    if snapshot {
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(message.index.to_le_bytes());
        bytes.extend(message.term.to_le_bytes());
        let voters = [1u32.to_le_bytes().to_vec(), 9u64.to_le_bytes().to_vec()].concat();
        bytes.extend([&voters[..], &[0; 12]].concat());
    }
    for entry in message.entries.iter() {
        bytes.push(0);
        bytes.extend(entry.term.to_le_bytes());
        bytes.extend(entry.index.to_le_bytes());
        bytes.extend(u32::try_from(entry.data.len()).expect("small").to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend_from_slice(&entry.data);
    }
    bytes
}

fn message(kind: MessageType, term: u64) -> Message {
    let mut message = Message { term, ..Message::default() };
    message.set_msg_type(kind);
    message
}

/// A message that has ended a node before, or would change what it holds.
pub fn anything(random: &mut Rng, knowledge: &Knowledge) -> Vec<u8> {
    let Knowledge { term, last, .. } = *knowledge;
    let ahead = term + random.u64(..3);
    let message = match random.u8(..9) {
        0 => Message { commit: 1 << 63, ..message(MessageType::MsgHeartbeat, ahead) },
        1 => message(MessageType::MsgHeartbeat, u64::MAX),
        2 => Message {
            index: last,
            log_term: term,
            commit: last,
            ..message(MessageType::MsgRequestVote, ahead)
        },
        3 => message(MessageType::MsgTimeoutNow, ahead),
        4 => Message { index: last + 1000, ..message(MessageType::MsgSnapshot, ahead) },
        5 => Message { index: last + random.u64(..50), ..message(MessageType::MsgAppendResponse, term) },
        6 => message(MessageType::MsgPropose, 0),
        _ => appends(random, knowledge, ahead),
    };
    encode(&message)
}

fn appends(random: &mut Rng, knowledge: &Knowledge, term: u64) -> Message {
    let index = knowledge.last + random.u64(..20);
    let commands =
        [Command::RaiseFormat { to: u16::MAX }, Command::DeleteTopic { name: "honest-strangers".into() }];
    let mut message = Message {
        index,
        log_term: knowledge.term,
        commit: index + 2,
        ..message(MessageType::MsgAppend, term)
    };
    for (command, index) in commands.iter().zip(index + 1..) {
        let mut data = BytesMut::new();
        command.encode(&mut data);
        let entry = message.mut_entries().push_default();
        (entry.index, entry.term, entry.data) = (index, term, data.freeze());
    }
    message
}

/// The response of a follower to a heartbeat.
pub fn heartbeat_responses(_: &mut Rng, knowledge: &Knowledge) -> Vec<u8> {
    encode(&message(MessageType::MsgHeartbeatResponse, knowledge.term))
}

/// The response of a follower that has appended the next entry.
pub fn append_responses(_: &mut Rng, knowledge: &Knowledge) -> Vec<u8> {
    let Knowledge { term, last, .. } = *knowledge;
    encode(&Message { index: last + 1, commit: last, ..message(MessageType::MsgAppendResponse, term) })
}

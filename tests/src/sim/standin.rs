//! Stand-in until the stream's body exists.
#![allow(missing_docs, reason = "temporary")]
use bytes::{Buf, BufMut, Bytes, BytesMut};
use esnode::stream::command::{Command, Refusal, Reply};
use esnode::stream::{Applied, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Clone, Default, Hash)]
pub struct Stream { applied: u64, topics: BTreeMap<String, Topic>, ids: u32, pids: i64, }
#[derive(Clone, Hash)]
pub struct Topic { pub id: u32, pub partitions: Vec<Partition> }
#[derive(Clone, Default, Hash)]
pub struct Partition { next: i64, at: BTreeMap<i64, u64>, void: BTreeSet<(u64, u32)>, last: BTreeMap<i64, (i32, i32, i64)> }
impl Stream {
    pub fn applied_index(&self) -> u64 { self.applied }
    pub fn digest(&self) -> u32 { let mut h = DefaultHasher::new(); self.hash(&mut h); h.finish() as u32 }
    pub fn topic(&self, name: &str) -> Option<&Topic> { self.topics.get(name) }
    pub fn apply(&mut self, index: u64, _term: u64, payload: &Bytes) -> Applied {
        self.applied = index;
        let mut out = Applied::default();
        for (ordinal, command) in (0..).zip(decode_all(payload)) {
            let reply = match command {
                Command::CreateTopic { name, partitions, .. } => {
                    if self.topics.contains_key(&name) { Reply::Refused(Refusal::TopicExists) } else {
                        self.ids += 1;
                        self.topics.insert(name, Topic { id: self.ids, partitions: vec![Partition::default(); partitions as usize] });
                        Reply::TopicCreated(self.ids)
                    }
                }
                Command::AllocateProducer => { self.pids += 1; Reply::ProducerAllocated(self.pids) }
                Command::Append { topic, partition, batch } => {
                    let p = &mut self.topics.values_mut().find(|t| t.id == topic).unwrap().partitions[partition as usize];
                    p.append(index, ordinal, &batch)
                }
                _ => Reply::Done,
            };
            out.replies.push(reply);
        }
        out
    }
}
impl Partition {
    pub fn next_offset(&self) -> i64 { self.next }
    pub fn is_void(&self, index: u64, ordinal: u32) -> bool { self.void.contains(&(index, ordinal)) }
    pub fn locate(&self, offset: i64) -> Option<Position> {
        self.at.range(..=offset).next_back().map(|(o, i)| Position { index: *i, base_offset: *o })
    }
    fn append(&mut self, index: u64, ordinal: u32, batch: &Bytes) -> Reply {
        let pid = (&batch[43..]).get_i64();
        let seq = (&batch[53..]).get_i32();
        let count = (&batch[57..]).get_i32();
        if pid >= 0 {
            match self.last.get(&pid) {
                Some((s, _, off)) if *s == seq => { self.void.insert((index, ordinal)); return Reply::Appended { base_offset: *off, log_start_offset: 0 }; }
                Some((s, c, _)) if *s + *c != seq => { self.void.insert((index, ordinal)); return Reply::Refused(Refusal::OutOfOrderSequence); }
                _ => {}
            }
            self.last.insert(pid, (seq, count, self.next));
        }
        let base_offset = self.next;
        self.at.insert(base_offset, index);
        self.next += i64::from(count);
        Reply::Appended { base_offset, log_start_offset: 0 }
    }
}
pub fn encode(command: &Command, out: &mut BytesMut) {
    match command {
        Command::Append { topic, partition, batch } => { out.put_u8(1); out.put_u32(*topic); out.put_u32(*partition); out.put_u32(batch.len() as u32); out.put_slice(batch); }
        Command::CreateTopic { name, partitions, .. } => { out.put_u8(2); out.put_u32(*partitions); out.put_u32(name.len() as u32); out.put_slice(name.as_bytes()); }
        _ => out.put_u8(3),
    }
}
pub fn decode_all(payload: &Bytes) -> Vec<Command> {
    let mut b = payload.clone();
    let mut out = Vec::new();
    while b.has_remaining() {
        out.push(match b.get_u8() {
            1 => { let topic = b.get_u32(); let partition = b.get_u32(); let n = b.get_u32(); Command::Append { topic, partition, batch: b.split_to(n as usize) } }
            2 => { let partitions = b.get_u32(); let n = b.get_u32(); Command::CreateTopic { name: String::from_utf8(b.split_to(n as usize).to_vec()).unwrap(), partitions, configs: BTreeMap::new() } }
            _ => Command::AllocateProducer,
        });
    }
    out
}

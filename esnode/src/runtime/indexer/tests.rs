//! The indexes, the packs and their readers, over a real log, against a plain model under random commands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use crossbeam_channel::{Sender, bounded};
use fastrand::Rng;
use tempfile::TempDir;

use super::*;
use crate::batch_index::recent::RecentBatches;
use crate::batch_index::{Content, PartitionKey, Wanted};
use crate::entry::{Entry, EntryKind};
use crate::runtime::packer::{Packing, Sizes};
use crate::runtime::stored_batches as stored;
use crate::state_machine::command::{Command, Reply};
use crate::state_machine::tests::batch;
use crate::state_machine::transactions::{ProducerIdentity, TransactionChange};
use crate::storage::batch_reader::StoredBatch;
use crate::storage::{Batch, Options, Snapshots, Wal, open};

const PARTITIONS: u32 = 5;
const SMALL: Options = Options { segment_bytes: 8192, sync: false };

/// A log, its state, what has the indexes made, and a model of the partitions: base offset and bytes of each batch.
struct Node {
    dir: TempDir,
    wal: Option<Wal>,
    snapshots: Snapshots,
    work: Work,
    model: BTreeMap<PartitionKey, Vec<(i64, Content, Bytes)>>,
    /// An earlier state, from which the next start replays.
    snapshot: StateMachine,
    producer: Option<ProducerIdentity>,
    index: u64,
    /// The packs that the last one has replaced: a power cut may bring them back.
    replaced: Vec<(PathBuf, Vec<u8>)>,
    /// Keeps the work from taking the node for stopped.
    _stop: Sender<()>,
}

fn start(dir: &TempDir, snapshot: &StateMachine) -> (Wal, Snapshots, Work, Sender<()>) {
    let (log, wal, recovered) = open(dir.path(), SMALL).unwrap();
    let recent = Arc::new(RecentBatches::since_entry(snapshot.applied_index() + 1));
    let mut state = snapshot.clone();
    for entry in log.entries(snapshot.applied_index() + 1, u64::MAX, u64::MAX).unwrap() {
        let applied = state.apply(entry.index, entry.term, &entry.data);
        applied.batches.into_iter().for_each(|(key, batch)| recent.push(key, batch));
    }
    let (stop, stopped) = bounded(0);
    let (batches, state) = (BatchReader::new(log.clone(), recent), Arc::new(RwLock::new(state)));
    let scan = Scan {
        log: log.clone(),
        batches: batches.clone(),
        state: Arc::clone(&state),
        pause: Duration::ZERO,
        stopped,
    };
    (wal, recovered.snapshots, Work { log, batches, state, scan }, stop)
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (wal, snapshots, work, stop) = start(&dir, &StateMachine::default());
        let mut node = Self {
            dir,
            wal: Some(wal),
            snapshots,
            work,
            model: BTreeMap::new(),
            snapshot: StateMachine::default(),
            producer: None,
            index: 0,
            replaced: Vec::new(),
            _stop: stop,
        };
        let configs = BTreeMap::new();
        node.apply(&[Command::CreateTopic { name: "t".into(), partitions: PARTITIONS, configs }]);
        let begin = TransactionChange::Init { timeout_ms: 60_000, known: None };
        let replies = node.apply(&[Command::Transaction { id: "x".into(), change: begin }]);
        let Reply::ProducerInitialized(producer) = replies[0] else { panic!("{replies:?}") };
        node.producer = Some(producer);
        node
    }

    /// Writes an entry and applies it.
    fn apply(&mut self, commands: &[Command]) -> Vec<Reply> {
        let entry = self.entry(commands);
        self.write(std::slice::from_ref(&entry));
        self.apply_entry(&entry, commands)
    }

    fn entry(&mut self, commands: &[Command]) -> Entry {
        let mut payload = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut payload));
        self.index += 1;
        let data = payload.freeze();
        Entry { index: self.index, term: 1 + self.index / 50, kind: EntryKind::Normal, data }
    }

    fn write(&mut self, entries: &[Entry]) {
        let wal = self.wal.as_mut().unwrap();
        wal.write(&Batch { hard_state: None, entries: entries.to_vec() }).unwrap();
        // They may have begun a segment, and none of them can be read yet.
        drop(self.work.index_all());
        wal.sync().unwrap();
    }

    fn apply_entry(&mut self, entry: &Entry, commands: &[Command]) -> Vec<Reply> {
        let mut state = self.work.state.write();
        let applied = state.apply(entry.index, entry.term, &entry.data);
        for (key, recent) in applied.batches {
            let from = recent.offset as usize;
            let bytes = entry.data.slice(from..from + recent.batch.length as usize);
            self.model.entry(key).or_default().push((recent.batch.base_offset, recent.batch.content, bytes));
            self.work.batches.recent().push(key, recent);
        }
        // What the model takes from the index must be what the replies say.
        for (command, reply) in commands.iter().zip(&applied.replies) {
            if let (Command::Append { partition, batch, .. }, Reply::Appended { base_offset, .. }) =
                (command, reply)
                && !is_idempotent(batch)
            {
                assert!(self.model[&(1, *partition)].contains(&(
                    *base_offset,
                    Content::Batch,
                    batch.clone()
                )));
            }
        }
        applied.replies
    }

    /// Appends to some partitions, by several entries that are written together.
    fn append(&mut self, rng: &mut Rng) {
        let mut written = Vec::new();
        for _ in 0..rng.usize(1..8) {
            let commands: Vec<_> = (0..rng.usize(1..6)).map(|_| append(rng)).collect();
            written.push((self.entry(&commands), commands));
        }
        self.write(&written.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>());
        for (entry, commands) in written {
            self.apply_entry(&entry, &commands);
        }
    }

    fn transact(&mut self, rng: &mut Rng) {
        let producer = self.producer.unwrap();
        let partitions: Vec<_> =
            (0..PARTITIONS).filter(|_| rng.bool()).map(|partition| (1, partition)).collect();
        let change = |change| Command::Transaction { id: "x".into(), change };
        self.apply(&[change(TransactionChange::AddPartitions { producer, partitions })]);
        let ending = self.work.state.read().transaction("x").unwrap().ending(producer, rng.bool(), 5);
        if let Ok(ending) = ending {
            // The second one is refused.
            let ends =
                [change(TransactionChange::End(ending.clone())), change(TransactionChange::End(ending))];
            self.apply(&ends);
        }
    }

    fn delete(&mut self, rng: &mut Rng) {
        let partition = rng.u32(..PARTITIONS);
        let start_offset = rng.i64(..=end(&self.work.state.read(), partition));
        self.apply(&[Command::DeleteRecords { topic: 1, partition, start_offset }]);
    }

    fn packs(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.dir.path().join("log")).unwrap().map(|file| file.unwrap().path());
        let packs = files.filter(|path| path.extension().is_some_and(|found| found == "pack"));
        packs.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn packing(&self) -> (Packing, Sender<()>) {
        let (stop, stopped) = bounded(0);
        let (log, batches) = (self.work.log.clone(), self.work.batches.clone());
        let sizes = Sizes { segment: SMALL.segment_bytes, kept: SMALL.segment_bytes };
        log.stats().free_bytes.store(1 << 40, Relaxed);
        let given_up = RefCell::default();
        (Packing { log, batches, sizes, pause: Duration::ZERO, stopped, given_up }, stop)
    }

    /// Packs what is to be packed, or something else.
    fn pack(&mut self, rng: &mut Rng) {
        let (packing, _stop) = self.packing();
        let before = self.packs();
        let packed = match packing.some(rng, &self.snapshot) {
            Some(entries) => packing.pack(&entries, self.work.log.packs().epoch(), &self.snapshot),
            None => packing.pack_next(&self.snapshot),
        };
        // A damaged index may be in the way.
        assert!(
            packed.is_ok() || !before.is_empty() || self.work.log.next_unindexed(0).is_some(),
            "{packed:?}"
        );
        let after = self.packs();
        if before.len() != after.len() || rng.bool() {
            self.replaced = before.into_iter().filter(|file| !after.contains(file)).collect();
        }
    }

    /// The snapshot is of now, and segments that nobody needs any more go.
    fn take_snapshot(&mut self) {
        self.snapshot = self.work.state.read().clone();
        let (log, index) = (&self.work.log, self.snapshot.applied_index());
        self.snapshots.write(log, index, log.term(index).unwrap().unwrap(), b"").unwrap();
        let packed = self.work.log.packs().last_index();
        log.delete_before(self.snapshot.low_watermark().max(packed + 1).min(index));
    }

    /// Entries come once more in later segments, as when another node's segments join the log.
    fn supersede(&mut self, rng: &mut Rng) {
        let low = rng.u64(self.work.log.first_index()..=self.index);
        let entries = self.work.log.entries(low, u64::MAX, u64::MAX).unwrap();
        self.write(&entries);
        if rng.bool() {
            self.work.batches.recent().restart(self.index + 1);
        }
    }

    fn restart(&mut self, rng: &mut Rng) {
        drop(self.wal.take());
        if rng.bool() {
            let lost = std::mem::take(&mut self.replaced);
            lost.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            fs::write(self.dir.path().join("log/pack.tmp"), "unfinished").unwrap();
        }
        if rng.u8(..3) == 0 {
            let indexes = fs::read_dir(self.dir.path().join("log")).unwrap().map(|file| file.unwrap().path());
            for index in indexes.filter(|path| path.extension().is_some_and(|extension| extension == "idx")) {
                match rng.u8(..4) {
                    0 => fs::remove_file(index).unwrap(),
                    1 => damage(&index, rng),
                    _ => {}
                }
            }
        }
        let (wal, snapshots, work, stop) = start(&self.dir, &self.snapshot);
        (self.wal, self.snapshots, self.work, self._stop) = (Some(wal), snapshots, work, stop);
    }

    /// Indexes everything; once more if that has come upon a damaged index.
    fn index_all(&self) {
        let mut outcome = self.work.index_all();
        for _ in 0..100 {
            if outcome.is_err() {
                outcome = self.work.index_all();
            }
        }
        assert!(matches!(outcome, Ok(true)), "{outcome:?}");
    }

    /// Whatever is found is what the model has. Once all is indexed, everything that is kept is found.
    fn check(&self, rng: &mut Rng, is_indexed: bool) {
        let state = self.work.state.read();
        for partition in 0..PARTITIONS {
            let key = (1, partition);
            let found_at = &state.topic_by_id(1).unwrap().partitions[partition as usize];
            let (start, end) = (found_at.start_offset(), found_at.high_watermark());
            let from = if rng.bool() { start } else { rng.i64(start..=end) };
            let Some(place) = found_at.locate(from) else { continue };
            let expected: Vec<_> = self.model[&key].iter().filter(|(base, _, _)| *base < end).collect();
            let skipped = expected.iter().rposition(|(base, _, _)| *base <= from).unwrap();
            let found = self.all(key, from, (place.index, rng.usize(1..5000)), is_indexed);
            if is_indexed {
                assert_eq!(
                    found.len(),
                    expected.len() - skipped,
                    "partition {partition} from {from} of {start}..{end}"
                );
            }
            let read = stored::read(&self.work.batches, &found).unwrap();
            assert_eq!(read.len(), found.len(), "{:?}", found.get(read.len()));
            for ((stored, bytes), (base, content, expected)) in
                found.iter().zip(read).zip(&expected[skipped..])
            {
                assert_eq!(stored.batch.base_offset, *base);
                assert_eq!(bytes, as_read(key, *content, expected));
            }
            let time = rng.i64(..1000);
            if let Some(place) = found_at.locate_time(time) {
                self.check_time(key, place.index, (start, time), is_indexed);
            }
        }
    }

    fn all(
        &self,
        key: PartitionKey,
        from: i64,
        (entry, room): (u64, usize),
        is_indexed: bool,
    ) -> Vec<StoredBatch> {
        let mut found: Vec<StoredBatch> = Vec::new();
        let mut damaged = 0;
        loop {
            let next = found.last().map_or(from, |last| last.batch.end_offset());
            match self.work.batches.find(key, Wanted::Offset(next), entry, room) {
                Some(more) if !more.is_empty() => found.extend(more),
                // Damage is noticed when a block is read; then the index is made anew.
                None if is_indexed && damaged < 100 => {
                    damaged += 1;
                    self.index_all();
                }
                _ => return found,
            }
        }
    }

    fn check_time(&self, key: PartitionKey, entry: u64, (start, time): (i64, i64), is_indexed: bool) {
        let found = self.work.batches.find(key, Wanted::Time(time), entry, 1);
        let newest = |bytes: &Bytes| i64::from_be_bytes(bytes[35..43].try_into().unwrap());
        let reaches = |(_, content, bytes): &&(i64, Content, Bytes)| {
            *content == Content::Batch && newest(bytes) >= time
        };
        let expected = self.model[&key].iter().find(reaches).map(|(base, _, _)| *base);
        match (found.as_deref(), expected) {
            // Its events may be deleted; then the first that the indexes know is found.
            (Some([first, ..]), Some(base)) if base >= start => assert_eq!(first.batch.base_offset, base),
            (Some([first, ..]), _) => assert!(first.batch.newest >= time),
            (Some([]), Some(base)) => panic!("time {time} of {key:?} is at offset {base}"),
            (None, _) => assert!(!is_indexed || self.work.log.next_unindexed(0).is_some()),
            (Some([]), None) => {}
        }
    }
}

/// The batch that readers get.
fn as_read(key: PartitionKey, content: Content, bytes: &Bytes) -> Bytes {
    match content {
        Content::Batch => bytes.clone(),
        Content::EndOfTransaction => {
            let command = Command::decode_all(bytes).next().unwrap().unwrap();
            command.batches().find(|(topic, partition, _)| (*topic, *partition) == key).unwrap().2
        }
    }
}

fn append(rng: &mut Rng) -> Command {
    let (most, records) = (rng.u32(1..=PARTITIONS), rng.i32(1..5));
    // Many of these are refused or found to be duplicates.
    let producer = rng.bool().then(|| (rng.i64(1..3) + 100, 0, rng.i32(0..12)));
    Command::Append {
        topic: 1,
        partition: rng.u32(..most),
        batch: sound(batch(records, rng.i64(..1000), producer)),
    }
}

fn damage(path: &std::path::Path, rng: &mut Rng) {
    let mut bytes = fs::read(path).unwrap();
    let at = rng.usize(..bytes.len());
    bytes[at] ^= 1 << rng.u8(..8);
    fs::write(path, bytes).unwrap();
}

fn end(state: &StateMachine, partition: u32) -> i64 {
    state.topic_by_id(1).map_or(0, |topic| topic.partitions[partition as usize].high_watermark())
}

/// Such a batch may be a duplicate.
fn is_idempotent(batch: &Bytes) -> bool {
    batch[43..51] != (-1i64).to_be_bytes()
}

/// The batch with its checksum.
fn sound(batch: Bytes) -> Bytes {
    let mut batch = BytesMut::from(batch);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

#[test]
fn batches_are_found_whatever_happens_to_indexes_and_packs() {
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let mut node = Node::new();
        for _ in 0..rng.usize(20..150) {
            match rng.u8(..100) {
                0..67 => node.append(&mut rng),
                67..72 => node.transact(&mut rng),
                72..80 => node.delete(&mut rng),
                80..84 => node.take_snapshot(),
                84..87 => node.restart(&mut rng),
                87..90 => node.supersede(&mut rng),
                90..95 => node.pack(&mut rng),
                _ => {
                    node.index_all();
                    node.check(&mut rng, true);
                }
            }
            node.check(&mut rng, false);
        }
        node.index_all();
        node.take_snapshot();
        let (packing, _stop) = node.packing();
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 100, "seed {seed}: packing does not end");
            match packing.pack_next(&node.snapshot) {
                Ok(true) => {}
                Ok(false) => break,
                // Damage is noticed when a block is read; then the index is made anew.
                Err(_) => node.index_all(),
            }
        }
        node.check(&mut rng, true);
    }
}

#[test]
fn what_a_pack_does_not_give_is_not_looked_for_behind_it() {
    let mut rng = Rng::with_seed(1);
    let mut node = Node::new();
    while node.work.log.next_sealed(40).is_none() {
        node.append(&mut rng);
    }
    node.index_all();
    node.take_snapshot();
    let end = *node.work.log.index_of(node.index / 2).unwrap().1.entries().end();
    let (packing, _stop) = node.packing();
    assert!(packing.pack(&(1..=end), 0, &node.snapshot).unwrap());
    node.take_snapshot();
    assert_eq!(node.work.log.first_index(), end + 1);
    let (key, batches) = ((1, 0), &node.work.batches);
    let place = node.snapshot.topic_by_id(1).unwrap().partitions[0].locate(0).unwrap();
    let place = (place.index, place.base_offset);
    let packed = batches.last_row(key, place.0, end + 1).unwrap().unwrap().end_offset;
    for offset in [0, packed - 1] {
        let damaged = batches.place_in_log(key, Wanted::Offset(offset), place).unwrap_err();
        assert_eq!(damaged.kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(batches.place_in_log(key, Wanted::Offset(packed), place).unwrap(), (end + 1, packed));
    // A state that does not know all that is packed decides nothing.
    assert!(!packing.pack_next(&StateMachine::default()).unwrap());
    assert_eq!(batches.last_row(key, place.0, end + 1).unwrap().unwrap().end_offset, packed);
    // A pack that would lack something is not written.
    let (segment, index) = node.work.log.index_of(end + 1).unwrap();
    let second = *index.entries().end();
    node.work.log.discard_index(&segment, &io::Error::other("it is to be another one"));
    node.work.log.write_index(&node.work.log.next_unindexed(0).unwrap(), &[]).unwrap();
    assert!(matches!(packing.pack(&(end + 1..=second), 0, &node.snapshot), Err(Postponed::Failed(_))));
    assert_eq!(node.work.log.packs().entries(), Some(1..=end));
}

#[test]
fn a_pack_tells_where_a_partition_ended_of_which_it_holds_nothing() {
    let mut rng = Rng::with_seed(1);
    let mut node = Node::new();
    let own = |records| Command::Append { topic: 1, partition: 0, batch: sound(batch(records, 7, None)) };
    let other = || Command::Append { topic: 1, partition: 1, batch: sound(batch(3, 7, None)) };
    node.apply(&[own(5)]);
    while node.work.log.next_sealed(0).is_none() {
        node.apply(&[other()]);
    }
    node.apply(&[own(3)]);
    node.apply(&[Command::DeleteRecords { topic: 1, partition: 0, start_offset: 5 }]);
    while node.work.log.next_sealed(3).is_none() {
        node.apply(&[other()]);
    }
    node.index_all();
    node.take_snapshot();
    let end = *node.work.log.index_of(1).unwrap().1.entries().end();
    let (packing, _stop) = node.packing();
    assert!(packing.pack(&(1..=end), 0, &node.snapshot).unwrap());
    drop(packing);
    node.take_snapshot();
    // The state knows the partition from a place that is packed on, and what is scanned anew begins behind it.
    for file in fs::read_dir(node.dir.path().join("log")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "idx") {
            fs::remove_file(file).unwrap();
        }
    }
    node.restart(&mut rng);
    let place = node.snapshot.topic_by_id(1).unwrap().partitions[0].locate(5).unwrap();
    assert!(place.index <= end, "{place:?}");
    node.index_all();
    let found = node.all((1, 0), 5, (place.index, 1000), true);
    assert_eq!(found.iter().map(|stored| stored.batch.base_offset).collect::<Vec<_>>(), [5]);
}

#[test]
fn a_damaged_segment_keeps_what_is_written_later_from_no_index() {
    let mut rng = Rng::with_seed(1);
    let mut node = Node::new();
    let files = |node: &Node, extension: &str| {
        let files = fs::read_dir(node.dir.path().join("log")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|file| file.extension().is_some_and(|found| found == extension)).collect();
        files.sort();
        files
    };
    while files(&node, "seg").len() < 6 {
        node.append(&mut rng);
    }
    node.index_all();
    node.snapshot = node.work.state.read().clone();
    files(&node, "idx").iter().for_each(|index| fs::remove_file(index).unwrap());
    let segment = &files(&node, "seg")[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[300] ^= 1;
    fs::write(segment, bytes).unwrap();
    node.restart(&mut rng);
    let last = node.work.log.first_unsealed();
    while files(&node, "seg").len() < 10 {
        node.append(&mut rng);
    }
    assert!(matches!(node.work.index_all(), Err(Postponed::Failed(_))));
    let damaged = node.work.log.next_unindexed(0).unwrap();
    assert_eq!(*damaged.entries.start(), 1);
    let mut after = damaged.sequence();
    while let Some(segment) = node.work.log.next_unindexed(after) {
        assert!(*segment.entries.start() <= last, "{:?} could be indexed", segment.entries);
        after = segment.sequence();
    }
}

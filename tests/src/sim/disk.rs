//! A node's disk: frames in the order written, of which a crash keeps what was synced and perhaps a little more; and
//! beside them its newest snapshot.

use std::collections::VecDeque;

use esnode::entry::{Entry, HardState};
use esnode::replica::{Write, WriteContent};
use fastrand::Rng;

use super::bugs::Bug;
use super::identity::Identity;
use super::log::{Activity, DiskLog, Frame, Layout, Replayed, SharedStaged, Staged};
use super::snapshot_file::SnapshotFile;

/// What the disk is asked to do.
type Work = Write<SharedStaged>;

/// Work on its way to the disk: group commit gathers all that waits into one write.
struct Group {
    number: Option<u64>,
    frames: Vec<Frame>,
}

/// What a sync has made durable.
pub struct Synced {
    /// Work up to this number.
    pub number: Option<u64>,
    /// Entries, each with the term of the entry before it.
    pub entries: Vec<(Entry, u64)>,
    /// The on-disk format.
    pub format: Option<u16>,
}

/// The disk. It outlives the node's crashes.
pub struct Disk {
    /// The identity file.
    pub identity: Identity,
    frames: Vec<Frame>,
    log: DiskLog,
    waiting: VecDeque<Work>,
    write: Option<Group>,
    bug: Option<Bug>,
    /// Frames already there when the node last started.
    old: usize,
    /// The newest one, and index and term of the entry before the log that was there when it was written.
    snapshot: Option<(SnapshotFile, (u64, u64))>,
    layout: Layout,
    /// It is almost full.
    pub low_on_space: bool,
    /// The next sync fails.
    pub fails: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(identity: Identity, segment: u64, phase: u64, bug: Option<Bug>) -> Self {
        let layout = Layout { segment, phase };
        Self {
            identity,
            frames: Vec::new(),
            log: DiskLog::new(Replayed::default(), layout),
            waiting: VecDeque::new(),
            write: None,
            bug,
            old: 0,
            snapshot: None,
            layout,
            low_on_space: false,
            fails: false,
        }
    }

    /// Takes work, in order.
    pub fn submit(&mut self, work: Work) {
        if self.shows_unsynced() {
            let frames = frames(work.content.clone());
            self.log.change(|log| frames.iter().for_each(|frame| log.replay(frame, self.bug)));
        }
        self.waiting.push_back(work);
        self.tell();
    }

    /// Starts to write and sync all that waits, when the disk is idle and something waits.
    pub fn begin(&mut self) -> bool {
        if self.write.is_some() || self.waiting.is_empty() {
            return false;
        }
        let mut group = Group { number: None, frames: Vec::new() };
        for work in self.waiting.drain(..) {
            group.number = work.number.or(group.number);
            group.frames.extend(frames(work.content));
        }
        self.write = Some(group);
        true
    }

    /// The sync returned. Returns what it has made durable.
    pub fn synced(&mut self) -> Option<Synced> {
        let write = self.write.take()?;
        self.tell();
        let mut synced = Synced { number: write.number, entries: Vec::new(), format: None };
        if self.shows_unsynced() {
            self.frames.extend(write.frames);
            return Some(synced);
        }
        let lost = std::mem::take(&mut self.fails);
        for frame in write.frames {
            let bug = self.bug.filter(|bug| *bug == Bug::JoinAnything);
            self.log.change(|log| log.replay(&frame, bug));
            let log = self.log.get();
            let new = match &frame {
                Frame::State(_) | Frame::Format(_) => &[],
                Frame::Entry(entry) => std::slice::from_ref(entry),
                Frame::Install(staged, _) => &staged.entries[..],
            };
            let before = |entry: &Entry| log.term(entry.index - 1).unwrap_or_default();
            synced.entries.extend(new.iter().map(|entry| (entry.clone(), before(entry))));
            // Readers find what the system has in its memory, also when the disk never got it.
            if lost {
                continue;
            }
            match &frame {
                Frame::Install(staged, _) => self.snapshot = Some((staged.snapshot.clone(), log.base)),
                Frame::Format(format) => {
                    self.identity.format = (*format).max(self.identity.format);
                    synced.format = Some(self.identity.format);
                }
                Frame::State(_) | Frame::Entry(_) => {}
            }
            self.frames.push(frame);
        }
        Some(synced)
    }

    /// Lets the log's readers know what the disk does.
    pub fn tell(&self) {
        let busy = self.write.is_some() || !self.waiting.is_empty();
        self.log.now(Activity { busy, low_on_space: self.low_on_space });
    }

    /// The power goes: of the write under way some leading frames may have made it, the rest and all that waits is
    /// lost. Returns how many frames of how many were kept.
    pub fn crash(&mut self, rng: &mut Rng) -> (usize, usize) {
        self.fails = false;
        self.waiting.clear();
        let frames = self.write.take().map_or_else(Vec::new, |write| write.frames);
        let all = frames.len();
        // The ends matter more than the middle: nothing reached the platter, or the first frame, or all but the answer.
        let kept = match rng.u8(..4) {
            0 => 0,
            1 => all,
            2 => all.min(1),
            _ => rng.usize(..=all),
        };
        self.frames.extend(frames.into_iter().take(kept));
        if self.bug == Some(Bug::VoteNotSynced) {
            // What was written before the last entry was synced with it.
            while self.frames.len() > self.old
                && self.frames.pop_if(|frame| matches!(frame, Frame::State(_))).is_some()
            {}
        }
        (kept, all)
    }

    /// Reads everything back, as a node does when it starts.
    pub fn recover(&mut self) -> (HardState, DiskLog) {
        let mut replayed = Replayed::default();
        for frame in &self.frames {
            replayed.replay(frame, self.bug);
            if let Frame::Install(staged, _) = frame
                && self.newest() < staged.snapshot.index
            {
                self.snapshot = Some((staged.snapshot.clone(), replayed.base));
            }
        }
        if let Some((_, before)) = &self.snapshot {
            replayed.delete_before(before.0 + 1);
        }
        self.old = self.frames.len();
        let state = replayed.hard_state;
        self.log = DiskLog::new(replayed, self.layout);
        self.tell();
        (state, self.log.clone())
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&SnapshotFile> {
        self.snapshot.as_ref().map(|(snapshot, _)| snapshot)
    }

    /// Puts a snapshot in the old one's place at once, unless one came in between that reaches further.
    pub fn keep(&mut self, snapshot: SnapshotFile) {
        if self.newest() <= snapshot.index {
            self.snapshot = Some((snapshot, self.log.get().base));
        }
    }

    fn newest(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.index)
    }

    /// What a node gets that has everything up to `have`: the newest snapshot if it reaches further, and the segments
    /// before it that hold what that node lacks.
    pub fn offer(&self, have: u64) -> Option<Staged> {
        let snapshot = self.snapshot().filter(|snapshot| snapshot.index > have)?;
        let log = self.log.get();
        assert!(log.entry(snapshot.index).is_some(), "the log lacks its snapshot's entry");
        let first = self.layout.segment_of(have + 1).max(log.first());
        let before = (first - 1, log.term(first - 1)?);
        let entries = log.from(first).iter().take_while(|entry| entry.index <= snapshot.index);
        Some(Staged { snapshot: snapshot.clone(), before, entries: entries.cloned().collect() })
    }

    /// Has the log begin with the segment that holds `index`, or with the last one.
    pub fn delete_before(&self, index: u64) {
        let first = self.layout.segment_of(index.min(self.log.get().last()));
        self.log.change(|log| log.delete_before(first));
    }

    /// A disk whose syncs are not waited for lets readers see what is not durable yet.
    fn shows_unsynced(&self) -> bool {
        self.bug == Some(Bug::AckBeforeSync)
    }

    /// Reader of what is durable.
    pub fn log(&self) -> &DiskLog {
        &self.log
    }
}

fn frames(content: WriteContent<SharedStaged>) -> Vec<Frame> {
    match content {
        WriteContent::AdoptFormat(format) => vec![Frame::Format(format)],
        WriteContent::Install(staged, state) => vec![Frame::Install(staged, state)],
        WriteContent::Append(state, entries) => {
            state.map(Frame::State).into_iter().chain(entries.into_iter().map(Frame::Entry)).collect()
        }
    }
}

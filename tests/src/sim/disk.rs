//! A node's disk: frames in the order written, of which a crash keeps what was synced and perhaps a little more; and
//! beside them its newest checkpoint.

use std::collections::VecDeque;
use std::rc::Rc;

use esnode::consensus::Persist;
use esnode::entry::{Entry, HardState};
use fastrand::Rng;

use super::bugs::Bug;
use super::checkpoint::Checkpoint;
use super::log::{DiskLog, Frame, Replayed, Staged};

/// A write on its way: group commit gathers all that waits into one.
struct Write {
    number: u64,
    frames: Vec<Frame>,
}

/// The disk. It outlives the node's crashes.
pub struct Disk {
    frames: Vec<Frame>,
    log: DiskLog,
    /// Work, and what it installs.
    waiting: VecDeque<(Persist, Option<Rc<Staged>>)>,
    write: Option<Write>,
    bug: Option<Bug>,
    /// Frames already there when the node last started.
    old: usize,
    /// The newest one, and index and term of the entry before the log that was there when it was written.
    checkpoint: Option<(Checkpoint, (u64, u64))>,
    /// Entries of a segment.
    segment: u64,
    /// Where its segments begin: not at the same entries as those of others.
    phase: u64,
    /// The next sync fails.
    pub fails: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(segment: u64, phase: u64, bug: Option<Bug>) -> Self {
        Self {
            frames: Vec::new(),
            log: DiskLog::default(),
            waiting: VecDeque::new(),
            write: None,
            bug,
            old: 0,
            checkpoint: None,
            segment,
            phase,
            fails: false,
        }
    }

    /// Takes work, in order; `staged` is what it installs.
    pub fn submit(&mut self, work: Persist, staged: Option<Rc<Staged>>) {
        if self.shows_unsynced() {
            let frames = frames(work.clone(), staged.clone());
            self.log.change(|log| frames.iter().for_each(|frame| log.replay(frame, self.bug)));
        }
        self.waiting.push_back((work, staged));
    }

    /// Starts to write and sync all that waits, when the disk is idle and something other than lazy work waits.
    pub fn begin(&mut self) -> bool {
        if self.write.is_some() || self.waiting.iter().all(|(work, _)| work.lazy) {
            return false;
        }
        let mut written = Vec::new();
        let mut number = 0;
        for (work, staged) in self.waiting.drain(..) {
            number = work.number;
            written.extend(frames(work, staged));
        }
        self.write = Some(Write { number, frames: written });
        true
    }

    /// The sync returned: its work is durable up to this number. Also returns the entries that became so,
    /// each with the term of the entry before it.
    pub fn synced(&mut self) -> Option<(u64, Vec<(Entry, u64)>)> {
        let write = self.write.take()?;
        if self.shows_unsynced() {
            self.frames.extend(write.frames);
            return Some((write.number, Vec::new()));
        }
        let lost = std::mem::take(&mut self.fails);
        let mut entries = Vec::new();
        for frame in write.frames {
            let bug = self.bug.filter(|bug| *bug == Bug::JoinAnything);
            self.log.change(|log| log.replay(&frame, bug));
            let log = self.log.get();
            let new = match &frame {
                Frame::State(_) => &[],
                Frame::Entry(entry) => std::slice::from_ref(entry),
                Frame::Install(staged, _) => &staged.entries[..],
            };
            let before = |entry: &Entry| log.term(entry.index - 1).unwrap_or_default();
            entries.extend(new.iter().map(|entry| (entry.clone(), before(entry))));
            // Readers find what the system has in its memory, also when the disk never got it.
            if lost {
                continue;
            }
            if let Frame::Install(staged, _) = &frame {
                self.checkpoint = Some((staged.checkpoint.clone(), log.base));
            }
            self.frames.push(frame);
        }
        Some((write.number, entries))
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
                && self.newest() < staged.checkpoint.index
            {
                self.checkpoint = Some((staged.checkpoint.clone(), replayed.base));
            }
        }
        if let Some((_, before)) = &self.checkpoint {
            replayed.retire(before.0 + 1);
        }
        self.old = self.frames.len();
        let state = replayed.hard_state;
        self.log = DiskLog::new(replayed);
        (state, self.log.clone())
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().map(|(checkpoint, _)| checkpoint)
    }

    /// Puts a checkpoint in the old one's place at once, unless one came in between that reaches further.
    pub fn keep(&mut self, checkpoint: Checkpoint) {
        if self.newest() <= checkpoint.index {
            self.checkpoint = Some((checkpoint, self.log.get().base));
        }
    }

    fn newest(&self) -> u64 {
        self.checkpoint().map_or(0, |checkpoint| checkpoint.index)
    }

    /// What a node gets that has everything up to `have`: the newest checkpoint if it reaches further, and the segments
    /// before it that hold what that node lacks.
    pub fn offer(&self, have: u64) -> Option<Staged> {
        let checkpoint = self.checkpoint().filter(|checkpoint| checkpoint.index > have)?;
        let log = self.log.get();
        assert!(log.entry(checkpoint.index).is_some(), "the log lacks its checkpoint's entry");
        let first = self.segment_of(have + 1).max(log.first());
        let before = (first - 1, log.term(first - 1)?);
        let entries = log.from(first).iter().take_while(|entry| entry.index <= checkpoint.index);
        Some(Staged { checkpoint: checkpoint.clone(), before, entries: entries.cloned().collect() })
    }

    /// Has the log begin with the segment that holds `index`, or with the last one.
    pub fn retire(&self, index: u64) {
        let first = self.segment_of(index.min(self.log.get().last()));
        self.log.change(|log| log.retire(first));
    }

    /// The first index of a segment with at least so many entries from there on; that of the log if there are fewer.
    pub fn index_before(&self, entries: u64) -> u64 {
        let log = self.log.get();
        self.segment_of((log.last() + 1).saturating_sub(entries)).max(log.first())
    }

    /// Where the segment begins that holds `index`.
    fn segment_of(&self, index: u64) -> u64 {
        index.saturating_sub((index + self.phase) % self.segment).max(1)
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

fn frames(work: Persist, staged: Option<Rc<Staged>>) -> Vec<Frame> {
    let first = match staged {
        Some(staged) => Some(Frame::Install(staged, work.hard_state)),
        None => work.hard_state.map(Frame::State),
    };
    first.into_iter().chain(work.entries.into_iter().map(Frame::Entry)).collect()
}

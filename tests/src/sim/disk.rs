//! A node's disk: frames in the order written, of which a crash keeps what was synced and perhaps a little more.

use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use esnode::consensus::{Durable, Persist, ReadFailed};
use esnode::entry::{Entry, HardState};
use fastrand::Rng;

use super::bugs::Bug;
use super::checkpoint::Checkpoint;

/// One frame of the log, as the real one writes them: term and vote in the same stream as the entries.
#[derive(Clone, Debug)]
enum Frame {
    State(HardState),
    Entry(Entry),
}

/// What the frames amount to when replayed in order.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The last one written.
    pub hard_state: HardState,
    /// By index, from 1.
    pub entries: Vec<Entry>,
}

impl Replayed {
    fn replay(&mut self, frame: &Frame, bug: Option<Bug>) {
        match frame {
            Frame::State(state) => self.hard_state = *state,
            Frame::Entry(entry) => {
                let before = usize::try_from(entry.index - 1).expect("a simulated log fits in memory");
                assert!(before <= self.entries.len(), "the log has a gap before entry {}", entry.index);
                if bug == Some(Bug::ResurrectSuffix) && before < self.entries.len() {
                    self.entries[before] = entry.clone();
                } else {
                    self.entries.truncate(before);
                    self.entries.push(entry.clone());
                }
            }
        }
    }

    /// The entry at `index`.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }
}

/// Reader of what is durable.
#[derive(Clone, Default)]
pub struct DiskLog(Rc<RefCell<Replayed>>);

impl DiskLog {
    /// What is durable now.
    pub fn get(&self) -> Ref<'_, Replayed> {
        self.0.borrow()
    }
}

impl Durable for DiskLog {
    fn first_index(&self) -> u64 {
        1
    }

    fn last_index(&self) -> u64 {
        self.get().entries.len() as u64
    }

    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        Ok(if index == 0 { Some(0) } else { self.get().entry(index).map(|entry| entry.term) })
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        let log = self.get();
        let mut bytes = 0;
        let found = (low..high).map_while(|index| log.entry(index)).take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.data.len().max(1) as u64;
            first || bytes <= max_bytes
        });
        Ok(found.cloned().collect())
    }
}

/// A write on its way: group commit gathers all that waits into one.
struct Write {
    number: u64,
    frames: Vec<Frame>,
}

/// The disk. It outlives the node's crashes.
pub struct Disk {
    frames: Vec<Frame>,
    log: DiskLog,
    waiting: VecDeque<Persist>,
    write: Option<Write>,
    bug: Option<Bug>,
    /// Frames already there when the node last started.
    old: usize,
    /// The newest one.
    pub checkpoint: Option<Checkpoint>,
    /// The next sync fails.
    pub fails: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(bug: Option<Bug>) -> Self {
        Self {
            frames: Vec::new(),
            log: DiskLog::default(),
            waiting: VecDeque::new(),
            write: None,
            bug,
            old: 0,
            checkpoint: None,
            fails: false,
        }
    }

    /// Takes work, in order.
    pub fn submit(&mut self, work: Persist) {
        if self.shows_unsynced() {
            frames(work.clone()).iter().for_each(|frame| self.log.0.borrow_mut().replay(frame, None));
        }
        self.waiting.push_back(work);
    }

    /// Starts to write and sync all that waits, when the disk is idle and something other than lazy work waits.
    pub fn begin(&mut self) -> bool {
        if self.write.is_some() || self.waiting.iter().all(|work| work.lazy) {
            return false;
        }
        let mut written = Vec::new();
        let mut number = 0;
        for work in self.waiting.drain(..) {
            number = work.number;
            written.extend(frames(work));
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
            let mut log = self.log.0.borrow_mut();
            log.replay(&frame, None);
            if let Frame::Entry(entry) = &frame {
                let before = log.entry(entry.index - 1).map_or(0, |entry| entry.term);
                entries.push((entry.clone(), before));
            }
            // Readers find what the system has in its memory, also when the disk never got it.
            if !lost {
                self.frames.push(frame);
            }
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

    /// Reads the whole log back, as a node does when it starts.
    pub fn recover(&mut self) -> (HardState, DiskLog) {
        let mut replayed = Replayed::default();
        for frame in &self.frames {
            replayed.replay(frame, self.bug);
        }
        self.old = self.frames.len();
        let state = replayed.hard_state;
        self.log = DiskLog(Rc::new(RefCell::new(replayed)));
        (state, self.log.clone())
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

fn frames(work: Persist) -> Vec<Frame> {
    let state = work.hard_state.map(Frame::State);
    state.into_iter().chain(work.entries.into_iter().map(Frame::Entry)).collect()
}

//! What the frames on a disk amount to, and what of it another node can get.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use esnode::consensus::{Durable, ReadFailed};
use esnode::entry::{Entry, HardState};
use esnode::replica::{FetchedSnapshot, ReplicaLog, Snapshot};

use super::bugs::Bug;
use super::snapshot_file::SnapshotFile;

/// One frame of the log, as the real one writes them: term and vote in the same stream as the entries.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    State(HardState),
    Entry(Entry),
    /// Another node's log and snapshot, all or nothing, with the state that goes with it.
    Install(SharedStaged, Option<HardState>),
    /// A new on-disk format; on a real disk it is not in the log, but written in its order.
    Format(u16),
}

/// What a node that is far behind gets from another: a snapshot, and the segments before it.
#[derive(Debug)]
pub struct Staged {
    /// The state.
    pub snapshot: SnapshotFile,
    /// Index and term of the entry before the first.
    pub before: (u64, u64),
    /// All of them up to the snapshot's.
    pub entries: Vec<Entry>,
}

/// Shared by those who still have to do with it.
pub type SharedStaged = Rc<Staged>;

/// A snapshot that was fetched, with the log before it.
#[derive(Clone, Debug)]
pub struct Fetched {
    staged: SharedStaged,
    snapshot: Box<Snapshot>,
}

impl Fetched {
    /// Reads the snapshot.
    pub fn new(staged: Staged) -> Self {
        Self { snapshot: Box::new(staged.snapshot.decode()), staged: Rc::new(staged) }
    }

    /// The snapshot as it was stored.
    pub fn file(&self) -> &SnapshotFile {
        &self.staged.snapshot
    }
}

impl FetchedSnapshot for Fetched {
    type Staged = SharedStaged;

    fn term(&self) -> u64 {
        self.file().term
    }

    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn staged(&self) -> SharedStaged {
        Rc::clone(&self.staged)
    }

    fn into_snapshot(self) -> Snapshot {
        *self.snapshot
    }
}

/// What the frames amount to when replayed in order.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The last one written.
    pub hard_state: HardState,
    /// Index and term of the entry before the first.
    pub base: (u64, u64),
    /// In order, from the one after the base.
    pub entries: Vec<Entry>,
}

impl Replayed {
    pub(super) fn replay(&mut self, frame: &Frame, bug: Option<Bug>) {
        match frame {
            Frame::State(state) => self.hard_state = *state,
            Frame::Format(_) => {}
            Frame::Entry(entry) => {
                let before = self.place(entry.index).unwrap_or(usize::MAX);
                assert!(before <= self.entries.len(), "the log has a gap before entry {}", entry.index);
                if bug == Some(Bug::ResurrectSuffix) && before < self.entries.len() {
                    self.entries[before] = entry.clone();
                } else {
                    self.entries.truncate(before);
                    self.entries.push(entry.clone());
                }
            }
            Frame::Install(staged, state) => {
                self.hard_state = state.unwrap_or(self.hard_state);
                self.install(staged, bug);
            }
        }
    }

    /// Puts another node's log behind this one, or in its place when it does not continue it.
    fn install(&mut self, staged: &Staged, bug: Option<Bug>) {
        let here = self.term(staged.before.0);
        let continues = here == Some(staged.before.1);
        if continues || (bug == Some(Bug::JoinAnything) && here.is_some()) {
            let keep = self.place(staged.before.0 + 1).unwrap_or(0);
            self.entries.truncate(keep);
            self.entries.extend_from_slice(&staged.entries);
        } else {
            self.base = staged.before;
            self.entries.clone_from(&staged.entries);
        }
    }

    /// Where an entry is, or would be.
    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.base.0 + 1)?).ok()
    }

    /// The entry at `index`.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(self.place(index)?)
    }

    /// The lowest index present; the one after the base when empty.
    pub fn first(&self) -> u64 {
        self.base.0 + 1
    }

    /// The highest index present; that of the base when empty.
    pub fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// Term of the entry at `index`, if it is present or the base.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 { Some(self.base.1) } else { self.entry(index).map(|entry| entry.term) }
    }

    /// Has the log begin with entry `first`, if it does not begin later and holds it.
    pub(super) fn delete_before(&mut self, first: u64) {
        let Some(gone) = self.place(first).filter(|gone| *gone < self.entries.len()) else { return };
        self.base = (first - 1, self.term(first - 1).expect("it is present, or the base"));
        self.entries.drain(..gone);
    }

    /// Entries from `low` on, as far as they are there.
    pub(super) fn from(&self, low: u64) -> &[Entry] {
        self.place(low).and_then(|at| self.entries.get(at..)).unwrap_or_default()
    }
}

/// How a log is divided into segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// Entries of a segment.
    pub segment: u64,
    /// Where segments begin: not at the same entries as those of others.
    pub phase: u64,
}

impl Layout {
    /// Where the segment begins that holds `index`.
    pub fn segment_of(&self, index: u64) -> u64 {
        index.saturating_sub((index + self.phase) % self.segment).max(1)
    }
}

/// What the disk of a log does just now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Something is being written, or waits for it.
    pub busy: bool,
    /// It is almost full.
    pub low_on_space: bool,
}

/// Reader of what is durable.
#[derive(Clone, Default)]
pub struct DiskLog {
    log: Rc<RefCell<Replayed>>,
    layout: Layout,
    activity: Rc<Cell<Activity>>,
}

impl DiskLog {
    pub(super) fn new(replayed: Replayed, layout: Layout) -> Self {
        Self { log: Rc::new(RefCell::new(replayed)), layout, activity: Rc::default() }
    }

    /// What is durable now.
    pub fn get(&self) -> Ref<'_, Replayed> {
        self.log.borrow()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Replayed)) {
        change(&mut self.log.borrow_mut());
    }

    pub(super) fn now(&self, activity: Activity) {
        self.activity.set(activity);
    }
}

impl ReplicaLog for DiskLog {
    /// Entries stand for bytes here.
    fn index_before(&self, entries: u64) -> u64 {
        let log = self.get();
        self.layout.segment_of((log.last() + 1).saturating_sub(entries)).max(log.first())
    }

    fn would_delete(&self, index: u64) -> bool {
        let log = self.get();
        self.layout.segment_of(index.min(log.last())) > log.first()
    }

    fn packed(&self) -> u64 {
        0
    }

    /// What is deleted leaves this disk at once.
    fn awaits_snapshot(&self) -> bool {
        false
    }

    fn low_on_space(&self) -> bool {
        self.activity.get().low_on_space
    }

    fn writer_is_idle(&self) -> bool {
        !self.activity.get().busy
    }
}

impl Durable for DiskLog {
    fn first_index(&self) -> u64 {
        self.get().first()
    }

    fn last_index(&self) -> u64 {
        self.get().last()
    }

    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
        Ok(self.get().term(index))
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
        let log = self.get();
        if low < log.first() {
            return Err(ReadFailed(format!(
                "entry {low} was asked for, but the log begins at {}",
                log.first()
            )));
        }
        let mut bytes = 0;
        let wanted = log.from(low).iter().take_while(|entry| entry.index < high);
        let found = wanted.take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.data.len().max(1) as u64;
            first || bytes <= max_bytes
        });
        Ok(found.cloned().collect())
    }
}

//! The log as Raft sees it: the durable log, and the entries that are still only in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::convert::{conf_state_to_raft, entry_to_raft, snapshot_to_raft};
use super::message::{ConfState, SnapshotMetadata};
use crate::entry::{Entry, HardState};

/// Entries that are durable on this node. Implemented by the real log and by the simulator's disk.
pub trait Durable {
    /// Lowest index present; 1 for an empty log.
    fn first_index(&self) -> u64;
    /// Highest durable index; 0 for an empty log.
    fn last_index(&self) -> u64;
    /// Term of a durable entry; `None` when it is not there.
    ///
    /// # Errors
    /// [`ReadFailed`].
    fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed>;
    /// Entries `low..high`, as many as fit `max_bytes` of payload, at least one.
    ///
    /// # Errors
    /// [`ReadFailed`].
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadFailed>;
}

/// The durable log could not be read, so the node cannot continue.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log: {0}")]
pub struct ReadFailed(pub String);

/// A read of old entries for a follower that lags behind. It is done on another thread, and its result goes to
/// `Core::fetched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// First index wanted.
    pub low: u64,
    /// One past the last index wanted.
    pub high: u64,
    /// Largest payload to return, in bytes.
    pub max_bytes: u64,
}

/// Raft's storage: the durable log, with the newest entries in memory.
pub(super) struct View<D> {
    durable: D,
    hard_state: HardState,
    conf_state: ConfState,
    /// Newest entries, contiguous up to the last index. Never evicted before they are durable and applied.
    tail: VecDeque<eraftpb::Entry>,
    tail_bytes: usize,
    budget: usize,
    /// Highest index known to be durable. Entries above it exist only in the tail.
    persisted: u64,
    /// Index and term of the entry after which Raft's log begins; the durable log may begin earlier.
    floor: (u64, u64),
    /// A snapshot is replacing the durable log, which does not count until that is complete.
    installing: bool,
    /// The newest snapshot, for followers that need entries from before the floor.
    snapshot: Option<SnapshotMetadata>,
    /// A follower needs a newer snapshot than this.
    wanted: Cell<bool>,
    pending: RefCell<BTreeMap<u64, Pending>>,
    fetched: RefCell<BTreeMap<u64, Vec<eraftpb::Entry>>>,
}

/// Largest number of sends that wait for one read. Further ones are repeated at the follower's next heartbeat response.
const MAX_CONTEXTS: usize = 32;

struct Pending {
    fetch: LogRead,
    asked: bool,
    contexts: Vec<GetEntriesContext>,
}

impl<D: Durable> View<D> {
    pub(super) fn new(durable: D, hard_state: HardState, conf_state: ConfState, budget: usize) -> Self {
        let persisted = durable.last_index();
        // Of the entries before the first one, only the term of the last is ever asked for.
        let before = durable.first_index() - 1;
        let floor = (before, durable.term(before).ok().flatten().unwrap_or_default());
        Self {
            durable,
            hard_state,
            conf_state,
            tail: VecDeque::new(),
            tail_bytes: 0,
            budget,
            persisted,
            floor,
            installing: false,
            snapshot: None,
            wanted: Cell::new(false),
            pending: RefCell::default(),
            fetched: RefCell::default(),
        }
    }

    /// Adds entries that are on their way to the disk. They replace those at their indices and above.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        while let Some(entry) = self.tail.pop_back_if(|entry| entry.index >= first.index) {
            self.tail_bytes -= entry.data.len();
        }
        self.persisted = self.persisted.min(first.index - 1);
        self.fetched.borrow_mut().retain(|low, _| *low < first.index);
        self.tail_bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.tail.extend(entries.iter().cloned());
    }

    /// Everything up to this entry is durable, unless the entry was replaced meanwhile.
    pub(super) fn persisted(&mut self, index: u64, term: u64) {
        if self.tail_entry(index).is_some_and(|entry| entry.term == term) {
            self.persisted = self.persisted.max(index);
        }
    }

    /// Makes Raft's log begin after entry `index`, which is applied. Deletes nothing from the durable log.
    pub(super) fn compact(&mut self, index: u64) {
        if index > self.floor.0 && !self.installing {
            self.floor = Storage::term(self, index).map_or(self.floor, |term| (index, term));
        }
    }

    /// A new snapshot exists for followers.
    pub(super) fn snapshot_written(&mut self, snapshot: SnapshotMetadata) {
        self.snapshot = Some(snapshot);
    }

    /// Whether a follower has needed a newer snapshot since this was last asked.
    pub(super) fn take_wanted(&mut self) -> bool {
        self.wanted.take()
    }

    /// A snapshot up to this entry replaces the whole log. It is not durable before [`View::installed`].
    pub(super) fn restore(&mut self, index: u64, term: u64) {
        self.tail.clear();
        self.tail_bytes = 0;
        self.persisted = index;
        self.floor = (index, term);
        self.installing = true;
        self.pending.get_mut().clear();
        self.fetched.get_mut().clear();
    }

    /// The durable log now contains the snapshot.
    pub(super) fn installed(&mut self) {
        self.installing = false;
    }

    /// Drops the oldest entries from memory that are durable and applied, until the budget is kept.
    pub(super) fn evict(&mut self, applied: u64) {
        let limit = self.persisted.min(applied);
        while self.tail_bytes > self.budget {
            let Some(entry) = self.tail.pop_front_if(|entry| entry.index <= limit) else { break };
            self.tail_bytes -= entry.data.len();
        }
    }

    /// Returns the reads that were not started yet.
    pub(super) fn take_fetches(&mut self) -> Vec<LogRead> {
        let unasked = self.pending.get_mut().values_mut().filter(|pending| !pending.asked);
        unasked
            .map(|pending| {
                pending.asked = true;
                pending.fetch
            })
            .collect()
    }

    /// Receives the result of a read. Returns the contexts of the sends that can be repeated now.
    pub(super) fn fetched(&mut self, fetch: LogRead, entries: Vec<Entry>) -> Vec<GetEntriesContext> {
        let Some(pending) = self.pending.get_mut().remove(&fetch.low) else { return Vec::new() };
        // Another leader may have replaced entries since the read began. If the last one read still stands, so do all
        // before it (log matching); if not, the send that waits asks again.
        let stands = entries.last().is_some_and(|last| {
            Storage::last_index(self).is_ok_and(|end| last.index <= end)
                && Storage::term(self, last.index).is_ok_and(|term| term == last.term)
        });
        if !stands {
            return pending.contexts;
        }
        self.fetched.get_mut().insert(fetch.low, entries.into_iter().map(entry_to_raft).collect());
        pending.contexts
    }

    /// Drops results that no send has used.
    pub(super) fn drop_fetched(&mut self) {
        self.fetched.get_mut().clear();
    }

    fn tail_first(&self) -> u64 {
        self.tail.front().map_or(u64::MAX, |entry| entry.index)
    }

    fn tail_entry(&self, index: u64) -> Option<&eraftpb::Entry> {
        let offset = usize::try_from(index.checked_sub(self.tail.front()?.index)?).ok()?;
        self.tail.get(offset)
    }

    fn read_tail(&self, low: u64, high: u64, max_bytes: u64) -> Vec<eraftpb::Entry> {
        let skip = usize::try_from(low - self.tail_first()).unwrap_or(usize::MAX);
        let wanted = self.tail.iter().skip(skip).take_while(|entry| entry.index < high);
        within(wanted.cloned(), max_bytes)
    }

    fn read_disk(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if let Some(found) = self.fetched.borrow().get(&low) {
            return Ok(within(found.iter().take_while(|entry| entry.index < high).cloned(), max_bytes));
        }
        if context.can_async() {
            let fetch = LogRead { low, high, max_bytes };
            let mut pending = self.pending.borrow_mut();
            let pending = pending.entry(low).or_insert(Pending { fetch, asked: false, contexts: Vec::new() });
            if pending.contexts.len() < MAX_CONTEXTS {
                pending.contexts.push(context);
            }
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        let found = self.durable.entries(low, high, max_bytes).map_err(store_error)?;
        Ok(found.into_iter().map(entry_to_raft).collect())
    }
}

impl<D: Durable> Storage for View<D> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let HardState { term, vote, commit } = self.hard_state;
        let hard_state = eraftpb::HardState { term, vote, commit, ..Default::default() };
        Ok(RaftState { hard_state, conf_state: conf_state_to_raft(&self.conf_state) })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        if low < Storage::first_index(self)? {
            return Err(StorageError::Compacted.into());
        }
        let tail_first = self.tail_first();
        if low >= tail_first {
            Ok(self.read_tail(low, high, max_bytes))
        } else {
            self.read_disk(low, high.min(tail_first), max_bytes, context)
        }
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if let Some(entry) = self.tail_entry(index) {
            return Ok(entry.term);
        }
        if index == self.floor.0 {
            return Ok(self.floor.1);
        }
        let durable = if self.installing { None } else { self.durable.term(index).map_err(store_error)? };
        match durable {
            _ if index < self.floor.0 => Err(StorageError::Compacted.into()),
            Some(term) => Ok(term),
            None if index < Storage::first_index(self)? => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        let first = self.floor.0 + 1;
        Ok(if self.installing { first } else { first.max(self.durable.first_index()) })
    }

    fn last_index(&self) -> raft::Result<u64> {
        let durable = || if self.installing { self.floor.0 } else { self.durable.last_index() };
        Ok(self.tail.back().map_or_else(durable, |entry| entry.index))
    }

    /// Returns what identifies the snapshot; its content is sent on another connection.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        // A snapshot from before the follower became a member does not contain it as a member, so the follower would
        // reject it again and again.
        let knows = |members: &ConfState| {
            let groups = [&members.voters, &members.learners, &members.voters_outgoing];
            groups.into_iter().flatten().any(|id| *id == to)
        };
        let newest = self.snapshot.as_ref().filter(|metadata| {
            metadata.index >= request_index.max(self.floor.0) && knows(&metadata.conf_state)
        });
        let Some(metadata) = newest else {
            self.wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        Ok(snapshot_to_raft(metadata))
    }
}

/// Returns the longest prefix within `max_bytes` of payload, but at least one entry.
fn within(entries: impl Iterator<Item = eraftpb::Entry>, max_bytes: u64) -> Vec<eraftpb::Entry> {
    let mut bytes = 0;
    let mut first = true;
    entries
        .take_while(|entry| {
            bytes += entry.data.len() as u64;
            std::mem::take(&mut first) || bytes <= max_bytes
        })
        .collect()
}

pub(super) fn store_error(error: ReadFailed) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::entry::EntryKind;

    /// Entries 1 to 5 of term 1, until another leader's entry 4 of term 2 replaces the last two.
    #[derive(Clone, Default)]
    struct Disk {
        replaced: Rc<Cell<bool>>,
    }

    impl Durable for Disk {
        fn first_index(&self) -> u64 {
            1
        }
        fn last_index(&self) -> u64 {
            if self.replaced.get() { 4 } else { 5 }
        }
        fn term(&self, index: u64) -> Result<Option<u64>, ReadFailed> {
            let term = if self.replaced.get() && index == 4 { 2 } else { 1 };
            Ok((1..=self.last_index()).contains(&index).then_some(term))
        }
        fn entries(&self, low: u64, high: u64, _max_bytes: u64) -> Result<Vec<Entry>, ReadFailed> {
            let entry = |index| {
                let term = self.term(index).ok()??;
                Some(Entry { index, term, kind: EntryKind::Normal, data: bytes::Bytes::new() })
            };
            Ok((low..high).map_while(entry).collect())
        }
    }

    /// A view of a disk, and a read of entries 3 to 5 that was asked for and done, but not handed over yet.
    fn reading() -> (View<Disk>, Disk, LogRead, Vec<Entry>) {
        let disk = Disk::default();
        let mut view = View::new(disk.clone(), HardState::default(), ConfState::default(), 0);
        assert!(view.entries(3, 6, None, GetEntriesContext::empty(true)).is_err());
        let fetch = view.take_fetches()[0];
        let entries = disk.entries(fetch.low, fetch.high, fetch.max_bytes).unwrap();
        (view, disk, fetch, entries)
    }

    fn members(voters: &[u64]) -> ConfState {
        ConfState { voters: voters.to_vec(), ..ConfState::default() }
    }

    #[test]
    fn what_raft_may_ask_for_begins_after_the_floor() {
        let mut view = View::new(Disk::default(), HardState::default(), ConfState::default(), 0);
        view.compact(3);
        assert_eq!((view.first_index().unwrap(), view.term(3).unwrap()), (4, 1));
        assert_eq!(view.term(2), Err(StorageError::Compacted.into()));
        let read = view.entries(3, 5, None, GetEntriesContext::empty(false));
        assert_eq!(read, Err(StorageError::Compacted.into()));
        view.compact(2);
        assert_eq!(view.first_index().unwrap(), 4, "it never goes back");
    }

    #[test]
    fn a_snapshot_is_offered_only_to_those_it_knows() {
        let mut view = View::new(Disk::default(), HardState::default(), ConfState::default(), 0);
        assert!(view.snapshot(0, 2).is_err() && view.take_wanted() && !view.take_wanted());
        view.snapshot_written(SnapshotMetadata { index: 4, term: 1, conf_state: members(&[1, 2]) });
        assert_eq!(view.snapshot(0, 2).unwrap().get_metadata().index, 4);
        assert!(!view.take_wanted());
        assert!(view.snapshot(0, 3).is_err() && view.take_wanted(), "it became a member later");
        assert!(view.snapshot(5, 2).is_err() && view.take_wanted(), "it has more already");
    }

    #[test]
    fn a_restored_snapshot_hides_the_log_until_it_is_installed() {
        let mut view = View::new(Disk::default(), HardState::default(), ConfState::default(), 0);
        view.restore(40, 7);
        assert_eq!((view.first_index().unwrap(), view.last_index().unwrap()), (41, 40));
        assert_eq!((view.term(40).unwrap(), view.term(5)), (7, Err(StorageError::Compacted.into())));
        assert_eq!(view.term(41), Err(StorageError::Unavailable.into()));
        view.append(&[eraftpb::Entry { index: 41, term: 7, ..Default::default() }]);
        assert_eq!((view.last_index().unwrap(), view.term(41).unwrap()), (41, 7));
    }

    #[test]
    fn a_read_is_used_once_it_is_there() {
        let (mut view, _, fetch, entries) = reading();
        assert_eq!(view.fetched(fetch, entries).len(), 1);
        assert_eq!(view.entries(3, 6, None, GetEntriesContext::empty(true)).unwrap().len(), 3);
    }

    #[test]
    fn a_read_of_entries_replaced_meanwhile_is_not_used() {
        let (mut view, disk, fetch, entries) = reading();
        let data = bytes::Bytes::from_static(b"new");
        view.append(&[eraftpb::Entry { index: 4, term: 2, data, ..Default::default() }]);
        disk.replaced.set(true);
        view.persisted(4, 2);
        view.evict(4);
        assert_eq!(view.fetched(fetch, entries).len(), 1, "the send that waits must be tried again");
        assert!(view.entries(3, 5, None, GetEntriesContext::empty(true)).is_err(), "it must be read again");
    }
}

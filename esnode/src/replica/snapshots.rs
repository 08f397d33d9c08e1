//! When a snapshot is due, what it lets go of, and how another node's takes the place of this one's state.

use super::effect::Effect;
use super::environment::{FetchedSnapshot, ReplicaLog};
use super::mistake::{Mistake, makes};
use super::snapshot_installer::Next;
use super::{Environment, Replica, Snapshot};
use crate::consensus::{ConfState, Durable as _, Message};

/// Payload of the log between two snapshots, at most, in bytes: few large entries are much to replay, and to keep, too.
const MAX_PAYLOAD_BETWEEN: u64 = 256 << 20;
/// Ticks after the start from which on an unfinished fetch of an earlier run is given up.
const DISCARD_TICKS: u64 = 6000;

/// Index, term and members of a snapshot.
pub(super) type Position = (u64, u64, ConfState);

/// When the next snapshot is due.
#[derive(Debug, Default)]
pub(super) struct SnapshotPace {
    /// Entries between two.
    interval: u64,
    /// Ticks from one to the next, at least: a busy node spends its disk on events.
    pause: u64,
    /// Index of the last one begun.
    last: u64,
    /// Payload of the log up to it, in bytes.
    last_payload: u64,
    /// No other before this tick.
    not_before: u64,
    /// Index of the newest one written.
    written: u64,
    /// Somebody waits for the next one.
    requested: bool,
    /// The one being written.
    under_way: Option<Position>,
}

impl SnapshotPace {
    /// A snapshot is due every `interval` entries after entry `last`, up to which there was that much payload, and no
    /// sooner than `pause` ticks after the one before.
    pub(super) fn new((interval, pause): (u64, u64), (last, last_payload): (u64, u64)) -> Self {
        Self { interval, pause, last, written: last, last_payload, ..Self::default() }
    }

    /// Whether it is time for one, with everything up to `applied` applied, which is so much payload.
    fn due(&self, tick: u64, applied: u64, payload: u64) -> bool {
        let new = applied.saturating_sub(self.last);
        let much = payload.saturating_sub(self.last_payload) >= MAX_PAYLOAD_BETWEEN;
        let wanted = new >= self.interval || ((much || self.requested) && new > 0);
        wanted && self.under_way.is_none() && tick >= self.not_before
    }

    /// One begins at `tick`, of this position and so much payload.
    fn begin(&mut self, tick: u64, position: Position, payload: u64) {
        (self.last, self.last_payload) = (position.0, payload);
        self.not_before = tick + self.pause;
        self.requested = false;
        self.under_way = Some(position);
    }

    /// The one under way has ended. Returns its position if it was `written`.
    fn ended(&mut self, written: bool) -> Option<Position> {
        self.under_way.take().filter(|_| written)
    }

    /// The next one is due as soon as there is anything new.
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// Whether the last one begun is of entry `index`, or of a later one.
    pub(super) fn covers(&self, index: u64) -> bool {
        self.last >= index
    }

    /// Another node's snapshot, of everything up to entry `index`, which is so much payload, was installed.
    fn installed(&mut self, index: u64, payload: u64) {
        (self.last, self.last_payload) = (index, payload);
    }
}

impl<E: Environment> Replica<E> {
    /// Begins a snapshot when it is due.
    pub(super) fn snapshot_if_due(&mut self) {
        if self.core.wants_snapshot() {
            self.snapshots.request();
        }
        // While a node installs another one's snapshot, Raft has the members of that one, and the state is the old one.
        if self.installer.is_installing() && !makes(Mistake::SnapshotWhileInstalling) {
            return;
        }
        let payload = self.state.read().payload();
        if !self.snapshots.due(self.tick, self.applied, payload) {
            return;
        }
        // Applied is durable, so its term is known.
        if let Ok(Some(term)) = self.log.term(self.applied) {
            let conf_state = self.core.conf_state();
            self.snapshots.begin(self.tick, (self.applied, term, conf_state.clone()), payload);
            let state = self.state.read().clone();
            self.effects.push(Effect::WriteSnapshot(term, Box::new(Snapshot { conf_state, state })));
        }
    }

    /// The snapshot under way is written, or there was no room for it.
    pub(super) fn snapshot_ended(&mut self, written: bool) {
        if let Some(position) = self.snapshots.ended(written) {
            self.publish_snapshot(position);
        }
    }

    /// Lets followers that lack much be sent to this snapshot, and lets go of what nobody needs then.
    pub(super) fn publish_snapshot(&mut self, (index, term, conf_state): Position) {
        if self.installer.is_installing() {
            // It is of the log that is about to go, whose start must not move meanwhile.
            return;
        }
        self.core.snapshot_written(index, term, conf_state);
        let kept = self.log.index_before(self.config.keep_bytes);
        self.core.compact(kept.saturating_sub(1).min(index));
        self.snapshots.written = index;
        // What holds no event that is kept, and is not replayed from this snapshot, may leave the disk. The snapshot's
        // own entry stays: whoever is sent there gets the log up to it.
        let needed = self.state.read().low_watermark().max(self.log.packed() + 1);
        let needed = if makes(Mistake::DeleteUpToSnapshot) { index } else { needed };
        self.effects.push(Effect::DeleteLog(needed.min(index)));
    }

    /// Lets go of segments whose place packs have taken since the newest snapshot was written.
    pub(super) fn delete_packed(&mut self) {
        let needed = (self.log.packed() + 1).min(self.snapshots.written);
        if self.log.would_delete(needed) && !self.installer.is_installing() {
            self.effects.push(Effect::DeleteLog(needed));
        }
    }

    /// A message names a snapshot that this node needs. Returns the message to give to Raft, if there is one now.
    pub(super) fn on_snapshot_named(&mut self, message: Message) -> Option<Message> {
        match self.installer.named(message, self.applied) {
            Next::Wait => None,
            Next::Receive(message) => Some(self.with_members(*message)),
            Next::Fetch(from) => {
                self.effects.push(Effect::FetchSnapshot(from, self.applied));
                None
            }
        }
    }

    /// A fetch has ended, with a snapshot or without.
    pub(super) fn snapshot_fetched(&mut self, fetched: Option<E::Fetched>) {
        if let Some(message) = self.installer.fetched(fetched, self.applied, self.core.term()) {
            let message = self.with_members(message);
            self.receive(message);
        }
    }

    fn with_members(&self, mut message: Message) -> Message {
        if makes(Mistake::StaleMembersAfterSnapshot) {
            message.snapshot.iter_mut().for_each(|named| named.conf_state = self.core.conf_state());
        }
        message
    }

    /// Another node's snapshot is durable here: its state is the state now.
    pub(super) fn take_over(&mut self, fetched: E::Fetched) {
        let term = fetched.term();
        let Snapshot { conf_state, state } = fetched.into_snapshot();
        let (index, payload) = (state.applied_index(), state.payload());
        tracing::info!(index, "caught up by files");
        if !makes(Mistake::StateNotInstalled) {
            let mut current = self.state.write();
            self.recent.restart(index + 1);
            *current = state;
        }
        self.applied = index;
        self.core.applied(index);
        self.snapshots.installed(index, payload);
        self.follow_members();
        self.publish_snapshot((index, term, conf_state));
        self.after_apply();
    }

    /// Has the remains of an earlier fetch removed, if nobody has sent this node to a snapshot since its start.
    pub(super) fn discard_fetched_if_unneeded(&mut self) {
        if self.tick == DISCARD_TICKS && !self.installer.was_named() {
            self.effects.push(Effect::DiscardFetched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_is_due_after_the_interval_and_not_while_one_is_written() {
        let mut pace = SnapshotPace::new((10, 100), (5, 1));
        let position = |index| (index, 1, ConfState::default());
        assert!(!pace.due(0, 14, 1) && pace.due(0, 15, 1));
        assert!(!pace.due(0, 6, MAX_PAYLOAD_BETWEEN) && pace.due(0, 6, 1 + MAX_PAYLOAD_BETWEEN));
        pace.begin(7, position(6), 2);
        assert!(!pace.due(500, 16, 2) && pace.covers(6) && !pace.covers(7));
        assert_eq!(pace.ended(true), Some(position(6)));
        assert!(!pace.due(106, 16, 2) && pace.due(107, 16, 2));
        assert!(!pace.due(107, 7, 2));
        pace.request();
        assert!(pace.due(107, 7, 2) && !pace.due(107, 6, 2), "there must be something new");
    }
}

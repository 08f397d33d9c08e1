//! Handing leadership over, and stopping, which begins with it.
//!
//! What is in the log is committed and answered first: cut off in the middle, its producers would not know what became of
//! it. What comes meanwhile waits, and is refused only when it is known who leads, so that a client goes there at once.

use shared::ids::NodeId;

use super::mistake::{Mistake, makes};
use super::response::{Response, TransferError};
use super::{Effect, End, Environment, Replica};
use crate::consensus::{Role, Status, Timing};

/// Redirect grace period, in ticks: a leader that has handed over in order to stop stays for so long, since its clients
/// learn from it who leads.
const REDIRECT_GRACE_TICKS: u64 = 20;

/// A hand-over under way.
pub(super) struct Transfer<W> {
    /// Who takes over, until Raft has been told.
    draining: Option<NodeId>,
    drain_until: u64,
    from_term: u64,
    deadline: u64,
    waiter: Option<W>,
}

/// Chooses who takes over: the wanted voter, or the most caught-up one that answers.
fn target(
    status: &Status,
    own: NodeId,
    wanted: Option<NodeId>,
    answers: impl Fn(NodeId) -> bool,
) -> Result<NodeId, TransferError> {
    if status.role != Role::Leader {
        return Err(TransferError::NotLeader(status.leader));
    }
    let bad = |id, reason: &str| Err(TransferError::BadTarget(id, reason.to_owned()));
    let voters = status.peers.iter().filter(|peer| status.voters.contains(&peer.id));
    match wanted {
        Some(id) if id == own => Ok(own),
        Some(id) if !status.voters.contains(&id) => bad(id, "it is not a voter"),
        Some(id) if !answers(id) => bad(id, "it does not answer the leader"),
        Some(id) => Ok(id),
        None => voters
            .filter(|peer| answers(peer.id))
            .max_by_key(|peer| peer.matched)
            .map_or_else(|| bad(own, "no other voter answers the leader"), |peer| Ok(peer.id)),
    }
}

impl<W> Transfer<W> {
    /// To `target`, by a node that leads in `from_term`, at `tick`. It no longer waits for what is in the log when a
    /// majority would count as silent: that needs another leader more than its clients need their answers.
    fn begin(target: NodeId, from_term: u64, tick: u64, timing: &Timing, waiter: Option<W>) -> Self {
        let (drain_until, deadline) = (tick + timing.silent(), tick + timing.transfer());
        Self { draining: Some(target), drain_until, from_term, deadline, waiter }
    }

    /// Whom Raft is to be told now, once: everything in the log is answered (`drained`), or it has waited long enough.
    fn due(&mut self, drained: bool, tick: u64) -> Option<NodeId> {
        let drained = drained || makes(Mistake::TransferWithoutDrain);
        self.draining.take_if(|_| drained || tick >= self.drain_until)
    }

    /// Ends it when another node leads, when time is up, or when Raft has given it up (`raft_has_it` is false) and this
    /// node leads still. Returns the outcome then.
    fn outcome(
        &self,
        own: NodeId,
        now: (Option<NodeId>, u64),
        tick: u64,
        raft_has_it: bool,
    ) -> Option<Result<(NodeId, u64), TransferError>> {
        let under_way = raft_has_it || self.draining.is_some();
        match now {
            (Some(leader), term) if leader != own && term > self.from_term => Some(Ok((leader, term))),
            (Some(leader), _) if leader == own && !under_way => Some(Err(TransferError::TimedOut)),
            _ if tick >= self.deadline => Some(Err(TransferError::TimedOut)),
            _ => None,
        }
    }
}

impl<E: Environment> Replica<E> {
    /// Begins to hand over to the wanted voter, or to the best one.
    pub(super) fn begin_transfer(&mut self, to: Option<NodeId>, waiter: Option<E::Waiter>) {
        let status = self.core.status();
        let active = |id| self.last_contact.is_active(id, self.tick);
        // Whoever is not asked for by name had better have room.
        let low = &self.low_followers;
        let some_have_room = status.peers.iter().any(|peer| active(peer.id) && !low.contains(peer.id));
        let eligible = |id| active(id) && (to.is_some() || !some_have_room || !low.contains(id));
        let outcome = match target(&status, self.config.own.0, to, eligible) {
            Ok(target) if target == self.config.own.0 => Ok((target, status.term)),
            Ok(target) => {
                // What came before it is not held up by it.
                while self.propose_gathered() {}
                self.transfer =
                    Some(Transfer::begin(target, status.term, self.tick, self.core.timing(), waiter));
                return self.announce(|leadership| leadership.handing_over = true);
            }
            Err(error) => Err(error),
        };
        self.responses.extend(waiter.map(|waiter| (waiter, Response::LeaderTransferred(outcome))));
    }

    /// Has Raft hand over once what is in the log is answered; a disk that hangs answers nothing. Returns whether it did.
    pub(super) fn hand_over_if_due(&mut self) -> bool {
        let drained = !self.proposals.any_pending() || self.disk_hangs();
        let due = self.transfer.as_mut().and_then(|transfer| transfer.due(drained, self.tick));
        if let Some(target) = due {
            self.core.transfer(target);
        }
        due.is_some()
    }

    /// Ends the hand-over when its outcome is known.
    pub(super) fn finish_transfer(&mut self) {
        let now = (self.core.leader(), self.core.term());
        let (own, raft_has_it) = (self.config.own.0, self.core.transferring());
        let outcome = |transfer: &Transfer<_>| transfer.outcome(own, now, self.tick, raft_has_it);
        let Some(outcome) = self.transfer.as_ref().and_then(outcome) else { return };
        let waiter = self.transfer.take().and_then(|transfer| transfer.waiter);
        self.responses.extend(waiter.map(|waiter| (waiter, Response::LeaderTransferred(outcome))));
        self.announce(|leadership| leadership.handing_over = false);
        if self.serves() {
            // What this leader proposed by itself was dropped meanwhile.
            self.propose_missing();
        }
        if self.stops_at.is_some() {
            let led_on = self.core.role() == Role::Leader;
            self.stops_at = Some(self.tick + if led_on { 0 } else { REDIRECT_GRACE_TICKS });
        }
    }

    /// Begins to stop: a leader hands over first.
    pub(super) fn begin_stop(&mut self) {
        self.stops_at = Some(self.tick + self.core.timing().transfer());
        self.begin_transfer(None, None);
        if self.transfer.is_none() {
            self.end(End::Stopped);
        }
    }

    /// Stops when it is time.
    pub(super) fn stop_if_due(&mut self) {
        if self.stops_at.is_some_and(|deadline| self.tick >= deadline) {
            self.end(End::Stopped);
        }
    }

    /// Announces a change of what this node knows of the leader.
    pub(super) fn announce(&mut self, change: impl FnOnce(&mut super::Leadership)) {
        change(&mut self.leadership);
        self.effects.push(Effect::Leadership(self.leadership));
    }
}

#[cfg(test)]
mod tests {
    use shared::spec::RaftTiming;

    use super::*;

    const DRAIN_TICKS: u64 = 30;

    fn transfer() -> Transfer<()> {
        let timing = Timing::from_spec(&RaftTiming::default());
        Transfer::begin(2, 5, 1000, &timing, None)
    }

    #[test]
    fn raft_is_told_once_and_only_when_the_log_is_answered() {
        let mut transfer = transfer();
        assert_eq!(transfer.due(false, 1000), None);
        assert_eq!(transfer.due(true, 1001), Some(2));
        assert_eq!(transfer.due(true, 1002), None);
    }

    #[test]
    fn a_majority_that_does_not_respond_does_not_keep_it() {
        let mut transfer = transfer();
        assert_eq!(transfer.due(false, 999 + DRAIN_TICKS), None);
        assert_eq!(transfer.due(false, 1000 + DRAIN_TICKS), Some(2));
    }

    #[test]
    fn it_is_not_given_up_before_raft_has_it() {
        let mut transfer = transfer();
        assert_eq!(transfer.outcome(1, (Some(1), 5), 1001, false), None, "it drains");
        transfer.due(true, 1002);
        assert_eq!(transfer.outcome(1, (Some(1), 5), 1003, true), None);
        assert_eq!(transfer.outcome(1, (None, 6), 1004, false), None, "who leads is not known yet");
        assert_eq!(transfer.outcome(1, (Some(2), 6), 1005, false), Some(Ok((2, 6))));
    }

    #[test]
    fn it_has_failed_when_raft_gives_it_up_or_time_is_over() {
        let timed_out = Some(Err(TransferError::TimedOut));
        let mut given_up = transfer();
        given_up.due(true, 1000);
        assert_eq!(given_up.outcome(1, (Some(1), 5), 1016, false), timed_out);
        assert_eq!(transfer().outcome(1, (None, 6), 1100, false), timed_out);
    }
}

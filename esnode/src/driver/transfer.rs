//! Handing leadership over, and telling whoever asked how it ended.
//!
//! What is in the log is committed and answered first: cut off in the middle, its producers would not know what became of
//! it. What comes meanwhile waits, and is refused only when it is known who leads, so that a client goes there at once.

use shared::ids::NodeId;
use tokio::sync::oneshot;

use super::run::{Driver, Ended};
use crate::consensus::{Role, Status, Timing};
use crate::node::handle::TransferError;

type Asker = oneshot::Sender<Result<(NodeId, u64), TransferError>>;

/// Ticks that a leader which has handed over to stop stays: its clients hear from it where to go, and ask it who leads.
const FAREWELL_TICKS: u64 = 20;

/// A hand-over under way.
pub(super) struct Transfer {
    /// Who takes over, until Raft has been told.
    draining: Option<NodeId>,
    drain_until: u64,
    from_term: u64,
    deadline: u64,
    asker: Option<Asker>,
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

impl Transfer {
    /// To `target`, by a node that leads in `from_term`, at `tick`. It no longer waits for what is in the log when a
    /// majority would count as silent: that needs another leader more than its clients need their answers.
    fn begin(target: NodeId, from_term: u64, tick: u64, timing: &Timing, asker: Option<Asker>) -> Self {
        let (drain_until, deadline) = (tick + timing.silent(), tick + timing.transfer());
        Self { draining: Some(target), drain_until, from_term, deadline, asker }
    }

    /// Whom Raft is to be told now, once: everything in the log is answered (`drained`), or it has waited long enough.
    fn due(&mut self, drained: bool, tick: u64) -> Option<NodeId> {
        self.draining.take_if(|_| drained || tick >= self.drain_until)
    }

    /// Ends it when another node leads, when time is up, or when Raft has given it up (`raft_has_it` is false) and this
    /// node leads still; returns whether it has ended.
    fn finish(&mut self, own: NodeId, now: (Option<NodeId>, u64), tick: u64, raft_has_it: bool) -> bool {
        let under_way = raft_has_it || self.draining.is_some();
        let outcome = match now {
            (Some(leader), term) if leader != own && term > self.from_term => Ok((leader, term)),
            (Some(leader), _) if leader == own && !under_way => Err(TransferError::TimedOut),
            _ if tick >= self.deadline => Err(TransferError::TimedOut),
            _ => return false,
        };
        if let Some(asker) = self.asker.take() {
            let _ = asker.send(outcome);
        }
        true
    }
}

impl Driver {
    /// Begins to hand over to the wanted voter, or to the best one.
    pub(super) fn begin_transfer(&mut self, to: Option<NodeId>, asker: Option<Asker>) {
        let status = self.parts.core.status();
        let answers = |id| self.heard.answers(id, self.tick);
        // Whoever is not asked for by name had better have room.
        let some_have_room = status.peers.iter().any(|peer| answers(peer.id) && !self.low.has(peer.id));
        let answers = |id| answers(id) && (to.is_some() || !some_have_room || !self.low.has(id));
        match target(&status, self.parts.own.0, to, answers) {
            Ok(target) if target == self.parts.own.0 => {
                asker.map(|asker| asker.send(Ok((target, status.term))));
            }
            Ok(target) => {
                // What came before it is not held up by it.
                self.propose_gathered();
                self.transfer = Some(Transfer::begin(target, status.term, self.tick, &self.timing, asker));
                self.parts.leadership.send_modify(|leadership| leadership.handing_over = true);
            }
            Err(error) => {
                asker.map(|asker| asker.send(Err(error)));
            }
        }
    }

    /// Lets Raft hand over once what is in the log is answered; a disk that hangs answers nothing. Returns whether it did.
    pub(super) fn hand_over_if_due(&mut self) -> bool {
        let drained = !self.proposals.any_pending() || self.disk_hangs();
        let Some(target) = self.transfer.as_mut().and_then(|transfer| transfer.due(drained, self.tick))
        else {
            return false;
        };
        self.parts.core.transfer(target);
        true
    }

    /// Looks whether the hand-over has ended.
    pub(super) fn finish_transfer(&mut self) {
        let now = (self.parts.core.leader(), self.parts.core.term());
        let raft_has_it = self.parts.core.transferring();
        if self.transfer.as_mut().is_some_and(|t| t.finish(self.parts.own.0, now, self.tick, raft_has_it)) {
            self.transfer = None;
            self.parts.leadership.send_modify(|leadership| leadership.handing_over = false);
            if self.stopping.is_some() {
                let led_on = self.parts.core.role() == Role::Leader;
                self.stopping = Some(self.tick + if led_on { 0 } else { FAREWELL_TICKS });
            }
        }
    }

    /// Stops: a leader hands over first.
    pub(super) fn begin_stop(&mut self) {
        self.stopping = Some(self.tick + self.timing.transfer());
        self.begin_transfer(None, None);
        if self.transfer.is_none() {
            self.ended.get_or_insert(Ended::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::spec::RaftTiming;

    use super::*;

    const DRAIN_TICKS: u64 = 30;

    type Answer = oneshot::Receiver<Result<(NodeId, u64), TransferError>>;

    fn transfer() -> (Transfer, Answer) {
        let (asker, answer) = oneshot::channel();
        let timing = Timing::from_spec(&RaftTiming::default());
        (Transfer::begin(2, 5, 1000, &timing, Some(asker)), answer)
    }

    #[test]
    fn raft_is_told_once_and_only_when_the_log_is_answered() {
        let (mut transfer, _answer) = transfer();
        assert_eq!(transfer.due(false, 1000), None);
        assert_eq!(transfer.due(true, 1001), Some(2));
        assert_eq!(transfer.due(true, 1002), None);
    }

    #[test]
    fn a_majority_that_does_not_answer_does_not_keep_it() {
        let (mut transfer, _answer) = transfer();
        assert_eq!(transfer.due(false, 999 + DRAIN_TICKS), None);
        assert_eq!(transfer.due(false, 1000 + DRAIN_TICKS), Some(2));
    }

    #[test]
    fn it_is_not_given_up_before_raft_has_it() {
        let (mut transfer, mut answer) = transfer();
        assert!(!transfer.finish(1, (Some(1), 5), 1001, false), "it drains");
        transfer.due(true, 1002);
        assert!(!transfer.finish(1, (Some(1), 5), 1003, true));
        assert!(!transfer.finish(1, (None, 6), 1004, false), "who leads is not known yet");
        assert!(transfer.finish(1, (Some(2), 6), 1005, false));
        assert_eq!(answer.try_recv(), Ok(Ok((2, 6))));
    }

    #[test]
    fn it_has_failed_when_raft_gives_it_up_or_time_is_over() {
        let (mut given_up, mut answer) = transfer();
        given_up.due(true, 1000);
        assert!(given_up.finish(1, (Some(1), 5), 1016, false));
        assert_eq!(answer.try_recv(), Ok(Err(TransferError::TimedOut)));
        let (mut late, mut answer) = transfer();
        assert!(late.finish(1, (None, 6), 1100, false));
        assert_eq!(answer.try_recv(), Ok(Err(TransferError::TimedOut)));
    }
}

//! What a leader does for its clients: proposals, reads, and what is applied.

use std::sync::Arc;

use super::effect::Effect;
use super::input::Request;
use super::mistake::{Mistake, makes};
use super::proposals::pack;
use super::response::{ChangeError, ProposeError, Response};
use super::{Environment, Replica, conf_change};
use crate::consensus::Role;
use crate::entry::{Entry, EntryKind};
use crate::state_machine::command::Command;
use crate::state_machine::{Applied, StateMachine};

/// Commands, or partitions that they change, after whose entry the rest has to wait until inputs had their turn.
const MAX_APPLIED: usize = 128;

impl<E: Environment> Replica<E> {
    /// Somebody asks for something.
    pub(super) fn on_request(&mut self, request: Request, waiter: E::Waiter) {
        let response = match request {
            Request::Propose(proposal) => return self.proposals.gather(proposal, waiter),
            Request::ReadBarrier if self.core.role() == Role::Leader => return self.barriers.ask(waiter),
            Request::ReadBarrier => Response::ReadBarrier(Err(ProposeError::NotLeader(self.core.leader()))),
            Request::Status => Response::Status(Some(self.core.status())),
            Request::TransferLeader(to) => return self.begin_transfer(to, Some(waiter)),
            Request::ChangeMembers(change) => return self.begin_change(&change, Some(waiter)),
            Request::RaisableFormat(wanted) => Response::RaisableFormat(self.raisable_format(wanted)),
        };
        self.responses.push((waiter, response));
    }

    /// Proposes the next entry of what was gathered. During a hand-over it waits: for the next leader, which is then
    /// named, or for this one to lead on. Returns whether it took anything, so that there may be more.
    pub(super) fn propose_gathered(&mut self) -> bool {
        if !self.proposals.any_gathered() || self.transfer.is_some() {
            return false;
        }
        let refused = match self.core.role() {
            Role::Leader => self.disk_hangs().then_some(ProposeError::Busy),
            _ => Some(ProposeError::NotLeader(self.core.leader())),
        };
        if let Some(error) = refused {
            self.proposals.refuse_gathered(error, &mut self.responses);
            return false;
        }
        let (taken, serving) = (self.proposals.take_gathered(), self.serves());
        let (barriers, responses) = (&mut self.barriers, &mut self.responses);
        let taken = self.proposals.sort_out(taken, &self.state.read(), serving, barriers, responses);
        let Some(packed) = pack(taken) else { return true };
        self.tick_log_time();
        match self.core.propose(vec![packed.payload.clone()]) {
            Ok(at) if makes(Mistake::AckBeforeCommit) => {
                let mut next = self.state.read().clone();
                self.proposals.proposed(at, packed);
                let index = next.applied_index() + 1;
                self.proposals.answer_early(&mut next, index, at.term, &mut self.responses);
            }
            Ok(at) => self.proposals.proposed(at, packed),
            Err(_) => self.proposals.dropped(packed, &mut self.responses),
        }
        true
    }

    /// Asks for the proofs that read barriers wait for.
    pub(super) fn prove_reads(&mut self) {
        if !self.core.committed_in_term() {
            return;
        }
        if let Some(context) = self.barriers.next_context(self.tick) {
            // Dropped means that leadership is gone; then the change answers whoever waits.
            let _ = self.core.read_index(context);
        }
    }

    /// Applies some of what is committed, and answers whoever waits for it.
    pub(super) fn apply(&mut self) {
        let mut committed = Vec::new();
        let (mut touched, mut groups, mut topics) = (Vec::new(), Vec::new(), false);
        let (mut outcomes, mut deleted) = (Vec::new(), Vec::new());
        let mut work = 0;
        let state = Arc::clone(&self.state);
        let mut state = state.write();
        while work < MAX_APPLIED
            && let Some(entry) = self.committed.pop_front()
        {
            let applied = apply_entry(&mut state, &entry);
            work += applied.replies.len().max(applied.touched.len()).max(1);
            touched.extend(applied.touched);
            groups.extend(applied.groups);
            deleted.extend(applied.deleted);
            self.freed |= applied.freed;
            topics |= applied.topics;
            // Before anybody can read of them in the state.
            applied.batches.into_iter().for_each(|(partition, batch)| self.recent.push(partition, batch));
            outcomes.push((entry.index, entry.term, applied.replies));
            committed.push(entry);
        }
        drop(state);
        let Some(last) = committed.last().map(|entry| entry.index) else { return };
        self.apply_changes(&committed);
        self.core.applied(last);
        if topics {
            // Whoever is told of it asks any node for the topic at once.
            self.core.tell_commit();
        }
        for (index, term, replies) in outcomes {
            self.proposals.applied(index, term, replies, &mut self.responses);
        }
        self.applied = last;
        touched.sort_unstable();
        touched.dedup();
        if !touched.is_empty() {
            self.effects.push(Effect::Wake(touched));
        }
        groups.sort_unstable();
        groups.dedup();
        if !groups.is_empty() {
            self.effects.push(Effect::WakeGroups(groups));
        }
        if !deleted.is_empty() {
            self.effects.push(Effect::Discard(deleted));
        }
        self.after_apply();
    }

    /// Has Raft take on the members that `committed` leads to.
    fn apply_changes(&mut self, committed: &[Entry]) {
        for entry in committed.iter().filter(|entry| entry.kind != EntryKind::Normal) {
            if let Some(members) = self.core.apply_change(entry) {
                let (voters, learners) = (&members.voters, &members.learners);
                tracing::info!(index = entry.index, ?voters, ?learners, "members");
                self.follow_members();
            }
            self.changed_members(entry.index, entry.term);
        }
    }

    /// Follows the state, after anything that may have changed it.
    pub(super) fn after_apply(&mut self) {
        let state = Arc::clone(&self.state);
        let state = state.read();
        let cluster = state.cluster_id();
        let members_at = state.members().changed_at();
        self.time.lock().follow(state.clock().latest(), self.now);
        drop(state);
        if members_at != self.members_at {
            self.follow_members();
        }
        self.adopt_format();
        if self.cluster.is_none() {
            self.cluster = cluster;
            self.effects.extend(cluster.map(Effect::Cluster));
        }
        self.barriers.applied(self.applied, &mut self.responses);
        if self.serves_from.is_some_and(|index| index <= self.applied) {
            self.begin_to_serve();
        }
    }

    fn begin_to_serve(&mut self) {
        self.serves_from = None;
        self.announce(|leadership| leadership.serving = true);
        self.propose_missing();
    }

    /// Proposes what a leader that serves finds missing: the cluster's identity and the bindings of members.
    pub(super) fn propose_missing(&mut self) {
        if self.cluster.is_none() {
            let begin = Command::Bootstrap { cluster_id: self.config.new_cluster };
            let commands: Vec<_> = [begin].into_iter().chain(self.begin_in_newest_format()).collect();
            self.propose_own(&commands);
        }
        self.bind_members();
    }

    /// The role, the term or the leader changed.
    pub(super) fn on_role_change(&mut self) {
        let (role, term, leader) = (self.core.role(), self.core.term(), self.core.leader());
        tracing::info!(term, leader, "now {role:?}");
        if role == Role::Leader {
            let led = self.leadership.leader == Some(self.config.own.0);
            if !led || self.leadership.term != term {
                self.new_term();
            }
        } else {
            self.serves_from = None;
            self.proposals.lost_leadership(&mut self.responses);
            self.barriers.lost_leadership(leader, &mut self.responses);
            self.conclude_change(Err(ChangeError::Unknown));
        }
        let serving = self.serves();
        self.announce(|leadership| {
            (leadership.leader, leadership.term, leadership.serving) = (leader, term, serving);
        });
        self.finish_transfer();
    }

    /// This node leads in a new term.
    fn new_term(&mut self) {
        self.registry.new_term();
        self.last_contact.new_term(self.tick);
        self.proposals.new_term(&mut self.responses);
        self.promotion.new_term();
        self.serves_from = Some(self.core.status().last_index);
    }
}

fn apply_entry(state: &mut StateMachine, entry: &Entry) -> Applied {
    let mut apply = || match entry.kind {
        EntryKind::Normal => state.apply(entry.index, entry.term, &entry.data),
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
            state.change_members(entry.index, conf_change::change_of(entry).as_ref())
        }
    };
    if makes(Mistake::ApplyTwice) && entry.index.is_multiple_of(100) {
        apply();
    }
    apply()
}

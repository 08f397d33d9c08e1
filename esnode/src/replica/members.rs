//! The members: who they are and where, their bindings to data directories, changes and promotions.

use std::sync::Arc;

use shared::ids::NodeId;

use super::conf_change::{Context, PendingChange, Validated, to_raft};
use super::effect::{Effect, End, Members};
use super::mistake::{Mistake, makes};
use super::peer_registry::is_response;
use super::response::{ChangeError, Response};
use super::{Environment, Replica};
use crate::consensus::{ConfState, Message, Role};
use crate::state_machine::members::Change;

/// The ids of all members, sorted.
pub(super) fn ids(conf: &ConfState) -> Vec<NodeId> {
    let ConfState { voters, voters_outgoing, learners, learners_next, .. } = conf;
    let mut ids = [voters.as_slice(), voters_outgoing, learners, learners_next].concat();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl<E: Environment> Replica<E> {
    /// Follows the members, after anything that may have changed them.
    pub(super) fn follow_members(&mut self) {
        let conf = self.core.conf_state();
        let state = Arc::clone(&self.state);
        let state = state.read();
        let members = state.members();
        self.members_at = members.changed_at();
        self.retire_durably(members);
        if members.is_retired(self.config.own.1) {
            self.leave_soon();
        }
        let ids = ids(&conf);
        if ids.len() > 1 && !self.config.synced {
            self.end(End::NotSynced);
        }
        let address = |id: &NodeId| {
            let configured = || self.config.nodes.iter().find(|node| node.id == *id).cloned();
            members.added(*id).map(|added| added.address.of_node(*id)).or_else(configured)
        };
        self.roster = ids.iter().filter_map(address).collect();
        for lost in ids.iter().filter(|id| !self.roster.iter().any(|node| node.id == **id)) {
            tracing::warn!("no address is known for member {lost}: add it to `cluster.nodes`");
        }
        let promoted = |id: &NodeId| !members.added(*id).is_some_and(|added| added.stays_learner);
        self.candidates = conf.learners.into_iter().filter(promoted).collect();
        self.effects.push(Effect::Members(Members {
            roster: Arc::clone(&self.roster),
            bindings: members.bindings().clone(),
            retired: self.writes.told().clone(),
        }));
    }

    /// As leader, binds every member that has said who it is to its data directory, once.
    pub(super) fn bind_members(&mut self) {
        if self.core.role() == Role::Leader && self.core.committed_in_term() {
            let members: Vec<_> = self.roster.iter().map(|node| node.id).collect();
            let commands = self.registry.unbound(&self.state.read(), self.config.own, &members);
            if self.propose_own(&commands) || makes(Mistake::ForgetDropped) {
                self.registry.proposed(&commands);
            }
        }
    }

    /// Changes the members, if that may be done now.
    pub(super) fn begin_change(&mut self, change: &Change, waiter: Option<E::Waiter>) {
        let outcome = match self.validate(change) {
            Ok(Validated::Propose) => match self.core.propose_change(&to_raft(change)) {
                Ok(at) => {
                    tracing::info!(?change, index = at.first, "a membership change is proposed");
                    self.change = Some(PendingChange::new(at.first, at.term, waiter));
                    return;
                }
                // It hands over at this moment.
                Err(_) => Err(ChangeError::NotLeader(None)),
            },
            Ok(Validated::AlreadyApplied) => Ok(()),
            Err(error) => Err(error),
        };
        self.responses.extend(waiter.map(|waiter| (waiter, Response::MembersChanged(outcome))));
    }

    fn validate(&self, change: &Change) -> Result<Validated, ChangeError> {
        let state = self.state.read();
        let context = Context {
            own: self.config.own.0,
            serving: self.serves_from.is_none(),
            status: &self.core.status(),
            roster: &self.roster,
            members: state.members(),
            last_contact: &self.last_contact,
            tick: self.tick,
        };
        context.validate(change)
    }

    /// Entry `index` of `term`, which changes the members, is applied.
    pub(super) fn changed_members(&mut self, index: u64, term: u64) {
        if let Some(outcome) = self.change.as_ref().and_then(|change| change.outcome(index, term)) {
            self.conclude_change(outcome);
        }
    }

    /// Answers whoever waits for the change under way, if there is one.
    pub(super) fn conclude_change(&mut self, outcome: Result<(), ChangeError>) {
        let waiter = self.change.take().and_then(|change| change.waiter);
        self.responses.extend(waiter.map(|waiter| (waiter, Response::MembersChanged(outcome))));
    }

    /// As leader, gives a vote to learners that have kept up for a while.
    pub(super) fn promote_learners(&mut self) {
        if self.candidates.is_empty() || !self.serves() {
            return;
        }
        if makes(Mistake::PromoteAtOnce) {
            let change = to_raft(&Change::Promote(self.candidates[0]));
            let _ = self.core.propose_change(&change);
            return;
        }
        let (own, status) = (self.config.own.0, self.core.status());
        let ready = self.promotion.ready(own, &status, &self.candidates, &self.last_contact, self.tick);
        if let Some(node) = ready {
            self.begin_change(&Change::Promote(node), None);
        }
    }

    /// As leader, notes that `peer` responds, if one of these messages of it is a response to this leader.
    pub(super) fn note_contact(&mut self, peer: NodeId, messages: &[Message]) {
        let term = self.core.term();
        let responds = |message: &Message| message.term == term && is_response(message);
        if self.core.role() == Role::Leader && messages.iter().any(responds) {
            self.last_contact.note(peer, self.tick);
        }
    }

    /// Ends in a while, as a node that was removed.
    pub(super) fn leave_soon(&mut self) {
        if self.leaves_at.is_none() {
            tracing::warn!("this node was removed from the cluster: it stops");
            self.leaves_at = Some(self.tick + self.core.timing().redirect_grace());
        }
    }

    /// Ends when this node was removed and has stayed long enough.
    pub(super) fn leave_if_due(&mut self) {
        if self.leaves_at.is_some_and(|deadline| self.tick >= deadline) {
            self.end(End::Removed);
        }
    }
}

//! What the raft thread does about members: binds them to their data directories, carries changes out, promotes
//! learners, and lets the rest of the node know who they are and where.

use std::sync::Arc;

use shared::ids::NodeId;
use shared::spec::Node;

use super::introductions::is_answer;
use super::membership::{ChangeError, ChangeReply, Pending, Scene, Verdict, to_raft};
use super::run::{Driver, Ended};
use crate::consensus::{Message, Role};
use crate::state_machine::members::Change;

impl Driver {
    /// Follows the members, after anything that may have changed them.
    pub(super) fn follow_members(&mut self) {
        let conf = self.parts.core.conf_state();
        let stream = Arc::clone(&self.parts.stream);
        let stream = stream.read();
        let members = stream.members();
        self.members_at = members.changed_at();
        if members.is_spent(self.parts.own.1) && self.leaving.is_none() {
            tracing::warn!("this node was removed from the cluster: it stops");
            self.leaving = Some(self.tick + self.timing.farewell());
        }
        let mut ids = [conf.voters, conf.voters_outgoing, conf.learners.clone(), conf.learners_next].concat();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > 1 && !self.parts.synced {
            self.ended.get_or_insert(Ended::NotSynced);
        }
        let place = |id: &NodeId| {
            let founder = || self.parts.nodes.iter().find(|node| node.id == *id).cloned();
            members.added(*id).map(|added| added.address.of_node(*id)).or_else(founder)
        };
        let roster: Arc<[Node]> = ids.iter().filter_map(place).collect();
        for lost in ids.iter().filter(|id| !roster.iter().any(|node| node.id == **id)) {
            tracing::warn!(node = lost, "a member that this node cannot reach: add it to `cluster.nodes`");
        }
        let promoted = |id: &NodeId| !members.added(*id).is_some_and(|added| added.stays_learner);
        self.learners = conf.learners.into_iter().filter(promoted).collect();
        let bindings = members.bindings().iter().map(|(node, store)| (*node, *store)).collect();
        self.parts
            .transport
            .set_bindings(bindings, members.spent().iter().map(|(store, node)| (*store, *node)).collect());
        let peers = roster.iter().map(|node| (node.id, node.host.clone(), node.cluster_port));
        if let Err(error) = self.parts.transport.set_peers(peers.collect()) {
            tracing::error!(%error, "cannot connect to a member");
        }
        self.roster = Arc::clone(&roster);
        self.parts.roster.send_replace(roster);
    }

    /// A leader binds every member it has met to its data directory, once.
    pub(super) fn bind_members(&mut self) {
        if self.parts.core.role() == Role::Leader && self.parts.core.committed_in_term() {
            let members: Vec<_> = self.roster.iter().map(|node| node.id).collect();
            let commands = self.introductions.unbound(&self.parts.stream.read(), self.parts.own, &members);
            self.propose_own(&commands);
        }
    }

    /// Changes the members, if that may be done now.
    pub(super) fn begin_change(&mut self, change: &Change, reply: Option<ChangeReply>) {
        let outcome = match self.judge(change) {
            Ok(Verdict::Propose) => match self.parts.core.propose_change(&to_raft(change)) {
                Ok(at) => {
                    tracing::info!(?change, index = at.first, "a membership change is proposed");
                    self.change = Some(Pending::new(at.first, at.term, reply));
                    return;
                }
                // It hands over at this moment.
                Err(_) => Err(ChangeError::NotLeader(None)),
            },
            Ok(Verdict::Made) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
    }

    fn judge(&self, change: &Change) -> Result<Verdict, ChangeError> {
        let stream = self.parts.stream.read();
        let scene = Scene {
            own: self.parts.own.0,
            serving: self.serves_from.is_none(),
            status: &self.parts.core.status(),
            roster: &self.roster,
            members: stream.members(),
            heard: &self.heard,
            tick: self.tick,
        };
        scene.judge(change)
    }

    /// Entry `index` of `term`, which changes the members, is applied.
    pub(super) fn changed_members(&mut self, index: u64, term: u64) {
        if self.change.as_mut().is_some_and(|pending| pending.applied(index, term)) {
            self.change = None;
        }
    }

    /// A leader gives a vote to learners that have kept up for a while.
    pub(super) fn promote_learners(&mut self) {
        let leads = self.parts.core.role() == Role::Leader && self.serves_from.is_none();
        if self.learners.is_empty() || !leads {
            return;
        }
        let (own, status) = (self.parts.own.0, self.parts.core.status());
        if let Some(node) = self.promotion.ready(own, &status, &self.learners, &self.heard, self.tick) {
            self.begin_change(&Change::Promote(node), None);
        }
    }

    /// Messages from `peer`: whether it answers this leader.
    pub(super) fn note_answer(&mut self, peer: NodeId, messages: &[Message]) {
        let term = self.parts.core.term();
        if self.parts.core.role() == Role::Leader
            && messages.iter().any(|message| message.term == term && is_answer(message))
        {
            self.heard.note(peer, self.tick);
        }
    }

    /// A removed node has stayed long enough.
    pub(super) fn leave_if_due(&mut self) {
        if self.leaving.is_some_and(|deadline| self.tick >= deadline) {
            self.ended.get_or_insert(Ended::Removed);
        }
    }
}

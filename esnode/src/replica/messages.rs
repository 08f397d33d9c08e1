//! Messages of the other nodes, on their way into and out of consensus.

use std::collections::BTreeMap;

use shared::ids::NodeId;

use super::Replica;
use super::effect::{Effect, End};
use super::environment::{Environment, ReplicaLog as _};
use super::hello::Hello;
use super::snapshot_installer::names_snapshot;
use crate::consensus::{Message, MessageType};

impl<E: Environment> Replica<E> {
    /// Another node said who it is.
    pub(super) fn on_hello(&mut self, hello: Hello) {
        self.registry.register(hello);
        if self.registry.disown(&self.state.read(), self.config.own, self.roster.len()) {
            self.end(End::WrongStore);
        }
        self.bind_members();
    }

    /// Another node sent messages.
    pub(super) fn on_messages(&mut self, from: NodeId, mut messages: Vec<Message>) {
        {
            let state = self.state.read();
            messages.retain(|message| self.registry.accepts(&state, from, message));
        }
        self.note_contact(from, &messages);
        messages.iter().for_each(|message| self.low_followers.note(message));
        messages.into_iter().for_each(|message| self.on_message(message));
    }

    fn on_message(&mut self, message: Message) {
        if message.kind == MessageType::Append && self.disk_hangs() {
            return;
        }
        let message = if names_snapshot(&message) { self.on_snapshot_named(message) } else { Some(message) };
        if let Some(message) = message {
            self.receive(message);
        }
    }

    /// Gives a message to consensus, which ignores one that cannot be true.
    pub(super) fn receive(&mut self, message: Message) {
        let (peer, kind) = (message.from, message.kind);
        if let Err(reason) = self.core.receive(message) {
            self.effects.push(Effect::Implausible(peer, kind, reason));
        }
    }

    /// Another node refuses this one, as a member that was removed. Others may not know yet that the removal is committed,
    /// and elect nobody without this node's vote if the leader dies now: it stays for a while.
    pub(super) fn on_refused_as_removed(&mut self, peer: NodeId) {
        if self.is_in_roster(peer) {
            self.leave_soon();
        }
    }

    /// Another node refuses this one, whose cluster it has left behind. One refusal is enough, and at once: after a loss of
    /// quorum the survivor alone knows that the others must not go on as a cluster.
    pub(super) fn on_refused_as_abandoned(&mut self, peer: NodeId) {
        if self.is_in_roster(peer) {
            self.end(End::Removed);
        }
    }

    fn is_in_roster(&self, node: NodeId) -> bool {
        self.roster.iter().any(|member| member.id == node)
    }

    /// Sends messages of consensus, each node's together.
    pub(super) fn send(&mut self, messages: Vec<Message>) {
        let mut by_peer: BTreeMap<NodeId, Vec<Message>> = BTreeMap::new();
        let low = self.log.low_on_space();
        let state = self.state.read();
        for mut message in messages.into_iter().filter(|message| self.registry.may_send(&state, message)) {
            super::disk_space::tell(low, &mut message);
            by_peer.entry(message.to).or_default().push(message);
        }
        drop(state);
        self.effects.extend(by_peer.into_iter().map(|(peer, messages)| Effect::Send(peer, messages)));
    }
}

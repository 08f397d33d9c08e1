//! What the raft thread does about the other nodes: hears who they are, and gives Raft what they say.

use super::run::{Driver, Ended};
use super::way_back::is_sent_there;
use crate::consensus::{Message, MessageType};
use crate::net::peer::{PeerEvent, RefusalCode};

impl Driver {
    /// Something from the transport.
    pub(super) fn handle_peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Hello(hello) => {
                self.introductions.greet(hello);
                if self.introductions.disown(&self.parts.stream.read(), self.parts.own, self.roster.len()) {
                    self.ended = Some(Ended::WrongStore);
                }
                self.bind_members();
            }
            PeerEvent::Messages(from, mut messages) => {
                let stream = self.parts.stream.read();
                messages.retain(|message| self.introductions.may_take(&stream, from, message));
                drop(stream);
                self.note_answer(from, &messages);
                self.note_room(&messages);
                // What is taken makes room for more only once it is dealt with.
                messages.take().into_iter().for_each(|message| self.receive(message));
            }
            PeerEvent::Disconnected(peer) => {
                self.parts.core.unreachable(peer);
            }
            PeerEvent::Refused(peer, refused) if refused.code == RefusalCode::Removed => {
                if self.roster.iter().any(|node| node.id == peer) {
                    self.ended = Some(Ended::Removed);
                }
            }
            PeerEvent::Connected(_) | PeerEvent::Refused(..) => {}
        }
    }

    fn receive(&mut self, message: Message) {
        if message.kind == MessageType::Append && self.disk_hangs() {
            return;
        }
        let message =
            if is_sent_there(&message) { self.catch_up.sent(message, self.applied) } else { Some(message) };
        if let Some(message) = message {
            self.step(message);
        }
    }

    /// Gives Raft a message, if it can be true.
    pub(super) fn step(&mut self, message: Message) {
        let (peer, kind) = (message.from, message.kind);
        if let Err(reason) = self.parts.core.receive(message)
            && let Some(times) = self.implausible.due()
        {
            tracing::warn!(peer, ?kind, times, "a message that cannot be true is not listened to: {reason}");
        }
    }
}

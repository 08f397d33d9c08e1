//! Who the other nodes say they are, and whether this node may talk Raft with them.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{NodeId, StoreId};

use crate::consensus::{Message, MessageType};
use crate::net::peer::{Formats, Hello};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;

/// The other nodes' introductions.
#[derive(Default)]
pub(super) struct Introductions {
    met: BTreeMap<NodeId, Hello>,
    /// Bindings proposed in this leader's term, so that each is proposed once.
    binding: BTreeSet<(NodeId, StoreId)>,
}

/// Whether the message answers a leader or a candidate.
pub(super) fn is_answer(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
    )
}

/// How many know this node by another data directory than `own`.
pub(super) fn disowning<'a>(met: impl IntoIterator<Item = &'a Hello>, own: StoreId) -> usize {
    met.into_iter().filter(|hello| hello.your_store.is_some_and(|store| store != own)).count()
}

impl Introductions {
    pub(super) fn greet(&mut self, hello: Hello) {
        self.met.insert(hello.node, hello);
    }

    /// What `node` says of its on-disk formats.
    pub(super) fn formats_of(&self, node: NodeId) -> Option<Formats> {
        self.met.get(&node).map(|hello| hello.formats)
    }

    /// Whether the message may go out. A leader takes nobody along whose data directory is not the one that the cluster
    /// knows: with its first message a new node begins to take part.
    pub(super) fn may_send(&self, stream: &StateMachine, message: &Message) -> bool {
        let leads = matches!(
            message.get_msg_type(),
            MessageType::MsgAppend
                | MessageType::MsgHeartbeat
                | MessageType::MsgSnapshot
                | MessageType::MsgTimeoutNow
        );
        !leads || self.trusted(stream, message.to)
    }

    /// Whether the message that `peer` has sent may be given to Raft. Answers are counted, so they must come from the
    /// data directory that the cluster knows: two with the same id would otherwise vote twice (Raft paper 5.2 relies on
    /// votes being remembered). This node's own members never run ahead of the bindings that it has applied, so it
    /// always knows whose answers count. Whoever asks is judged by Raft's rules alone: a node that lags does not know
    /// yet who is bound to what, and must follow all the same.
    pub(super) fn may_take(&self, stream: &StateMachine, peer: NodeId, message: &Message) -> bool {
        !is_answer(message) || self.trusted(stream, peer)
    }

    fn trusted(&self, stream: &StateMachine, peer: NodeId) -> bool {
        let Some(hello) = self.met.get(&peer) else { return true };
        match stream.members().store_of(peer) {
            Some(store) => store == hello.store,
            None if stream.members().is_spent(hello.store) => false,
            None => !(hello.fresh && stream.cluster_id().is_some()),
        }
    }

    /// Whether the cluster knows this node by another data directory: so many of `members` nodes say so that it must be
    /// true. One of them alone may not have heard yet that the node with that directory was removed, and what this node
    /// has applied may be from then too; but once it has applied that it is the one, nobody's word counts against it.
    pub(super) fn disown(&self, stream: &StateMachine, own: (NodeId, StoreId), members: usize) -> bool {
        if stream.members().store_of(own.0) == Some(own.1) {
            return false;
        }
        // Who does not know the cluster does not know its members either.
        let cluster = stream.cluster_id();
        let met = self.met.values().filter(|hello| cluster.is_none() || hello.cluster == cluster);
        disowning(met, own.1) * 2 >= members.max(2)
    }

    /// Bindings of `members` that a leader should propose now.
    pub(super) fn unbound(
        &mut self,
        stream: &StateMachine,
        own: (NodeId, StoreId),
        members: &[NodeId],
    ) -> Vec<Command> {
        let met = self.met.values().map(|hello| (hello.node, hello.store));
        let known = stream.members();
        let wanted: Vec<_> = std::iter::once(own)
            .chain(met)
            .filter(|(node, _)| members.contains(node) && known.store_of(*node).is_none())
            .filter(|(_, store)| !known.is_spent(*store))
            .filter(|bound| !self.binding.contains(bound))
            .collect();
        self.binding.extend(&wanted);
        wanted.into_iter().map(|(node, store)| Command::Bind { node, store }).collect()
    }

    /// A new term: what an earlier leader's term proposed may be lost.
    pub(super) fn new_term(&mut self) {
        self.binding.clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use shared::ids::ClusterId;
    use shared::spec::MAX_NODES;
    use uuid::Uuid;

    use super::*;

    const KINDS: [MessageType; 8] = [
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ];

    fn store(id: u128) -> StoreId {
        StoreId(Uuid::from_u128(id))
    }

    fn hello(store: StoreId, fresh: bool) -> Hello {
        let founders = [0; MAX_NODES];
        Hello {
            node: 2,
            store,
            cluster: None,
            fresh,
            members: 1,
            founders,
            your_store: None,
            formats: Formats::default(),
        }
    }

    /// A founded cluster that knows node 2 by store 22, if `bound`.
    fn stream(bound: bool) -> StateMachine {
        let mut payload = BytesMut::new();
        Command::Found { cluster_id: ClusterId(Uuid::from_u128(1)) }.encode(&mut payload);
        if bound {
            Command::Bind { node: 2, store: store(22) }.encode(&mut payload);
        }
        let mut stream = StateMachine::default();
        stream.apply(1, 1, &payload.freeze());
        stream
    }

    /// The kinds of messages that may go to node 2, and those that may be taken from it.
    fn allowed(stream: &StateMachine, hello: Hello) -> [Vec<MessageType>; 2] {
        let mut met = Introductions::default();
        met.greet(hello);
        let message = |kind| {
            let mut message = Message { from: 2, to: 2, ..Message::default() };
            message.set_msg_type(kind);
            message
        };
        let sent = KINDS.into_iter().filter(|kind| met.may_send(stream, &message(*kind)));
        let taken = KINDS.into_iter().filter(|kind| met.may_take(stream, 2, &message(*kind)));
        [sent.collect(), taken.collect()]
    }

    #[test]
    fn only_the_known_directorys_answers_count_and_only_it_is_led() {
        let [mut sent, mut taken] = allowed(&stream(true), hello(store(22), false));
        assert_eq!((sent.len(), taken.len()), (KINDS.len(), KINDS.len()));
        for (stream, hello) in [
            (stream(true), hello(store(23), false)),
            (stream(true), hello(store(23), true)),
            (stream(false), hello(store(23), true)),
        ] {
            [sent, taken] = allowed(&stream, hello);
            assert_eq!([sent.len(), taken.len()], [6, 4], "{hello:?}");
            assert!(!sent.contains(&MessageType::MsgAppend) && !sent.contains(&MessageType::MsgHeartbeat));
            assert!(taken.iter().all(|kind| !format!("{kind:?}").ends_with("Response")), "{taken:?}");
        }
        // At the founding nobody is bound yet, and whoever has taken part already may.
        assert_eq!(allowed(&StateMachine::default(), hello(store(23), true))[1].len(), KINDS.len());
        assert_eq!(allowed(&stream(false), hello(store(23), false))[1].len(), KINDS.len());
    }

    #[test]
    fn one_of_many_may_be_out_of_date_about_this_node() {
        let mut met = Introductions::default();
        let cluster = Some(ClusterId(Uuid::from_u128(1)));
        let knows = |node, other: u128| Hello {
            node,
            cluster,
            your_store: Some(store(other)),
            ..hello(store(node.into()), false)
        };
        let unsure = stream(false);
        met.greet(knows(2, 99));
        met.greet(knows(3, 11));
        assert!(!met.disown(&unsure, (1, store(11)), 3), "one of two");
        met.greet(knows(3, 99));
        assert!(met.disown(&unsure, (1, store(11)), 3));
        assert!(!met.disown(&unsure, (1, store(11)), 5), "two of four");
        // What this node has applied itself is above whatever anybody says.
        met.greet(knows(1, 99));
        assert!(!met.disown(&stream(true), (2, store(22)), 3));
        assert!(met.disown(&stream(true), (2, store(23)), 3));
    }
}

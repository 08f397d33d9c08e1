//! The other nodes as they say who they are, and whether this node may talk Raft with them.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{NodeId, StoreId};

use super::hello::{Formats, Hello};
use super::mistake::{Mistake, makes};
use crate::consensus::{Message, MessageType};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;

/// Every node that has said who it is.
#[derive(Debug, Default)]
pub struct PeerRegistry {
    known: BTreeMap<NodeId, Hello>,
    connected: BTreeSet<NodeId>,
    /// Bindings proposed in this leader's term, so that each is proposed once.
    binding: BTreeSet<(NodeId, StoreId)>,
}

/// Whether the message is a response to a leader or a candidate.
pub(super) fn is_response(message: &Message) -> bool {
    matches!(
        message.kind,
        MessageType::AppendResponse
            | MessageType::HeartbeatResponse
            | MessageType::RequestVoteResponse
            | MessageType::RequestPreVoteResponse
    )
}

/// How many of these nodes know this node by another data directory than `own`.
pub(super) fn disowning<'a>(known: impl IntoIterator<Item = &'a Hello>, own: StoreId) -> usize {
    known.into_iter().filter(|hello| hello.your_store.is_some_and(|store| store != own)).count()
}

impl PeerRegistry {
    /// Notes who a node says that it is.
    pub fn register(&mut self, hello: Hello) {
        self.known.insert(hello.node, hello);
    }

    /// Notes that the connection to a node is up.
    pub fn connected(&mut self, node: NodeId) {
        self.connected.insert(node);
    }

    /// Notes that the connection to a node is gone.
    pub fn disconnected(&mut self, node: NodeId) {
        self.connected.remove(&node);
    }

    /// All that have said who they are.
    pub(super) fn known(&self) -> &BTreeMap<NodeId, Hello> {
        &self.known
    }

    /// Whether the connection to `node` is up.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.connected.contains(&node)
    }

    /// The on-disk formats of `node`, if it has told.
    pub(super) fn formats_of(&self, node: NodeId) -> Option<Formats> {
        self.known.get(&node).map(|hello| hello.formats)
    }

    /// Whether the message may go out. A leader takes nobody along whose data directory is not the one that the cluster
    /// knows: with its first message a new node begins to take part.
    pub(super) fn may_send(&self, state: &StateMachine, message: &Message) -> bool {
        let leads = matches!(
            message.kind,
            MessageType::Append | MessageType::Heartbeat | MessageType::Snapshot | MessageType::TimeoutNow
        );
        !leads || self.trusts(state, message.to)
    }

    /// Whether the message that `peer` has sent may be given to Raft. Answers are counted, so they must come from the
    /// data directory that the cluster knows: two with the same id would otherwise vote twice (Raft paper 5.2 relies on
    /// votes being remembered). This node's own members never run ahead of the bindings that it has applied, so it
    /// always knows whose answers count. Whoever asks is judged by Raft's rules alone: a node that lags does not know
    /// yet who is bound to what, and must follow all the same.
    pub(super) fn accepts(&self, state: &StateMachine, peer: NodeId, message: &Message) -> bool {
        !is_response(message) || self.trusts(state, peer)
    }

    fn trusts(&self, state: &StateMachine, peer: NodeId) -> bool {
        if makes(Mistake::TrustAnyStore) {
            return true;
        }
        let Some(hello) = self.known.get(&peer) else { return true };
        match state.members().store_of(peer) {
            Some(store) => store == hello.store,
            None if state.members().is_retired(hello.store) => false,
            None => !(hello.fresh && state.cluster_id().is_some()),
        }
    }

    /// Whether the cluster knows this node by another data directory: at least half of its `members` say so. One of them
    /// alone may not have applied yet that the node with that directory was removed, and neither may this node; but once
    /// this node has applied its own binding, nobody's word counts against that.
    pub(super) fn disown(&self, state: &StateMachine, own: (NodeId, StoreId), members: usize) -> bool {
        if state.members().store_of(own.0) == Some(own.1) {
            return false;
        }
        // Who does not know the cluster does not know its members either.
        let cluster = state.cluster_id();
        let alike = self.known.values().filter(|hello| cluster.is_none() || hello.cluster == cluster);
        disowning(alike, own.1) * 2 >= members.max(2)
    }

    /// Bindings of `members` that a leader should propose now.
    pub(super) fn unbound(
        &self,
        state: &StateMachine,
        own: (NodeId, StoreId),
        members: &[NodeId],
    ) -> Vec<Command> {
        let seen = self.known.values().map(|hello| (hello.node, hello.store));
        let known = state.members();
        let wanted: Vec<_> = std::iter::once(own)
            .chain(seen)
            .filter(|(node, _)| members.contains(node) && known.store_of(*node).is_none())
            .filter(|(_, store)| !known.is_retired(*store))
            .filter(|bound| !self.binding.contains(bound))
            .collect();
        wanted.into_iter().map(|(node, store)| Command::Bind { node, store }).collect()
    }

    /// These bindings are proposed.
    pub(super) fn proposed(&mut self, bindings: &[Command]) {
        self.binding.extend(bindings.iter().filter_map(|command| match command {
            Command::Bind { node, store } => Some((*node, *store)),
            _ => None,
        }));
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
        MessageType::Append,
        MessageType::AppendResponse,
        MessageType::Heartbeat,
        MessageType::HeartbeatResponse,
        MessageType::RequestVote,
        MessageType::RequestVoteResponse,
        MessageType::RequestPreVote,
        MessageType::RequestPreVoteResponse,
    ];

    fn store(id: u128) -> StoreId {
        StoreId(Uuid::from_u128(id))
    }

    fn hello(store: StoreId, fresh: bool) -> Hello {
        let initial_voters = [0; MAX_NODES];
        Hello {
            node: 2,
            store,
            cluster: None,
            fresh,
            members: 1,
            initial_voters,
            your_store: None,
            formats: Formats::default(),
        }
    }

    /// The state of a cluster that knows node 2 by store 22, if `bound`.
    fn state_of_cluster(bound: bool) -> StateMachine {
        let mut payload = BytesMut::new();
        Command::Bootstrap { cluster_id: ClusterId(Uuid::from_u128(1)) }.encode(&mut payload);
        if bound {
            Command::Bind { node: 2, store: store(22) }.encode(&mut payload);
        }
        let mut state = StateMachine::default();
        state.apply(1, 1, &payload.freeze());
        state
    }

    /// The kinds of messages that may go to node 2, and those that may be taken from it.
    fn allowed(state: &StateMachine, hello: Hello) -> [Vec<MessageType>; 2] {
        let mut registry = PeerRegistry::default();
        registry.register(hello);
        let message = |kind| Message { kind, from: 2, to: 2, ..Message::default() };
        let sent = KINDS.into_iter().filter(|kind| registry.may_send(state, &message(*kind)));
        let taken = KINDS.into_iter().filter(|kind| registry.accepts(state, 2, &message(*kind)));
        [sent.collect(), taken.collect()]
    }

    #[test]
    fn only_the_known_directorys_answers_count_and_only_it_is_led() {
        let [mut sent, mut taken] = allowed(&state_of_cluster(true), hello(store(22), false));
        assert_eq!((sent.len(), taken.len()), (KINDS.len(), KINDS.len()));
        for (state, hello) in [
            (state_of_cluster(true), hello(store(23), false)),
            (state_of_cluster(true), hello(store(23), true)),
            (state_of_cluster(false), hello(store(23), true)),
        ] {
            [sent, taken] = allowed(&state, hello);
            assert_eq!([sent.len(), taken.len()], [6, 4], "{hello:?}");
            assert!(!sent.contains(&MessageType::Append) && !sent.contains(&MessageType::Heartbeat));
            assert!(taken.iter().all(|kind| !format!("{kind:?}").ends_with("Response")), "{taken:?}");
        }
        // At the bootstrap nobody is bound yet, and whoever has taken part already may.
        assert_eq!(allowed(&StateMachine::default(), hello(store(23), true))[1].len(), KINDS.len());
        assert_eq!(allowed(&state_of_cluster(false), hello(store(23), false))[1].len(), KINDS.len());
    }

    #[test]
    fn one_of_many_may_be_out_of_date_about_this_node() {
        let mut registry = PeerRegistry::default();
        let cluster = Some(ClusterId(Uuid::from_u128(1)));
        let knows = |node, other: u128| Hello {
            node,
            cluster,
            your_store: Some(store(other)),
            ..hello(store(node.into()), false)
        };
        let unsure = state_of_cluster(false);
        registry.register(knows(2, 99));
        registry.register(knows(3, 11));
        assert!(!registry.disown(&unsure, (1, store(11)), 3), "one of two");
        registry.register(knows(3, 99));
        assert!(registry.disown(&unsure, (1, store(11)), 3));
        assert!(!registry.disown(&unsure, (1, store(11)), 5), "two of four");
        // What this node has applied itself is above whatever anybody says.
        registry.register(knows(1, 99));
        assert!(!registry.disown(&state_of_cluster(true), (2, store(22)), 3));
        assert!(registry.disown(&state_of_cluster(true), (2, store(23)), 3));
    }
}

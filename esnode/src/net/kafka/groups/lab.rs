//! A group in a state machine, for the tests of what members hear that wait for it.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::state_machine::StateMachine;
use crate::state_machine::command::{Command, Reply};
use crate::state_machine::groups::consumer::{ConsumerChange, Heartbeat, Partitions};
use crate::state_machine::groups::subscription::tests::subscription;
use crate::state_machine::groups::{Group, GroupChange, GroupReply, Joining, Leaving, Protocol};

/// A state machine with a group g of consumers of a topic t.
pub struct Lab {
    pub state: StateMachine,
}

impl Lab {
    /// Members a and b of the classic protocol are in generation 1, and nothing is assigned.
    pub fn joined() -> Self {
        let mut lab = Self { state: StateMachine::default() };
        lab.apply(&Command::CreateTopic { name: "t".to_owned(), partitions: 4, configs: BTreeMap::new() });
        ["a", "b"].iter().for_each(|member| drop(lab.join(member, true)));
        lab.change(GroupChange::CompleteJoin { generation: 0 });
        lab
    }

    fn apply(&mut self, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        self.state.apply(self.state.applied_index() + 1, 1, &payload.freeze()).replies.remove(0)
    }

    fn change(&mut self, change: GroupChange) -> GroupReply {
        match self.apply(&Command::Group { group: "g".to_owned(), change }) {
            Reply::Group(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// A member of the classic protocol joins, or joins again.
    pub fn join(&mut self, member: &str, is_new: bool) -> GroupReply {
        self.change(GroupChange::Join(Joining {
            member: member.to_owned(),
            is_new,
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: 6_000,
            rebalance_timeout: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: "range".to_owned(), metadata: subscription(&["t"], &[]) }],
        }))
    }

    /// A member of the consumer protocol joins.
    pub fn join_consumer(&mut self, member: &str) {
        self.change(GroupChange::Consumer(ConsumerChange::Heartbeat(Heartbeat {
            member: member.to_owned(),
            epoch: 0,
            instance: None,
            rack: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout: Some(5_000),
            topics: Some(["t".to_owned()].into()),
            pattern: None,
            assignor: None,
            owned: Some(Partitions::new()),
        })));
    }

    pub fn leave(&mut self, member: &str) {
        self.change(GroupChange::Leave(vec![Leaving { member: member.to_owned(), instance: None }]));
    }

    pub fn group(&self) -> &Group {
        self.state.group("g").expect("the group is there")
    }
}

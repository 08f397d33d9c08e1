//! A member of a consumer group, of the classic protocol: joins, assigns if it leads, and commits what it owns, one offset
//! after the other. Where members of the consumer protocol join it, it goes on among them.

use bytes::{BufMut, Bytes, BytesMut};
use esnode::state_machine::groups::{
    CommittedOffset, Group, GroupChange, Joining, Leaving, OffsetCommit, Phase, Protocol,
};
use fastrand::Rng;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedPartition;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::client::topic;

/// The group of all members.
pub const GROUP: &str = "group";
/// The partition that the group reads.
pub const PARTITION: (u32, u32) = (1, 0);
/// Version of what members say and hear.
const VERSION: i16 = 3;

/// What a member is assigned: the partition, or nothing.
fn assignment(owns: bool) -> Bytes {
    let owned = TopicPartition::default().with_topic(name()).with_partitions(vec![0]);
    let owned = owns.then_some(owned).into_iter().collect();
    encoded(&ConsumerProtocolAssignment::default().with_assigned_partitions(owned))
}

/// What a member says of itself that keeps the partition while it joins, or has none.
fn subscription(keeps: bool) -> Bytes {
    let owned = OwnedPartition::default().with_topic(name()).with_partitions(vec![0]);
    let owned = keeps.then_some(owned).into_iter().collect();
    let topics = vec![name().0];
    encoded(&ConsumerProtocolSubscription::default().with_topics(topics).with_owned_partitions(owned))
}

fn name() -> TopicName {
    TopicName(StrBytes::from_string(topic(0)))
}

/// As clients write it: its version comes first.
fn encoded(body: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    body.encode(&mut out, VERSION).expect("its fields are in this version");
    out.freeze()
}

/// What a member knows of itself.
#[derive(Clone, Debug)]
pub struct Membership {
    client: usize,
    /// How many ids it has had.
    ids: u64,
    /// What it does next; it looks at the group first if there is nothing.
    todo: Option<GroupChange>,
}

/// Where the group goes on; 0 if nothing was committed.
pub fn committed(group: Option<&Group>) -> i64 {
    let offset = group.and_then(|group| group.offsets().get(PARTITION.0, PARTITION.1));
    offset.map_or(0, |offset| offset.offset)
}

/// The offset that a change commits, if it is a commit.
pub fn commits(change: &GroupChange) -> Option<i64> {
    match change {
        GroupChange::Commit(commit) => commit.offsets.first().map(|(.., offset)| offset.offset),
        _ => None,
    }
}

impl Membership {
    /// Of a client that has no id yet.
    pub fn new(client: usize) -> Self {
        Self { client, ids: 0, todo: None }
    }

    /// What it decided to do when it looked last, once.
    pub fn take(&mut self) -> Option<GroupChange> {
        self.todo.take()
    }

    /// The group does not know its id any more: it joins with another one.
    pub fn forgotten(&mut self) {
        self.ids += 1;
    }

    fn id(&self) -> String {
        format!("member-{}-{}", self.client, self.ids)
    }

    /// Decides what to do next as the group stands.
    pub fn look(&mut self, group: Option<&Group>, rng: &mut Rng) {
        let id = self.id();
        if let Some(group) = group.filter(|group| group.consumer().is_some()) {
            self.todo = self.among_consumers(group, rng);
            return;
        }
        let Some((group, member)) = group.and_then(|group| Some((group, group.members().get(&id)?))) else {
            self.todo = Some(self.join(true, false));
            return;
        };
        let generation = group.generation();
        self.todo = match group.phase() {
            Phase::PreparingRebalance { .. } if !member.joined => Some(self.join(false, false)),
            // Others may be slow, or gone.
            Phase::PreparingRebalance { .. } => Some(GroupChange::CompleteJoin { generation }),
            Phase::CompletingRebalance if group.leader() == Some(&*id) => {
                let owner = rng.usize(..group.members().len());
                let shares = group
                    .members()
                    .keys()
                    .enumerate()
                    .map(|(at, member)| (member.clone(), assignment(at == owner)));
                Some(GroupChange::Assign { member: id, generation, assignments: shares.collect() })
            }
            Phase::Stable if rng.u8(..30) == 0 => {
                Some(GroupChange::Leave(vec![Leaving { member: id, instance: None }]))
            }
            Phase::Stable if rng.u8(..30) == 0 => Some(self.join(false, false)),
            Phase::Stable if member.assignment == assignment(true) => {
                Some(commit(id, generation, committed(Some(group)) + 1))
            }
            _ => None,
        };
    }

    /// Sometimes it keeps what it has until it is told to give it up, and says so, as a cooperative client does.
    fn among_consumers(&self, group: &Group, rng: &mut Rng) -> Option<GroupChange> {
        let (id, consumers) = (self.id(), group.consumer()?);
        let Some(member) = consumers.members().get(&id) else { return Some(self.join(true, false)) };
        let owns = member.assigned.contains(&PARTITION);
        match rng.u8(..30) {
            0 => Some(GroupChange::Leave(vec![Leaving { member: id, instance: None }])),
            1..15 if consumers.has_to_join(member) => Some(self.join(false, owns && rng.bool())),
            _ => owns.then(|| commit(id, member.epoch, committed(Some(group)) + 1)),
        }
    }

    fn join(&self, is_new: bool, keeps: bool) -> GroupChange {
        GroupChange::Join(Joining {
            member: self.id(),
            is_new,
            instance: None,
            client_id: self.client.to_string(),
            client_host: String::new(),
            session_timeout: 6_000,
            rebalance_timeout: 6_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: "range".to_owned(), metadata: subscription(keeps) }],
        })
    }
}

/// The owner has dealt with the event before `offset`, in this generation or epoch.
pub fn commit(member: String, generation: i32, offset: i64) -> GroupChange {
    let (topic, partition) = PARTITION;
    let offset = CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), committed: 0 };
    GroupChange::Commit(OffsetCommit {
        member,
        instance: None,
        generation,
        offsets: vec![(topic, partition, offset)],
    })
}

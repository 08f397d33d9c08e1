//! A member of a group of the consumer protocol: sends heartbeats, has what it was told to have, and commits what it owns,
//! one offset after the other. It goes by what it was told, not by how the group stands.

use esnode::state_machine::groups::consumer::{ConsumerChange, Heartbeat, HeartbeatReply, Partitions};
use esnode::state_machine::groups::{Group, GroupChange, GroupError, Leaving};
use fastrand::Rng;

use super::client::topic;
use super::member::{PARTITION, commit};

/// The group of members of the consumer protocol alone.
pub const CONSUMER_GROUP: &str = "consumer-group";

/// What a member knows of itself.
#[derive(Clone, Debug)]
pub struct Consumer {
    client: usize,
    /// The group's name.
    pub group: &'static str,
    /// How many ids it has had.
    ids: u64,
    /// 0 until it has joined.
    epoch: i32,
    /// What it was told to have.
    owned: Partitions,
    /// It has not said yet what it has, or a response was lost: it tells everything in its next heartbeat.
    tells: bool,
    /// What it does next; it looks at the offset first if there is nothing.
    todo: Option<GroupChange>,
}

impl Consumer {
    /// Of a client that has not joined yet.
    pub fn new(client: usize, group: &'static str) -> Self {
        Self { client, group, ids: 0, epoch: 0, owned: Partitions::new(), tells: true, todo: None }
    }

    /// What it decided to do when it looked last, once.
    pub fn take(&mut self) -> Option<GroupChange> {
        self.todo.take()
    }

    fn id(&self) -> String {
        format!("consumer-{}-{}", self.client, self.ids)
    }

    /// Decides what to do next, when the group is at `offset`. Sometimes it does what a coordinator does which takes a
    /// member for dead: that one learns of it later.
    pub fn look(&mut self, group: Option<&Group>, offset: i64, rng: &mut Rng) {
        let members = group.and_then(|group| group.consumer()).map(|group| group.members());
        let owns = self.epoch > 0 && self.owned.contains(&PARTITION);
        self.todo = Some(match rng.u8(..60) {
            0 if self.epoch > 0 => {
                let member = self.id();
                self.ids += 1;
                self.abandon();
                leave(member)
            }
            1 if members.is_some_and(|members| !members.is_empty()) => {
                let silent = members.and_then(|members| rng.choice(members.keys()));
                leave(silent.cloned().unwrap_or_default())
            }
            2..40 if owns => commit(self.id(), self.epoch, offset + 1),
            _ => GroupChange::Consumer(ConsumerChange::Heartbeat(self.heartbeat())),
        });
    }

    fn heartbeat(&self) -> Heartbeat {
        let tells = self.tells || self.epoch == 0;
        Heartbeat {
            member: self.id(),
            epoch: self.epoch,
            instance: None,
            rack: None,
            client_id: self.client.to_string(),
            client_host: String::new(),
            rebalance_timeout: tells.then_some(6_000),
            topics: tells.then(|| [topic(0)].into()),
            pattern: None,
            assignor: None,
            owned: tells.then(|| self.owned.clone()),
        }
    }

    /// It hears the answer to a heartbeat.
    pub fn heard(&mut self, reply: &HeartbeatReply) {
        self.epoch = reply.epoch;
        self.tells = reply.assignment.is_some();
        if let Some(assignment) = &reply.assignment {
            self.owned.clone_from(assignment);
        }
    }

    /// A change was refused.
    pub fn refused(&mut self, change: &GroupChange, error: GroupError) {
        let fenced = matches!(error, GroupError::UnknownMember | GroupError::FencedEpoch);
        if fenced && matches!(change, GroupChange::Consumer(_)) {
            self.abandon();
        }
    }

    /// No answer came: what it said may have been heard.
    pub fn missed(&mut self) {
        self.tells = true;
    }

    fn abandon(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.tells = true;
    }
}

fn leave(member: String) -> GroupChange {
    GroupChange::Leave(vec![Leaving { member, instance: None }])
}

//! A group under any interleaving of its clients' heartbeats, lost responses, slow and dead members, and changes of
//! topics: no partition has ever two owners, and once all is quiet, each has one.

use super::super::*;
use crate::state_machine::groups::{GroupChange, Groups};

/// What one client believes.
#[derive(Debug, Default)]
struct Client {
    id: String,
    /// 0 until it has joined.
    epoch: i32,
    topics: BTreeSet<String>,
    /// What it was told to have.
    assigned: Partitions,
    /// What it reads.
    owned: Partitions,
    /// It does not know what of its last heartbeat was heard, and tells all in the next one.
    unsure: bool,
    /// It has heard an assignment since it last said what it has.
    untold: bool,
}

struct World {
    rng: fastrand::Rng,
    groups: Groups,
    topics: BTreeMap<String, (TopicId, u32)>,
    last_topic: TopicId,
    clients: Vec<Client>,
    ids: usize,
    /// Nobody wants anything else any more.
    is_quiet: bool,
}

const NAMES: [&str; 3] = ["t", "u", "v"];

impl World {
    fn new(seed: u64) -> Self {
        let (rng, groups) = (fastrand::Rng::with_seed(seed), Groups::default());
        let clients = (0..4).map(|_| Client::default()).collect();
        Self { rng, groups, topics: BTreeMap::new(), last_topic: 0, clients, ids: 0, is_quiet: false }
    }

    fn group(&self) -> Option<&ConsumerGroup> {
        self.groups.get("g").and_then(|group| group.consumer())
    }

    fn change(&mut self, change: GroupChange) -> Result<GroupReply, GroupError> {
        let topics = &self.topics;
        self.groups.apply("g", change, 0, &|name| topics.get(name).copied())
    }

    fn act(&mut self) {
        match self.rng.u8(..40) {
            0 => self.change_topic(),
            1 => self.leave(),
            2 => self.fence(),
            3..15 => self.revoke(),
            _ => {
                let (at, lost) = (self.rng.usize(..self.clients.len()), self.rng.u8(..8) == 0);
                self.heartbeat(at, lost);
            }
        }
    }

    /// A topic comes, grows or goes.
    fn change_topic(&mut self) {
        let name = *self.rng.choice(&NAMES).unwrap();
        match self.topics.get_mut(name) {
            Some(_) if self.rng.u8(..3) == 0 => drop(self.topics.remove(name)),
            Some((_, count)) => *count += 1,
            None => {
                self.last_topic += 1;
                self.topics.insert(name.to_owned(), (self.last_topic, self.rng.u32(1..7)));
            }
        }
        let topics = &self.topics;
        self.groups.topic_changed(name, &|name| topics.get(name).copied());
    }

    /// A client stops reading what it was told to give up, and begins to read what it was given.
    fn revoke(&mut self) {
        let at = self.rng.usize(..self.clients.len());
        self.clients[at].settle();
    }

    /// A client leaves, or dies and its session ends; another one takes its place.
    fn leave(&mut self) {
        let at = self.rng.usize(..self.clients.len());
        let member = std::mem::take(&mut self.clients[at]).id;
        let _ = self.change(GroupChange::Leave(vec![Leaving { member, instance: None }]));
    }

    /// A member took too long to give up what it had to. Its client does not know yet.
    fn fence(&mut self) {
        let slow = self
            .group()
            .and_then(|group| group.members.iter().find(|(_, member)| !member.revoking.is_empty()));
        let Some((member, epoch)) = slow.map(|(id, member)| (id.clone(), member.epoch)) else { return };
        self.change(GroupChange::Consumer(ConsumerChange::Fence { member, epoch })).unwrap();
    }

    fn heartbeat(&mut self, at: usize, response_is_lost: bool) {
        let heartbeat = self.next_heartbeat(at);
        let reply = match self.change(GroupChange::Consumer(ConsumerChange::Heartbeat(heartbeat))) {
            Ok(GroupReply::Heartbeat(reply)) => Ok(reply),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        };
        let client = &mut self.clients[at];
        match reply {
            _ if response_is_lost => client.unsure = true,
            Ok(reply) => {
                client.unsure = false;
                client.epoch = reply.epoch;
                if let Some(assignment) = reply.assignment {
                    client.assigned = assignment;
                    client.untold = true;
                }
            }
            Err(GroupError::UnknownMember | GroupError::FencedEpoch) => client.abandon(),
            Err(error) => panic!("{error}"),
        }
    }

    fn next_heartbeat(&mut self, at: usize) -> Heartbeat {
        let subscribes = !self.is_quiet && self.rng.u8(..20) == 0;
        let client = &mut self.clients[at];
        if client.id.is_empty() {
            self.ids += 1;
            client.id = format!("m{}", self.ids);
        }
        let full = client.epoch == 0 || client.unsure;
        if subscribes || client.topics.is_empty() {
            let wanted = NAMES.into_iter().filter(|_| self.rng.bool()).map(str::to_owned);
            client.topics = wanted.chain(["t".to_owned()]).collect();
        }
        // Whoever has something to say about an assignment says it once it reads what it was told to.
        let tells = full || (client.untold && client.owned == client.assigned);
        let heartbeat = Heartbeat {
            member: client.id.clone(),
            epoch: client.epoch,
            instance: None,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: full.then_some(1),
            topics: (full || subscribes).then(|| client.topics.clone()),
            pattern: None,
            assignor: None,
            owned: tells.then(|| client.owned.clone()),
        };
        client.untold &= !tells || full;
        heartbeat
    }

    fn check(&self, context: &str) {
        let Some(group) = self.group() else { return };
        let mut held = Partitions::new();
        for member in group.members.values() {
            assert!(
                member.held().all(|partition| held.insert(*partition)),
                "{context}: two owners, {group:#?}"
            );
        }
        let mut read = Partitions::new();
        for client in &self.clients {
            let Some(member) = group.members.get(&client.id) else { continue };
            let mut known = client.owned.iter().filter(|_| member.epoch >= client.epoch && client.epoch > 0);
            assert!(
                known.all(|partition| member.held().any(|held| held == partition) && read.insert(*partition)),
                "{context}: {client:#?} reads what {member:#?} does not have"
            );
        }
    }

    /// Lets every client say what it has, until nothing changes any more.
    fn settle(&mut self) {
        self.is_quiet = true;
        for _ in 0..20 {
            for at in 0..self.clients.len() {
                self.clients[at].settle();
                self.heartbeat(at, false);
            }
        }
    }
}

impl Client {
    /// Stops reading what it may not have, and begins to read what it got, unless a response is missing that may have
    /// told otherwise.
    fn settle(&mut self) {
        let unsure = self.unsure.then(|| self.owned.intersection(&self.assigned).copied().collect());
        self.owned = unsure.unwrap_or_else(|| self.assigned.clone());
    }

    fn abandon(&mut self) {
        self.epoch = 0;
        self.assigned.clear();
        self.owned.clear();
        self.unsure = false;
    }
}

#[test]
fn no_partition_has_two_owners_and_in_the_end_each_has_one() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for step in 0..300 {
            world.act();
            world.check(&format!("seed {seed}, step {step}"));
        }
        world.settle();
        let group = world.group().expect("it has members");
        assert_eq!(group.state(), "Stable", "seed {seed}: {group:#?}");
        let read: Partitions = world.clients.iter().flat_map(|client| &client.owned).copied().collect();
        let subscribed = |name: &&String| group.is_subscribed(name);
        let wanted = world.topics.iter().filter(|(name, _)| subscribed(name)).map(|(_, size)| *size);
        let all: Partitions =
            wanted.flat_map(|(topic, count)| (0..count).map(move |partition| (topic, partition))).collect();
        assert_eq!(read, all, "seed {seed}: {group:#?}");
    }
}

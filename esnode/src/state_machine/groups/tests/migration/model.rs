//! One group, whose clients speak the one protocol or the other and change it, under any interleaving of their requests,
//! lost responses, slow and dead members: no partition has ever two owners, no commit of one that has lost it counts, and
//! once all is quiet, each partition has one owner.

use std::collections::BTreeSet;

use super::*;

const PARTITIONS: u32 = 4;

/// What a client does with what it has while it joins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the classic protocol: gives up all.
    Eager,
    /// Of the classic protocol: keeps all until it is told what to give up.
    Cooperative,
    /// Of the consumer protocol.
    Consumer,
}

/// What one client believes.
#[derive(Debug)]
struct Client {
    kind: Kind,
    id: String,
    /// Whether the group has heard of its id.
    is_member: bool,
    generation: i32,
    /// It was told its generation, and asks for its assignment.
    syncs: bool,
    /// It was told to join again.
    joins: bool,
    /// What it reads.
    owned: Partitions,
    /// What it may have, once it has given up what else it has.
    assigned: Partitions,
    /// Its last response was lost: it tells all, and begins to read nothing before it has another one.
    unsure: bool,
    /// It has heard an assignment since it last said what it has.
    untold: bool,
}

struct World {
    rng: fastrand::Rng,
    lab: Lab,
    clients: Vec<Client>,
    ids: usize,
    switches: usize,
}

impl Client {
    fn new(kind: Kind, id: usize) -> Self {
        Self {
            kind,
            id: format!("{kind:?}{id}"),
            is_member: false,
            generation: -1,
            syncs: false,
            joins: true,
            owned: Partitions::new(),
            assigned: Partitions::new(),
            unsure: false,
            untold: false,
        }
    }

    fn abandon(&mut self) {
        let id = std::mem::take(&mut self.id);
        *self = Self { id, ..Self::new(self.kind, 0) };
    }

    fn joining(&self) -> Joining {
        let owned: Vec<u32> = self.owned.iter().map(|(_, partition)| *partition).collect();
        classic(&self.id, !self.is_member, &owned)
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let mut world =
            Self { rng, lab: Lab { groups: Groups::default() }, clients: Vec::new(), ids: 0, switches: 0 };
        for _ in 0..3 {
            let client = world.client();
            world.clients.push(client);
        }
        world
    }

    fn client(&mut self) -> Client {
        self.ids += 1;
        let kind = *self.rng.choice(&[Kind::Eager, Kind::Cooperative, Kind::Consumer]).unwrap();
        Client::new(kind, self.ids)
    }

    fn act(&mut self) {
        let at = self.rng.usize(..self.clients.len());
        let lost = self.rng.u8(..10) == 0;
        let was_consumer = self.is_consumer();
        match self.rng.u16(..120) {
            0..3 => self.leave(at),
            3 => self.fence(),
            4..8 => self.complete(),
            8..30 => self.commit(at),
            _ => self.turn(at, lost),
        }
        self.switches += usize::from(self.is_consumer() != was_consumer);
    }

    fn is_consumer(&self) -> Option<bool> {
        self.lab.groups.get("g").map(|group| group.consumer().is_some())
    }

    /// A client leaves, or dies and its session ends; another one, of any protocol, takes its place.
    fn leave(&mut self, at: usize) {
        let next = self.client();
        let member = std::mem::replace(&mut self.clients[at], next).id;
        let _ = self.lab.change(GroupChange::Leave(vec![Leaving { member, instance: None }]));
    }

    /// A member took too long. Its client does not know yet.
    fn fence(&mut self) {
        let Some(group) = self.lab.groups.get("g").and_then(|group| group.consumer()) else { return };
        let slow = group.waited_for().next();
        let Some((member, epoch)) = slow.map(|(id, member)| (id.clone(), member.epoch)) else { return };
        self.lab.change(GroupChange::Consumer(ConsumerChange::Fence { member, epoch })).unwrap();
    }

    /// A rebalance of the classic protocol has waited long enough.
    fn complete(&mut self) {
        let generation = self.lab.groups.get("g").map_or(0, Group::generation);
        let _ = self.lab.change(GroupChange::CompleteJoin { generation });
    }

    /// Whoever reads something may commit it, unless the group takes it for another one's.
    fn commit(&mut self, at: usize) {
        let client = &self.clients[at];
        let Some(partition) = client.owned.first().copied().filter(|_| client.is_member) else { return };
        if self.lab.commit(&client.id, client.generation).is_ok() {
            let others = self.clients.iter().enumerate().filter(|(other, _)| *other != at);
            let mut owning = others.filter(|(_, other)| other.owned.contains(&partition));
            let twice = owning.find(|(_, other)| self.lab.commit(&other.id, other.generation).is_ok());
            assert!(twice.is_none(), "two clients read and commit {partition:?}: {:#?}", self.clients);
        }
    }

    /// The client sends what is next.
    fn turn(&mut self, at: usize, lost: bool) {
        match self.clients[at].kind {
            Kind::Consumer => self.consumer(at, lost),
            _ if self.clients[at].joins => self.join(at, lost),
            _ if self.clients[at].syncs => self.sync(at, lost),
            _ => self.heartbeat(at),
        }
    }

    fn consumer(&mut self, at: usize, lost: bool) {
        let client = &mut self.clients[at];
        let kept = client.owned.intersection(&client.assigned).copied().collect();
        client.owned = if client.unsure { kept } else { client.assigned.clone() };
        let joins = client.generation < 1;
        let full = client.unsure || joins;
        let heartbeat = Heartbeat {
            rebalance_timeout: full.then_some(5_000),
            topics: full.then(|| ["t".to_owned()].into()),
            owned: (full || client.untold).then(|| client.owned.clone()),
            ..beat(&client.id, if joins { 0 } else { client.generation })
        };
        let reply = self.lab.send(heartbeat);
        let client = &mut self.clients[at];
        match reply {
            _ if lost => client.unsure = true,
            Ok(reply) => {
                client.is_member = true;
                client.generation = reply.epoch;
                client.unsure = false;
                client.untold = reply.assignment.is_some();
                if let Some(assignment) = reply.assignment {
                    // It stops to read what is not in it by the time of its next turn.
                    client.assigned = assignment;
                }
            }
            Err(_) => client.abandon(),
        }
    }

    fn join(&mut self, at: usize, lost: bool) {
        if self.clients[at].kind == Kind::Eager {
            self.clients[at].owned.clear();
        }
        let joining = self.clients[at].joining();
        let replied = self.lab.join(joining);
        let client = &mut self.clients[at];
        match replied {
            Ok(_) if lost => client.is_member = true,
            Ok(reply) => {
                client.is_member = true;
                if let GroupReply::Admitted { epoch } = reply {
                    (client.generation, client.joins, client.syncs) = (epoch, false, true);
                } else {
                    self.hear_generation(at);
                }
            }
            Err(_) => self.renew(at),
        }
    }

    /// In a group of the classic protocol the response to a join comes when all have joined; until then the client asks.
    fn hear_generation(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let group = self.lab.groups.get("g").filter(|group| group.members().contains_key(&client.id));
        if let Some(group) = group.filter(|group| !matches!(group.phase(), Phase::PreparingRebalance { .. }))
        {
            (client.generation, client.joins, client.syncs) = (group.generation(), false, true);
        }
    }

    fn sync(&mut self, at: usize, lost: bool) {
        let Some(group) = self.lab.groups.get("g") else { return self.renew(at) };
        let client = &self.clients[at];
        let assigned = if let Some(group) = group.consumer() {
            match group.classic_member(client.generation, &client.id, None) {
                Ok((member, _)) if member.epoch != group.epoch() && member.revoking.is_empty() => None,
                Ok((member, _)) => Some(member.assigned.clone()),
                Err(_) => return self.renew(at),
            }
        } else {
            match group.member_of(client.generation, &client.id, None) {
                Err(_) => return self.renew(at),
                Ok(_) if matches!(group.phase(), Phase::PreparingRebalance { .. }) => None,
                Ok(_) if group.phase() == Phase::CompletingRebalance => {
                    if group.leader() == Some(&client.id) {
                        self.assign();
                    }
                    return;
                }
                Ok(member) => subscription::assigned(member.assignment.clone(), &topics),
            }
        };
        let client = &mut self.clients[at];
        match assigned {
            _ if lost => {}
            None => (client.joins, client.syncs) = (true, false),
            Some(assigned) => {
                // A cooperative client that had to give up something joins again to say so.
                let gives_up = !client.owned.is_subset(&assigned);
                client.owned = assigned;
                (client.joins, client.syncs) = (gives_up && client.kind == Kind::Cooperative, false);
            }
        }
    }

    /// The leader of a group of the classic protocol assigns as the cooperative assignors do: what another member has said
    /// that it has goes to nobody else in this generation.
    fn assign(&mut self) {
        let group = self.lab.group();
        let said = |member: &Member| {
            let metadata = member.metadata("cooperative-sticky").cloned().unwrap_or_default();
            subscription::Subscription::read(metadata).map(|said| said.owned(&topics)).unwrap_or_default()
        };
        let owned: Vec<Partitions> = group.members().values().map(said).collect();
        let mut taken = BTreeSet::new();
        let count = group.members().len();
        let shares = group.members().keys().zip(&owned).enumerate().map(|(at, (id, _))| {
            let of_it = (0..PARTITIONS).filter(|partition| {
                let holder = owned.iter().position(|owned| owned.contains(&(1, *partition)));
                *partition as usize % count == at && holder.is_none_or(|holder| holder == at)
            });
            let share: Vec<u32> = of_it.filter(|partition| taken.insert(*partition)).collect();
            (id.clone(), assignment("t", &share, 0))
        });
        let assignments = shares.collect();
        let (member, generation) = (group.leader().unwrap().to_owned(), group.generation());
        self.lab.change(GroupChange::Assign { member, generation, assignments }).unwrap();
    }

    fn heartbeat(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(group) = self.lab.groups.get("g") else { return client.abandon() };
        match group.heartbeat(client.generation, &client.id, None) {
            Ok(()) => {}
            Err(GroupError::RebalanceInProgress) => client.joins = true,
            Err(_) => self.renew(at),
        }
    }

    /// A client of the classic protocol that was refused begins anew, with another id. It does not say that it leaves: what
    /// the group would keep for it nobody would read until its session ends.
    fn renew(&mut self, at: usize) {
        let kind = self.clients[at].kind;
        let (id, group) = (&self.clients[at].id, self.lab.groups.get("g"));
        let is_member = |group: &Group| match group.consumer() {
            Some(consumer) => consumer.members().contains_key(id),
            None => group.members().contains_key(id),
        };
        assert!(!group.is_some_and(is_member), "a member was refused: {:#?}\n{group:#?}", self.clients[at]);
        self.ids += 1;
        self.clients[at] = Client::new(kind, self.ids);
    }

    /// What members read that the group does not know to be gone has one owner.
    fn check(&self, context: &str) {
        let mut read = Partitions::new();
        let Some(group) = self.lab.groups.get("g") else { return };
        for client in &self.clients {
            let is_current = match group.consumer() {
                Some(group) => group.check_epoch(client.generation, &client.id, None).is_ok(),
                None => group.member_of(client.generation, &client.id, None).is_ok(),
            };
            let mut owned = client.owned.iter().filter(|_| is_current);
            let twice = owned.find(|partition| !read.insert(**partition));
            assert!(twice.is_none(), "{context}: {twice:?} has two owners: {:#?}\n{group:#?}", self.clients);
        }
        let Some(group) = group.consumer() else { return };
        let mut held = Partitions::new();
        for member in group.members().values() {
            assert!(member.held().all(|each| held.insert(*each)), "{context}: two owners, {group:#?}");
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            for at in 0..self.clients.len() {
                self.turn(at, false);
            }
            self.complete_if_waiting();
        }
    }

    /// The moment that a new group waits for more members passes.
    fn complete_if_waiting(&mut self) {
        let phase = self.lab.groups.get("g").map(Group::phase);
        if phase == Some(Phase::PreparingRebalance { initial: true }) {
            self.complete();
        }
    }
}

#[test]
fn no_partition_has_two_owners_whatever_its_clients_speak_and_in_the_end_each_has_one() {
    let mut switches = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        for step in 0..400 {
            world.act();
            world.check(&format!("seed {seed}, step {step}"));
        }
        world.settle();
        world.check(&format!("seed {seed}, settled"));
        switches += world.switches;
        let group = world.lab.group();
        assert_eq!(group.state(), "Stable", "seed {seed}: {:#?}\n{group:#?}", world.clients);
        let read: Partitions = world.clients.iter().flat_map(|client| &client.owned).copied().collect();
        assert_eq!(read, of_t(0..PARTITIONS), "seed {seed}: {:#?}\n{group:#?}", world.clients);
    }
    assert!(switches > 2_000, "too few changes of protocol to prove anything: {switches}");
}

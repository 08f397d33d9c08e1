//! A whole cluster, its clients and its troubles under one clock, one source of chance and one queue of events.

use esnode::consensus::Status;
use esnode::replica::Hello;
use shared::ids::NodeId;

use super::Micros;
use super::arrival::Arrival;
use super::bugs::Bug;
use super::checks::{InvariantViolation, ensure};
use super::client::{Answer, Client, Kind, PLACES, topic};
use super::consumer::Consumer;
use super::env::{Env, Event, Profile};
use super::faults;
use super::member::Membership;
use super::node::Node;
use super::pipeline::{self, Pipeline};
use super::reading;

/// Entries that a learner may lack when its promotion is proposed.
const MAX_LAG: u64 = 100;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything left open.
    pub seed: u64,
    /// Voters; 3 or 5 when `None`.
    pub nodes: Option<u64>,
    /// Disks and memory; drawn when `None`.
    pub profile: Option<Profile>,
    /// A mistake to make.
    pub bug: Option<Bug>,
    /// Members of a consumer group, beside the other clients.
    pub members: usize,
    /// Instances of an exactly-once pipeline, beside the other clients.
    pub instances: usize,
    /// Members of a group of the consumer protocol; of the same group as `members` if there are any.
    pub consumers: usize,
    /// Write every event to standard error.
    pub print: bool,
}

impl Setup {
    /// Everything drawn from the seed.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            nodes: None,
            profile: None,
            bug: None,
            members: 0,
            instances: 0,
            consumers: 0,
            print: false,
        }
    }
}

/// The cluster and all around it.
pub struct World {
    /// Node n is at n - 1.
    pub nodes: Vec<Node>,
    /// By number.
    pub clients: Vec<Client>,
    /// The rest of the world.
    pub env: Env,
    /// Answers that left a client without knowing what became of its call.
    pub unknown: usize,
}

impl World {
    /// All nodes start within the first 100 ms, on empty disks.
    pub fn new(setup: &Setup) -> Self {
        let mistake = match setup.bug {
            Some(Bug::Replica(mistake)) => Some(mistake),
            _ => None,
        };
        esnode::replica::make(mistake);
        let mut env = Env::new(setup);
        let initial = env.checks.newest_members().voters.clone();
        let nodes = (1..=env.nodes)
            .map(|id| {
                let tick = env.rng.u64(9_900..=10_100);
                let start = env.rng.u64(..100_000);
                env.at(start, Event::Start(id));
                Node::new(id, initial.clone(), tick, &mut env)
            })
            .collect();
        Self { nodes, clients: Vec::new(), env, unknown: 0 }
    }

    /// Adds a client.
    pub fn client(&mut self, kind: Kind) -> usize {
        let id = self.clients.len();
        self.clients.push(Client::new(id, kind, self.nodes.len() as u64));
        self.env.at(0, Event::Wake(id));
        id
    }

    /// Adds a consumer group of so many members.
    pub fn group_of(&mut self, count: usize) {
        for _ in 0..count {
            self.client(Kind::Member(Membership::new(self.clients.len())));
        }
    }

    /// Adds an exactly-once pipeline of so many instances.
    pub fn pipeline_of(&mut self, count: usize) {
        for _ in 0..count {
            self.client(Kind::Pipeline(Pipeline::default()));
        }
    }

    /// Adds so many members of the consumer protocol to a group.
    pub fn consumers(&mut self, count: usize, group: &'static str) {
        for _ in 0..count {
            self.client(Kind::Consumer(Consumer::new(self.clients.len(), group)));
        }
    }

    /// One who creates the topics, and some of each other kind.
    pub fn many_clients(&mut self) {
        self.client(Kind::Creator { done: 0 });
        for _ in 0..2 {
            self.client(Kind::Plain);
            self.client(Kind::Idempotent { producer: None, next: vec![0; PLACES.len()] });
            self.client(Kind::Reader { fresh: true });
        }
        self.client(Kind::Reader { fresh: false });
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Micros) -> Result<(), InvariantViolation> {
        self.run_until(span, |_| false).map(|_| ())
    }

    /// Lets time pass until `met`, at most `span`. Returns whether it was met.
    pub fn run_until(
        &mut self,
        span: Micros,
        met: impl Fn(&Self) -> bool,
    ) -> Result<bool, InvariantViolation> {
        let end = self.env.now + span;
        while !met(self) {
            let Some(event) = self.env.next(end) else {
                self.env.now = end;
                return Ok(met(self));
            };
            self.step(event)?;
            self.check_promotion()?;
        }
        Ok(true)
    }

    /// The node that leads the highest term, if any.
    pub fn leader(&self) -> Option<NodeId> {
        let statuses = self.nodes.iter().filter_map(|node| node.status().map(|status| (node.id, status)));
        let leading = statuses.filter(|(_, status)| status.role == esnode::consensus::Role::Leader);
        leading.max_by_key(|(_, status)| status.term).map(|(id, _)| id)
    }

    /// A node's own account of the group; `None` when it is down.
    pub fn status(&self, node: NodeId) -> Option<Status> {
        self.nodes[at(node)].status()
    }

    /// Freezes the faults and connects no more than a majority, then wants progress from it.
    pub fn freeze(&mut self) -> Result<(), InvariantViolation> {
        let core = self.core();
        faults::freeze(&mut self.nodes, &core, &mut self.env)?;
        self.progress(&core)
    }

    /// Mends everything, then wants progress from all.
    pub fn settle(&mut self) -> Result<(), InvariantViolation> {
        faults::mend(&mut self.nodes, &mut self.env)?;
        let all: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        self.progress(&all)?;
        self.compare()
    }

    /// As few nodes as must be able to go on: a bare majority of the voters. Where the members change, another change
    /// may be under way that nobody has applied, so there it is all but one, and everyone who may become a member. A
    /// voter that has not applied the newest change needs a majority of the voters before it, so then it is all.
    fn core(&mut self) -> Vec<NodeId> {
        let mut voters = self.env.checks.newest_members().voters.clone();
        voters.sort_unstable();
        self.env.rng.shuffle(&mut voters);
        let changing = self.env.profile.spares > 0;
        let spare = voters.len() - (voters.len() / 2 + 1);
        let up_to_date = voters.iter().all(|id| self.knows_voters(*id, &voters));
        let off = if changing { spare.min(usize::from(up_to_date)) } else { spare };
        let off = &voters[..off];
        self.nodes.iter().map(|node| node.id).filter(|id| !off.contains(id)).collect()
    }

    /// Whether the node is up, and knows these voters as the newest.
    fn knows_voters(&self, node: NodeId, voters: &[NodeId]) -> bool {
        let known = self.status(node).map(|status| status.voters);
        known.is_some_and(|known| known.len() == voters.len() && known.iter().all(|id| voters.contains(id)))
    }

    /// Only a learner that keeps up gets a vote.
    fn check_promotion(&mut self) -> Result<(), InvariantViolation> {
        let Some((index, node)) = self.env.checks.take_promotion() else { return Ok(()) };
        let last = self.nodes[at(node)].disk.log().get().last();
        ensure!(
            last + MAX_LAG + 1 >= index,
            "no vote for who lags: node {node} has entries up to {last}, and is promoted by entry {index}"
        );
        Ok(())
    }

    /// A fresh append within 5 s at the usual timing, and all members among `nodes` alike within 5 s more.
    pub fn progress(&mut self, nodes: &[NodeId]) -> Result<(), InvariantViolation> {
        for client in &mut self.clients {
            client.retired = true;
        }
        let creator = self.client(Kind::Creator { done: 0 });
        let probe = self.client(Kind::Plain);
        // The topics are there once something is appended to one; whether the creator hears of it is its own luck.
        let limit = self.env.profile.slowness * 5_000_000;
        let done = self.run_until(limit, |world| world.clients[probe].finished > 0)?;
        ensure!(done, "liveness: no append within {limit} us, though {nodes:?} are connected");
        self.clients[creator].retired = true;
        self.clients[probe].retired = true;
        let alike = self.run_until(limit, |world| world.alike(nodes))?;
        ensure!(alike, "liveness: {nodes:?} were not alike within {limit} us of the last append");
        Ok(())
    }

    /// Whether all members among `nodes` have applied everything that was ever committed.
    fn alike(&self, nodes: &[NodeId]) -> bool {
        let commits = self.env.checks.commits() as u64;
        let members = self.members();
        let mut wanted =
            self.nodes.iter().filter(|node| nodes.contains(&node.id) && members.contains(&node.id));
        wanted.all(|node| node.state().is_some_and(|state| state.applied_index() == commits))
    }

    /// Voters and learners, as of the newest committed change.
    fn members(&self) -> Vec<NodeId> {
        let members = self.env.checks.newest_members();
        members.voters.iter().chain(&members.learners).copied().collect()
    }

    /// What every node holds in the end: what the others had at the same entry, and as a member all that was acknowledged.
    fn compare(&mut self) -> Result<(), InvariantViolation> {
        let members = self.members();
        for node in &self.nodes {
            let Some(state) = node.state() else { continue };
            self.env.checks.applied(node.id, state.applied_index(), state.digest())?;
            if !members.contains(&node.id) {
                continue;
            }
            for place in PLACES {
                let (start, values) =
                    reading::whole(&state, &node.disk.log().get(), &topic(place.0), place.1);
                self.env.checks.whole(node.id, place, start, &values)?;
                if let Some(recent) = node.recent() {
                    reading::compare_recent(&state, &node.disk.log().get(), recent, &topic(place.0), place.1);
                }
            }
            if let Some((topic, next)) = pipeline::position(&state) {
                let committed = reading::committed(&state, &node.disk.log().get(), topic, self.env.bug);
                self.env.checks.pipeline(node.id, next, &committed)?;
            }
        }
        Ok(())
    }

    /// Gives a node what arrives, now or when it stands still no longer.
    fn arrive(&mut self, id: NodeId, arrival: Arrival) -> Result<(), InvariantViolation> {
        let (node, env) = (&mut self.nodes[at(id)], &mut self.env);
        if !node.is_up() {
            return Ok(());
        }
        if let Some(left) = node.paused_until.checked_sub(env.now).filter(|left| *left > 0) {
            env.node(left, node, arrival);
            return Ok(());
        }
        if !matches!(arrival, Arrival::Tick) {
            env.note(format_args!("node {id}: {}", arrival.kind()));
        }
        node.take(arrival, env)
    }

    /// A node hears who another one says it is, or refuses it.
    fn greet(&mut self, to: NodeId, hello: Hello) -> Result<(), InvariantViolation> {
        let from = hello.node;
        let identity = &self.nodes[at(from)].disk.identity;
        if identity.store != hello.store {
            return Ok(());
        }
        if self.nodes[at(to)].refuses(identity) {
            return self.arrive(from, Arrival::Refused(to));
        }
        self.arrive(to, Arrival::Hello(Box::new(hello)))
    }

    fn step(&mut self, event: Event) -> Result<(), InvariantViolation> {
        let env = &mut self.env;
        match event {
            Event::Node(id, life, arrival) => {
                if self.nodes[at(id)].life == life {
                    return self.arrive(id, arrival);
                }
            }
            Event::Deliver(message, connection) => {
                let refused = self.nodes[at(message.to)].refuses(&self.nodes[at(message.from)].disk.identity);
                if env.network.arrives(&message, connection) && !refused {
                    env.note(format_args!(
                        "{} -> {}: {:?} term {} index {}",
                        message.from, message.to, message.kind, message.term, message.index
                    ));
                    return self.arrive(message.to, Arrival::Message(message));
                }
            }
            Event::Hello(to, hello) => return self.greet(to, *hello),
            Event::HangUp(to, from) => return self.arrive(to, Arrival::Disconnected(from)),
            Event::Fetch(fetch) => {
                let node = &self.nodes[at(fetch.from)];
                fetch.arrives(node.life, node.is_up(), &node.disk, env);
            }
            Event::Request(id, request) => return self.arrive(id, Arrival::Request(request)),
            Event::Answer(client, call, answer) => {
                env.note(format_args!("client {client}, call {call}: {answer:?}"));
                self.unknown += usize::from(matches!(answer, Answer::Unknown));
                return self.clients[client].answer(call, answer, env);
            }
            Event::Timeout(client, call) => self.clients[client].timeout(call, env),
            Event::Wake(client) => self.clients[client].wake(env),
            Event::Start(id) => {
                let node = &mut self.nodes[at(id)];
                if !node.is_up() {
                    node.start(env)?;
                    faults::perhaps_again(node, env);
                }
            }
            Event::Fault => faults::strike(&mut self.nodes, env),
            // A cut that was drawn before the faults were frozen stays.
            Event::Heal if env.trouble => env.heal(),
            Event::Heal => {}
        }
        Ok(())
    }
}

fn at(node: NodeId) -> usize {
    usize::try_from(node - 1).expect("nodes are few")
}

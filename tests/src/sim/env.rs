//! What the nodes and clients share: the clock, the queue of events to come, chance, the network and the checks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use esnode::consensus::{ConfState, Message};
use esnode::replica::Hello;
use esnode::state_machine::retention::Retention;
use fastrand::Rng;
use shared::ids::NodeId;
use shared::spec::RaftTiming;

use super::Micros;
use super::arrival::Arrival;
use super::bugs::Bug;
use super::checks::Checks;
use super::client::{Answer, Request};
use super::fetch::Fetch;
use super::network::Network;
use super::node::Node;
use super::trace::{Trace, mix};
use super::world::Setup;

/// Something that will happen.
#[derive(Debug)]
pub enum Event {
    /// For a node, if it still lives the life that this was meant for.
    Node(NodeId, u64, Arrival),
    /// A message between nodes arrives, if the connection that carries it still stands.
    Deliver(Box<Message>, u32),
    /// A node's way to another one's snapshot and log: there, or back.
    Fetch(Box<Fetch>),
    /// A node tells another one who it is.
    Hello(NodeId, Box<Hello>),
    /// A node ended, and another one's connection to it breaks.
    HangUp(NodeId, NodeId),
    /// A client's request arrives at a node.
    Request(NodeId, Request),
    /// A node's answer to a client's call arrives.
    Answer(usize, u64, Answer),
    /// A client waits no longer for the answer to this call.
    Timeout(usize, u64),
    /// A client does something new.
    Wake(usize),
    /// A node that is down starts.
    Start(NodeId),
    /// Something goes wrong.
    Fault,
    /// All links work again.
    Heal,
}

impl Event {
    /// Numbers that tell it from others, for the trace's digest.
    fn marks(&self) -> [u64; 4] {
        match self {
            Self::Node(id, life, arrival) => [1, *id, *life, arrival.mark()],
            Self::Deliver(message, _) => {
                let kind = (message.from << 16) | (message.to << 8) | message.kind as u64;
                [2, kind, mix(message.term, message.commit), mix(message.index, message.entries.len() as u64)]
            }
            Self::Request(id, request) => [3, *id, request.client as u64, request.call],
            Self::Answer(client, call, answer) => [4, *client as u64, *call, answer.mark()],
            Self::Timeout(client, call) => [5, *client as u64, *call, 0],
            Self::Wake(client) => [6, *client as u64, 0, 0],
            Self::Start(id) => [7, *id, 0, 0],
            Self::Fault => [8, 0, 0, 0],
            Self::Heal => [9, 0, 0, 0],
            Self::Fetch(fetch) => [10, fetch.to.0, fetch.from, fetch.mark()],
            Self::Hello(to, hello) => [11, *to, hello.node, hello.your_store.is_some().into()],
            Self::HangUp(to, from) => [12, *to, *from, 0],
        }
    }
}

/// Events to come, by time; ties are broken by the order of scheduling, so that a run has one order only. The heap moves
/// small keys, the events stay where they are.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl Queue {
    fn push(&mut self, when: Micros, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.scheduled += 1;
        self.heap.push(Reverse((when, self.scheduled, slot)));
    }

    /// The next event not later than `until`, and its time.
    fn pop(&mut self, until: Micros) -> Option<(Micros, Event)> {
        self.heap.peek().filter(|Reverse((when, ..))| *when <= until)?;
        let Reverse((when, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((when, self.events[slot].take()?))
    }
}

/// What is drawn once for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Memory for old entries at each node: a small one makes leaders read them back from the disk.
    pub tail_bytes: usize,
    /// Inputs, per hundred, whose effects are performed with those of the next input.
    pub gather: u32,
    /// After so many lists of effects the next input comes before the rest of them.
    pub gives_way: Option<u64>,
    /// Longest rest of a client between operations.
    pub rest: Micros,
    /// Longest usual time of a sync.
    pub sync_usual: Micros,
    /// Longest unusual time of a sync.
    pub sync_slow: Micros,
    /// Links between nodes keep their order, as TCP does.
    pub ordered: bool,
    /// Entries from one snapshot to the next.
    pub snapshots: u64,
    /// Ticks from one snapshot to the next, at least.
    pub snapshot_pause: u64,
    /// Entries of a segment.
    pub segment: u64,
    /// Longest time to get another node's snapshot and log, when nothing goes wrong.
    pub transfer: Micros,
    /// How much is kept of a partition.
    pub retention: Retention,
    /// Nodes beyond the initial members, and changes of the membership.
    pub spares: u64,
    /// Raft's timing: so many times the usual one.
    pub slowness: u64,
}

impl Profile {
    /// Raft's timing of every node.
    pub fn timing(&self) -> RaftTiming {
        let usual = RaftTiming::default();
        RaftTiming {
            election_timeout_min: self.slowness * usual.election_timeout_min,
            election_timeout_max: self.slowness * usual.election_timeout_max,
            heartbeat_interval: self.slowness * usual.heartbeat_interval,
            ..usual
        }
    }

    /// Fast disks and plenty of memory.
    pub const FAST: Self = Self {
        tail_bytes: 1 << 20,
        gather: 0,
        gives_way: None,
        rest: 20_000,
        sync_usual: 1_000,
        sync_slow: 1_000,
        ordered: true,
        snapshots: u64::MAX,
        snapshot_pause: 100,
        segment: 1 << 20,
        transfer: 1_000,
        retention: Retention { ms: None, bytes: None },
        spares: 0,
        slowness: 1,
    };

    /// Nodes that fall behind and need another one's snapshot all the time, and take long to install it.
    pub const BEHIND: Self = Self {
        tail_bytes: 0,
        gather: 60,
        rest: 5_000,
        sync_usual: 8_000,
        sync_slow: 300_000,
        ordered: false,
        snapshots: 2,
        snapshot_pause: 10,
        segment: 4,
        transfer: 600_000,
        retention: Retention { ms: Some(500), bytes: None },
        spares: 2,
        ..Self::FAST
    };

    /// Anything from fast to slow.
    pub fn draw(rng: &mut Rng) -> Self {
        let tail_bytes = [0, 2_000, 1 << 20][rng.usize(..3)];
        let gather = [0, 20, 60][rng.usize(..3)];
        Self {
            tail_bytes,
            gather,
            gives_way: (gather == 20).then_some(7),
            rest: rng.u64(3_000..60_000),
            sync_usual: rng.u64(500..8_000),
            sync_slow: rng.u64(10_000..300_000),
            ordered: rng.bool(),
            snapshots: [u64::MAX, 7, 60][rng.usize(..3)],
            snapshot_pause: [10, 100][rng.usize(..2)],
            segment: [4, 20, 100][rng.usize(..3)],
            transfer: [1_000, 30_000, 600_000][rng.usize(..3)],
            retention: Retention {
                ms: [None, None, Some(500), Some(4_000)][rng.usize(..4)],
                bytes: [None, None, Some(3_000), Some(30_000)][rng.usize(..4)],
            },
            spares: [0, 0, 1, 2][rng.usize(..4)],
            slowness: [1, 1, 1, 5, 10][rng.usize(..5)],
        }
    }
}

/// The world around the nodes.
pub struct Env {
    /// Time since the start.
    pub now: Micros,
    /// The only source of chance.
    pub rng: Rng,
    /// The links between nodes.
    pub network: Network,
    /// What must hold.
    pub checks: Checks,
    /// What happened.
    pub trace: Trace,
    /// Drawn once.
    pub profile: Profile,
    /// Things go wrong while this is on.
    pub trouble: bool,
    /// A mistake to make.
    pub bug: Option<Bug>,
    /// How many nodes there are.
    pub nodes: u64,
    stores: u64,
    queue: Queue,
}

impl Env {
    /// Nothing has happened yet.
    pub fn new(setup: &Setup) -> Self {
        let Setup { seed, nodes, profile, bug, print, .. } = *setup;
        let mut rng = Rng::with_seed(seed);
        let profile = profile.unwrap_or_else(|| Profile::draw(&mut rng));
        let voters = nodes.unwrap_or_else(|| [1, 3, 3, 3, 3, 5, 5, 5, 7][rng.usize(..9)]);
        let initial = ConfState { voters: (1..=voters).collect(), ..ConfState::default() };
        Self {
            now: 0,
            rng,
            network: Network::new(profile.ordered),
            checks: Checks::new(&initial),
            trace: Trace::new(print),
            profile,
            trouble: false,
            bug,
            nodes: initial.voters.len() as u64 + profile.spares,
            stores: 0,
            queue: Queue::default(),
        }
    }

    /// Schedules an event `delay` from now.
    pub fn at(&mut self, delay: Micros, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// Schedules an arrival for a node's present life.
    pub fn node(&mut self, delay: Micros, node: &Node, arrival: Arrival) {
        self.at(delay, Event::Node(node.id, node.life, arrival));
    }

    /// A number for a new data directory.
    pub fn next_store(&mut self) -> u64 {
        self.stores += 1;
        self.stores
    }

    /// A node tells another one who it is, if they are connected.
    pub fn greet(&mut self, hello: Hello, to: NodeId) {
        if self.network.connects(hello.node, to) && !self.network.loses(&mut self.rng) {
            let delay = self.network.delay(&mut self.rng);
            self.at(delay, Event::Hello(to, Box::new(hello)));
        }
    }

    /// A node ended: the others' connections to it break.
    pub fn hang_up(&mut self, node: NodeId) {
        for other in (1..=self.nodes).filter(|other| *other != node) {
            let delay = self.network.delay(&mut self.rng);
            self.at(delay, Event::HangUp(other, node));
        }
    }

    /// The next event not later than `until`; the clock moves to it.
    pub fn next(&mut self, until: Micros) -> Option<Event> {
        let (when, event) = self.queue.pop(until)?;
        self.now = when;
        self.trace.step(when, event.marks());
        Some(event)
    }

    /// Sends a message between nodes.
    pub fn send(&mut self, message: Message) {
        let [first, again] = self.network.journeys(&message, self.now, &mut self.rng);
        if let Some(way) = again {
            self.at(way.delay, Event::Deliver(Box::new(message.clone()), way.connection));
        }
        if let Some(way) = first {
            self.at(way.delay, Event::Deliver(Box::new(message), way.connection));
        }
    }

    /// Sends a client's request to a node.
    pub fn request(&mut self, to: NodeId, request: Request) {
        if !self.network.loses(&mut self.rng) {
            let delay = self.network.delay(&mut self.rng);
            self.at(delay, Event::Request(to, request));
        }
    }

    /// Answers a client.
    pub fn reply(&mut self, client: usize, call: u64, answer: Answer) {
        if !self.network.loses(&mut self.rng) {
            let delay = self.network.delay(&mut self.rng);
            self.at(delay, Event::Answer(client, call, answer));
        }
    }

    /// How long each half of reading old entries takes: they may be cold, or the reader busy with others.
    pub fn read_latency(&mut self) -> Micros {
        let cold = self.trouble && self.rng.u8(..10) == 0;
        let longest = if cold { 10 * self.profile.sync_slow } else { self.profile.sync_usual };
        self.rng.u64(100..=longest)
    }

    /// How long the next sync takes.
    pub fn disk_latency(&mut self) -> Micros {
        let slow = self.rng.u8(..50) == 0;
        let longest = if slow { self.profile.sync_slow } else { self.profile.sync_usual };
        self.rng.u64(100..=longest)
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.note(format_args!("links are mended"));
        self.network.heal();
    }

    /// Notes what happens now.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }
}

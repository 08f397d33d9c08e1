//! What the nodes and clients share: the clock, the queue of events to come, chance, the network and the checks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use esnode::consensus::Message;
use fastrand::Rng;
use shared::ids::NodeId;

use super::Micros;
use super::bugs::Bug;
use super::checks::Checks;
use super::client::{Answer, Request};
use super::network::Network;
use super::node::{Input, Node};
use super::trace::Trace;

/// Something that will happen.
#[derive(Debug)]
pub enum Event {
    /// For a node, if it still lives the life that this was meant for.
    Node(NodeId, u64, Input),
    /// A message between nodes arrives.
    Deliver(Box<Message>),
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

struct Due {
    when: Micros,
    /// Ties are broken by the order of scheduling, so that a run has one order only.
    number: u64,
    event: Event,
}

impl Due {
    fn key(&self) -> Reverse<(Micros, u64)> {
        Reverse((self.when, self.number))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is drawn once for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Memory for old entries at each node: a small one makes leaders read them back from the disk.
    pub tail_bytes: usize,
    /// Longest time between an entry's commit and its application; 0 applies at once.
    pub apply_lag: Micros,
    /// Inputs, per hundred, whose effects are performed with those of the next input.
    pub gather: u32,
    /// Longest rest of a client between operations.
    pub rest: Micros,
    /// Longest usual time of a sync.
    pub sync_usual: Micros,
    /// Longest unusual time of a sync.
    pub sync_slow: Micros,
}

impl Profile {
    /// Fast disks and plenty of memory.
    pub const FAST: Self = Self {
        tail_bytes: 1 << 20,
        apply_lag: 0,
        gather: 0,
        rest: 20_000,
        sync_usual: 1_000,
        sync_slow: 1_000,
    };

    /// Anything from fast to slow.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            tail_bytes: [0, 2_000, 1 << 20][rng.usize(..3)],
            apply_lag: [0, 0, 20_000, 400_000][rng.usize(..4)],
            gather: [0, 20, 60][rng.usize(..3)],
            rest: rng.u64(3_000..60_000),
            sync_usual: rng.u64(500..8_000),
            sync_slow: rng.u64(10_000..300_000),
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
    /// For Raft's own account.
    pub logger: slog::Logger,
    queue: BinaryHeap<Due>,
    scheduled: u64,
}

impl Env {
    /// Nothing has happened yet.
    pub fn new(seed: u64, profile: Option<Profile>, bug: Option<Bug>, print: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let profile = profile.unwrap_or_else(|| Profile::draw(&mut rng));
        Self {
            now: 0,
            rng,
            network: Network::new(),
            checks: Checks::default(),
            trace: Trace::new(print),
            profile,
            trouble: false,
            bug,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
            queue: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    /// Schedules an event `delay` from now.
    pub fn at(&mut self, delay: Micros, event: Event) {
        self.scheduled += 1;
        self.queue.push(Due { when: self.now + delay, number: self.scheduled, event });
    }

    /// Schedules an input for a node's present life.
    pub fn node(&mut self, delay: Micros, node: &Node, input: Input) {
        self.at(delay, Event::Node(node.id, node.life, input));
    }

    /// The next event not later than `until`; the clock moves to it.
    pub fn next(&mut self, until: Micros) -> Option<Event> {
        if self.queue.peek()?.when > until {
            return None;
        }
        let due = self.queue.pop()?;
        self.now = due.when;
        Some(due.event)
    }

    /// Sends a message between nodes.
    pub fn send(&mut self, message: &Message) {
        for delay in self.network.delays(message, &mut self.rng) {
            self.at(delay, Event::Deliver(Box::new(message.clone())));
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
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }
}

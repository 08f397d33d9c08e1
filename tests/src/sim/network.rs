//! The network between the nodes: it delays and loses messages, and cuts links in either direction.
//!
//! Some runs have links as the real transport makes them: a connection keeps its order, and what it loses it loses by
//! breaking, with all that was under way. Others have links that also repeat and reorder, since Raft must bear that too.

use esnode::consensus::Message;
use fastrand::Rng;
use shared::ids::NodeId;

use super::Micros;

/// Most nodes of a run, and one: they are counted from 1.
const NODES: usize = 10;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    /// Messages lost, per thousand; on an ordered link the connection breaks instead.
    pub lost: u32,
    /// Messages delivered twice, per thousand; never on an ordered link.
    pub repeated: u32,
    /// Messages that take up to `late` instead of up to `usual`, per thousand.
    pub delayed: u32,
    /// Longest usual delay; each message draws its own.
    pub usual: Micros,
    /// Longest unusual delay.
    pub late: Micros,
}

impl NetworkFaults {
    /// A quiet local network.
    pub const CALM: Self = Self { lost: 0, repeated: 0, delayed: 0, usual: 1_000, late: 1_000 };

    /// Anything from a quiet network to a bad one.
    pub fn draw(rng: &mut Rng) -> Self {
        if rng.u8(..4) == 0 {
            return Self::CALM;
        }
        Self {
            lost: rng.u32(0..80),
            repeated: rng.u32(0..50),
            delayed: rng.u32(0..100),
            usual: rng.u64(500..10_000),
            late: rng.u64(20_000..400_000),
        }
    }
}

/// The way from one node to another.
#[derive(Clone, Copy, Default)]
struct Link {
    cut: bool,
    /// Counts connections: what an earlier one carried does not arrive.
    connection: u32,
    /// No connection before then.
    connects: Micros,
    /// When the last message under way arrives.
    last: Micros,
}

/// A message's journey: when it arrives, counted from now, and on which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Time from now.
    pub delay: Micros,
    /// The connection that carries it.
    pub connection: u32,
}

/// The links.
pub struct Network {
    /// How bad it is now.
    pub faults: NetworkFaults,
    ordered: bool,
    links: [[Link; NODES]; NODES],
}

impl Network {
    /// All links up, the faults calm.
    pub fn new(ordered: bool) -> Self {
        Self { faults: NetworkFaults::CALM, ordered, links: Default::default() }
    }

    /// The journeys of a message sent now: none when it is lost, two when it is repeated.
    pub fn journeys(&mut self, message: &Message, now: Micros, rng: &mut Rng) -> [Option<Journey>; 2] {
        let lost = self.loses(rng);
        let (delay, connect) = (self.delay(rng), rng.u64(1_000..100_000));
        let link = &mut self.links[at(message.from)][at(message.to)];
        if !self.ordered {
            let way = |delay| Journey { delay, connection: 0 };
            let first = (!lost && !link.cut).then(|| way(delay));
            let again = first.is_some() && chance(rng, self.faults.repeated);
            return [first, again.then(|| way(self.delay(rng)))];
        }
        if now < link.connects {
            return [None, None];
        }
        if lost || link.cut {
            link.connection += 1;
            link.connects = now + connect;
            link.last = 0;
            return [None, None];
        }
        link.last = link.last.max(now + delay);
        [Some(Journey { delay: link.last - now, connection: link.connection }), None]
    }

    /// Whether two nodes hear each other.
    pub fn connects(&self, one: NodeId, other: NodeId) -> bool {
        !self.links[at(one)][at(other)].cut && !self.links[at(other)][at(one)].cut
    }

    /// Whether a message that was sent on this connection arrives.
    pub fn arrives(&self, message: &Message, connection: u32) -> bool {
        self.links[at(message.from)][at(message.to)].connection == connection
    }

    /// A process ended: its connections break, with all that is under way on them.
    pub fn ended(&mut self, node: NodeId) {
        if self.ordered {
            for other in 0..NODES {
                self.links[at(node)][other].connection += 1;
                self.links[other][at(node)].connection += 1;
            }
        }
    }

    /// Whether the next message is lost.
    pub fn loses(&self, rng: &mut Rng) -> bool {
        chance(rng, self.faults.lost)
    }

    /// Time that one message takes.
    pub fn delay(&self, rng: &mut Rng) -> Micros {
        let longest = if chance(rng, self.faults.delayed) { self.faults.late } else { self.faults.usual };
        rng.u64(50..=longest)
    }

    /// Nothing sent by `from` reaches `to` any more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.links[at(from)][at(to)].cut = true;
    }

    /// All links work again.
    pub fn heal(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.cut = false;
            link.connects = 0;
        }
    }
}

fn at(node: NodeId) -> usize {
    usize::try_from(node).expect("nodes are few")
}

fn chance(rng: &mut Rng, per_thousand: u32) -> bool {
    per_thousand > 0 && rng.u32(..1000) < per_thousand
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message { from: 1, to: 2, ..Message::default() }
    }

    fn send(network: &mut Network, rng: &mut Rng) -> Option<Journey> {
        network.journeys(&message(), 1_000_000, rng)[0]
    }

    #[test]
    fn an_ordered_link_keeps_its_order() {
        let mut network = Network::new(true);
        let mut rng = Rng::with_seed(1);
        network.faults = NetworkFaults { delayed: 500, late: 400_000, ..NetworkFaults::CALM };
        let delays: Vec<_> =
            (0..100).filter_map(|_| send(&mut network, &mut rng)).map(|way| way.delay).collect();
        assert_eq!(delays.len(), 100);
        assert!(delays.is_sorted());
    }

    #[test]
    fn a_connection_that_breaks_loses_what_is_under_way() {
        let mut network = Network::new(true);
        let mut rng = Rng::with_seed(1);
        let before = send(&mut network, &mut rng).expect("a calm link");
        assert!(network.arrives(&message(), before.connection));
        network.cut(1, 2);
        assert_eq!(send(&mut network, &mut rng), None);
        network.heal();
        assert!(!network.arrives(&message(), before.connection));
        let after = send(&mut network, &mut rng).expect("a mended link");
        assert!(network.arrives(&message(), after.connection));
    }

    #[test]
    fn a_link_without_order_lets_messages_overtake_each_other() {
        let mut network = Network::new(false);
        let mut rng = Rng::with_seed(1);
        let delays: Vec<_> =
            (0..100).filter_map(|_| send(&mut network, &mut rng)).map(|way| way.delay).collect();
        assert!(!delays.is_sorted());
    }
}

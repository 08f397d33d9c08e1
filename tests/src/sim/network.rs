//! The network between the nodes: it delays, drops, repeats and reorders messages, and cuts links in either direction.

use std::collections::BTreeSet;

use esnode::consensus::Message;
use fastrand::Rng;
use shared::ids::NodeId;

use super::Micros;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Messages lost, per thousand.
    pub lost: u32,
    /// Messages delivered twice, per thousand.
    pub repeated: u32,
    /// Messages that take up to `late` instead of up to `usual`, per thousand.
    pub delayed: u32,
    /// Longest usual delay; each message draws its own, so that they overtake each other.
    pub usual: Micros,
    /// Longest unusual delay.
    pub late: Micros,
}

impl Weather {
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

/// The links.
pub struct Network {
    /// How bad it is now.
    pub weather: Weather,
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    /// All links up, the weather calm.
    pub fn new() -> Self {
        Self { weather: Weather::CALM, cut: BTreeSet::new() }
    }

    /// When each copy of a message arrives, counted from now: none when it is lost.
    pub fn delays(&self, message: &Message, rng: &mut Rng) -> Vec<Micros> {
        let lost = self.cut.contains(&(message.from, message.to)) || self.loses(rng);
        let copies = if lost { 0 } else { 1 + usize::from(chance(rng, self.weather.repeated)) };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    /// Whether the next message is lost.
    pub fn loses(&self, rng: &mut Rng) -> bool {
        chance(rng, self.weather.lost)
    }

    /// Time that one message takes.
    pub fn delay(&self, rng: &mut Rng) -> Micros {
        let longest = if chance(rng, self.weather.delayed) { self.weather.late } else { self.weather.usual };
        rng.u64(50..=longest)
    }

    /// Nothing sent by `from` reaches `to` any more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

fn chance(rng: &mut Rng, per_thousand: u32) -> bool {
    rng.u32(..1000) < per_thousand
}

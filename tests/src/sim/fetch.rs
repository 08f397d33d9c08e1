//! A node's way to another one's snapshot and log, and back: on a connection of its own.

use super::arrival::Arrival;
use super::disk::Disk;
use super::env::{Env, Event};
use super::log::{Fetched, Staged};

/// A fetch under way.
#[derive(Debug)]
pub struct Fetch {
    /// Who is behind, and in which life it asked.
    pub to: (u64, u64),
    /// Who is asked.
    pub from: u64,
    /// What it has, and in which life it gave it; before that, what the other one has applied.
    pub sent: Result<(Staged, u64), u64>,
}

impl Fetch {
    /// A number that tells it from most others, for the trace's digest.
    pub fn mark(&self) -> u64 {
        match &self.sent {
            Ok((staged, _)) => (staged.snapshot.index << 1) | 1,
            Err(have) => have << 1,
        }
    }

    /// It has come to `from`, or back from it: what happens next. Whoever asks notices a broken connection.
    pub fn arrives(self, life: u64, up: bool, disk: &Disk, env: &mut Env) {
        let Self { to, from, sent } = self;
        let stands = up && env.network.connects(from, to.0) && !env.network.loses(&mut env.rng);
        let next = match sent {
            Err(have) if stands => disk.offer(have).map(|staged| (staged, life)),
            Ok((staged, then)) if stands && then == life => {
                env.note(format_args!("node {} has fetched {} from {from}", to.0, staged.snapshot.index));
                let fetched = Arrival::Fetched(Some(Fetched::new(staged)));
                return env.at(0, Event::Node(to.0, to.1, fetched));
            }
            _ => None,
        };
        let delay = env.network.delay(&mut env.rng);
        match next {
            Some(sent) => {
                let transfer = env.rng.u64(1_000..=env.profile.transfer);
                env.at(delay + transfer, Event::Fetch(Box::new(Self { to, from, sent: Ok(sent) })));
            }
            None => env.at(delay, Event::Node(to.0, to.1, Arrival::Fetched(None))),
        }
    }
}

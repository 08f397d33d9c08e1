//! Retention: a leader looks now and then at what is due to be forgotten, as the real one does, and proposes it.

use esnode::state_machine::command::Command;
use esnode::state_machine::retention::{Retention, due};

use super::bugs::Bug;
use super::client::place_of;
use super::env::Env;
use super::node::{Node, Stop};
use super::serving::payload;

/// Ticks from one look to the next.
const EVERY: u64 = 50;

impl Node {
    /// As leader: proposes what is due. Only while things go wrong, so that there is something left to compare.
    pub(super) fn trim_if_due(&mut self, env: &mut Env) -> Result<(), Stop> {
        let Retention { ms, bytes } = env.profile.retention;
        let running = self.running()?;
        if !env.trouble || ms.or(bytes).is_none() || !running.ticks.is_multiple_of(EVERY) || !running.serves()
        {
            return Ok(());
        }
        let now = i64::try_from(env.now / 1000).unwrap_or(i64::MAX);
        let trims = due(&running.stream, env.profile.retention, now);
        if trims.is_empty() {
            return Ok(());
        }
        for trim in &trims {
            if let Command::Trim { topic, partition, start_offset } = trim
                && let Some(topic) = running.stream.topic_numbered(*topic)
            {
                env.checks.trimmed(place_of(&topic.name, *partition), *start_offset);
            }
        }
        let trims = payload(&trims);
        if env.bug == Some(Bug::TrimAlone) {
            running.stream.apply(running.stream.applied_index(), running.core.term(), &trims);
        } else {
            // Dropped means that leadership is gone, or is being handed over: whoever leads next looks again.
            let _ = running.core.propose(vec![trims]);
        }
        Ok(())
    }
}

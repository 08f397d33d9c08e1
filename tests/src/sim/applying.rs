//! How a node applies what is committed: by the rules of the real driver, with every check that needs the state.

use esnode::consensus::Durable as _;
use esnode::driver::change_of;
use esnode::entry::{Entry, EntryKind};
use esnode::state_machine::command::Reply;

use super::bugs::Bug;
use super::checks::Broken;
use super::env::Env;
use super::node::{Node, Stop};

impl Node {
    /// Applies what is committed, answers those who waited for it, then tells the core.
    pub(super) fn apply(&mut self, env: &mut Env) -> Result<(), Stop> {
        let mut last = None;
        while let Some(entry) = self.running()?.backlog.pop_front() {
            self.act()?;
            last = Some(entry.index);
            let replies = self.apply_one(&entry, env)?;
            self.answer(&entry, replies, env)?;
        }
        if let Some(index) = last {
            self.act()?;
            let running = self.running()?;
            // Raft does not bear to be told of more than it gave.
            running.core.applied(index.min(running.given));
        }
        self.serve_held(env)
    }

    fn apply_one(&mut self, entry: &Entry, env: &mut Env) -> Result<Vec<Reply>, Stop> {
        let twice = env.bug == Some(Bug::ApplyTwice) && env.rng.u8(..100) == 0;
        let (id, durable) = (self.id, self.disk.log().last_index());
        let running = self.running()?;
        let last = running.stream.applied_index();
        if entry.index != last + 1 && env.bug != Some(Bug::SkipReplay) {
            return Err(Broken(format!("node {id} applies entry {} after {last}", entry.index)).into());
        }
        if durable < entry.index {
            return Err(
                Broken(format!("node {id} applies entry {}, durable up to {durable}", entry.index)).into()
            );
        }
        let mut apply = || match entry.kind {
            EntryKind::Normal => running.stream.apply(entry.index, entry.term, &entry.data),
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                running.stream.change_members(entry.index, change_of(entry).as_ref())
            }
        };
        let applied = apply();
        if twice {
            apply();
        }
        if let Some(members) = running.core.apply_change(entry) {
            env.note(format_args!("node {id} applies the members {members:?}"));
            env.checks.changed(id, entry.index, &members)?;
        }
        // The digest covers the whole state, so it is not taken every time; but at the same indices everywhere.
        if entry.index.is_multiple_of(32) {
            env.checks.applied(id, entry.index, running.stream.digest())?;
        }
        Ok(applied.replies)
    }
}

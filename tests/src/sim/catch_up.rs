//! Checkpoints, and how a node gets another one's when it is too far behind for entries: by the rules of the real driver,
//! whose own way back it takes.

use std::rc::Rc;

use esnode::consensus::{ConfState, Durable as _, Message, Persist};
use esnode::driver::{Step, is_sent_there};

use super::bugs::Bug;
use super::checkpoint::Checkpoint;
use super::checks::Broken;
use super::disk::Disk;
use super::env::{Env, Event};
use super::log::{Pulled, Staged};
use super::node::{Input, Node, Stop};

/// Ticks after which followers that were sent to a checkpoint are sent there again.
const RETRY_TICKS: u64 = 100;
/// Ticks from one checkpoint to the next, at least.
const MIN_TICKS: u64 = 10;
/// Segments' worth of log that Raft keeps for followers; one that lacks more gets a checkpoint.
const KEPT_SEGMENTS: u64 = 2;

/// When a node makes its next checkpoint.
#[derive(Default)]
pub(super) struct Pace {
    /// Index of the last one begun.
    last: u64,
    /// No other before this tick.
    not_before: u64,
    /// Somebody waits for the next one.
    hurried: bool,
    under_way: bool,
}

impl Pace {
    /// From a start at entry `last`.
    pub(super) fn from(last: u64) -> Self {
        Self { last, ..Self::default() }
    }
}

/// A pull, on a connection of its own.
#[derive(Debug)]
pub struct Pull {
    /// Who is behind, and in which life it asked.
    pub to: (u64, u64),
    /// Who is asked.
    pub from: u64,
    /// What it has, and in which life it gave it; before that, what the other one has applied.
    pub sent: Result<(Staged, u64), u64>,
}

impl Pull {
    /// A number that tells it from most others, for the trace's digest.
    pub fn mark(&self) -> u64 {
        match &self.sent {
            Ok((staged, _)) => (staged.checkpoint.index << 1) | 1,
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
                env.note(format_args!("node {} has pulled {} from {from}", to.0, staged.checkpoint.index));
                let pulled = Input::Pulled(Some(Pulled(Rc::new(staged))));
                return env.at(0, Event::Node(to.0, to.1, pulled));
            }
            _ => None,
        };
        let delay = env.network.delay(&mut env.rng);
        match next {
            Some(sent) => {
                let transfer = env.rng.u64(1_000..=env.profile.transfer);
                env.at(delay + transfer, Event::Pull(Box::new(Self { to, from, sent: Ok(sent) })));
            }
            None => env.at(delay, Event::Node(to.0, to.1, Input::Pulled(None))),
        }
    }
}

impl Node {
    /// A message of another node.
    pub(super) fn receive(&mut self, message: Message, env: &mut Env) -> Result<(), Stop> {
        if !is_sent_there(&message) {
            return self.step(message);
        }
        // The driver has always applied what Raft gave it before it hands Raft anything more.
        self.apply(env)?;
        let to = (self.id, self.life);
        let running = self.running()?;
        let have = running.stream.applied_index();
        match running.way.sent(message, have) {
            Step::Wait => {}
            Step::Give(message) => self.ask(*message, env)?,
            Step::Pull(from) => {
                let delay = env.network.delay(&mut env.rng);
                env.at(delay, Event::Pull(Box::new(Pull { to, from, sent: Err(have) })));
            }
        }
        Ok(())
    }

    /// A pull is over.
    pub(super) fn pulled(&mut self, pulled: Option<Pulled>, env: &mut Env) -> Result<(), Stop> {
        self.apply(env)?;
        let running = self.running()?;
        let (have, term) = (running.stream.applied_index(), running.core.term());
        match running.way.pulled(pulled, have, term) {
            Some(message) => self.ask(message, env),
            None => Ok(()),
        }
    }

    fn ask(&mut self, mut message: Message, env: &mut Env) -> Result<(), Stop> {
        let running = self.running()?;
        if env.bug == Some(Bug::StaleMembersAfterSnapshot) {
            message.mut_snapshot().mut_metadata().set_conf_state(running.core.conf_state());
        }
        self.step(message)
    }

    /// No node here means harm, so each must find plausible whatever another one sends, however late it comes.
    fn step(&mut self, message: Message) -> Result<(), Stop> {
        let (id, said) = (self.id, format!("{:?} of node {}", message.get_msg_type(), message.from));
        let outcome = self.running()?.core.receive(message);
        Ok(outcome.map_err(|reason| Broken(format!("node {id} does not believe {said}: {reason}")))?)
    }

    /// What the disk gets with this work, if Raft takes a checkpoint.
    pub(super) fn staged(&mut self, work: &Persist) -> Result<Option<Rc<Staged>>, Stop> {
        let running = self.running()?;
        let staged = work.snapshot.and_then(|_| running.way.install(work.number));
        Ok(staged.map(|Pulled(staged)| staged.clone()))
    }

    /// Work up to `number` is durable.
    pub(super) fn persisted(&mut self, number: u64, env: &mut Env) -> Result<(), Stop> {
        let running = self.running()?;
        let installed = running.way.installed(number);
        running.core.persisted(number);
        match installed {
            Some(Pulled(staged)) => self.take_over(&staged, env),
            None => Ok(()),
        }
    }

    /// What another node's checkpoint says is the state now.
    fn take_over(&mut self, staged: &Staged, env: &mut Env) -> Result<(), Stop> {
        let (id, Checkpoint { index, term, members, .. }) = (self.id, &staged.checkpoint);
        env.note(format_args!("node {id} goes on from checkpoint {index}"));
        for entry in &staged.entries {
            env.checks.committed(id, *term, entry)?;
        }
        let durable = self.disk.log().get().term(*index);
        if durable != Some(*term) {
            return Err(
                Broken(format!("node {id} goes on from {index}, which is not durable: {durable:?}")).into()
            );
        }
        let running = self.running()?;
        if env.bug != Some(Bug::StateNotInstalled) {
            running.stream = staged.checkpoint.state();
        }
        (running.handed, running.given) = (*index, *index);
        running.core.applied(*index);
        running.pace.last = *index;
        env.checks.members(id, *index, &running.core.conf_state())?;
        env.checks.installed();
        self.offer(*index, *term, members.clone(), env)?;
        self.serve_held(env)
    }

    /// Followers that lack much may be sent to this checkpoint, and what is then not needed goes.
    pub(super) fn offer(&mut self, index: u64, term: u64, members: ConfState, env: &Env) -> Result<(), Stop> {
        let kept = self.disk.index_before(KEPT_SEGMENTS * env.profile.segment);
        let running = self.running()?;
        if running.way.is_taking() {
            // It is of the log that is about to go.
            return Ok(());
        }
        running.core.checkpointed(index, term, members);
        running.core.compact((kept - 1).min(index));
        let needed = running.stream.low_watermark();
        let needed = if env.bug == Some(Bug::RetireByCheckpoint) { index } else { needed };
        self.disk.retire(needed.min(index));
        Ok(())
    }

    /// Begins a checkpoint when it is time.
    pub(super) fn checkpoint_if_due(&mut self, env: &mut Env) -> Result<(), Stop> {
        let every = env.profile.checkpoints;
        let log = self.disk.log().clone();
        let (id, founders) = (self.id, self.founders.clone());
        let running = self.running()?;
        if running.ticks.is_multiple_of(RETRY_TICKS) {
            running.core.retry_snapshots();
        }
        let applied = running.stream.applied_index();
        let new = applied.saturating_sub(running.pace.last);
        let pace = &mut running.pace;
        pace.hurried |= running.core.wants_checkpoint();
        let wanted = new >= every || (pace.hurried && new > 0);
        let waits = pace.under_way || running.ticks < pace.not_before;
        // While it takes another one's checkpoint, Raft has the members of that one, and the state is the old one.
        let mixed = running.way.is_taking() && env.bug != Some(Bug::CheckpointWhileTaking);
        if every == 0 || !wanted || waits || mixed {
            return Ok(());
        }
        let members = running.core.conf_state();
        env.checks.members(id, applied, &members)?;
        let not_before = running.ticks + MIN_TICKS;
        *pace = Pace { last: applied, not_before, hurried: false, under_way: true };
        let term = log.term(applied).ok().flatten().unwrap_or_default();
        let taken = Checkpoint::take(&running.stream, term, members, &founders, env.bug);
        let wait = self.disk_wait(env);
        env.node(wait, self, Input::Checkpointed(Box::new(taken)));
        Ok(())
    }

    /// A checkpoint is written.
    pub(super) fn checkpointed(&mut self, taken: Checkpoint, env: &Env) -> Result<(), Stop> {
        self.act()?;
        self.running()?.pace.under_way = false;
        let (index, term, members) = (taken.index, taken.term, taken.members.clone());
        self.disk.keep(taken);
        self.offer(index, term, members, env)
    }
}

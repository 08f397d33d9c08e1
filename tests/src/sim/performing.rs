//! How a node performs its replica's effects, with every check that needs to see them.

use esnode::consensus::Durable as _;
use esnode::replica::{Effect, End, Input, Leadership, Response, Write, WriteContent};
use esnode::state_machine::command::Command;
use esnode::state_machine::retention::{Retention, due};

use super::arrival::Arrival;
use super::bugs::Bug;
use super::checks::InvariantViolation;
use super::client::{Answer, place_of};
use super::env::{Env, Event};
use super::fetch::Fetch;
use super::node::{Node, Simulated, Stop, Waiter};
use super::serving::{payload, proposal};
use super::snapshot_file::SnapshotFile;

/// Ticks from one check of what is due to be deleted to the next.
const RETENTION_TICKS: u64 = 50;

impl Node {
    pub(super) fn perform_effects(&mut self, env: &mut Env) -> Result<(), Stop> {
        loop {
            let now = self.now(env);
            let before = self.member()?.state.read().applied_index();
            let effects = self.member()?.replica.effects(now);
            self.check_applied(before, env)?;
            let Some(effects) = effects else { return self.check_nothing_left() };
            for effect in effects {
                self.perform(effect, env)?;
            }
            let member = self.member()?;
            member.turns += 1;
            if env.profile.gives_way.is_some_and(|after| member.turns.is_multiple_of(after)) {
                // More arrives before the rest is done.
                return Ok(());
            }
        }
    }

    /// A replica without effects waits for inputs: whatever it still had to do would wait for the next one too.
    fn check_nothing_left(&mut self) -> Result<(), Stop> {
        let id = self.id;
        let replica = &self.member()?.replica;
        if replica.is_idle() {
            return Ok(());
        }
        Err(InvariantViolation(format!("node {id} has no effects, but work left: {:?}", replica.status()))
            .into())
    }

    /// Everything applied since `before` is committed, durable, and has led to the same state as everywhere.
    fn check_applied(&mut self, before: u64, env: &mut Env) -> Result<(), Stop> {
        let (id, log) = (self.id, self.disk.log().clone());
        let member = self.member()?;
        let applied = member.state.read().applied_index();
        let status = member.replica.status();
        if applied != status.applied {
            let what =
                format!("node {id} has the state of {applied}, and consensus that of {}", status.applied);
            return Err(InvariantViolation(what).into());
        }
        if applied <= before {
            return Ok(());
        }
        let durable = log.last_index();
        if durable < applied {
            let what = format!("node {id} applies entry {applied}, durable up to {durable}");
            return Err(InvariantViolation(what).into());
        }
        let log = log.get();
        for entry in log.from((before + 1).max(log.first())) {
            if entry.index > applied {
                break;
            }
            env.checks.committed(id, status.term, entry)?;
        }
        if applied / 32 > before / 32 {
            env.checks.applied(id, applied, member.state.read().digest())?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect<Simulated>, env: &mut Env) -> Result<(), Stop> {
        let id = self.id;
        match effect {
            Effect::Send(_, messages) => {
                for message in messages {
                    self.act()?;
                    env.send(message);
                }
            }
            Effect::Write(write) => self.write(write, env)?,
            Effect::ReadLog(read) => {
                let wait = env.read_latency();
                env.node(wait, self, Arrival::Read(read));
            }
            Effect::Respond(waiter, response) => self.respond(waiter, response, env)?,
            Effect::Wake(_) | Effect::WakeGroups(_) | Effect::Discard(_) | Effect::DiscardFetched => {}
            Effect::Leadership(leadership) => self.leadership(leadership, env)?,
            Effect::Members(members) => self.member()?.members = members,
            Effect::Cluster(cluster) => self.disk.identity.cluster = Some(cluster),
            Effect::RefuseEvents(refuse) => self.member()?.refuses_events = refuse,
            Effect::WriteSnapshot(term, snapshot) => {
                env.checks.members(id, snapshot.state.applied_index(), &snapshot.conf_state)?;
                let file = SnapshotFile::encode(*snapshot, term, env.checks.initial_members(), env.bug);
                let wait = self.disk_wait(env);
                env.node(wait, self, Arrival::SnapshotWritten(Box::new(file)));
            }
            Effect::FetchSnapshot(from, have) => {
                let delay = env.network.delay(&mut env.rng);
                let fetch = Fetch { to: (id, self.life), from, sent: Err(have) };
                env.at(delay, Event::Fetch(Box::new(fetch)));
            }
            Effect::DeleteLog(index) => self.disk.delete_before(index),
            // No node here means harm, so each must find plausible whatever another one sends, however late it comes.
            Effect::Implausible(peer, kind, reason) => {
                let what = format!("node {id} does not believe {kind:?} of node {peer}: {reason}");
                return Err(InvariantViolation(what).into());
            }
            Effect::End(End::Removed) => return Err(Stop::Removed),
            Effect::End(End::Stopped) => return Err(Stop::Died),
            Effect::End(end) => return Err(InvariantViolation(format!("node {id} ends: {end:?}")).into()),
        }
        Ok(())
    }

    fn write(&mut self, mut write: Write<super::log::SharedStaged>, env: &mut Env) -> Result<(), Stop> {
        self.act()?;
        let number = write.number;
        if let WriteContent::Append(Some(state), _) = &mut write.content
            && env.bug == Some(Bug::CommitBeforeEntries)
        {
            state.commit = self.member()?.replica.status().commit;
        }
        if let WriteContent::Install(..) = &write.content {
            env.checks.installed();
            self.member()?.early = env.bug == Some(Bug::InstalledBeforeSync);
        }
        self.disk.submit(write);
        let early = self.member()?.early || env.bug == Some(Bug::AckBeforeSync);
        match number.filter(|_| early) {
            Some(number) => self.step(Input::Persisted(number), env),
            None => Ok(()),
        }
    }

    fn leadership(&mut self, leadership: Leadership, env: &mut Env) -> Result<(), Stop> {
        let id = self.id;
        env.note(format_args!("node {id}: {leadership:?}"));
        self.member()?.leadership = leadership;
        if leadership.leader == Some(id) {
            env.checks.leads(id, leadership.term, &self.disk.log().get())?;
        }
        Ok(())
    }

    /// The sync under way returned.
    pub(super) fn synced(&mut self, env: &mut Env) -> Result<(), Stop> {
        self.act()?;
        if self.disk.fails && env.bug != Some(Bug::FailedSyncBelieved) {
            // Nothing is retried and believed: the process ends.
            return Err(Stop::Died);
        }
        let Some(synced) = self.disk.synced() else { return Ok(()) };
        for (entry, before) in synced.entries {
            env.checks.logged(self.id, &entry, before)?;
        }
        // The disk has a thread of its own: it goes on, and its readers see the entries, before the replica hears.
        let lag = env.rng.u64(..500);
        if let Some(number) = synced.number.filter(|_| env.bug != Some(Bug::AckBeforeSync)) {
            env.node(lag, self, Arrival::Persisted(number));
        }
        if let Some(format) = synced.format {
            env.node(lag, self, Arrival::FormatAdopted(format));
        }
        Ok(())
    }

    fn respond(&mut self, waiter: Waiter, response: Response, env: &mut Env) -> Result<(), Stop> {
        let (client, call, answer) = match waiter {
            Waiter::Client(client, call) => (client, call, Answer::of(response)),
            Waiter::Read(request) => match response {
                Response::ReadBarrier(Ok(())) => {
                    self.member()?.renew_lease();
                    (request.client, request.call, self.read(&request.body)?)
                }
                other => (request.client, request.call, Answer::of(other)),
            },
            Waiter::Operator => return self.respond_to_operator(&response, env),
        };
        self.act()?;
        env.reply(client, call, answer);
        Ok(())
    }

    fn respond_to_operator(&mut self, response: &Response, env: &mut Env) -> Result<(), Stop> {
        env.note(format_args!("node {} tells the operator: {response:?}", self.id));
        if let Response::RaisableFormat(Ok(to)) = *response {
            let raise = proposal(&[Command::RaiseFormat { to }]);
            self.step(Input::Request(raise, Waiter::Operator), env)?;
        }
        Ok(())
    }

    /// As leader: proposes to delete what is due. Only while things go wrong, so that there is something left to compare.
    pub(super) fn delete_records_if_due(&mut self, env: &mut Env) -> Result<(), Stop> {
        let Retention { ms, bytes } = env.profile.retention;
        let member = self.member()?;
        let due_now = member.ticks.is_multiple_of(RETENTION_TICKS) && member.leadership.serving;
        if !env.trouble || ms.or(bytes).is_none() || !due_now {
            return Ok(());
        }
        let now = i64::try_from(env.now / 1000).unwrap_or(i64::MAX);
        let deletions = due(&member.state.read(), env.profile.retention, now);
        if deletions.is_empty() {
            return Ok(());
        }
        for deletion in &deletions {
            if let Command::DeleteRecords { topic, partition, start_offset } = deletion
                && let Some(topic) = member.state.read().topic_by_id(*topic)
            {
                env.checks.deletes(place_of(&topic.name, *partition), *start_offset);
            }
        }
        if env.bug == Some(Bug::DeleteAlone) {
            let mut state = member.state.write();
            let applied = state.applied_index();
            state.apply(applied, member.leadership.term, &payload(&deletions));
            return Ok(());
        }
        self.step(Input::Request(proposal(&deletions), Waiter::Operator), env)
    }
}

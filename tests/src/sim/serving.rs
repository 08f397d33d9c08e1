//! How a node serves its clients: by the rules of the real driver and listeners.

use bytes::{Bytes, BytesMut};
use esnode::consensus::{Dropped, Role};
use esnode::entry::Entry;
use esnode::state_machine::command::{Command, Reply};

use super::bugs::Bug;
use super::client::{Answer, Body, Request};
use super::env::Env;
use super::node::{Node, Stop, Waiting};
use super::reading;

impl Node {
    pub(super) fn request(&mut self, request: Request, env: &mut Env) {
        let Some(running) = &mut self.running else { return };
        let (client, call) = (request.client, request.call);
        let commands = match &request.body {
            Body::Read { fresh: true, .. } if running.leased() => {
                return env.reply(
                    client,
                    call,
                    reading::read(&running.stream, &self.disk.log().get(), &request.body),
                );
            }
            Body::Read { fresh: true, .. } if env.bug != Some(Bug::ReadWithoutBarrier) => {
                running.contexts += 1;
                match running.core.read_index(running.contexts) {
                    Ok(()) => drop(running.barriers.insert(running.contexts, request)),
                    Err(Dropped) => env.reply(client, call, Answer::NotLeader(running.core.leader())),
                }
                return;
            }
            Body::Read { fresh, .. } => {
                let stale = *fresh && running.core.role() != Role::Leader;
                let answer = if stale {
                    Answer::NotLeader(running.core.leader())
                } else {
                    reading::read(&running.stream, &self.disk.log().get(), &request.body)
                };
                return env.reply(client, call, answer);
            }
            // Before the topic is looked up: a node that was removed long ago knows none of them, and its client must not
            // take that for an answer but ask elsewhere.
            _ if !running.serves() => {
                return env.reply(client, call, Answer::NotLeader(running.core.leader()));
            }
            Body::Write(commands) => commands.clone(),
            Body::Append { topic, partition, batch } => match running.stream.topic(topic) {
                None => return env.reply(client, call, Answer::UnknownTopic),
                Some(topic) => {
                    vec![Command::Append { topic: topic.id, partition: *partition, batch: batch.clone() }]
                }
            },
        };
        self.propose(&request, &commands, env);
    }

    fn propose(&mut self, request: &Request, commands: &[Command], env: &mut Env) {
        let Some(running) = &mut self.running else { return };
        let Request { client, call, .. } = *request;
        match running.core.propose(vec![payload(commands)]) {
            Err(Dropped) => env.reply(client, call, Answer::NotLeader(running.core.leader())),
            Ok(_) if env.bug == Some(Bug::AckBeforeCommit) => {
                // What it would be, if nothing went wrong from here on.
                let mut next = running.stream.clone();
                let reply = next.apply(next.applied_index() + 1, running.core.term(), &payload(commands));
                let reply = reply.replies.into_iter().next_back();
                env.reply(client, call, reply.map_or(Answer::Unknown, Answer::Reply));
            }
            Ok(proposed) => {
                let lost =
                    running.waiting.insert(proposed.first, Waiting { term: proposed.term, client, call });
                if let Some(lost) = lost {
                    env.reply(lost.client, lost.call, Answer::Unknown);
                }
            }
        }
    }

    pub(super) fn serve_held(&mut self, env: &mut Env) -> Result<(), Stop> {
        if self.running()?.held.is_empty() {
            return Ok(());
        }
        let log = self.disk.log().clone();
        let running = self.running()?;
        let applied = running.stream.applied_index();
        let (ready, held) =
            std::mem::take(&mut running.held).into_iter().partition(|(index, _)| *index <= applied);
        running.held = held;
        let ready: Vec<_> = ready;
        for (_, request) in ready {
            let answer = reading::read(&self.running()?.stream, &log.get(), &request.body);
            self.act()?;
            env.reply(request.client, request.call, answer);
        }
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        entry: &Entry,
        mut replies: Vec<Reply>,
        env: &mut Env,
    ) -> Result<(), Stop> {
        let Some(waiting) = self.running()?.waiting.remove(&entry.index) else { return Ok(()) };
        self.act()?;
        let ours = waiting.term == entry.term || env.bug == Some(Bug::AckByIndex);
        let answer = match replies.pop() {
            Some(reply) if ours => Answer::Reply(reply),
            _ => Answer::Unknown,
        };
        env.reply(waiting.client, waiting.call, answer);
        Ok(())
    }

    /// Whoever waits on a leader that leads no more learns nothing of the outcome.
    pub(super) fn changed(&mut self, env: &mut Env) -> Result<(), Stop> {
        let id = self.id;
        let log = self.disk.log().clone();
        let running = self.running()?;
        let (role, term) = (running.core.role(), running.core.term());
        env.note(format_args!("node {id} is {role:?} in term {term}"));
        if role == Role::Leader {
            if running.serves_from.is_none_or(|(led, _)| led != term) {
                running.serves_from = Some((term, running.core.status().last_index));
            }
            env.checks.leads(id, term, &log.get())?;
            return Ok(());
        }
        if env.bug == Some(Bug::AckByIndex) {
            return Ok(());
        }
        let barriers = std::mem::take(&mut running.barriers).into_values();
        let lost: Vec<_> = barriers.map(|request| (request.client, request.call)).collect();
        let lost = lost.into_iter().chain(
            std::mem::take(&mut running.waiting).into_values().map(|waiting| (waiting.client, waiting.call)),
        );
        for (client, call) in lost {
            env.reply(client, call, Answer::Unknown);
        }
        Ok(())
    }
}

pub(super) fn payload(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::new();
    for command in commands {
        command.encode(&mut out);
    }
    out.freeze()
}

//! How a node serves its clients: by the rules of the real driver and listeners.

use bytes::{Bytes, BytesMut};
use esnode::consensus::{Dropped, Role};
use esnode::stream::command::Command;

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
}

fn payload(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::new();
    for command in commands {
        command.encode(&mut out);
    }
    out.freeze()
}

//! How a node serves its clients: as the listeners do.

use bytes::{Bytes, BytesMut};
use esnode::replica::{Claim, Input, Proposal, ProposeError, Request as ReplicaRequest, Response};
use esnode::state_machine::batch::BatchHeader;
use esnode::state_machine::command::Command;
use esnode::state_machine::groups::GroupChange;

use super::bugs::Bug;
use super::client::{Answer, Body, Request};
use super::env::Env;
use super::member::committed;
use super::node::{Node, Stop, Waiter};
use super::{pipeline, reading};

impl Node {
    pub(super) fn request(&mut self, request: Request, env: &mut Env) -> Result<(), Stop> {
        let (client, call) = (request.client, request.call);
        let member = self.member()?;
        let leadership = member.leadership;
        let answer = match &request.body {
            Body::Read { fresh: true, .. } | Body::Group(_) | Body::Pipeline => {
                let leased = env.bug == Some(Bug::LeaseAcrossPause) && member.leased();
                let leads = leadership.leader == Some(self.id);
                match env.bug == Some(Bug::ReadWithoutBarrier) {
                    true if !leads => Answer::NotLeader(leadership.leader),
                    false if !leased => {
                        let waiter = Waiter::Read(request);
                        return self.step(Input::Request(ReplicaRequest::ReadBarrier, waiter), env);
                    }
                    _ => self.read(&request.body)?,
                }
            }
            Body::Read { .. } => self.read(&request.body)?,
            // Before the topic is looked up: a node that was removed long ago knows none of them, and its client must not
            // take that for an answer but ask elsewhere.
            _ if !leadership.serving => Answer::NotLeader(leadership.leader),
            Body::Write(commands) => {
                let commands = &self.as_told(commands, env.bug);
                let waiter = Waiter::Client(client, call);
                return self.step(Input::Request(proposal(commands), waiter), env);
            }
            Body::Append { .. } if member.refuses_events => Answer::NotLeader(None),
            Body::Append { topic, partition, batch } => {
                let found = member.state.read().topic(topic).map(|topic| topic.id);
                match found {
                    None => Answer::UnknownTopic,
                    Some(topic) => {
                        let header = BatchHeader::read(batch).filter(|header| header.producer_id >= 0);
                        let claim = header.map(|header| Claim { topic, partition: *partition, header });
                        let append = Command::Append { topic, partition: *partition, batch: batch.clone() };
                        let request = ReplicaRequest::Propose(Proposal {
                            payload: payload(&[append]),
                            commands: 1,
                            work: 1,
                            claim,
                        });
                        return self.step(Input::Request(request, Waiter::Client(client, call)), env);
                    }
                }
            }
        };
        env.reply(client, call, answer);
        Ok(())
    }

    /// Reads from what this node has applied.
    pub(super) fn read(&mut self, body: &Body) -> Result<Answer, Stop> {
        let log = self.disk.log().clone();
        let member = self.member()?;
        let state = member.state.read();
        if let Body::Group(name) = body {
            let group = state.group(name);
            return Ok(Answer::Group(group.cloned().map(Box::new), committed(group)));
        }
        if let Body::Pipeline = body {
            return Ok(Answer::Pipeline(pipeline::position(&state)));
        }
        Ok(reading::read(&state, &log.get(), body))
    }

    /// What a client wants to change, with what a coordinator adds to it. A node that does not look at generations takes
    /// any commit as one of a member that is in the newest.
    fn as_told(&self, commands: &[Command], bug: Option<Bug>) -> Vec<Command> {
        let mut commands = commands.to_vec();
        for command in &mut commands {
            if let Command::Group { group, change: GroupChange::Commit(commit) } = command
                && bug == Some(Bug::AnyGeneration)
                && let Some(newest) = self.newest(group)
            {
                (commit.generation, commit.member) = newest;
            }
        }
        let Some(state) = self.state() else { return commands };
        let coordinated = |command| pipeline::as_coordinated(&state, command, bug);
        commands.into_iter().flat_map(coordinated).collect()
    }

    /// The group's generation and a member in it, or a member and its epoch.
    fn newest(&self, name: &str) -> Option<(i32, String)> {
        let state = self.state()?;
        let group = state.group(name)?;
        if let Some(consumers) = group.consumer() {
            let (id, member) = consumers.members().iter().next()?;
            return Some((member.epoch, id.clone()));
        }
        Some((group.generation(), group.leader()?.to_owned()))
    }
}

impl Answer {
    /// What a client is told of a response.
    pub(super) fn of(response: Response) -> Self {
        match response {
            Response::Proposed(Ok(mut replies)) => replies.pop().map_or(Self::Unknown, Self::Reply),
            Response::Proposed(Err(error)) | Response::ReadBarrier(Err(error)) => match error {
                ProposeError::NotLeader(leader) => Self::NotLeader(leader),
                ProposeError::Busy | ProposeError::NoRoom => Self::NotLeader(None),
                ProposeError::Unknown | ProposeError::TooLarge | ProposeError::Stopping => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// The request to replicate commands.
pub(super) fn proposal(commands: &[Command]) -> ReplicaRequest {
    ReplicaRequest::Propose(Proposal {
        payload: payload(commands),
        commands: commands.len(),
        work: commands.iter().map(Command::work).sum(),
        claim: None,
    })
}

pub(super) fn payload(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::new();
    commands.iter().for_each(|command| command.encode(&mut out));
    out.freeze()
}

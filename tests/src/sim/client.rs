//! Clients: they know no more than a real one would, retry as a real one would, and report what they were told to
//! the checks.

use bytes::Bytes;
use esnode::state_machine::TopicId;
use esnode::state_machine::command::{Command, Refusal, Reply};
use esnode::state_machine::groups::{Group, GroupChange, GroupError, GroupReply};
use shared::ids::NodeId;

use super::bugs::Bug;
use super::checks::{InvariantViolation, Place, ensure};
use super::consumer::Consumer;
use super::env::{Env, Event};
use super::member::{self, GROUP, Membership};
use super::pipeline::Pipeline;
use super::records::{self, Value};

/// A client's request to one node.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub client: usize,
    /// Which of its calls this is.
    pub call: u64,
    /// What it asks.
    pub body: Body,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Body {
    /// Change the topics or producers.
    Write(Vec<Command>),
    /// Append a batch.
    Append {
        /// Topic by name.
        topic: String,
        /// Partition by number.
        partition: u32,
        /// As encoded by the producer.
        batch: Bytes,
    },
    /// Read some records.
    Read {
        /// Topic by name.
        topic: String,
        /// Partition by number.
        partition: u32,
        /// First offset wanted.
        from: i64,
        /// Everything acknowledged before must be seen; otherwise whatever the node has applied will do.
        fresh: bool,
    },
    /// Tell how the consumer group of this name stands, behind a barrier.
    Group(&'static str),
    /// Tell where the pipeline goes on, behind a barrier.
    Pipeline,
}

/// What a node answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Committed and applied.
    Reply(Reply),
    /// Not taken: ask the other one.
    NotLeader(Option<NodeId>),
    /// It may or may not happen.
    Unknown,
    /// This node knows no such topic.
    UnknownTopic,
    /// Records.
    Read {
        /// Offset of the first.
        from: i64,
        /// The partition's end.
        next: i64,
        /// The records.
        values: Vec<Value>,
    },
    /// The consumer group, if there is one, and where it goes on.
    Group(Option<Box<Group>>, i64),
    /// The pipeline's topic, if there is one, and the number to write next.
    Pipeline(Option<(TopicId, u64)>),
}

impl Answer {
    /// A number that tells it from most others, for the trace's digest.
    pub fn mark(&self) -> u64 {
        match self {
            Self::Reply(Reply::Appended { base_offset, .. }) => base_offset.cast_unsigned(),
            Self::Reply(_) => u64::MAX,
            Self::NotLeader(leader) => u64::MAX - 1 - leader.unwrap_or(0),
            Self::Unknown => u64::MAX - 20,
            Self::UnknownTopic => u64::MAX - 21,
            Self::Group(group, offset) => {
                let generation = group.as_ref().map_or(0, |group| group.generation());
                (i64::from(generation).cast_unsigned() << 40) ^ offset.cast_unsigned()
            }
            Self::Pipeline(position) => position.map_or(u64::MAX - 22, |(_, next)| next),
            Self::Read { from, next, .. } => (from.cast_unsigned() << 32) ^ next.cast_unsigned(),
        }
    }
}

/// What a client is for.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Creates the topics, one after another.
    Creator {
        /// How many exist.
        done: usize,
    },
    /// Appends new records; never repeats a batch whose outcome it does not know.
    Plain,
    /// Appends new records; repeats a batch until it is acknowledged.
    Idempotent {
        /// Once allocated.
        producer: Option<i64>,
        /// Next sequence number, by place.
        next: Vec<i32>,
    },
    /// Reads.
    Reader {
        /// From the leader, behind a barrier; otherwise from any node.
        fresh: bool,
    },
    /// A member of the consumer group.
    Member(Membership),
    /// An instance of the pipeline.
    Pipeline(Pipeline),
    /// A member of the group of the consumer protocol.
    Consumer(Consumer),
}

/// What a client is doing.
#[derive(Clone, Debug)]
enum Doing {
    Create,
    Allocate,
    Append { at: usize, values: Vec<Value>, sequence: records::Sequence },
    Read { at: usize, from: i64, fresh: bool, floor: i64 },
    Look { floor: i64 },
    Change(GroupChange),
    Transact { floor: u64 },
}

/// One client.
pub struct Client {
    id: usize,
    kind: Kind,
    nodes: u64,
    /// The node it believes in.
    target: NodeId,
    /// The node asked last of those that nobody named: it goes round, as real clients do, since a leader found by chance
    /// may take for ever to find.
    round: NodeId,
    /// The node that did not answer, until one did something for this client. Nobody's word leads back there: a node
    /// that was removed may call a dead one the leader for ever, and real clients remember broken connections.
    silent: Option<NodeId>,
    call: u64,
    doing: Option<Doing>,
    values: u64,
    /// Operations that ended well.
    pub finished: u64,
    /// It begins nothing new.
    pub retired: bool,
}

/// Topics and partitions that the clients use: two topics with two and one partitions.
pub const PLACES: [Place; 3] = [(0, 0), (0, 1), (1, 0)];
const PARTITIONS: [u32; 2] = [2, 1];

/// A topic's name.
pub fn topic(number: usize) -> String {
    format!("topic-{number}")
}

/// The place of a topic's partition.
pub fn place_of(name: &str, partition: u32) -> Place {
    let number = name.strip_prefix("topic-").and_then(|number| number.parse().ok());
    (number.expect("only these topics exist"), partition)
}

impl Client {
    /// A client of so many nodes.
    pub fn new(id: usize, kind: Kind, nodes: u64) -> Self {
        let first = id as u64 % nodes + 1;
        Self {
            id,
            kind,
            nodes,
            target: first,
            round: first,
            silent: None,
            call: 0,
            doing: None,
            values: 0,
            finished: 0,
            retired: false,
        }
    }

    /// Begins something new, or tries the same again.
    pub fn wake(&mut self, env: &mut Env) {
        if self.doing.is_none() {
            if self.retired {
                return;
            }
            self.doing = self.next(env);
        }
        let Some(doing) = self.doing.clone() else { return };
        self.call += 1;
        let request = Request { client: self.id, call: self.call, body: self.body(&doing, env) };
        let target = match doing {
            Doing::Read { fresh: false, .. } => env.rng.u64(1..=self.nodes),
            _ => self.target,
        };
        env.request(target, request);
        let timeout = env.rng.u64(200_000..1_500_000);
        env.at(timeout, Event::Timeout(self.id, self.call));
    }

    /// No answer came in time: the outcome is unknown.
    pub fn timeout(&mut self, call: u64, env: &mut Env) {
        if call == self.call && self.doing.is_some() {
            self.silent = Some(self.target);
            self.elsewhere();
            self.unknown(env);
        }
    }

    /// Believes in the next node round.
    fn elsewhere(&mut self) {
        self.round = self.round % self.nodes + 1;
        self.target = self.round;
    }

    /// An answer came; one to an earlier call tells nothing new.
    pub fn answer(&mut self, call: u64, answer: Answer, env: &mut Env) -> Result<(), InvariantViolation> {
        if call != self.call {
            return Ok(());
        }
        let Some(doing) = self.doing.clone() else { return Ok(()) };
        match answer {
            Answer::NotLeader(leader) => {
                match leader {
                    Some(leader) if self.silent != Some(leader) => self.target = leader,
                    _ => self.elsewhere(),
                }
                self.again(env);
            }
            Answer::Unknown => self.unknown(env),
            Answer::UnknownTopic => {
                if let Doing::Read { fresh: true, floor, at, .. } = doing {
                    ensure!(
                        floor == 0,
                        "fresh reads: a topic with {floor} records in {:?} is gone",
                        PLACES[at]
                    );
                }
                self.again(env);
            }
            Answer::Reply(reply) => self.replied(doing, &reply, env)?,
            Answer::Read { from, next, values } => self.saw(&doing, from, next, &values, env)?,
            Answer::Pipeline(position) => self.went_on(&doing, position, env)?,
            Answer::Group(group, offset) => self.looked(&doing, group.as_deref(), offset, env)?,
        }
        Ok(())
    }

    fn next(&mut self, env: &mut Env) -> Option<Doing> {
        let at = env.rng.usize(..PLACES.len());
        match &mut self.kind {
            Kind::Member(member) => Some(match member.take() {
                Some(change) => Doing::Change(change),
                None => Doing::Look { floor: env.checks.offset_floor() },
            }),
            Kind::Pipeline(_) => Some(Doing::Transact { floor: env.checks.pipeline_floor() }),
            Kind::Consumer(member) => Some(match member.take() {
                Some(change) => Doing::Change(change),
                None => Doing::Look { floor: env.checks.offset_floor() },
            }),
            Kind::Creator { done } => (*done < PARTITIONS.len()).then_some(Doing::Create),
            Kind::Idempotent { producer: None, .. } => Some(Doing::Allocate),
            Kind::Plain => Some(Doing::Append { at, values: self.draw(env), sequence: None }),
            Kind::Idempotent { producer: Some(id), next } => {
                let sequence = Some((*id, next[at]));
                Some(Doing::Append { at, values: self.draw(env), sequence })
            }
            Kind::Reader { fresh } => {
                let floor = env.checks.floor(PLACES[at]);
                let from = (floor - env.rng.i64(..20)).max(0);
                Some(Doing::Read { at, from, fresh: *fresh, floor })
            }
        }
    }

    fn draw(&mut self, env: &mut Env) -> Vec<Value> {
        let first = self.values;
        self.values += env.rng.u64(1..4);
        (first..self.values).map(|number| records::value(self.id, number)).collect()
    }

    fn body(&self, doing: &Doing, env: &Env) -> Body {
        let timestamp = i64::try_from(env.now / 1000).unwrap_or(i64::MAX);
        match doing {
            Doing::Create => {
                let Kind::Creator { done } = self.kind else { unreachable!("only a creator creates") };
                Body::Write(vec![Command::CreateTopic {
                    name: topic(done),
                    partitions: PARTITIONS[done],
                    configs: Default::default(),
                }])
            }
            Doing::Allocate => Body::Write(vec![Command::AllocateProducer]),
            Doing::Look { .. } => Body::Group(self.group()),
            Doing::Change(change) => {
                let (group, change) = (self.group().to_owned(), change.clone());
                Body::Write(vec![Command::Group { group, change }])
            }
            Doing::Transact { .. } => {
                let Kind::Pipeline(pipeline) = &self.kind else { unreachable!("only a pipeline transacts") };
                pipeline.body(timestamp, env.bug)
            }
            Doing::Append { at, values, sequence } => {
                let batch = records::encode(values, *sequence, timestamp).expect("a batch in memory encodes");
                Body::Append { topic: topic(PLACES[*at].0), partition: PLACES[*at].1, batch }
            }
            Doing::Read { at, from, fresh, .. } => Body::Read {
                topic: topic(PLACES[*at].0),
                partition: PLACES[*at].1,
                from: *from,
                fresh: *fresh,
            },
        }
    }

    /// The group that it is a member of, if it is.
    fn group(&self) -> &'static str {
        if let Kind::Consumer(member) = &self.kind { member.group } else { GROUP }
    }

    fn replied(&mut self, doing: Doing, reply: &Reply, env: &mut Env) -> Result<(), InvariantViolation> {
        match (doing, reply, &mut self.kind) {
            (
                Doing::Create,
                Reply::TopicCreated(_) | Reply::Refused(Refusal::TopicExists),
                Kind::Creator { done },
            ) => {
                *done += 1;
            }
            (Doing::Allocate, Reply::ProducerAllocated(id), Kind::Idempotent { producer, .. }) => {
                *producer = Some(*id);
            }
            (Doing::Append { at, values, sequence }, Reply::Appended { base_offset, .. }, kind) => {
                env.checks.acked(PLACES[at], *base_offset, &values)?;
                if let (Some(_), Kind::Idempotent { next, .. }) = (sequence, kind) {
                    next[at] += i32::try_from(values.len()).unwrap_or(i32::MAX);
                }
            }
            (Doing::Change(_), Reply::Group(GroupReply::Heartbeat(heard)), Kind::Consumer(member)) => {
                member.heard(heard);
            }
            (Doing::Change(change), Reply::Refused(Refusal::Group(error)), Kind::Consumer(member)) => {
                member.refused(&change, *error);
            }
            (Doing::Change(change), Reply::Group(_), _) => {
                if let Some(offset) = member::commits(&change) {
                    env.checks.offset_committed(offset)?;
                }
            }
            (Doing::Change(change), Reply::Refused(Refusal::Group(error)), Kind::Member(member)) => {
                if matches!(change, GroupChange::Join(_)) && *error == GroupError::UnknownMember {
                    member.forgotten();
                }
            }
            (Doing::Transact { .. }, reply, Kind::Pipeline(pipeline)) => {
                let committed = pipeline.replied(reply, &mut env.rng);
                committed.map_or(Ok(()), |number| env.checks.transaction_committed(number))?;
            }
            (doing, reply, _) => {
                return Err(InvariantViolation(format!(
                    "client {} was told {reply:?} when it tried {doing:?}",
                    self.id
                )));
            }
        }
        self.done(env);
        Ok(())
    }

    fn saw(
        &mut self,
        doing: &Doing,
        from: i64,
        next: i64,
        values: &[Value],
        env: &mut Env,
    ) -> Result<(), InvariantViolation> {
        let Doing::Read { at, fresh, floor, from: asked } = doing else { return Ok(()) };
        let place = PLACES[*at];
        let kept = env.checks.deleted_to(place);
        ensure!(
            from <= *asked.max(&kept),
            "kept is served: {place:?} begins at {from}, of which only what is before {kept} was due to go"
        );
        for (offset, value) in (from..).zip(values) {
            env.checks.at(place, offset, *value)?;
        }
        if *fresh {
            ensure!(
                next >= *floor,
                "fresh reads: {place:?} ended at {next} for a read that began after {floor} was acknowledged or read"
            );
            env.checks.reached(place, next);
        }
        self.done(env);
        Ok(())
    }

    fn looked(
        &mut self,
        doing: &Doing,
        group: Option<&Group>,
        offset: i64,
        env: &mut Env,
    ) -> Result<(), InvariantViolation> {
        let Doing::Look { floor } = doing else { return Ok(()) };
        ensure!(offset >= *floor, "fresh reads: the group is at {offset}, and {floor} was committed before");
        match &mut self.kind {
            Kind::Member(member) => member.look(group, &mut env.rng),
            Kind::Consumer(member) => member.look(group, offset, &mut env.rng),
            _ => return Ok(()),
        }
        self.done(env);
        Ok(())
    }

    fn went_on(
        &mut self,
        doing: &Doing,
        position: Option<(TopicId, u64)>,
        env: &mut Env,
    ) -> Result<(), InvariantViolation> {
        let (Doing::Transact { floor }, Kind::Pipeline(pipeline)) = (doing, &mut self.kind) else {
            return Ok(());
        };
        let next = position.map_or(0, |(_, next)| next);
        ensure!(next >= *floor, "fresh reads: the pipeline is at {next}, and {floor} were committed before");
        pipeline.looked(position);
        self.done(env);
        Ok(())
    }

    fn unknown(&mut self, env: &mut Env) {
        if let Kind::Pipeline(pipeline) = &mut self.kind {
            pipeline.unknown(&mut env.rng);
        }
        if let Some(Doing::Append { sequence, .. }) = &mut self.doing
            && env.bug == Some(Bug::RetryAsNew)
        {
            *sequence = None;
        }
        if let Kind::Consumer(member) = &mut self.kind {
            member.missed();
        }
        if matches!(self.kind, Kind::Plain | Kind::Member(_) | Kind::Consumer(_)) {
            self.doing = None;
        }
        self.again(env);
    }

    fn done(&mut self, env: &mut Env) {
        self.finished += 1;
        self.silent = None;
        self.doing = None;
        let rest = match &self.kind {
            // Instances that fence each other at once get nothing done.
            Kind::Pipeline(pipeline) if pipeline.begins() => env.rng.u64(100_000..2_000_000),
            _ => env.rng.u64(1_000..=env.profile.rest),
        };
        self.call += 1;
        env.at(rest, Event::Wake(self.id));
    }

    /// Rests a little, then wakes; what was asked before is over.
    fn again(&mut self, env: &mut Env) {
        self.call += 1;
        let rest = env.rng.u64(10_000..100_000);
        env.at(rest, Event::Wake(self.id));
    }
}

//! ConsumerGroupHeartbeat: a member joins, stays, gives up partitions, gets others, and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{by_topic, coordinates, pattern};
use crate::net::kafka::answer::Answer;
use crate::net::kafka::frame::{BadRequest, Request};
use crate::net::kafka::groups::{change, errors};
use crate::net::kafka::ids::topic_number;
use crate::net::kafka::session::Session;
use crate::state_machine::StateMachine;
use crate::state_machine::groups::consumer::assignor::Assignor;
use crate::state_machine::groups::consumer::{
    ConsumerChange, ConsumerGroup, Heartbeat, HeartbeatReply, Partitions, Pattern, RELEASED,
};
use crate::state_machine::groups::{GroupChange, GroupReply, Leaving};

/// Time without a heartbeat after which a member is removed: `group.consumer.session.timeout.ms`.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// How often members are to send one: `group.consumer.heartbeat.interval.ms`.
const INTERVAL_MS: i32 = 5_000;
/// The epoch of whoever leaves.
const LEAVING: i32 = -1;
/// From this version on members draw their ids themselves.
const DRAWS_ID: i16 = 1;

/// Why a heartbeat is refused: the error, and what there is to say beside its name.
struct Refused(ResponseError, Option<&'static str>);

/// What a heartbeat comes to.
enum Outcome {
    /// Nothing changes.
    Known(HeartbeatReply),
    /// The group changes, through the log.
    Proposed(Box<GroupChange>),
}

/// Serves ConsumerGroupHeartbeat.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let mut body: ConsumerGroupHeartbeatRequest = request.decode()?;
    if body.member_id.is_empty() && request.to.version < DRAWS_ID && body.member_epoch == 0 {
        body.member_id = StrBytes::from_string(Uuid::new_v4().to_string());
    }
    let outcome = outcome(session, &body, request);
    let (session, to) = (Arc::clone(session), request.to);
    let proposed = match outcome {
        Err(refused) => return Ok(Answer::Now(to.send(&refusal(&refused)))),
        Ok(Outcome::Known(reply)) => return Ok(Answer::Now(to.send(&answer(&session, body, reply)))),
        Ok(Outcome::Proposed(proposed)) => change(&session, &body.group_id, *proposed),
    };
    Ok(Answer::later(async move {
        match proposed.await {
            Ok(GroupReply::Heartbeat(reply)) => to.send(&answer(&session, body, reply)),
            Ok(GroupReply::Left(outcomes)) => {
                let refused =
                    outcomes.into_iter().flatten().next().map(|error| Refused(errors::code(error), None));
                to.send(&refused.map_or_else(|| left(body), |refused| refusal(&refused)))
            }
            Ok(_) => to.send(&left(body)),
            Err(error) => to.send(&refusal(&Refused(error, None))),
        }
    }))
}

fn outcome(
    session: &Session,
    body: &ConsumerGroupHeartbeatRequest,
    request: &Request,
) -> Result<Outcome, Refused> {
    coordinates(session)?;
    check(body)?;
    let member = body.member_id.to_string();
    let instance = body.instance_id.as_ref().map(ToString::to_string);
    let change = match (body.member_epoch, instance) {
        (LEAVING, instance) => GroupChange::Leave(vec![Leaving { member, instance }]),
        (RELEASED, Some(instance)) => {
            GroupChange::Consumer(ConsumerChange::ReleaseInstance { member, instance })
        }
        _ => return beat(session, body, request),
    };
    Ok(Outcome::Proposed(Box::new(change)))
}

/// A member's heartbeat: it is there, at least.
fn beat(
    session: &Session,
    body: &ConsumerGroupHeartbeatRequest,
    request: &Request,
) -> Result<Outcome, Refused> {
    // A pattern is compared with the names of all topics.
    let state = session.node().frozen_state();
    let cluster = state.cluster_id().map(|id| id.0).unwrap_or_default();
    let group = state.group(&body.group_id).and_then(|group| group.consumer());
    let heartbeat = Heartbeat {
        pattern: subscribed_pattern(body, &state, group)?,
        ..heartbeat(body, &request.client_id, format!("/{}", session.peer.ip()), cluster)
    };
    // A refusal makes the member give up its partitions. Only the log refuses: this node may have been deposed.
    let known = group.and_then(|group| group.answer(&heartbeat).ok().flatten());
    session.shared.groups.sessions.renew(&body.group_id, &body.member_id, Instant::now());
    let change = || GroupChange::Consumer(ConsumerChange::Heartbeat(heartbeat));
    Ok(known.map_or_else(|| Outcome::Proposed(Box::new(change())), Outcome::Known))
}

/// What Kafka asks of the fields.
fn check(body: &ConsumerGroupHeartbeatRequest) -> Result<(), Refused> {
    let invalid =
        |when: bool, why| if when { Err(Refused(ResponseError::InvalidRequest, Some(why))) } else { Ok(()) };
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    invalid(body.group_id.is_empty(), "the group has no name")?;
    invalid(body.member_id.is_empty(), "the member has no id")?;
    invalid(is_empty(&body.instance_id), "the instance has no name")?;
    invalid(is_empty(&body.rack_id), "the rack has no name")?;
    match body.member_epoch {
        ..RELEASED => invalid(true, "there is no such epoch")?,
        RELEASED => invalid(body.instance_id.is_none(), "only a static member may go for a while")?,
        0 => {
            let owned = body.topic_partitions.as_ref();
            let subscribes = body.subscribed_topic_names.is_some() || body.subscribed_topic_regex.is_some();
            invalid(body.rebalance_timeout_ms < 0, "whoever joins tells its rebalance timeout")?;
            invalid(owned.is_none_or(|owned| !owned.is_empty()), "whoever joins has no partitions")?;
            invalid(!subscribes, "whoever joins tells what it subscribes to")?;
        }
        _ => {}
    }
    match body.server_assignor.as_deref().map(Assignor::named) {
        Some(None) => {
            Err(Refused(ResponseError::UnsupportedAssignor, Some("the assignors are uniform and range")))
        }
        _ => Ok(()),
    }
}

/// The pattern that the member subscribes to, if it says so. An empty one takes such a subscription back.
fn subscribed_pattern(
    body: &ConsumerGroupHeartbeatRequest,
    state: &StateMachine,
    group: Option<&ConsumerGroup>,
) -> Result<Option<Option<Pattern>>, Refused> {
    let Some(regex) = body.subscribed_topic_regex.as_deref() else { return Ok(None) };
    if regex.is_empty() {
        return Ok(Some(None));
    }
    let compiled = pattern::compile(regex).ok_or(ResponseError::InvalidRegularExpression)?;
    Ok(Some(Some(pattern::find(state, group, regex, &compiled))))
}

fn heartbeat(
    body: &ConsumerGroupHeartbeatRequest,
    client_id: &str,
    client_host: String,
    cluster: Uuid,
) -> Heartbeat {
    let topics = body.subscribed_topic_names.as_ref();
    Heartbeat {
        member: body.member_id.to_string(),
        epoch: body.member_epoch,
        instance: body.instance_id.as_ref().map(ToString::to_string),
        rack: body.rack_id.as_ref().map(ToString::to_string),
        client_id: client_id.to_owned(),
        client_host,
        rebalance_timeout: Some(body.rebalance_timeout_ms).filter(|timeout| *timeout >= 0),
        topics: topics.map(|topics| topics.iter().map(|topic| topic.to_string()).collect()),
        pattern: None,
        assignor: body.server_assignor.as_deref().and_then(Assignor::named),
        owned: body.topic_partitions.as_ref().map(|owned| partitions(owned, cluster)),
    }
}

/// The partitions that a member has. Those of a topic that never was in this cluster cannot be.
fn partitions(owned: &[Owned], cluster: Uuid) -> Partitions {
    let of_topic = |topic: &Owned| {
        let number = topic_number(cluster, topic.topic_id);
        let partitions = topic.partitions.iter().filter_map(|partition| u32::try_from(*partition).ok());
        partitions.filter_map(move |partition| Some((number?, partition))).collect::<Vec<_>>()
    };
    owned.iter().flat_map(of_topic).collect()
}

fn answer(
    session: &Session,
    body: ConsumerGroupHeartbeatRequest,
    reply: HeartbeatReply,
) -> ConsumerGroupHeartbeatResponse {
    let cluster = session.node().state_machine().cluster_id().map(|id| id.0).unwrap_or_default();
    let assignment = reply.assignment.map(|assigned| {
        let topics = by_topic(&assigned, cluster).into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic).with_partitions(partitions)
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(body.member_id))
        .with_member_epoch(reply.epoch)
        .with_heartbeat_interval_ms(INTERVAL_MS)
        .with_assignment(assignment)
}

fn left(body: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(body.member_id))
        .with_member_epoch(body.member_epoch)
}

fn refusal(Refused(error, why): &Refused) -> ConsumerGroupHeartbeatResponse {
    let message =
        why.map(StrBytes::from_static_str).unwrap_or_else(|| StrBytes::from_string(error.to_string()));
    ConsumerGroupHeartbeatResponse::default().with_error_code(error.code()).with_error_message(Some(message))
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Self {
        Self(error, None)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;

    use super::*;
    use crate::net::kafka::ids::topic_id;

    const CLUSTER: Uuid = Uuid::from_u128(0xab << 64);

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    fn joining() -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text("g").into())
            .with_member_id(text("m"))
            .with_rebalance_timeout_ms(5_000)
            .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]))
            .with_topic_partitions(Some(Vec::new()))
    }

    fn error(body: &ConsumerGroupHeartbeatRequest) -> Option<ResponseError> {
        check(body).err().map(|Refused(error, _)| error)
    }

    #[test]
    fn what_kafka_refuses_is_refused() {
        let invalid = Some(ResponseError::InvalidRequest);
        assert_eq!(error(&joining()), None);
        assert_eq!(error(&joining().with_group_id(text("").into())), invalid);
        assert_eq!(error(&joining().with_member_id(text(""))), invalid);
        assert_eq!(error(&joining().with_instance_id(Some(text("")))), invalid);
        assert_eq!(error(&joining().with_rack_id(Some(text("")))), invalid);
        assert_eq!(error(&joining().with_rebalance_timeout_ms(-1)), invalid);
        assert_eq!(error(&joining().with_topic_partitions(None)), invalid);
        assert_eq!(error(&joining().with_topic_partitions(Some(vec![Owned::default()]))), invalid);
        let nowhere = joining().with_subscribed_topic_names(None);
        assert_eq!(error(&nowhere), invalid);
        assert_eq!(error(&nowhere.with_subscribed_topic_regex(Some(text("t.*")))), None);
        assert_eq!(error(&joining().with_member_epoch(-3)), invalid);
        assert_eq!(error(&joining().with_member_epoch(RELEASED)), invalid, "it is not static");
        let other = joining().with_server_assignor(Some(text("sticky")));
        assert_eq!(error(&other), Some(ResponseError::UnsupportedAssignor));
        assert_eq!(error(&joining().with_server_assignor(Some(text("range")))), None);
        let short = ConsumerGroupHeartbeatRequest::default().with_group_id(text("g").into());
        assert_eq!(error(&short.with_member_id(text("m")).with_member_epoch(3)), None);
    }

    #[test]
    fn what_a_member_does_not_say_has_not_changed() {
        let body = joining().with_rebalance_timeout_ms(-1).with_subscribed_topic_names(None);
        let said = heartbeat(&body.with_topic_partitions(None), "c", String::new(), CLUSTER);
        assert_eq!((said.rebalance_timeout, said.topics, said.owned), (None, None, None));
        let said = heartbeat(&joining(), "c", String::new(), CLUSTER);
        assert_eq!((said.rebalance_timeout, said.owned), (Some(5_000), Some(Partitions::new())));
        assert_eq!(said.topics, Some(["t".to_owned()].into()));
    }

    #[test]
    fn partitions_go_to_clients_and_come_back_the_same() {
        let partitions = Partitions::from([(1, 0), (1, 7), (300, 2)]);
        let owned = |(topic, partitions)| Owned::default().with_topic_id(topic).with_partitions(partitions);
        let mut sent: Vec<Owned> = by_topic(&partitions, CLUSTER).into_iter().map(owned).collect();
        assert_eq!(sent[1].topic_id, topic_id(CLUSTER, 300));
        // Of another cluster, and what is no partition.
        sent.push(owned((Uuid::from_u128(7), vec![1])));
        sent.push(owned((topic_id(CLUSTER, 1), vec![-1])));
        assert_eq!(super::partitions(&sent, CLUSTER), partitions);
    }
}

//! Calls about consumer groups. Their coordinator is the leader of the cluster, of all groups at once.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerGroup, Member as ConsumerMember,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{group_id, topic_name};
use super::error::check;
use super::{KafkaClient, KafkaError, TopicPartition};

/// The state of a group whose members have all left.
const EMPTY: &str = "Empty";
/// What a group that is not there is described as before version 6.
const DEAD: &str = "Dead";
/// The generation of a commit from outside the group.
const NO_GENERATION: i32 = -1;
/// What a response that leaves out what was asked for amounts to.
const UNNAMED: i16 = ResponseError::UnknownServerError.code();

/// A group as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub name: String,
    /// Kafka's word for its state, such as `Stable` or `Empty`.
    pub state: String,
    /// What its members are, such as `consumer`.
    pub protocol_type: String,
}

/// A group as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Kafka's word for its state.
    pub state: String,
    /// How its members share the partitions, such as `range`.
    pub protocol: String,
    /// Its members.
    pub members: Vec<Member>,
}

impl Group {
    /// Returns whether it has no members, so that its offsets may be set.
    pub fn is_empty(&self) -> bool {
        self.state == EMPTY || self.members.is_empty()
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// The name that its operator gave it, if any.
    pub instance: Option<String>,
    /// The name of its client.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// The partitions that it reads.
    pub assignment: Vec<TopicPartition>,
}

impl KafkaClient {
    /// Returns all groups, by name.
    ///
    /// # Errors
    /// `Refused`; those of [`Self::ask`].
    pub async fn groups(&mut self) -> Result<Vec<GroupListing>, KafkaError> {
        self.retried(async |client| {
            let response = client.ask_coordinator(4..=5, &ListGroupsRequest::default()).await?;
            check(response.error_code, None, || "cannot list the groups".to_owned())?;
            let listing = |group: kafka_protocol::messages::list_groups_response::ListedGroup| GroupListing {
                name: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
            };
            let mut groups: Vec<_> = response.groups.into_iter().map(listing).collect();
            groups.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(groups)
        })
        .await
    }

    /// Returns one group with its members.
    ///
    /// # Errors
    /// `UnknownGroup`, `Refused`; those of [`Self::ask`].
    pub async fn group(&mut self, name: &str) -> Result<Group, KafkaError> {
        match self.classic_group(name).await {
            // There are two kinds of groups, and a request for each.
            Err(unknown @ KafkaError::UnknownGroup(_)) => match self.consumer_group(name).await {
                // An older node knows the classic ones alone.
                Err(KafkaError::Unsupported { .. }) => Err(unknown),
                found => found,
            },
            found => found,
        }
    }

    async fn consumer_group(&mut self, name: &str) -> Result<Group, KafkaError> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(name)]);
        self.retried(async |client| {
            let coordinator = client.coordinator(name).await?;
            let response = client.ask(coordinator, 0..=1, &request).await?;
            response.groups.first().map_or_else(|| Err(unnamed(name)), described_consumers)
        })
        .await
    }

    async fn classic_group(&mut self, name: &str) -> Result<Group, KafkaError> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(name)]);
        self.retried(async |client| {
            let coordinator = client.coordinator(name).await?;
            let response = client.ask(coordinator, 5..=6, &request).await?;
            response.groups.first().map_or_else(|| Err(unnamed(name)), described)
        })
        .await
    }

    /// Returns the offsets that a group has committed.
    ///
    /// # Errors
    /// `UnknownGroup`, `Refused`; those of [`Self::ask`].
    pub async fn committed(&mut self, name: &str) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id(name)).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        self.retried(async |client| {
            let coordinator = client.coordinator(name).await?;
            let response = client.ask(coordinator, 8..=9, &request).await?;
            let group = response.groups.first().ok_or_else(|| unnamed(name))?;
            check_group(group.error_code, None, name, "read the offsets of")?;
            let mut offsets = BTreeMap::new();
            for topic in &group.topics {
                for found in &topic.partitions {
                    let at = TopicPartition::new(&topic.name, found.partition_index);
                    check(found.error_code, None, || format!("the offset of group {name} in {at}"))?;
                    if found.committed_offset >= 0 {
                        offsets.insert(at, found.committed_offset);
                    }
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// Sets offsets of a group that has no members.
    ///
    /// # Errors
    /// `UnknownGroup`; `Refused`, also while the group has members; those of [`Self::ask`].
    pub async fn commit(
        &mut self,
        name: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), KafkaError> {
        let request = commit_request(name, offsets);
        self.retried(async |client| {
            let coordinator = client.coordinator(name).await?;
            let response = client.ask(coordinator, 8..=9, &request).await?;
            for topic in &response.topics {
                for done in &topic.partitions {
                    check_group(done.error_code, None, name, "set the offsets of")?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// `UnknownGroup`; `Refused`, also while the group has members; those of [`Self::ask`].
    pub async fn delete_group(&mut self, name: &str) -> Result<(), KafkaError> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(name)]);
        self.changed(async |client| {
            let coordinator = client.coordinator(name).await?;
            let response = client.ask(coordinator, 0..=2, &request).await?;
            let code = response.results.first().map_or(UNNAMED, |result| result.error_code);
            check_group(code, None, name, "delete")
        })
        .await
    }
}

fn unnamed(name: &str) -> KafkaError {
    KafkaError::UnknownGroup(name.to_owned())
}

fn check_group(code: i16, message: Option<&StrBytes>, name: &str, verb: &str) -> Result<(), KafkaError> {
    if code == ResponseError::GroupIdNotFound.code() {
        return Err(unnamed(name));
    }
    check(code, message, || format!("cannot {verb} group {name}"))
}

fn described(group: &DescribedGroup) -> Result<Group, KafkaError> {
    let name = group.group_id.to_string();
    check_group(group.error_code, group.error_message.as_ref(), &name, "describe")?;
    if group.group_state.as_str() == DEAD {
        return Err(unnamed(&name));
    }
    Ok(Group {
        state: group.group_state.to_string(),
        protocol: group.protocol_data.to_string(),
        members: group.members.iter().map(member).collect(),
        name,
    })
}

fn described_consumers(group: &ConsumerGroup) -> Result<Group, KafkaError> {
    let name = group.group_id.to_string();
    check_group(group.error_code, group.error_message.as_ref(), &name, "describe")?;
    Ok(Group {
        state: group.group_state.to_string(),
        protocol: group.assignor_name.to_string(),
        members: group.members.iter().map(consumer).collect(),
        name,
    })
}

fn consumer(member: &ConsumerMember) -> Member {
    Member {
        id: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(|instance| instance.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: partitions(&member.assignment),
    }
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let of_topic = assignment.topic_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition::new(&topic.topic_name, *partition))
    });
    let mut partitions: Vec<_> = of_topic.collect();
    partitions.sort_unstable();
    partitions
}

fn member(member: &DescribedGroupMember) -> Member {
    Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(|instance| instance.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: assignment(member.member_assignment.clone()).unwrap_or_default(),
    }
}

/// The partitions in an assignment of the consumers' own protocol; other protocols have others. Not decoded by the codec,
/// which takes as much memory as a count says: the bytes are whatever a member has sent.
fn assignment(mut bytes: Bytes) -> Option<Vec<TopicPartition>> {
    let _version = bytes.try_get_i16().ok()?;
    let mut partitions = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let topic = (length <= bytes.len()).then(|| bytes.split_to(length))?;
        let topic = std::str::from_utf8(&topic).ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.push(TopicPartition::new(topic, bytes.try_get_i32().ok()?));
        }
    }
    partitions.sort_unstable();
    Some(partitions)
}

fn commit_request(name: &str, offsets: &BTreeMap<TopicPartition, i64>) -> OffsetCommitRequest {
    let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        let wanted = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(StrBytes::default()));
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    OffsetCommitRequest::default()
        .with_group_id(group_id(name))
        .with_generation_id_or_member_epoch(NO_GENERATION)
        .with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ConsumerProtocolAssignment;
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    fn assigned() -> Bytes {
        let topic = Assigned::default().with_topic(topic_name("orders")).with_partitions(vec![2, 0]);
        let mut bytes = bytes::BytesMut::from(&[0, 1][..]);
        ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![topic])
            .encode(&mut bytes, 1)
            .unwrap();
        bytes.freeze()
    }

    #[test]
    fn members_come_with_their_partitions_and_strange_assignments_are_none() {
        let mut known =
            DescribedGroupMember::default().with_client_id(StrBytes::from_static_str("billing-1"));
        known.member_assignment = assigned();
        let at = |partition| TopicPartition::new("orders", partition);
        assert_eq!(member(&known).assignment, [at(0), at(2)]);
        known.member_assignment = Bytes::from_static(b"\0\0strange");
        assert_eq!(member(&known).assignment, []);
        known.member_assignment = Bytes::new();
        assert_eq!(member(&known).assignment, []);
    }

    #[test]
    fn a_group_that_is_not_there_is_unknown_in_every_version() {
        let named = DescribedGroup::default().with_group_id(group_id("billing"));
        let dead = named.clone().with_group_state(StrBytes::from_static_str(DEAD));
        let not_found = named.clone().with_error_code(ResponseError::GroupIdNotFound.code());
        for group in [dead, not_found] {
            assert_eq!(described(&group), Err(KafkaError::UnknownGroup("billing".to_owned())));
        }
        let empty = named.with_group_state(StrBytes::from_static_str(EMPTY));
        assert!(described(&empty).unwrap().is_empty());
    }

    #[test]
    fn offsets_are_committed_by_topic_from_outside_the_group() {
        let offsets = [("a", 0, 5), ("a", 1, 6), ("b", 0, 7)];
        let offsets =
            offsets.map(|(topic, partition, offset)| (TopicPartition::new(topic, partition), offset));
        let request = commit_request("billing", &offsets.into());
        let topics: Vec<_> =
            request.topics.iter().map(|topic| (topic.name.to_string(), topic.partitions.len())).collect();
        assert_eq!(topics, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!((request.generation_id_or_member_epoch, request.member_id.as_str()), (-1, ""));
    }
}

//! The cluster as its Kafka clients see it: any node for most calls, the leader of a partition, the coordinator of a group.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use shared::ids::NodeId;
use tokio::time::{Instant, sleep};

use super::KafkaError;
use super::connection::Connection;
use super::dial::{Dialer, Endpoint};
use super::error::check;

/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A group that need not be there: whoever coordinates one group or transactional id coordinates all of them.
pub const ANY: &str = "any";

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One answer of a node.
    pub answer: Duration,
    /// A call with all its attempts.
    pub call: Duration,
}

/// The connections to one cluster.
#[derive(Debug)]
pub struct KafkaClient {
    /// The nodes of cluster.yaml.
    dialer: Dialer,
    /// Nodes that only the cluster names, such as one that was added from elsewhere.
    named: Vec<Endpoint>,
    connections: BTreeMap<NodeId, Connection>,
    limits: Limits,
}

impl KafkaClient {
    /// A client of the cluster that has these nodes; nothing is connected yet.
    pub fn new(dialer: Dialer, limits: Limits) -> Self {
        Self { dialer, named: Vec::new(), connections: BTreeMap::new(), limits }
    }

    /// Returns how long things may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Attempts something until it succeeds, it fails for good, or the time for a call is over.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn retried<T>(
        &mut self,
        attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.attempted(KafkaError::is_retriable, attempt).await
    }

    /// The same for a change that must not be made twice: it is not attempted again once it may have been carried out.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn changed<T>(
        &mut self,
        attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.attempted(|error| error.is_retriable() && !error.is_ambiguous(), attempt).await
    }

    async fn attempted<T>(
        &mut self,
        again: impl Fn(&KafkaError) -> bool,
        mut attempt: impl AsyncFnMut(&mut Self) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let deadline = Instant::now() + self.limits.call;
        loop {
            match attempt(self).await {
                Err(error) if again(&error) && Instant::now() + RETRY_PAUSE < deadline => {}
                result => return result,
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Remembers where nodes are that cluster.yaml does not name.
    pub fn learn(&mut self, nodes: impl Iterator<Item = Endpoint>) {
        let known = self.dialer.nodes();
        self.named = nodes.filter(|named| known.iter().all(|node| node.id != named.id)).collect();
    }

    /// Asks a node that can be reached.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `Unreachable` when no node can be reached.
    pub async fn ask_any<R: Request>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let connected = self.connections.keys().copied();
        let others = self.dialer.nodes().iter().chain(&self.named).map(|node| node.id);
        let order: Vec<_> = connected.chain(others).collect();
        let mut nobody =
            KafkaError::Unreachable { node: "cluster.yaml".to_owned(), why: "no nodes".to_owned() };
        for id in order {
            match self.ask(id, versions.clone(), request).await {
                Err(error @ KafkaError::Unreachable { .. }) => nobody = error,
                result => return result,
            }
        }
        Err(nobody)
    }

    /// Asks this node.
    ///
    /// # Errors
    /// Those of [`Connection::call`]; `Unreachable`.
    pub async fn ask<R: Request>(
        &mut self,
        node: NodeId,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => self.connect(node).await?,
        };
        let result = connection.call(versions, request, self.limits.answer).await;
        // After half a response nothing on this connection can be understood.
        if !matches!(result, Err(KafkaError::NoResponse { .. } | KafkaError::Malformed { .. })) {
            self.connections.insert(node, connection);
        }
        result
    }

    async fn connect(&self, node: NodeId) -> Result<Connection, KafkaError> {
        let known = self.dialer.nodes().iter().chain(&self.named).find(|known| known.id == node);
        let endpoint = known.ok_or_else(|| KafkaError::Unreachable {
            node: format!("n{node}"),
            why: "its address is not known".to_owned(),
        })?;
        let stream = self.dialer.connect(endpoint, self.limits.answer).await?;
        let opened = Connection::open(endpoint.to_string(), stream, self.limits.answer).await;
        // Nothing was asked for yet.
        opened.map_err(|error| match error {
            KafkaError::NoResponse { node: name, why, .. } => {
                KafkaError::Unreachable { node: name, why: self.dialer.obstacle(node).unwrap_or(why) }
            }
            error => error,
        })
    }

    /// Asks whoever coordinates all groups and transactions. A node that coordinates none lists none and calls that no
    /// error, so an answer counts only if the node still is the one after it.
    ///
    /// # Errors
    /// Those of [`Self::coordinator`] and [`Self::ask`].
    pub async fn ask_coordinator<R: Request>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let coordinator = self.coordinator(ANY).await?;
        let response = self.ask(coordinator, versions, request).await?;
        if self.coordinator(ANY).await? == coordinator {
            Ok(response)
        } else {
            Err(KafkaError::NoCoordinator)
        }
    }

    /// Returns the node that coordinates a group.
    ///
    /// # Errors
    /// `NoCoordinator`, `Refused`; those of [`Self::ask_any`].
    pub async fn coordinator(&mut self, group: &str) -> Result<NodeId, KafkaError> {
        let key = StrBytes::from_string(group.to_owned());
        let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![key]);
        let response = self.ask_any(4..=5, &request).await?;
        coordinator(response.coordinators.first(), group)
    }
}

/// The node that was found to coordinate a group.
fn coordinator(found: Option<&Coordinator>, group: &str) -> Result<NodeId, KafkaError> {
    let absent = ResponseError::CoordinatorNotAvailable.code();
    let found = found.filter(|found| found.error_code != absent).ok_or(KafkaError::NoCoordinator)?;
    let what = || format!("cannot find the coordinator of group {group}");
    check(found.error_code, found.error_message.as_ref(), what)?;
    node_id(found.node_id.0).ok_or(KafkaError::NoCoordinator)
}

/// A topic's name as the protocol has it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A group's name as the protocol has it.
pub fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// A duration as the protocol has it, in ms.
pub fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A node, by Kafka's broker id; `None` where the protocol says that there is none.
pub fn node_id(broker: i32) -> Option<NodeId> {
    NodeId::try_from(broker).ok()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::list_groups_response::ListedGroup;
    use kafka_protocol::messages::{
        ApiVersionsRequest, ApiVersionsResponse, BrokerId, FindCoordinatorResponse, ListGroupsRequest,
        ListGroupsResponse,
    };

    use super::*;
    use crate::kafka::connection::tests::{node, response};

    fn client(call: Duration) -> KafkaClient {
        KafkaClient::new(Dialer::default(), Limits { answer: Duration::from_millis(10), call })
    }

    fn refused(code: ResponseError) -> KafkaError {
        check(code.code(), None, || "orders".to_owned()).unwrap_err()
    }

    #[tokio::test]
    async fn what_may_pass_is_attempted_again_within_the_limit_and_a_change_only_if_it_was_not_made() {
        let mut client = client(Duration::from_secs(5));
        for (code, reads, changes) in [
            (ResponseError::NotLeaderOrFollower, 3, 3),
            (ResponseError::RequestTimedOut, 3, 1),
            (ResponseError::TopicAlreadyExists, 1, 1),
        ] {
            let (mut read, mut changed) = (0, 0);
            let _ = client
                .retried(async |_| {
                    read += 1;
                    if read < 3 { Err(refused(code)) } else { Ok(()) }
                })
                .await;
            let _ = client
                .changed(async |_| {
                    changed += 1;
                    if changed < 3 { Err(refused(code)) } else { Ok(()) }
                })
                .await;
            assert_eq!((read, changed), (reads, changes), "{code}");
        }
    }

    #[test]
    fn without_a_leader_nobody_coordinates_and_that_passes() {
        let found = |error: i16| Coordinator::default().with_error_code(error).with_node_id(BrokerId(2));
        assert_eq!(coordinator(Some(&found(0)), "g"), Ok(2));
        let absent = found(ResponseError::CoordinatorNotAvailable.code());
        for found in [None, Some(&absent), Some(&found(0).with_node_id(BrokerId(-1)))] {
            let error = coordinator(found, "any").unwrap_err();
            assert_eq!(error.to_string(), "no node coordinates groups and transactions at the moment");
            assert!(error.is_retriable());
        }
        let denied = coordinator(Some(&found(ResponseError::InvalidGroupId.code())), "g").unwrap_err();
        assert!(denied.to_string().starts_with("cannot find the coordinator of group g: "), "{denied}");
    }

    #[tokio::test]
    async fn a_list_of_a_node_that_has_ceased_to_coordinate_does_not_count() {
        let table = [10, 16].map(|key| {
            let served = ApiVersion::default().with_api_key(key);
            served.with_min_version(4).with_max_version(4)
        });
        let versions = ApiVersionsResponse::default().with_api_keys(table.to_vec());
        let versions = response::<ApiVersionsRequest>(1, 0, &versions);
        let found = |correlation, node: i32| {
            let found = Coordinator::default().with_node_id(BrokerId(node));
            let body = FindCoordinatorResponse::default().with_coordinators(vec![found]);
            response::<FindCoordinatorRequest>(correlation, 4, &body)
        };
        let listed = |correlation, groups: usize| {
            let body = ListGroupsResponse::default().with_groups(vec![ListedGroup::default(); groups]);
            response::<ListGroupsRequest>(correlation, 4, &body)
        };
        let first =
            node(vec![versions.clone(), found(2, 1), listed(3, 0), found(4, 2), found(5, 2), found(6, 2)]);
        let (first, second) = (first.await.unwrap(), node(vec![versions, listed(2, 1)]).await.unwrap());
        let mut client = client(Duration::from_secs(5));
        client.connections.extend([(1, first), (2, second)]);
        assert_eq!(client.groups().await.map(|groups| groups.len()), Ok(1));
    }

    #[tokio::test]
    async fn nobody_is_asked_for_ever() {
        let began = Instant::now();
        let asked = client(Duration::from_millis(250)).topics(None).await;
        assert!(matches!(asked, Err(KafkaError::Unreachable { .. })), "{asked:?}");
        assert!(began.elapsed() >= Duration::from_millis(100) && began.elapsed() < Duration::from_secs(3));
    }
}

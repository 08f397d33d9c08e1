//! A client of the nodes' admin API over HTTP, which implements [`crate::engine::ports::Cluster`]. `route` reaches one
//! port, and `connect` chooses the routes of a whole cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::api::{
    AddMember, ClusterStatus, ConsumerGroups, ErrorBody, FormatRequest, Health, TransferRequest,
};
use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node, authority};

use crate::engine::ports::{Cluster, PortError};
use crate::output::printable;
use crate::plan::facts::AdminRoute;

pub mod connect;
pub mod route;

use route::{NoAnswer, Route};

/// Longest wait for an answer, whatever `--host-timeout` says: a node answers from memory, so one that needs longer is
/// stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Limit of a response that is as long as the log. Whoever reads it has a shorter limit for silence.
const MAX_STREAM_TIME: Duration = Duration::from_secs(30 * 86_400);

/// Limit of a change, which waits for other nodes: a number of elections, and at least this time. The node gives up
/// earlier.
const CHANGE_LIMIT: (u32, Duration) = (8, Duration::from_secs(15));

/// A client for the admin ports of one cluster.
#[derive(Debug)]
pub struct AdminClient {
    nodes: Vec<Node>,
    routes: BTreeMap<NodeId, Route>,
    limit: Duration,
    change_limit: Duration,
}

impl AdminClient {
    /// Returns a client that reaches the nodes of `spec` directly. Each answer may take `limit`, but at most two
    /// seconds.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn new(spec: &ClusterFile, limit: Duration) -> Result<Self, PortError> {
        Self::by(spec, limit, |_, limit| Route::direct(limit))
    }

    /// Returns a client that reaches each node by the route that `route` returns for it.
    ///
    /// # Errors
    /// Those of `route`.
    pub fn by(
        spec: &ClusterFile,
        limit: Duration,
        route: impl Fn(&Node, Duration) -> Result<Route, PortError>,
    ) -> Result<Self, PortError> {
        let limit = limit.min(ANSWER_LIMIT);
        let nodes = spec.cluster.nodes.clone();
        let routes = nodes.iter().map(|node| route(node, limit).map(|route| (node.id, route)));
        let routes = routes.collect::<Result<_, PortError>>()?;
        let change_limit = spec.cluster.raft.elections(CHANGE_LIMIT.0, CHANGE_LIMIT.1);
        Ok(Self { nodes, routes, limit, change_limit })
    }

    /// Sends `GET /health/ready` to one node. Statuses 200 and 503 both are an answer.
    ///
    /// # Errors
    /// If the node does not answer, or answers with anything else.
    pub async fn ready(&self, id: NodeId) -> Result<Health, PortError> {
        self.get(id, "/health/ready").await
    }

    /// Sends `GET /metrics` to one node, and returns the response unchanged.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn metrics(&self, id: NodeId) -> Result<String, PortError> {
        let node = self.node(id)?;
        let answer = self.send(node, |http| http.get(url(node, "/metrics"))).await?;
        answer.text().await.map_err(|error| self.explain(node, &error))
    }

    /// Sends `GET /cluster/groups` to one node, which asks the leader if it does not lead itself.
    ///
    /// # Errors
    /// If the node does not answer, if it knows no leader, or if it is of the previous version.
    pub async fn groups(&self, id: NodeId) -> Result<ConsumerGroups, PortError> {
        self.get(id, "/cluster/groups").await
    }

    /// Sends `GET /backup` to one node, and returns a stream of a backup that covers at least entry `covers`. The node
    /// begins to send within `limit`.
    ///
    /// # Errors
    /// If the node does not answer, or refuses.
    pub async fn backup(
        &self,
        id: NodeId,
        covers: u64,
        limit: Duration,
    ) -> Result<reqwest::Response, PortError> {
        let node = self.node(id)?;
        let path = format!("/backup?covers={covers}");
        let call = self.send(node, |http| http.get(url(node, &path)).timeout(MAX_STREAM_TIME));
        let answer = tokio::time::timeout(limit, call).await;
        let answer = answer.map_err(|_| {
            PortError::unreachable(format!("n{id} did not start the backup within {limit:?}"))
        })?;
        let answer = answer?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let ErrorBody { message, hint, .. } = self.read(node, answer).await?;
        Err(PortError::refused(format!("n{id} refuses a backup: {message}")).hint(theirs(node, &hint)))
    }

    fn node(&self, id: NodeId) -> Result<&Node, PortError> {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.ok_or_else(|| PortError::failed(format!("node {id} is not in cluster.yaml")))
    }

    /// Sends a change to the first node that answers, other than the node that changes. Any node forwards it to the
    /// leader.
    async fn change(
        &self,
        about: Option<NodeId>,
        request: impl Fn(&reqwest::Client, &Node) -> reqwest::RequestBuilder,
    ) -> Result<(), PortError> {
        let mut nobody = PortError::unreachable("there is no other node to ask".to_owned());
        for node in self.nodes.iter().filter(|node| Some(node.id) != about) {
            let answer = self.send(node, |http| request(http, node).timeout(self.change_limit)).await;
            match answer {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => {
                    let ErrorBody { message, hint, .. } = self.read(node, answer).await?;
                    let refused = PortError::refused(format!("the cluster refuses: {message}"));
                    return Err(refused.hint(theirs(node, &hint)));
                }
                // Keeps an error of a node that has not received the request. A node that has received it may have
                // performed the change without answering; to ask again is safe, since changes are idempotent.
                Err(error) => nobody = error,
            }
        }
        Err(nobody)
    }

    async fn send(
        &self,
        node: &Node,
        request: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, PortError> {
        let sent = self.route_to(node)?.send(request).await;
        sent.map_err(|unanswered| self.unanswered(node, &unanswered))
    }

    fn route_to(&self, node: &Node) -> Result<&Route, PortError> {
        self.routes
            .get(&node.id)
            .ok_or_else(|| PortError::failed(format!("there is no route to n{}", node.id)))
    }

    async fn get<T: DeserializeOwned>(&self, id: NodeId, path: &str) -> Result<T, PortError> {
        let node = self.node(id)?;
        let answer = self.send(node, |http| http.get(url(node, path))).await?;
        self.read(node, answer).await
    }

    /// Reads a node's response. Text in it is made printable here, where it arrives.
    async fn read<T: DeserializeOwned>(
        &self,
        node: &Node,
        answer: reqwest::Response,
    ) -> Result<T, PortError> {
        let mut json: Value = answer.json().await.map_err(|error| self.explain(node, &error))?;
        printable::strings(&mut json);
        serde_json::from_value(json).map_err(|_| strange(node))
    }

    fn explain(&self, node: &Node, error: &reqwest::Error) -> PortError {
        if error.is_decode() {
            return strange(node);
        }
        self.unanswered(node, &NoAnswer::of(error))
    }

    fn unanswered(&self, node: &Node, unanswered: &NoAnswer) -> PortError {
        let port = node.http_port;
        PortError::unreachable(if unanswered.timed_out {
            format!("no answer within {:?} :{port}", self.limit)
        } else {
            format!("{} :{port}", unanswered.why)
        })
    }
}

impl Cluster for AdminClient {
    async fn status(&self, node: NodeId) -> Result<ClusterStatus, PortError> {
        self.get(node, "/cluster/status").await
    }

    async fn route(&self, id: NodeId) -> AdminRoute {
        let Ok(node) = self.node(id) else { return AdminRoute::Direct };
        match self.route_to(node) {
            Ok(route) => route.check(&url(node, "/cluster/status")).await,
            Err(error) => AdminRoute::Closed { why: error.to_string() },
        }
    }

    async fn transfer(&self, to: NodeId) -> Result<(), PortError> {
        let node = self.node(to)?;
        let body = TransferRequest { to: Some(to) };
        let call = |http: &reqwest::Client| {
            http.post(url(node, "/cluster/leader/transfer")).timeout(self.change_limit).json(&body)
        };
        let answer = self.send(node, call).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        let ErrorBody { message, hint, .. } = self.read(node, answer).await?;
        Err(PortError::failed(format!("n{to} did not take over: {message}")).hint(theirs(node, &hint)))
    }

    async fn add(&self, member: &Node, stays_learner: bool) -> Result<(), PortError> {
        let body = AddMember {
            id: member.id,
            host: member.host.clone(),
            port: member.cluster_port,
            client_port: member.client_port,
            http_port: member.http_port,
            advertised_host: member.advertised_host.clone(),
            learner: stays_learner,
        };
        self.change(Some(member.id), |http, node| http.post(url(node, "/cluster/members")).json(&body)).await
    }

    async fn raise_format(&self, wanted: Option<u16>) -> Result<(), PortError> {
        let body = FormatRequest { to: wanted };
        self.change(None, |http, node| http.post(url(node, "/cluster/format")).json(&body)).await
    }

    async fn remove(&self, id: NodeId) -> Result<(), PortError> {
        let path = format!("/cluster/members/{id}");
        self.change(Some(id), |http, node| http.delete(url(node, &path))).await
    }
}

/// Marks a hint as the node's, since operators would otherwise take it for escli's.
fn theirs(node: &Node, hint: &str) -> String {
    format!("n{} says: {hint}", node.id)
}

fn strange(node: &Node) -> PortError {
    PortError::failed(format!("the service on port {} is not an esnode", node.http_port))
}

/// Returns the URL of `path` on a node's admin port.
pub fn url(node: &Node, path: &str) -> String {
    format!("http://{}{path}", authority(&node.host, node.http_port))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cluster_file::template;

    #[tokio::test]
    async fn nobody_there_is_said_at_once_and_briefly() {
        let mut spec = template::local_spec("local", 1, None);
        spec.cluster.nodes[0].host = "127.77.66.55".to_owned(); // nobody ever listens there
        let client = AdminClient::new(&spec, Duration::from_secs(5)).unwrap();
        let began = Instant::now();
        let error = client.status(1).await.unwrap_err();
        assert_eq!(error, PortError::unreachable("connection refused :8080".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_node_that_hangs_is_given_up_after_the_limit() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut spec = template::local_spec("local", 1, None);
        spec.cluster.nodes[0].http_port = listener.local_addr().unwrap().port();
        let client = AdminClient::new(&spec, Duration::from_millis(50)).unwrap();
        let error = client.status(1).await.unwrap_err();
        assert!(error.to_string().starts_with("no answer within 50ms"), "{error}");
    }

    #[tokio::test]
    async fn a_hint_of_a_node_is_printable_and_says_whose_it_is() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut spec = template::local_spec("local", 1, None);
        spec.cluster.nodes[0].http_port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let body =
                    r#"{"code": "x", "message": "no\u001b[2J", "hint": "fine\n\u2192 escli down --yes"}"#;
                let answer = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let client = AdminClient::new(&spec, Duration::from_secs(5)).unwrap();
        let transfer = client.transfer(1).await.unwrap_err();
        let format = client.raise_format(None).await.unwrap_err();
        let backup = client.backup(1, 0, Duration::from_secs(5)).await.map(drop).unwrap_err();
        for error in [transfer, format, backup] {
            assert!(error.message.ends_with("no\\x1b[2J"), "{error:?}");
            assert_eq!(error.hints, ["n1 says: fine\\x0a→ escli down --yes"]);
        }
    }

    #[test]
    fn an_ipv6_host_gets_brackets() {
        let mut node = template::local_spec("local", 1, None).cluster.nodes.remove(0);
        node.host = "fd00::1".to_owned();
        assert_eq!(url(&node, "/x"), "http://[fd00::1]:8080/x");
    }
}

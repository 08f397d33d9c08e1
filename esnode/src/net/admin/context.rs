//! What all handlers share: the node, reading of request bodies, and common errors.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use shared::api::ClusterStatus;
use shared::ids::NodeId;
use shared::spec::{ClusterFile, authority};
use tokio::time::timeout;

use super::Node;
use super::error::ApiError;

/// Largest body of a request, and of the leader's response to a forwarded one, in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// Time limit for receiving a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for an answer of the raft thread, which usually takes microseconds. After it the thread is taken to be
/// stuck.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of a change. A commit takes milliseconds, but two elections and a transfer of leadership may come first.
const COMMIT_TIMEOUT: (u32, Duration) = (4, Duration::from_secs(8));

/// The state that all handlers share.
pub(super) struct App<N> {
    pub(super) node: N,
}

pub(super) type Shared<N> = State<Arc<App<N>>>;

impl<N: Node> App<N> {
    pub(super) async fn status(&self) -> Result<ClusterStatus, ApiError> {
        timeout(STATUS_TIMEOUT, self.node.status()).await.map_err(|_| ApiError::stalled())
    }
}

/// The leader and its admin port.
pub(super) struct Leader {
    /// Its id.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// Its admin port.
    pub port: u16,
}

/// Returns the address of the member with this id, from `status`.
pub(super) fn find(status: &ClusterStatus, id: NodeId) -> Option<Leader> {
    let peer = status.peers.iter().find(|peer| peer.id == id)?;
    Some(Leader { id, host: peer.host.clone(), port: peer.http_port })
}

/// The error for when no leader is known.
pub(super) fn no_leader() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_leader",
        "no leader is known",
        "an election is under way, or a majority cannot be reached: check /cluster/status, then try again",
    )
}

/// The error for when another node leads.
pub(super) fn not_leader(node: NodeId, leader: &Leader) -> ApiError {
    let Leader { id, host, port } = leader;
    ApiError::new(
        StatusCode::CONFLICT,
        "not_leader",
        format!("node {node} does not lead any more; node {id} at {} does", authority(host, *port)),
        "try again",
    )
}

/// Reads the whole body, if it is small and arrives in time.
pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body exceeds {MAX_BODY} bytes, or broke off"),
            "send what the API describes, and nothing else",
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the body was not complete within {} s", BODY_TIMEOUT.as_secs()),
            "send the request again",
        )),
    }
}

/// Parses JSON whatever the Content-Type is, since plain `curl -d` declares a form.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("the body is not what this call takes: {error}"),
            format!("send JSON, for example {example}"),
        )
    })
}

/// Returns how long a change may take with the configured timing.
pub(super) fn commit_timeout(file: &ClusterFile) -> Duration {
    file.cluster.raft.elections(COMMIT_TIMEOUT.0, COMMIT_TIMEOUT.1)
}

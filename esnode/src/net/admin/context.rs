//! What every handler has and needs: the node, the body of a request, and the usual refusals.

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
/// A body must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The raft thread answers in microseconds; after this long it is stuck.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// A change is committed within milliseconds; an election may come first, and a second one, and a hand-over.
const COMMIT_TIMEOUT: (u32, Duration) = (4, Duration::from_secs(8));

/// What every handler has.
pub(super) struct App<N> {
    pub(super) node: N,
}

pub(super) type Shared<N> = State<Arc<App<N>>>;

impl<N: Node> App<N> {
    pub(super) async fn status(&self) -> Result<ClusterStatus, ApiError> {
        timeout(STATUS_TIMEOUT, self.node.status()).await.map_err(|_| ApiError::stalled())
    }
}

/// The leader, as it is reached.
pub(super) struct Leader {
    /// Its id.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// Its admin port.
    pub port: u16,
}

/// Where the member with this id is, as `status` says.
pub(super) fn find(status: &ClusterStatus, id: NodeId) -> Option<Leader> {
    let peer = status.peers.iter().find(|peer| peer.id == id)?;
    Some(Leader { id, host: peer.host.clone(), port: peer.http_port })
}

/// No leader is known.
pub(super) fn no_leader() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_leader",
        "no leader is known",
        "an election is under way, or a majority cannot be reached: check /cluster/status, then try again",
    )
}

/// Another node leads.
pub(super) fn not_leader(node: NodeId, leader: &Leader) -> ApiError {
    let Leader { id, host, port } = leader;
    ApiError::new(
        StatusCode::CONFLICT,
        "not_leader",
        format!("node {node} does not lead any more; node {id} at {} does", authority(host, *port)),
        "try again",
    )
}

/// The whole body, if it is small and does not dawdle.
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

/// JSON whatever the Content-Type says: plain `curl -d` claims to send a form.
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

/// How long a change may take, by the configured timing.
pub(super) fn commit_timeout(file: &ClusterFile) -> Duration {
    file.cluster.raft.elections(COMMIT_TIMEOUT.0, COMMIT_TIMEOUT.1)
}

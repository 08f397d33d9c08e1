//! The route table and its handlers: thin, from HTTP to the node and back.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use shared::api::{ClusterStatus, Health, RaftRole, TransferRequest, TransferResponse};
use shared::ids::NodeId;
use shared::spec::authority;
use tokio::time::timeout;

use super::Node;
use super::backup;
use super::error::{ApiError, json};
use super::format;
use super::forward::{FORWARDED, Leader, forward};
use super::health;
use super::members;
use super::origin;
use crate::replica::TransferError;

/// Largest body of a request, and of the leader's answer to a forwarded one, in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// A body must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The raft thread answers in microseconds; after this long it is stuck.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Path of the transfer, here and on the leader.
const TRANSFER: &str = "/cluster/leader/transfer";

/// What every handler has.
pub(super) struct App<N> {
    pub(super) node: N,
}

pub(super) type Shared<N> = State<Arc<App<N>>>;

/// Every route of the admin API.
pub fn router<N: Node>(node: N) -> Router {
    let app = Arc::new(App { node });
    Router::new()
        .route("/", get(index))
        .route("/cluster/status", get(status))
        .route(TRANSFER, post(transfer))
        .route(format::FORMAT, post(format::raise))
        .route(members::MEMBERS, post(members::add))
        .route("/cluster/members/{id}", delete(members::remove))
        .route("/cluster/members/{id}/promote", post(members::promote))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(scrape))
        .route("/backup", get(backup::backup))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), origin::guard))
        .with_state(app)
}

impl<N: Node> App<N> {
    pub(super) async fn status(&self) -> Result<ClusterStatus, ApiError> {
        timeout(STATUS_TIMEOUT, self.node.status()).await.map_err(|_| ApiError::stalled())
    }
}

async fn index<N: Node>(State(app): Shared<N>) -> String {
    let name = &app.node.file().cluster.name;
    format!("EventStream, cluster {name}. See /cluster/status, /health/ready and /metrics.\n")
}

async fn status<N: Node>(State(app): Shared<N>) -> Result<Response, ApiError> {
    Ok(json(StatusCode::OK, &app.status().await?))
}

async fn live<N: Node>(State(app): Shared<N>) -> Response {
    let reasons = match app.status().await {
        Ok(_) => Vec::new(),
        Err(_) => vec![format!("the raft thread did not answer within {} s", STATUS_TIMEOUT.as_secs())],
    };
    verdict(&Health { ok: reasons.is_empty(), reasons })
}

async fn ready<N: Node>(State(app): Shared<N>) -> Result<Response, ApiError> {
    let status = app.status().await?;
    let mut health = health::ready(&status);
    if status.state == Some(RaftRole::Leader) && !app.node.serving() {
        health.ok = false;
        health.reasons.push("just elected: no entry of its term is committed yet".into());
    }
    Ok(verdict(&health))
}

fn verdict(health: &Health) -> Response {
    json(if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, health)
}

async fn scrape<N: Node>(State(app): Shared<N>) -> Response {
    let text = app.node.metrics().await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn transfer<N: Node>(State(app): Shared<N>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    // No body leaves the choice to the leader.
    let wanted =
        if body.trim_ascii().is_empty() { TransferRequest::default() } else { parse(&body, r#"{"to": 2}"#)? };
    match app.node.transfer(wanted.to).await {
        Err(TransferError::NotLeader(leader)) => {
            let status = app.status().await?;
            let leader = leader.and_then(|id| find(&status, id)).ok_or_else(no_leader)?;
            if parts.headers.contains_key(FORWARDED) {
                return Err(not_leader(status.node_id, &leader));
            }
            Ok(forward(status.node_id, app.node.file(), &leader, Method::POST, TRANSFER, body).await)
        }
        outcome => {
            let (leader, term) = handed_over(outcome)?;
            Ok(json(StatusCode::OK, &TransferResponse { leader, term }))
        }
    }
}

/// Who leads after a transfer, or what to answer instead.
pub(super) fn handed_over(outcome: Result<(NodeId, u64), TransferError>) -> Result<(NodeId, u64), ApiError> {
    match outcome {
        Ok(now) => Ok(now),
        Err(TransferError::NotLeader(_)) => Err(no_leader()),
        Err(TransferError::BadTarget(node, why)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "bad_target",
            format!("node {node} cannot take over: {why}"),
            "name a connected voter, or none to let the leader choose",
        )),
        Err(TransferError::TimedOut) => Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "transfer_timed_out",
            "the transfer did not finish in time; the leader still leads",
            "check that the target keeps up (lag in /cluster/status), then try again",
        )),
    }
}

pub(super) fn find(status: &ClusterStatus, id: NodeId) -> Option<Leader> {
    let peer = status.peers.iter().find(|peer| peer.id == id)?;
    Some(Leader { id, host: peer.host.clone(), port: peer.http_port })
}

pub(super) fn no_leader() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_leader",
        "no leader is known",
        "an election is under way, or a majority cannot be reached: check /cluster/status, then try again",
    )
}

pub(super) fn not_leader(node: NodeId, leader: &Leader) -> ApiError {
    let Leader { id, host, port } = leader;
    ApiError::new(
        StatusCode::CONFLICT,
        "not_leader",
        format!("node {node} does not lead any more; node {id} at {} does", authority(host, *port)),
        "try again",
    )
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {}", uri.path()),
        "see /cluster/status, /cluster/members, /cluster/format, /health/live, /health/ready, /metrics and /backup",
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} means nothing at {}", uri.path()),
        "see the Allow header of this answer",
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

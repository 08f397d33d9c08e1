//! The table of calls, and what each does.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use shared::api::{ClusterStatus, ErrorBody, Health, NodeState, Role, TransferRequest, TransferResponse};

use super::forward;
use crate::handle::{Handle, TransferError};
use crate::metrics;
use crate::net::kafka::metrics::KafkaMetrics;

/// Longest request body.
const MAX_BODY: usize = 64 << 10;
/// A node this many entries behind its commit index is not ready.
const READY_LAG: u64 = 1000;

#[derive(Clone)]
struct Node {
    handle: Handle,
    kafka: Arc<KafkaMetrics>,
}

/// All calls.
pub(super) fn router(handle: Handle, kafka: Arc<KafkaMetrics>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/cluster/status", get(status))
        .route("/cluster/leader/transfer", post(transfer))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(prometheus))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Node { handle, kafka })
}

async fn root() -> &'static str {
    "EventStream node. See /cluster/status, /health/live, /health/ready, /metrics.\n"
}

async fn status(State(node): State<Node>) -> Json<ClusterStatus> {
    Json(node.handle.status().await)
}

async fn live() -> Json<Health> {
    Json(Health { ok: true, reasons: Vec::new() })
}

async fn ready(State(node): State<Node>) -> Response {
    let serving = node.handle.leadership().borrow().serving;
    let reasons = unready(&node.handle.status().await, serving);
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { ok: reasons.is_empty(), reasons })).into_response()
}

/// Why a node should not be counted on; empty when it can be.
fn unready(status: &ClusterStatus, serving: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if status.state == NodeState::Joining {
        reasons.push("it waits for enough nodes to found a cluster, or to be taken in".to_owned());
    } else if status.role == Role::None {
        reasons.push("it is not a member of the cluster".to_owned());
    } else if status.leader.is_none() {
        reasons.push("it knows no leader: a majority of the voters cannot be reached".to_owned());
    }
    if status.state == NodeState::Leader && !serving {
        reasons.push("it was just elected and has not committed an entry of its term".to_owned());
    }
    let behind = status.commit_index.saturating_sub(status.applied_index);
    if behind > READY_LAG {
        reasons.push(format!("it has {behind} committed entries to apply"));
    }
    reasons
}

async fn prometheus(State(node): State<Node>) -> Response {
    let text = metrics::render(&node.handle, &node.kafka).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Takes the body as bytes: plain `curl -d` names no JSON.
async fn transfer(State(node): State<Node>, headers: HeaderMap, body: Bytes) -> Response {
    let request: TransferRequest = if body.trim_ascii().is_empty() {
        TransferRequest::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(parse) => {
                let hint = "send nothing, or {\"to\": NODE_ID}";
                return error(
                    StatusCode::BAD_REQUEST,
                    "bad_request",
                    &format!("the body is not understood: {parse}"),
                    hint,
                );
            }
        }
    };
    match node.handle.transfer(request.to).await {
        Ok((leader, term)) => Json(TransferResponse { leader, term }).into_response(),
        Err(TransferError::NotLeader(Some(leader))) if !headers.contains_key(forward::MARK) => {
            forward::post(&node.handle, leader, "/cluster/leader/transfer", body).await
        }
        Err(TransferError::NotLeader(_)) => {
            let hint = "wait for an election; `escli status` tells who leads";
            error(StatusCode::SERVICE_UNAVAILABLE, "no_leader", "no leader is known", hint)
        }
        Err(refused @ TransferError::BadTarget(..)) => {
            let hint = "choose a voter that is up; GET /cluster/status lists them";
            error(StatusCode::CONFLICT, "bad_target", &refused.to_string(), hint)
        }
        Err(refused @ TransferError::TimedOut) => error(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            &refused.to_string(),
            "this node still leads; try again",
        ),
    }
}

async fn not_found() -> Response {
    let hint = "GET / names what there is";
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path", hint)
}

async fn wrong_method() -> Response {
    let hint = "GET to look, POST to change";
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method", hint)
}

/// An error as every call answers it.
pub(super) fn error(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    let body = ErrorBody { code: code.to_owned(), message: message.to_owned(), hint: hint.to_owned() };
    (status, Json(body)).into_response()
}

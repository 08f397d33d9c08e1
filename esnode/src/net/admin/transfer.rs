//! `POST /cluster/leader/transfer`: transfers leadership.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use shared::api::{TransferRequest, TransferResponse};
use shared::ids::NodeId;

use super::Node;
use super::context::{Shared, find, no_leader, not_leader, parse, read};
use super::error::{ApiError, json};
use super::forward::{FORWARDED, forward};
use crate::replica::TransferError;

/// Path of the call, on this node and on the leader.
pub(super) const TRANSFER: &str = "/cluster/leader/transfer";

/// Transfers leadership, or forwards the request to the leader.
pub(super) async fn transfer<N: Node>(State(app): Shared<N>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    // Without a body, the leader chooses its successor.
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

/// Returns the leader after a transfer, or the error for the client.
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

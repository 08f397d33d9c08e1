//! `GET /cluster/groups`: the consumer groups and their lag.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::Node;
use super::context::{Shared, find, no_leader, not_leader};
use super::error::{ApiError, json};
use super::forward::{FORWARDED, forward};

/// Path of the call, on this node and on the leader.
pub(super) const GROUPS: &str = "/cluster/groups";

/// Returns the groups as the leader, or as the leader reports them.
pub(super) async fn groups<N: Node>(State(app): Shared<N>, request: Request) -> Result<Response, ApiError> {
    if let Some(groups) = app.node.groups().await {
        return Ok(json(StatusCode::OK, &*groups));
    }
    let status = app.status().await?;
    let leader = status.leader.and_then(|id| find(&status, id)).ok_or_else(no_leader)?;
    if request.headers().contains_key(FORWARDED) {
        return Err(not_leader(status.node_id, &leader));
    }
    Ok(forward(status.node_id, app.node.file(), &leader, Method::GET, GROUPS, Bytes::new()).await)
}

//! `POST /cluster/format`: has the leader raise the on-disk format.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use shared::api::{FormatRequest, FormatResponse};

use super::Node;
use super::context::{Shared, find, no_leader, not_leader, parse, read};
use super::error::{ApiError, json};
use super::forward::{FORWARDED, forward};
use crate::node::handle::RaiseError;
use crate::replica::FormatError;
use crate::replica::ProposeError;

/// Path of the call, on this node and on the leader.
pub const FORMAT: &str = "/cluster/format";

/// Raises the format. The request can be repeated.
pub async fn raise<N: Node>(State(app): Shared<N>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    // Without a body, the leader chooses the format.
    let wanted =
        if body.trim_ascii().is_empty() { FormatRequest::default() } else { parse(&body, r#"{"to": 2}"#)? };
    match app.node.raise_format(wanted.to).await {
        Ok(active_format) => Ok(json(StatusCode::OK, &FormatResponse { active_format })),
        Err(RaiseError::Refused(FormatError::NotLeader(leader)))
        | Err(RaiseError::Proposed(ProposeError::NotLeader(leader))) => {
            let status = app.status().await?;
            let leader = leader.filter(|leader| *leader != status.node_id);
            let leader = leader.and_then(|id| find(&status, id)).ok_or_else(no_leader)?;
            if parts.headers.contains_key(FORWARDED) {
                return Err(not_leader(status.node_id, &leader));
            }
            Ok(forward(status.node_id, app.node.file(), &leader, Method::POST, FORMAT, body).await)
        }
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &RaiseError) -> ApiError {
    let (status, code, hint) = match error {
        RaiseError::Refused(FormatError::NotLeader(_)) => return no_leader(),
        RaiseError::Refused(FormatError::Away(_)) => {
            (StatusCode::CONFLICT, "member_away", "start it, or remove it from the cluster, and try again")
        }
        RaiseError::Refused(FormatError::TooOld { .. }) => {
            (StatusCode::CONFLICT, "member_too_old", "upgrade it first")
        }
        RaiseError::Proposed(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", "send the same request again")
        }
    };
    ApiError::new(status, code, error.to_string(), hint)
}

//! Errors of the admin API: an HTTP status, and a body that says what happened and what to do next.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::api::ErrorBody;

/// An error response.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    /// Returns an error: `code` for programs; `message` says what happened, and `hint` what to do next.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { code: code.into(), message: message.into(), hint: hint.into() } }
    }

    /// The error for when the raft thread does not answer.
    pub fn stalled() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stalled",
            "the node did not answer in time: it is overloaded, stopping, or waits for its disk",
            "look at the node's log and at eventstream_log_sync_seconds; try again",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        json(self.status, &self.body)
    }
}

/// Returns `value` as JSON that people can read too: indented, with a line feed at the end.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut text = serde_json::to_string_pretty(value).expect("messages of the API have only string keys");
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

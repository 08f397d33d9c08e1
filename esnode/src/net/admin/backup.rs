//! `GET /backup`: streams a backup of the log.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;

use super::Node;
use super::context::Shared;
use super::error::ApiError;
use crate::maintenance::backup::{BackupError, Pieces};

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// The backup must contain this entry; the client has got the index from the leader.
    #[serde(default)]
    covers: u64,
}

pub(super) async fn backup<N: Node>(
    State(app): Shared<N>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let pieces = app.node.backup(wanted.covers).await.map_err(|error| refused(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::new(PiecesBody(pieces))).into_response())
}

fn refused(error: &BackupError) -> ApiError {
    let (status, code, hint) = match error {
        BackupError::Busy => (StatusCode::CONFLICT, "backup_running", "wait for it, or ask another node"),
        BackupError::NoCluster => (StatusCode::SERVICE_UNAVAILABLE, "no_cluster", "ask a member"),
        BackupError::Behind(_) => (StatusCode::SERVICE_UNAVAILABLE, "behind", "ask a node that keeps up"),
        BackupError::Io(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "disk", "look at the node's log, and at its disk")
        }
    };
    ApiError::new(status, code, error.to_string(), hint)
}

/// The pieces of a backup as the body of a response.
struct PiecesBody(Pieces);

impl hyper::body::Body for PiecesBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

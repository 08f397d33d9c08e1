//! The route table, and the handlers that only read.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use shared::api::{Health, RaftRole};

use super::Node;
use super::context::{App, STATUS_TIMEOUT, Shared};
use super::error::{ApiError, json};
use super::{backup, format, groups, health, members, origin, transfer};

/// Every route of the admin API.
pub fn router<N: Node>(node: N) -> Router {
    let app = Arc::new(App { node });
    Router::new()
        .route("/", get(index))
        .route("/cluster/status", get(status))
        .route(groups::GROUPS, get(groups::groups))
        .route(transfer::TRANSFER, post(transfer::transfer))
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

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {}", uri.path()),
        "see /cluster/status, /cluster/groups, /cluster/members, /cluster/format, /health/live, /health/ready, \
         /metrics and /backup",
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

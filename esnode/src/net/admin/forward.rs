//! Forwards a request to the leader, as an HTTP call to its admin port.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use shared::ids::NodeId;
use shared::spec::{ClusterFile, authority};
use tokio::time::timeout;

use super::context::{Leader, MAX_BODY, commit_timeout};
use super::error::ApiError;

/// The header that names the node which has forwarded a request. Such a request is never forwarded again; otherwise two
/// nodes that take each other for the leader would send it back and forth.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-eventstream-forwarded-by");
/// Time limit for connecting to the leader. Within a rack this takes far less, and a host that is down should be
/// reported soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the leader may take beyond the longest operation that it waits for.
const SPARE: Duration = Duration::from_secs(7);

/// Sends `method path` with `body` to the leader, and returns its response, or why there is none.
pub(super) async fn forward(
    from: NodeId,
    file: &ClusterFile,
    leader: &Leader,
    method: Method,
    path: &str,
    body: Bytes,
) -> Response {
    let limit = commit_timeout(file) + SPARE;
    let answer = timeout(limit, call(from, leader, method, path, body)).await;
    let problem = match answer {
        Ok(Ok(response)) => return response,
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("no answer within {} s", limit.as_secs()),
    };
    let Leader { id, host, port } = leader;
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        "leader_unreachable",
        format!(
            "node {from} could not pass the request on to the leader, node {id} at {}: {problem}",
            authority(host, *port)
        ),
        "check the cluster's status before trying again: the leader may have acted on the request",
    )
    .into_response()
}

async fn call(
    from: NodeId,
    leader: &Leader,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<Response> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    // There is one call, after which no connection is kept open.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", authority(&leader.host, leader.port)))
        .header(FORWARDED, from.to_string())
        .body(Body::from(body))?;
    let (parts, body) = client.request(request).await?.into_parts();
    let body = axum::body::to_bytes(Body::new(body), MAX_BODY).await?;
    let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
    let mut response = (parts.status, body).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

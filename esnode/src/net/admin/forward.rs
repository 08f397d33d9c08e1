//! Passing a call on to the leader, so that an operator may ask any node.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use shared::ids::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::routes::error;
use crate::handle::Handle;

/// How long the leader may take: a hand-over or a membership change waits for elections and disks.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Marks a call that was passed on once; it is not passed on again.
pub(super) const MARK: &str = "x-eventstream-forwarded";

/// Sends the call to `leader` and gives back its answer.
pub(super) async fn post(node: &Handle, leader: NodeId, path: &str, body: Bytes) -> Response {
    let unreachable = |why: &str| {
        let message = format!("node {leader} leads, and does not answer: {why}");
        error(StatusCode::BAD_GATEWAY, "leader_unreachable", &message, "ask the leader itself, or try again")
    };
    let Some(target) = node.file().node(leader) else { return unreachable("it is not in cluster.nodes") };
    let call = exchange(&target.host, target.http_port, path, &body);
    match timeout(PATIENCE, call).await {
        Err(_) => unreachable("no answer in time"),
        Ok(Err(failed)) => unreachable(&failed.to_string()),
        Ok(Ok((code, text))) => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
    }
}

/// One HTTP/1.0 call: the answer ends with the connection, so nothing needs to be framed.
async fn exchange(host: &str, port: u16, path: &str, body: &[u8]) -> io::Result<(u16, String)> {
    let mut socket = TcpStream::connect((host, port)).await?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\n{MARK}: 1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    let mut answer = String::new();
    socket.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    Ok((code, body.to_owned()))
}

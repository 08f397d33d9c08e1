//! The admin port for fuzzers: whole connections, in memory instead of on a socket.

use std::sync::Arc;

use shared::api::{ClusterStatus, ConsumerGroups, example};
use shared::ids::NodeId;
use shared::spec::{Cluster, ClusterFile, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::Node;
use super::routes::router;
use super::server::{Limits, converse};
use crate::maintenance::backup::{BackupError, Pieces};
use crate::node::handle::RaiseError;
use crate::replica::ChangeError;
use crate::replica::TransferError;
use crate::state_machine::members::Change;

/// Bytes that fit between client and server.
const PIPE: usize = 4 << 20;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("needs nothing of the system");
}

/// Sends the bytes as a client that then closes its side. Every response must be valid HTTP, and none may report an
/// internal error.
pub fn fuzz(bytes: &[u8]) {
    let answer = RUNTIME.with(|runtime| runtime.block_on(answer(bytes)));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    let failed = answer.windows(13).any(|part| part == b"HTTP/1.1 500 ");
    assert!(!failed, "{}", answer.escape_ascii());
}

async fn answer(bytes: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let (_running, stopping) = watch::channel(false);
    let limits = Limits::default();
    let mut answer = Vec::new();
    let ask = async {
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut answer).await;
    };
    tokio::join!(ask, converse(server, router(Calm(file())), &limits, stopping));
    answer
}

/// A healthy leader.
#[derive(Clone)]
struct Calm(ClusterFile);

impl Node for Calm {
    fn file(&self) -> &ClusterFile {
        &self.0
    }

    async fn status(&self) -> ClusterStatus {
        example::status()
    }

    fn serving(&self) -> bool {
        true
    }

    async fn metrics(&self) -> String {
        "raft_term 1\n".to_owned()
    }

    async fn groups(&self) -> Option<Arc<ConsumerGroups>> {
        Some(Arc::new(example::groups()))
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<(NodeId, u64), TransferError> {
        match to {
            Some(1) | None => Ok((1, 1)),
            Some(other) => Err(TransferError::BadTarget(other, "not a voter".to_owned())),
        }
    }

    async fn raise_format(&self, wanted: Option<u16>) -> Result<u16, RaiseError> {
        Ok(wanted.unwrap_or(1))
    }

    async fn backup(&self, _covers: u64) -> Result<Pieces, BackupError> {
        Err(BackupError::Busy)
    }

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        if change.node() == 1 { Ok(()) } else { Err(ChangeError::NotAMember(change.node())) }
    }
}

fn file() -> ClusterFile {
    let cluster = Cluster {
        name: "fuzz".into(),
        node_id: Some(1),
        nodes: Vec::new(),
        raft: Default::default(),
        storage: Default::default(),
        topics: Default::default(),
    };
    ClusterFile { cluster, network: Network::default(), deploy: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::seeds;

    fn request(line: &str, body: &str) -> String {
        let length = body.len();
        format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    #[test]
    fn the_committed_seeds_of_the_admin_api() {
        let chunked = "POST /cluster/leader/transfer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                       9\r\n{\"to\": 1}\r\n0\r\n\r\n";
        let get = |path: &str| request(&format!("GET {path}"), "");
        let paths = [
            "/",
            "/cluster/status",
            "/cluster/groups",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/nothing?a=b%20c",
        ];
        let seeds = [
            ("gets", paths.map(get).concat()),
            ("transfer", request("POST /cluster/leader/transfer", "{\"to\": 1}")),
            ("transfer-to-any", request("POST /cluster/leader/transfer", "")),
            ("transfer-refused", request("POST /cluster/leader/transfer", "{\"to\": 2}")),
            ("form", request("POST /cluster/leader/transfer", "to=2&unknown={}")),
            ("method", request("DELETE /cluster/status", "")),
            ("chunked", chunked.to_owned()),
            ("old", "GET /cluster/status HTTP/1.0\r\n\r\n".to_owned()),
        ];
        seeds::check("admin", &seeds.map(|(name, text)| (name.to_owned(), text.into())).into());
    }

    #[test]
    fn an_answer_comes_back() {
        let answer =
            RUNTIME.with(|runtime| runtime.block_on(answer(request("GET /cluster/status", "").as_bytes())));
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"commit_index\""), "{answer}");
    }
}

//! What the nodes of a cluster report, and waiting until it is as wanted.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use shared::api::{ClusterStatus, RaftRole};
use shared::ids::NodeId;

use super::{Cluster, MAX_WAIT};
use crate::http;
use crate::ready::leader_of_all;

impl Cluster {
    /// `GET` on a node's admin port. Returns the status code and the body.
    pub fn get(&self, id: NodeId, path: &str) -> Result<(u16, String)> {
        http::call(&self.admin(id).to_string(), "GET", path, "")
    }

    /// `POST` on a node's admin port.
    pub fn post(&self, id: NodeId, path: &str, body: &str) -> Result<(u16, String)> {
        http::call(&self.admin(id).to_string(), "POST", path, body)
    }

    /// `DELETE` on a node's admin port.
    pub fn delete(&self, id: NodeId, path: &str) -> Result<(u16, String)> {
        http::call(&self.admin(id).to_string(), "DELETE", path, "")
    }

    /// What the node reports of itself and the cluster.
    pub fn status(&self, id: NodeId) -> Result<ClusterStatus> {
        let (code, body) = self.get(id, "/cluster/status")?;
        if code != 200 {
            bail!("status of node {id}: {code} {body}");
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// The node that reports that it leads; the one in the newest term if there are several.
    pub fn leader(&self) -> Option<NodeId> {
        let statuses = self.ids().into_iter().filter_map(|id| self.status(id).ok());
        statuses.filter(|s| s.state == Some(RaftRole::Leader)).max_by_key(|s| s.term).map(|s| s.node_id)
    }

    /// Waits until some node leads.
    pub fn wait_leader(&self) -> Result<NodeId> {
        self.wait("a leader", |cluster| cluster.leader())
    }

    /// Waits until a leader serves and every running node follows it with everything applied.
    pub fn wait_ready(&self) -> Result<NodeId> {
        self.wait("every running node to be ready", |cluster| {
            let running = || cluster.ids().into_iter().filter(|id| cluster.is_running(*id));
            let leader = leader_of_all(|| running().map(|id| cluster.status(id).ok()).collect())?;
            let serves = || cluster.get(leader, "/health/ready").is_ok_and(|(code, _)| code == 200);
            serves().then_some(leader)
        })
    }

    /// Polls until `ask` returns something. After [`MAX_WAIT`] fails with the logs of all nodes.
    pub fn wait<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + MAX_WAIT;
        while Instant::now() < deadline {
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let logs: String = self.ids().iter().map(|id| format!("--- node {id}\n{}", self.log(*id))).collect();
        bail!("timed out after {MAX_WAIT:?} waiting for {what}\n{logs}")
    }
}

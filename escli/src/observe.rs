//! Hosts and admin API -> [`Facts`]: every node at once, each with its own time limit. Decides nothing.

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::engine::ports::{Cluster, Hosts, PortError};
use crate::plan::facts::{Answer, Facts, HostSight, NodeFacts};

/// Looks at hosts and admin API.
pub async fn observe<H: Hosts, C: Cluster>(
    spec: &ClusterFile,
    hosts: &H,
    cluster: &C,
    concurrency: usize,
) -> Facts {
    let looks = ids(spec).map(|id| async move {
        let (host, api) = join(hosts.look(id), ask(cluster, id)).await;
        let host = match host {
            Ok(facts) => HostSight::Seen(facts),
            Err(error) => HostSight::Unreachable { reason: error.to_string() },
        };
        (id, NodeFacts { host, api })
    });
    let nodes = stream::iter(looks).buffer_unordered(concurrency.max(1)).collect().await;
    let mut facts = Facts { nodes, free_base_port: None };
    let any_taken = facts.nodes.values().filter_map(NodeFacts::host).any(|host| !host.taken.is_empty());
    if any_taken {
        facts.free_base_port = hosts.free_base_port(spec.cluster.nodes.len()).await;
    }
    facts
}

/// Looks at the admin API only: enough for those who only watch, and it needs no access to the hosts.
pub async fn observe_api<C: Cluster>(spec: &ClusterFile, cluster: &C, concurrency: usize) -> Facts {
    let looks = ids(spec)
        .map(|id| async move { (id, NodeFacts { host: HostSight::NotAsked, api: ask(cluster, id).await }) });
    let nodes = stream::iter(looks).buffer_unordered(concurrency.max(1)).collect().await;
    Facts { nodes, free_base_port: None }
}

fn ids(spec: &ClusterFile) -> impl Iterator<Item = NodeId> + '_ {
    spec.cluster.nodes.iter().map(|node| node.id)
}

async fn ask<C: Cluster>(cluster: &C, id: NodeId) -> Answer {
    match cluster.status(id).await {
        Ok(status) if status.node_id != id => Answer::Silent {
            reason: format!("answers as node {} of {}", status.node_id, status.cluster_name),
        },
        Ok(status) => Answer::Status(Box::new(status)),
        Err(PortError::Unreachable(reason) | PortError::Failed(reason)) => Answer::Silent { reason },
    }
}

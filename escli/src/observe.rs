//! Hosts and admin API -> [`Facts`]: every node at once, each with its own time limit. Decides nothing.

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use crate::engine::ports::{Cluster, Hosts};
use crate::exit::Failure;
use crate::plan::facts::{Answer, Facts, HostSight, Mesh, NodeFacts};
use crate::plan::identity::Stranger;

/// Looks at hosts and admin API; `with_mesh` also at the ways between the hosts.
pub async fn observe<H: Hosts, C: Cluster>(
    spec: &ClusterFile,
    hosts: &H,
    cluster: &C,
    concurrency: usize,
    with_mesh: bool,
) -> Facts {
    let looks = ids(spec).map(|id| async move {
        let (host, api) = join(hosts.look(id), ask(cluster, &spec.cluster.name, id)).await;
        let host = match host {
            Ok(facts) => HostSight::Seen(Box::new(facts)),
            Err(error) => {
                let Failure { message, details, hints, .. } = error.into();
                HostSight::Unreachable { reason: message, details, hints }
            }
        };
        (id, NodeFacts { host, api })
    });
    let nodes = stream::iter(looks).buffer_unordered(concurrency.max(1)).collect().await;
    let mut facts = Facts { nodes, ..Facts::default() };
    if with_mesh {
        facts.mesh = mesh(&facts, hosts, concurrency).await;
        let ways = ids(spec).map(|id| async move { (id, cluster.way(id).await) });
        facts.ways = stream::iter(ways).buffer_unordered(concurrency.max(1)).collect().await;
    }
    let any_taken = facts.nodes.values().filter_map(NodeFacts::host).any(|host| !host.taken.is_empty());
    if any_taken {
        facts.free_base_port = hosts.free_base_port(spec.cluster.nodes.len()).await;
    }
    facts
}

/// Lets every host that answered try the others. One that cannot is left out: its own check says why.
async fn mesh<H: Hosts>(facts: &Facts, hosts: &H, concurrency: usize) -> Mesh {
    let seen = facts.nodes.iter().filter(|(_, node)| node.host().is_some());
    let tries = seen.map(|(id, _)| async move { hosts.mesh(*id).await.ok().map(|links| (*id, links)) });
    let links: Vec<_> = stream::iter(tries).buffer_unordered(concurrency.max(1)).collect().await;
    links.into_iter().flatten().filter(|(_, links)| !links.is_empty()).collect()
}

/// Looks at the admin API only: enough for those who only watch, and it needs no access to the hosts.
pub async fn observe_api<C: Cluster>(spec: &ClusterFile, cluster: &C, concurrency: usize) -> Facts {
    let looks = ids(spec).map(|id| async move {
        (id, NodeFacts { host: HostSight::NotAsked, api: ask(cluster, &spec.cluster.name, id).await })
    });
    let nodes = stream::iter(looks).buffer_unordered(concurrency.max(1)).collect().await;
    Facts { nodes, ..Facts::default() }
}

fn ids(spec: &ClusterFile) -> impl Iterator<Item = NodeId> + '_ {
    spec.cluster.nodes.iter().map(|node| node.id)
}

/// One that answers for another node, or another cluster, says nothing of this one.
async fn ask<C: Cluster>(cluster: &C, name: &str, id: NodeId) -> Answer {
    match cluster.status(id).await {
        Ok(status) if status.node_id != id || status.cluster_name != name => {
            let stranger = Stranger { cluster: status.cluster_name, node: status.node_id };
            Answer::Silent { reason: stranger.describe(), stranger: Some(stranger) }
        }
        Ok(status) => Answer::Status(Box::new(status)),
        Err(error) => Answer::silent(error.to_string()),
    }
}

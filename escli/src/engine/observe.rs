//! Collects [`Facts`] from hosts and admin API: all nodes at once, each with its own time limit. Decides nothing.

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::ports::{Cluster, Hosts, PortError};
use crate::plan::claims::Stranger;
use crate::plan::facts::{ApiAnswer, Facts, HostInspection, NodeFacts, PeerReachability};

/// Inspects all hosts and asks the admin API of all nodes; with `with_peers` also tries the connections between the
/// hosts.
pub async fn observe<H: Hosts, C: Cluster>(
    spec: &ClusterFile,
    hosts: &H,
    cluster: &C,
    concurrency: usize,
    with_peers: bool,
) -> Facts {
    let inspections = ids(spec).map(|id| async move {
        let (host, api) = join(hosts.inspect(id), ask(cluster, &spec.cluster.name, id)).await;
        let host = match host {
            Ok(facts) => HostInspection::Seen(Box::new(facts)),
            Err(PortError { message: reason, details, hints, .. }) => {
                HostInspection::Unreachable { reason, details, hints }
            }
        };
        (id, NodeFacts { host, api })
    });
    let nodes = stream::iter(inspections).buffer_unordered(concurrency.max(1)).collect().await;
    let mut facts = Facts { nodes, ..Facts::default() };
    if with_peers {
        facts.peer_reachability = peer_reachability(&facts, hosts, concurrency).await;
        let routes = ids(spec).map(|id| async move { (id, cluster.route(id).await) });
        facts.admin_routes = stream::iter(routes).buffer_unordered(concurrency.max(1)).collect().await;
    }
    facts
}

/// Lets every host that answered try to reach the others. A host that cannot do so is left out, and its own check says
/// why.
async fn peer_reachability<H: Hosts>(facts: &Facts, hosts: &H, concurrency: usize) -> PeerReachability {
    let seen = facts.nodes.iter().filter(|(_, node)| node.host().is_some());
    let tries =
        seen.map(|(id, _)| async move { hosts.peer_reachability(*id).await.ok().map(|links| (*id, links)) });
    let links: Vec<_> = stream::iter(tries).buffer_unordered(concurrency.max(1)).collect().await;
    links.into_iter().flatten().filter(|(_, links)| !links.is_empty()).collect()
}

/// Asks the admin API alone, which is enough for commands that change nothing, and needs no access to the hosts.
pub async fn observe_api<C: Cluster>(spec: &ClusterFile, cluster: &C, concurrency: usize) -> Facts {
    let inspections = ids(spec).map(|id| async move {
        (id, NodeFacts { host: HostInspection::NotAsked, api: ask(cluster, &spec.cluster.name, id).await })
    });
    let nodes = stream::iter(inspections).buffer_unordered(concurrency.max(1)).collect().await;
    Facts { nodes, ..Facts::default() }
}

fn ids(spec: &ClusterFile) -> impl Iterator<Item = NodeId> + '_ {
    spec.cluster.nodes.iter().map(|node| node.id)
}

/// Asks one node. An answer of another node, or of another cluster, does not count as one of this node.
async fn ask<C: Cluster>(cluster: &C, name: &str, id: NodeId) -> ApiAnswer {
    match cluster.status(id).await {
        Ok(status) if status.node_id != id || status.cluster_name != name => {
            let stranger = Stranger { cluster: status.cluster_name, node: status.node_id };
            ApiAnswer::Silent { reason: stranger.describe(), stranger: Some(stranger) }
        }
        Ok(status) => ApiAnswer::Status(Box::new(status)),
        Err(error) => ApiAnswer::silent(error.to_string()),
    }
}

//! PURE: the releases that the nodes run, and the progress of the last upgrade.

use serde::Serialize;
use shared::ids::NodeId;

use crate::output::SCHEMA_VERSION;
use crate::plan::facts::{ApiAnswer, Facts};

/// The document of `upgrade status`.
#[derive(Debug, Serialize)]
pub struct Rollout {
    schema_version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The last upgrade from this machine; `null` if there was none.
    pub upgrade: Option<Last>,
    /// The releases of every node.
    pub nodes: Vec<Row>,
}

/// The last upgrade.
#[derive(Debug, Serialize)]
pub struct Last {
    /// Id of the operation.
    pub operation_id: String,
    /// The release to upgrade to.
    pub release: Option<String>,
    /// Whether it is finished, in words.
    pub state: String,
}

/// The releases of one node. `null` means that the value is not known.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The node's id.
    pub id: NodeId,
    /// The version that it reports.
    pub version: Option<String>,
    /// The release that its process runs.
    pub release: Option<String>,
    /// The release that its next start will run.
    pub next: Option<String>,
    /// Why the values are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Returns the releases of all nodes, from the facts about hosts and nodes.
pub fn rollout(cluster: &str, facts: &Facts, upgrade: Option<Last>) -> Rollout {
    let nodes = facts.nodes.iter().map(|(id, node)| Row {
        id: *id,
        version: node.status().map(|status| status.version.clone()),
        release: node.host().and_then(|host| host.runs_release()).map(str::to_owned),
        next: node.host().and_then(|host| host.current.clone()),
        reason: match &node.api {
            ApiAnswer::Silent { reason, .. } => Some(reason.clone()),
            ApiAnswer::Status(_) => None,
        },
    });
    Rollout { schema_version: SCHEMA_VERSION, cluster: cluster.to_owned(), upgrade, nodes: nodes.collect() }
}

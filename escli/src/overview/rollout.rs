//! PURE: what every node runs, and how far the last upgrade came.

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
    /// The last upgrade, if there was one from here.
    pub upgrade: Option<Last>,
    /// What every node runs.
    pub nodes: Vec<Row>,
}

/// The last upgrade.
#[derive(Debug, Serialize)]
pub struct Last {
    /// Its id.
    pub operation_id: String,
    /// The release that it was to.
    pub release: Option<String>,
    /// How it stands.
    pub state: String,
}

/// What one node runs.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The node.
    pub id: NodeId,
    /// By its own account.
    pub version: Option<String>,
    /// What its process runs.
    pub release: Option<String>,
    /// What its next start runs.
    pub next: Option<String>,
    /// Why it cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// By what hosts and nodes say.
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

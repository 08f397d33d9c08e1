//! `escli diff`: compares the configuration that is wanted with the files on hosts and with what the nodes run.

use futures_util::future::join_all;
use serde::Serialize;
use shared::ids::{ClusterId, NodeId};

use super::target::Target;
use crate::cli::diff::Args;
use crate::engine::ports::Hosts;
use crate::failure::{Exit, Failure};
use crate::output::SCHEMA_VERSION;
use crate::plan::diff::{NodeDiff, diff};
use crate::plan::facts::Facts;
use crate::plan::identity::{self, Intent};
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view;

/// The document of `diff`.
#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    cluster: String,
    /// The id that is remembered for the cluster.yaml, or else the one that its nodes report.
    cluster_id: Option<ClusterId>,
    differences: usize,
    nodes: Vec<NodeDiff>,
}

/// Compares the nodes that are named, or all nodes.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let ids = targets(&target.spec, &args.nodes)?;
    let facts = target.inspect(settings, false).await;
    let nodes = compare(&target, &ids, &facts).await;
    let differences = nodes.iter().filter(|node| node.is_any()).count();
    let cluster = target.name().to_owned();
    let cluster_id = facts.remembered.first().copied().or_else(|| identity::majority_cluster(&facts, None));
    let document = Document { schema_version: SCHEMA_VERSION, cluster, cluster_id, differences, nodes };
    view::show(settings, &document, |paint| {
        view::diff::text(&document.cluster, document.cluster_id, &document.nodes, paint)
    });
    Ok(if differences > 0 { Exit::Differences } else { Exit::Ok })
}

/// Returns the differences of each node.
pub(super) async fn compare(target: &Target, ids: &[NodeId], facts: &Facts) -> Vec<NodeDiff> {
    let texts = join_all(ids.iter().map(|id| target.hosts.read_config(*id))).await;
    let strangers = identity::mismatches(&target.spec, facts, &Intent::default());
    let compare = |(id, text): (&_, Result<Option<String>, _>)| {
        let text = text.map_err(|error: crate::engine::ports::PortError| error.to_string());
        let text = text.as_ref().map(|text| text.as_deref()).map_err(String::as_str);
        let stranger = strangers.iter().find(|mismatch| mismatch.node == *id);
        let identity = stranger.map(|mismatch| mismatch.text.clone());
        Some(NodeDiff { identity, ..diff(*id, target.wanted(), facts.nodes.get(id)?, text) })
    };
    ids.iter().zip(texts).filter_map(compare).collect()
}

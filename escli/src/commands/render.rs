//! `escli render`: prints the configuration file of each node.

use serde::Serialize;
use shared::ids::NodeId;

use super::probe;
use crate::cli::render::Args;
use crate::cluster_file;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::output::SCHEMA_VERSION;
use crate::settings::Settings;
use crate::view;

/// The document of `render`.
#[derive(Debug, Serialize)]
struct Rendered {
    schema_version: u32,
    cluster: String,
    nodes: Vec<NodeFile>,
}

#[derive(Debug, Serialize)]
struct NodeFile {
    id: NodeId,
    /// The hash that the node reports as `ClusterStatus::config_hash`.
    config_hash: String,
    text: String,
}

/// Prints the nodes' files, or writes them to a directory.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if the directory cannot be written to.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let loaded = cluster_file::load(settings)?;
    let wanted = probe::wanted_files(&loaded);
    let cluster = &loaded.spec.cluster;
    let ids = cluster.nodes.iter().map(|node| node.id).filter(|id| args.node.is_none_or(|only| only == *id));
    let files = ids.filter_map(|id| {
        let (text, hash) = (wanted.text(id)?, wanted.hash(id)?);
        Some(NodeFile { id, config_hash: hash.to_owned(), text: text.to_owned() })
    });
    let nodes: Vec<NodeFile> = files.collect();
    if let (Some(id), true) = (args.node, nodes.is_empty()) {
        return Err(Failure::usage(format!("there is no node {id} in {}", loaded.source.name())));
    }
    let rendered = Rendered { schema_version: SCHEMA_VERSION, cluster: cluster.name.clone(), nodes };
    if let Some(folder) = &args.out {
        for file in &rendered.nodes {
            let path = settings.env.path(folder).join(format!("n{}", file.id)).join("cluster.yaml");
            files::write_atomically(&path, &file.text)
                .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
            view::remark(settings, &format!("wrote {}", path.display()));
        }
    }
    if args.out.is_none() || settings.output.is_machine() {
        view::show(settings, &rendered, |_| text(&rendered));
    }
    Ok(Exit::Ok)
}

/// Returns one file as it is; several as one stream of YAML documents.
fn text(rendered: &Rendered) -> String {
    if let [only] = rendered.nodes.as_slice() {
        return only.text.clone();
    }
    rendered.nodes.iter().map(|file| format!("---\n# n{}\n{}", file.id, file.text)).collect()
}

//! A cluster inspected through its admin API alone: what every command needs that changes nothing.

use std::path::Path;

use shared::ids::NodeId;
use shared::spec::ClusterFile;

use super::target::file_of;
use crate::admin_client::AdminClient;
use crate::admin_client::connect::admin;
use crate::cluster_file::known_cluster::KnownCluster;
use crate::cluster_file::{self, Loaded, Source};
use crate::engine::observe::observe_api;
use crate::failure::Failure;
use crate::hosts::local::Layout;
use crate::overview::{Overview, overview};
use crate::plan::desired::{self, DesiredFiles};
use crate::plan::facts::Facts;
use crate::settings::Settings;

/// A cluster that is looked at.
#[derive(Debug)]
pub struct Probe {
    /// What its cluster.yaml says.
    pub spec: ClusterFile,
    /// The file of every node.
    pub wanted: DesiredFiles,
    cluster: AdminClient,
    known: KnownCluster,
    concurrency: usize,
}

impl Probe {
    /// The cluster of the cluster.yaml that `settings` find; it may come from standard input.
    ///
    /// # Errors
    /// Usage, when there is none or it is invalid.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let loaded = cluster_file::load(settings)?;
        let wanted = wanted_files(&loaded);
        let cluster = admin(settings, &loaded.spec)?;
        let file = file_of(&loaded.source, loaded.spec.is_local());
        let known = KnownCluster::of(&settings.env.state_dir, &loaded.spec.cluster.name, file.as_deref());
        Ok(Self { spec: loaded.spec, wanted, cluster, known, concurrency: settings.concurrency })
    }

    /// Looks at every node at once.
    pub async fn inspect(&self) -> Overview {
        let facts = observe_api(&self.spec, &self.cluster, self.concurrency).await;
        let facts = Facts { remembered: self.known.recall(), ..facts };
        overview(&self.spec, &facts, &self.wanted)
    }

    /// The node is in cluster.yaml.
    ///
    /// # Errors
    /// Usage, when it is not.
    pub fn require(&self, id: NodeId) -> Result<NodeId, Failure> {
        if self.spec.node(id).is_some() {
            return Ok(id);
        }
        let ids = self.spec.cluster.nodes.iter().map(|node| node.id.to_string());
        let ids = ids.collect::<Vec<_>>().join(", ");
        Err(Failure::usage(format!("there is no node {id} in cluster.yaml; its nodes are {ids}")))
    }
}

/// The file of every node: of a local cluster with the data beside it, of any other as it is written.
pub fn wanted_files(loaded: &Loaded) -> DesiredFiles {
    let spec = &loaded.spec;
    match local_layout(&loaded.source).filter(|_| spec.is_local()) {
        Some(layout) => desired::local(spec, |id| layout.data(id)),
        None => desired::local(spec, |_| spec.cluster.storage.data_dir.clone()),
    }
}

/// Where the nodes would be if the cluster were one of this machine: beside its file.
pub fn local_layout(source: &Source) -> Option<Layout> {
    let Source::File(path) = source else { return None };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(Layout::new(folder.unwrap_or(Path::new("."))))
}

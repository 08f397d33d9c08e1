//! Inspects a cluster through its admin API alone, for commands that change nothing.

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

/// A cluster that can be inspected.
#[derive(Debug)]
pub struct Probe {
    /// The parsed cluster.yaml.
    pub spec: ClusterFile,
    /// The configuration file that each node should have.
    pub wanted: DesiredFiles,
    cluster: AdminClient,
    known: KnownCluster,
    concurrency: usize,
}

impl Probe {
    /// Opens the cluster whose cluster.yaml `settings` find; it may come from standard input.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::failure::Exit::Usage) if there is none, or it is invalid.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let loaded = cluster_file::load(settings)?;
        let wanted = wanted_files(&loaded);
        let cluster = admin(settings, &loaded.spec)?;
        let file = file_of(&loaded.source, loaded.spec.is_local());
        let known = KnownCluster::of(&settings.env.state_dir, &loaded.spec.cluster.name, file.as_deref());
        Ok(Self { spec: loaded.spec, wanted, cluster, known, concurrency: settings.concurrency })
    }

    /// Asks every node for its status, all at once, and then the leader for the consumer groups.
    pub async fn inspect(&self) -> Overview {
        let facts = observe_api(&self.spec, &self.cluster, self.concurrency).await;
        let facts = Facts { remembered: self.known.recall(), ..facts };
        let seen = overview(&self.spec, &facts, &self.wanted);
        let groups = match seen.answering_leader() {
            Some(leader) => self.cluster.groups(leader).await.ok(),
            None => None,
        };
        Overview { groups, ..seen }
    }

    /// Checks that cluster.yaml has a node with this id, and returns the id.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::failure::Exit::Usage) if it has none.
    pub fn require(&self, id: NodeId) -> Result<NodeId, Failure> {
        if self.spec.node(id).is_some() {
            return Ok(id);
        }
        let ids = self.spec.cluster.nodes.iter().map(|node| node.id.to_string());
        let ids = ids.collect::<Vec<_>>().join(", ");
        Err(Failure::usage(format!("there is no node {id} in cluster.yaml; its nodes are {ids}")))
    }
}

/// Returns the configuration file that each node should have. In a local cluster the data directories are next to
/// cluster.yaml.
pub fn wanted_files(loaded: &Loaded) -> DesiredFiles {
    let spec = &loaded.spec;
    match local_layout(&loaded.source).filter(|_| spec.is_local()) {
        Some(layout) => desired::local(spec, |id| layout.data(id)),
        None => desired::local(spec, |_| spec.cluster.storage.data_dir.clone()),
    }
}

/// Returns the directories of a local cluster whose cluster.yaml is `source`; `None` for standard input.
pub fn local_layout(source: &Source) -> Option<Layout> {
    let Source::File(path) = source else { return None };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(Layout::new(folder.unwrap_or(Path::new("."))))
}

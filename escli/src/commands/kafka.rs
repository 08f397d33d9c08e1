//! The cluster of a cluster.yaml through its client ports: what the commands about topics, events and groups share.

use std::time::Duration;

use super::again::CommandLine;
use super::confirm::confirm;
use super::target::file_of;
use crate::admin_client::connect::admin;
use crate::cluster_file::known_cluster::KnownCluster;
use crate::cluster_file::{self, Loaded, Source};
use crate::engine::observe::observe_api;
use crate::failure::Failure;
use crate::kafka::KafkaClient;
use crate::kafka::client::Limits;
use crate::kafka::dial::Dialer;
use crate::plan::Question;
use crate::plan::facts::Facts;
use crate::plan::identity::{self, Intent};
use crate::settings::Settings;

/// How long the cluster may take to have a leader again: so many elections, and at least so long.
const CALL_LIMIT: (u32, Duration) = (8, Duration::from_secs(15));

/// A cluster that is reached through its client ports.
#[derive(Debug)]
pub struct Kafka {
    /// The cluster's name.
    pub cluster: String,
    /// The connections to it.
    pub client: KafkaClient,
    loaded: Loaded,
}

impl Kafka {
    /// The cluster of the cluster.yaml that `settings` find. Nothing is connected yet.
    ///
    /// # Errors
    /// Usage, when there is none or it is invalid.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let loaded = cluster_file::load(settings)?;
        let timing = &loaded.spec.cluster.raft;
        let call = timing.elections(CALL_LIMIT.0, CALL_LIMIT.1).min(settings.timeout);
        let limits = Limits { answer: settings.host_timeout, call };
        let client = KafkaClient::new(Dialer::new(&loaded.spec, &settings.passphrases), limits);
        Ok(Self { cluster: loaded.spec.cluster.name.clone(), client, loaded })
    }

    /// The same, for changes: refused when the nodes say that they belong to another cluster.
    ///
    /// # Errors
    /// Usage; refused.
    pub async fn open_own(settings: &Settings) -> Result<Self, Failure> {
        let this = Self::open(settings)?;
        let (spec, source) = (&this.loaded.spec, &this.loaded.source);
        let facts = observe_api(spec, &admin(settings, spec)?, settings.concurrency).await;
        let file = file_of(source, spec.is_local());
        let remembered = KnownCluster::of(&settings.env.state_dir, &this.cluster, file.as_deref()).recall();
        identity::refuse(spec, &Facts { remembered, ..facts }, &Intent::default())?;
        Ok(this)
    }

    /// Returns whether cluster.yaml was read from standard input.
    pub fn has_used_stdin(&self) -> bool {
        self.loaded.source == Source::Stdin
    }
}

/// Asks whether to do `text`, unless nothing is going to be done.
///
/// # Errors
/// Refused.
pub fn agree(settings: &Settings, text: String, retry: &CommandLine) -> Result<(), Failure> {
    if settings.dry_run {
        return Ok(());
    }
    confirm(settings, &Question::Confirm { text }, None, retry)
}

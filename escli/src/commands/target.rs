//! The cluster a command is about: its file, its hosts and its admin API.

use std::path::{Path, PathBuf};

use shared::spec::ClusterFile;

use crate::client::AdminClient;
use crate::exit::Failure;
use crate::local::{Layout, LocalHosts};
use crate::settings::{Loaded, Settings, Source};
use crate::starter;

/// A cluster, ready to be looked at and worked on.
#[derive(Debug)]
pub struct Target {
    /// What its cluster.yaml says.
    pub spec: ClusterFile,
    /// The text of that file.
    pub text: String,
    /// Its hosts.
    pub hosts: LocalHosts,
    /// Its admin API.
    pub cluster: AdminClient,
}

impl Target {
    /// The cluster of the cluster.yaml that `settings` find.
    ///
    /// # Errors
    /// Usage, when there is none, it makes no sense, or the hosts cannot be worked on.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let Loaded { spec, text, source } = settings.load()?;
        let Source::File(path) = source else {
            return Err(Failure::usage(
                "a local cluster lives beside its cluster.yaml, which cannot be standard input",
            )
            .hint("name the file:  escli -c path/to/cluster.yaml ..."));
        };
        Self::new(settings, spec, text, path.parent().unwrap_or(Path::new("")))
    }

    /// A cluster of processes of this machine, under `dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, spec: ClusterFile, text: String, dir: &Path) -> Result<Self, Failure> {
        let cluster = AdminClient::new(&spec, settings.host_timeout)?;
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let hosts = LocalHosts::new(Layout::new(dir), &spec, text.clone());
        Ok(Self { spec, text, hosts, cluster })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.spec.cluster.name
    }

    /// `deploy.binary`.
    pub fn named_binary(&self) -> Option<&Path> {
        self.spec.deploy.as_ref()?.binary.as_deref()
    }

    /// Its cluster.yaml, when it is exactly what escli wrote: then it is not the operator's own.
    pub fn own_file(&self) -> Option<PathBuf> {
        starter::is_own(&self.spec, &self.text).then(|| self.hosts.layout().cluster_file())
    }
}

//! The cluster a command is about: its file, its hosts and its admin API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::spec::{ClusterFile, Transport};

use super::{admin, binary};
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::hosts::Machines;
use crate::local::{Layout, LocalHosts};
use crate::plan::provision::Remote;
use crate::plan::wanted::Wanted;
use crate::remote::{RemoteHosts, destinations};
use crate::settings::{Loaded, Settings, Source};
use crate::{starter, view};

/// A cluster, ready to be looked at and worked on.
pub struct Target {
    /// What its cluster.yaml says.
    pub spec: ClusterFile,
    /// The text of that file.
    pub text: String,
    /// Where that file is; `None` for standard input.
    pub file: Option<PathBuf>,
    /// Its hosts.
    pub hosts: Machines,
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
        if !is_local(&spec) {
            return Self::remote(settings, spec, text, source);
        }
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
        let layout = Layout::new(dir);
        let file = Some(layout.cluster_file());
        let hosts = Machines::Local(LocalHosts::new(layout, &spec, text.clone()));
        Ok(Self { spec, text, file, hosts, cluster })
    }

    /// A cluster of hosts that are reached over SSH.
    fn remote(settings: &Settings, spec: ClusterFile, text: String, source: Source) -> Result<Self, Failure> {
        let (ways, passphrases) = (destinations(&spec), Arc::new(view::passphrases(settings)));
        let cluster = admin::behind(settings, &spec, &ways, &passphrases)?;
        let hosts = RemoteHosts::new(&spec, ways, passphrases, settings.host_timeout)?;
        let file = match source {
            Source::File(path) => Some(path.canonicalize().unwrap_or(path)),
            Source::Stdin => None,
        };
        Ok(Self { spec, text, file, hosts: Machines::Remote(Box::new(hosts)), cluster })
    }

    /// What each node should be given.
    pub fn wanted(&self) -> &Wanted {
        self.hosts.wanted()
    }

    /// What hosts of their own are to be given; `binary` is the operator's program, which they may have `named`. Looks
    /// compare with it from now on.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub fn provide(&mut self, binary: Option<&Path>, named: bool) -> Result<Option<Remote>, Failure> {
        let Machines::Remote(hosts) = &mut self.hosts else { return Ok(None) };
        let program = binary.map(binary::program).transpose()?;
        hosts.expect(program.clone());
        Ok(Some(Remote { layout: hosts.layout().clone(), program, named }))
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
        self.file.clone().filter(|_| starter::is_own(&self.spec, &self.text))
    }
}

/// All nodes are processes of the operator's machine.
pub fn is_local(spec: &ClusterFile) -> bool {
    spec.deploy.as_ref().is_some_and(|deploy| deploy.transport == Transport::Local)
}

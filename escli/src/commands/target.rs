//! The cluster that a command is about: its file, its hosts and its admin API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::spec::{self, ClusterFile, Node};

use super::binary;
use crate::admin_client::{AdminClient, connect};
use crate::cluster_file::edit::{self, EditError};
use crate::cluster_file::known_cluster::KnownCluster;
use crate::cluster_file::pending_edit::PendingEdit;
use crate::cluster_file::{self, Loaded, Source, template};
use crate::engine::observe::observe;
use crate::failure::{Exit, Failure};
use crate::hosts::ClusterHosts;
use crate::hosts::local::{Layout, LocalHosts, free_base_port};
use crate::hosts::remote::{RemoteHosts, destinations};
use crate::plan::desired::DesiredFiles;
use crate::plan::facts::{Facts, NodeFacts};
use crate::plan::layout::HostLayout;
use crate::plan::program::{Program, is_playground};
use crate::plan::provision::Remote;
use crate::settings::Settings;

/// A cluster, ready to be inspected and changed.
pub struct Target {
    /// Its cluster.yaml, including the nodes that join or leave.
    pub spec: ClusterFile,
    /// Its cluster.yaml as a file: where it is, what it says and what it is to say.
    pub edit: PendingEdit,
    /// Where that file is; `None` for standard input.
    pub file: Option<PathBuf>,
    /// Its hosts.
    pub hosts: ClusterHosts,
    /// Its admin API.
    pub cluster: AdminClient,
}

/// The nodes that join a cluster, and those that leave it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Joins, if cluster.yaml does not name it yet.
    pub joining: Option<Node>,
    /// Leave, where cluster.yaml still names them.
    pub leaving: Vec<Node>,
}

impl Target {
    /// Opens the cluster whose cluster.yaml `settings` find.
    ///
    /// # Errors
    /// [`Exit::Usage`] if there is none, it is invalid, or a host in it cannot be reached by its name.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        Self::changing(settings, &Change::default())
    }

    /// Opens the same cluster with the members that it is to have.
    ///
    /// # Errors
    /// Those of [`Target::open`]; and when cluster.yaml cannot be edited to say so.
    pub fn changing(settings: &Settings, change: &Change) -> Result<Self, Failure> {
        let loaded = cluster_file::load(settings)?;
        let versions = Versions::of(&loaded, change)?;
        if !loaded.spec.is_local() {
            return Self::remote(settings, versions, &loaded.source);
        }
        let Source::File(path) = loaded.source else {
            return Err(Failure::usage(
                "a local cluster is kept beside its cluster.yaml, which cannot be standard input",
            )
            .hint("name the file:  escli -c path/to/cluster.yaml ..."));
        };
        let target = Self::local(settings, versions, path.parent().unwrap_or(Path::new("")))?;
        // Whatever the file is called, it is the one that was read.
        Ok(Self { file: Some(absolute(&path)), ..target })
    }

    /// Returns a new local cluster under `dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, spec: ClusterFile, text: String, dir: &Path) -> Result<Self, Failure> {
        Self::local(settings, Versions { goal: spec.clone(), spec, before: None, text }, dir)
    }

    /// Returns the local cluster that exists under `dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn existing(
        settings: &Settings,
        spec: ClusterFile,
        text: String,
        dir: &Path,
    ) -> Result<Self, Failure> {
        Self::local(settings, Versions { goal: spec.clone(), spec, before: Some(text.clone()), text }, dir)
    }

    fn local(settings: &Settings, versions: Versions, dir: &Path) -> Result<Self, Failure> {
        let Versions { spec, goal, before, text } = versions;
        let layout = Layout::new(if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        Ok(Self {
            cluster: AdminClient::new(&spec, settings.host_timeout)?,
            file: Some(layout.cluster_file()),
            hosts: ClusterHosts::Local(LocalHosts::new(layout, &spec, &goal)),
            edit: PendingEdit { before, after: text, is_removable: true },
            spec,
        })
    }

    /// Returns a cluster of hosts that are reached over SSH.
    fn remote(settings: &Settings, versions: Versions, source: &Source) -> Result<Self, Failure> {
        one_node_each(&versions, source)?;
        let Versions { spec, goal, before, text } = versions;
        let layout = HostLayout::of(&spec).map_err(Failure::usage)?;
        let (destinations, passphrases) = (destinations(&spec), &settings.passphrases);
        let cluster = connect::through(settings, &spec, &destinations, passphrases)?;
        let limit = settings.host_timeout;
        let hosts = RemoteHosts::new(layout, &spec, &goal, destinations, Arc::clone(passphrases), limit);
        Ok(Self {
            spec,
            edit: PendingEdit { before, after: text, is_removable: false },
            file: file_of(source, false),
            hosts: ClusterHosts::Remote(Box::new(hosts)),
            cluster,
        })
    }

    /// Returns cluster.yaml, if it does not yet say what the operation is about.
    pub fn file_to_write(&self) -> Option<PathBuf> {
        let changes = self.edit.before.as_ref().is_some_and(|before| *before != self.edit.after);
        self.file.clone().filter(|_| changes)
    }

    /// Returns what each node should be given.
    pub fn wanted(&self) -> &DesiredFiles {
        self.hosts.wanted()
    }

    /// Returns what remote hosts are to be given; `binary` is the operator's program, and `named` says that the
    /// operator chose it. Inspections compare with it from now on.
    ///
    /// # Errors
    /// When the program cannot be read; when it was built by `make up` and was not named.
    pub fn provide(&mut self, binary: Option<&Path>, named: bool) -> Result<Option<Remote>, Failure> {
        let ClusterHosts::Remote(hosts) = &mut self.hosts else { return Ok(None) };
        let program = binary.map(binary::program).transpose()?;
        if let Some(program) = program.as_ref().filter(|_| !named) {
            refuse_playground(program)?;
        }
        hosts.expect(program.clone());
        Ok(Some(Remote { layout: hosts.layout().clone(), program, named }))
    }

    /// Inspects hosts and admin API, and adds which cluster this was before; `with_peers` also tries the connections
    /// between the hosts.
    pub async fn inspect(&self, settings: &Settings, with_peers: bool) -> Facts {
        let facts = observe(&self.spec, &self.hosts, &self.cluster, settings.concurrency, with_peers).await;
        let has_taken = facts.nodes.values().filter_map(NodeFacts::host).any(|host| !host.taken.is_empty());
        let free_base_port = match &self.hosts {
            ClusterHosts::Local(_) if has_taken => free_base_port(self.spec.cluster.nodes.len()),
            _ => None,
        };
        Facts { remembered: self.known_cluster(settings).recall(), free_base_port, ..facts }
    }

    /// Returns the memory of which cluster its cluster.yaml is about.
    pub fn known_cluster(&self, settings: &Settings) -> KnownCluster {
        KnownCluster::of(&settings.env.state_dir, self.name(), self.file.as_deref())
    }

    /// Returns the cluster's name.
    pub fn name(&self) -> &str {
        &self.spec.cluster.name
    }

    /// Returns `deploy.binary`.
    pub fn named_binary(&self) -> Option<&Path> {
        self.spec.deploy.as_ref()?.binary.as_deref()
    }

    /// Returns its cluster.yaml if it is exactly what escli wrote: then it is not the operator's own.
    pub fn own_file(&self) -> Option<PathBuf> {
        self.file.clone().filter(|_| template::is_own(&self.spec, &self.edit.after))
    }
}

/// Remote hosts are given a release build, unless the operator named another one.
fn refuse_playground(program: &Program) -> Result<(), Failure> {
    if !program.info.as_ref().is_some_and(is_playground) {
        return Ok(());
    }
    let path = program.path.display();
    Err(Failure::new(Exit::Refused, format!("{path} is a quick build for trying out; no changes were made"))
        .hint("build a release for hosts:  make release, then use target/release/escli")
        .hint(format!("to use it anyway:           --binary {path}")))
}

/// A cluster.yaml as it is and as it is to be.
struct Versions {
    /// With every node concerned: those that stay, join or leave.
    spec: ClusterFile,
    /// With the nodes that there will be.
    goal: ClusterFile,
    /// The text as it was read; `None` when there is no file yet.
    before: Option<String>,
    /// The text as it is to be.
    text: String,
}

impl Versions {
    fn of(loaded: &Loaded, change: &Change) -> Result<Self, Failure> {
        let refused = |error: &EditError, what: String| {
            let name = loaded.source.name();
            let failure = Failure::new(Exit::Refused, format!("{name}: {error}; no changes were made"));
            match error {
                EditError::Unknown => failure.hint(format!("{what} in that file, then try again")),
                EditError::Invalid(_) => failure,
            }
        };
        let mut text = loaded.text.clone();
        if let Some(node) = change.joining.as_ref().filter(|node| loaded.spec.node(node.id).is_none()) {
            text = edit::with_node(&text, node)
                .map_err(|error| refused(&error, format!("write node {} below cluster.nodes", node.id)))?;
        }
        for node in change.leaving.iter().filter(|node| loaded.spec.node(node.id).is_some()) {
            text = edit::without_node(&text, node.id)
                .map_err(|error| refused(&error, "put every node on lines of its own".to_owned()))?;
        }
        let goal = cluster_file::parse(&loaded.source, &text)?;
        let mut spec = goal.clone();
        spec.cluster.nodes.extend(change.leaving.clone());
        Ok(Self { spec, goal, before: Some(loaded.text.clone()), text })
    }
}

/// Returns one name for the file from everywhere: links on the way to it are resolved, the file itself may be one.
pub fn absolute(file: &Path) -> PathBuf {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Layout::new(dir).dir().join(file.file_name().unwrap_or_default())
}

/// No two nodes of those that stay, join or leave share a host.
fn one_node_each(versions: &Versions, source: &Source) -> Result<(), Failure> {
    let name = source.name();
    let problems = spec::shared_hosts(&versions.spec, &versions.text);
    let lines = problems.iter().map(|at| match at.line {
        0 => at.message.clone(),
        line => format!("{name}:{line}:{}: {}", at.column, at.message),
    });
    let details: Vec<_> = lines.collect();
    if details.is_empty() {
        return Ok(());
    }
    Err(Failure { details, ..Failure::usage(format!("{name} is invalid; no changes were made")) })
}

/// Returns the one name of a cluster.yaml, however it was called; `None` for standard input. Everything of a local
/// cluster is in one directory, its nodes included.
pub fn file_of(source: &Source, is_local: bool) -> Option<PathBuf> {
    match source {
        Source::File(path) if is_local => {
            Some(Layout::new(path.parent().unwrap_or(Path::new(""))).cluster_file())
        }
        Source::File(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
        Source::Stdin => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::version::{BuildInfo, Range};

    use super::*;

    #[test]
    fn hosts_are_given_no_playground_unless_it_is_meant() {
        let one = Range { min: 1, max: 1 };
        let built = |how: &str| {
            let info = BuildInfo { version: "1.0.0".into(), build: how.into(), protocol: one, format: one };
            Program { path: "/up/esnode".into(), info: Some(info), ..Program::default() }
        };
        let refused = refuse_playground(&built("0123456789 playground")).unwrap_err();
        assert_eq!(refused.kind, Exit::Refused);
        assert!(refused.hints.iter().any(|hint| hint.ends_with("--binary /up/esnode")), "{refused:?}");
        for meant in ["0123456789 release", "unknown debug"] {
            refuse_playground(&built(meant)).unwrap();
        }
        // What is built for other machines cannot be asked.
        refuse_playground(&Program::default()).unwrap();
    }
}

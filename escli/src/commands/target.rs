//! The cluster a command is about: its file, its hosts and its admin API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::spec::{self, ClusterFile, Node, Transport};

use super::{admin, binary};
use crate::client::AdminClient;
use crate::described::Described;
use crate::edit::{self, EditError};
use crate::exit::{Exit, Failure};
use crate::hosts::Machines;
use crate::local::{Layout, LocalHosts};
use crate::memory::Memory;
use crate::observe::observe;
use crate::plan::facts::Facts;
use crate::plan::program::{Program, is_playground};
use crate::plan::provision::Remote;
use crate::plan::wanted::Wanted;
use crate::remote::{RemoteHosts, destinations};
use crate::settings::{self, Loaded, Settings, Source};
use crate::{starter, view};

/// A cluster, ready to be looked at and worked on.
pub struct Target {
    /// What its cluster.yaml says, with everybody who comes or goes.
    pub spec: ClusterFile,
    /// The text of that file, as it is to be.
    pub text: String,
    /// Where that file is; `None` for standard input.
    pub file: Option<PathBuf>,
    /// It is to say something else than it does.
    changes_file: bool,
    /// Its hosts.
    pub hosts: Machines,
    /// Its admin API.
    pub cluster: AdminClient,
}

/// Who comes to a cluster, and who goes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Comes, if cluster.yaml does not name it yet.
    pub comes: Option<Node>,
    /// They go, where cluster.yaml still names them.
    pub goes: Vec<Node>,
}

impl Target {
    /// The cluster of the cluster.yaml that `settings` find.
    ///
    /// # Errors
    /// Usage, when there is none, it makes no sense, or the hosts cannot be worked on.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        Self::changing(settings, &Change::default())
    }

    /// The same, with the members that it is to have.
    ///
    /// # Errors
    /// The same; and when cluster.yaml cannot be made to say so.
    pub fn changing(settings: &Settings, change: &Change) -> Result<Self, Failure> {
        let loaded = settings.load()?;
        let shape = Shape::of(&loaded, change)?;
        if !is_local(&loaded.spec) {
            return Self::remote(settings, shape, &loaded.source);
        }
        let Source::File(path) = loaded.source else {
            return Err(Failure::usage(
                "a local cluster lives beside its cluster.yaml, which cannot be standard input",
            )
            .hint("name the file:  escli -c path/to/cluster.yaml ..."));
        };
        let target = Self::local(settings, shape, path.parent().unwrap_or(Path::new("")))?;
        // Whatever it is called, it is the one that was read.
        Ok(Self { file: Some(absolute(&path)), ..target })
    }

    /// A new cluster of processes of this machine, under `dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, spec: ClusterFile, text: String, dir: &Path) -> Result<Self, Failure> {
        let shape = Shape { goal: spec.clone(), spec, before: None, text };
        Self::local(settings, shape, dir)
    }

    /// One that is there, under `dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn found(settings: &Settings, spec: ClusterFile, text: String, dir: &Path) -> Result<Self, Failure> {
        let shape = Shape { goal: spec.clone(), spec, before: Some(text.clone()), text };
        Self::local(settings, shape, dir)
    }

    fn local(settings: &Settings, shape: Shape, dir: &Path) -> Result<Self, Failure> {
        let cluster = AdminClient::new(&shape.spec, settings.host_timeout)?;
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let layout = Layout::new(dir);
        let file = Some(layout.cluster_file());
        let hosts = LocalHosts::new(layout, &shape.spec, &shape.goal, shape.described());
        let Shape { spec, before, text, .. } = shape;
        let changes_file = before.is_some_and(|before| before != text);
        Ok(Self { spec, text, file, changes_file, hosts: Machines::Local(hosts), cluster })
    }

    /// A cluster of hosts that are reached over SSH.
    fn remote(settings: &Settings, shape: Shape, source: &Source) -> Result<Self, Failure> {
        one_node_each(&shape, source)?;
        let (ways, passphrases) = (destinations(&shape.spec), Arc::new(view::passphrases(settings)));
        let cluster = admin::behind(settings, &shape.spec, &ways, &passphrases)?;
        let limit = settings.host_timeout;
        let hosts = RemoteHosts::new(&shape.spec, &shape.goal, shape.described(), ways, passphrases, limit)?;
        let file = file_of(source, false);
        let Shape { spec, before, text, .. } = shape;
        let changes_file = before.is_some_and(|before| before != text);
        Ok(Self { spec, text, file, changes_file, hosts: Machines::Remote(Box::new(hosts)), cluster })
    }

    /// cluster.yaml, when it has yet to be written what the operation is about.
    pub fn file_to_write(&self) -> Option<PathBuf> {
        self.file.clone().filter(|_| self.changes_file)
    }

    /// What each node should be given.
    pub fn wanted(&self) -> &Wanted {
        self.hosts.wanted()
    }

    /// What hosts of their own are to be given; `binary` is the operator's program, which they may have `named`. Looks
    /// compare with it from now on.
    ///
    /// # Errors
    /// When the program cannot be read; when it is a playground's and nobody has named it.
    pub fn provide(&mut self, binary: Option<&Path>, named: bool) -> Result<Option<Remote>, Failure> {
        let Machines::Remote(hosts) = &mut self.hosts else { return Ok(None) };
        let program = binary.map(binary::program).transpose()?;
        if let Some(program) = program.as_ref().filter(|_| !named) {
            refuse_playground(program)?;
        }
        hosts.expect(program.clone());
        Ok(Some(Remote { layout: hosts.layout().clone(), program, named }))
    }

    /// Looks at hosts and admin API, and knows which cluster it was before; `with_mesh` also at the ways between the hosts.
    pub async fn look(&self, settings: &Settings, with_mesh: bool) -> Facts {
        let facts = observe(&self.spec, &self.hosts, &self.cluster, settings.concurrency, with_mesh).await;
        Facts { remembered: self.memory(settings).recall(), ..facts }
    }

    /// Which cluster its cluster.yaml is about.
    pub fn memory(&self, settings: &Settings) -> Memory {
        Memory::of(&settings.env.state_dir, self.name(), self.file.as_deref())
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

/// Hosts are given a release, unless somebody means it.
fn refuse_playground(program: &Program) -> Result<(), Failure> {
    if !program.info.as_ref().is_some_and(is_playground) {
        return Ok(());
    }
    let path = program.path.display();
    Err(Failure::new(Exit::Refused, format!("{path} is built for trying out; nothing was changed"))
        .hint("a program for hosts:  make release, then use target/release/escli")
        .hint(format!("this one all the same:  --binary {path}")))
}

/// A cluster.yaml as it is and as it is to be.
struct Shape {
    /// Everybody concerned: who stays, who comes, who goes.
    spec: ClusterFile,
    /// Who will be there.
    goal: ClusterFile,
    /// The text as it was read; `None` when there is no file yet.
    before: Option<String>,
    /// The text as it is to be.
    text: String,
}

impl Shape {
    fn of(loaded: &Loaded, change: &Change) -> Result<Self, Failure> {
        let refused = |error: &EditError, what: String| {
            let name = loaded.source.name();
            let failure = Failure::new(Exit::Refused, format!("{name}: {error}; nothing was changed"));
            match error {
                EditError::Unknown => failure.hint(format!("{what} in that file, then try again")),
                EditError::Senseless(_) => failure,
            }
        };
        let mut text = loaded.text.clone();
        if let Some(node) = change.comes.as_ref().filter(|node| loaded.spec.node(node.id).is_none()) {
            text = edit::with_node(&text, node)
                .map_err(|error| refused(&error, format!("write node {} below cluster.nodes", node.id)))?;
        }
        for node in change.goes.iter().filter(|node| loaded.spec.node(node.id).is_some()) {
            text = edit::without_node(&text, node.id)
                .map_err(|error| refused(&error, "put every node on lines of its own".to_owned()))?;
        }
        let goal = settings::parse(&loaded.source, &text)?;
        let mut spec = goal.clone();
        spec.cluster.nodes.extend(change.goes.clone());
        Ok(Self { spec, goal, before: Some(loaded.text.clone()), text })
    }

    fn described(&self) -> Described {
        Described { before: self.before.clone(), after: self.text.clone() }
    }
}

/// The same file from everywhere: links on the way to it are resolved, it itself may be one.
pub fn absolute(file: &Path) -> PathBuf {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Layout::new(dir).dir().join(file.file_name().unwrap_or_default())
}

/// No two nodes of those who are there, come or go share a host.
fn one_node_each(shape: &Shape, source: &Source) -> Result<(), Failure> {
    let name = source.name();
    let problems = spec::shared_hosts(&shape.spec, &shape.text);
    let lines = problems.iter().map(|at| match at.line {
        0 => at.message.clone(),
        line => format!("{name}:{line}:{}: {}", at.column, at.message),
    });
    let details: Vec<_> = lines.collect();
    if details.is_empty() {
        return Ok(());
    }
    Err(Failure { details, ..Failure::usage(format!("{name} makes no sense; nothing was done")) })
}

/// The one name of a cluster.yaml, however it was called; `None` for standard input. All that belongs to a local cluster
/// lies in one folder, and so do its nodes.
pub fn file_of(source: &Source, is_local: bool) -> Option<PathBuf> {
    match source {
        Source::File(path) if is_local => {
            Some(Layout::new(path.parent().unwrap_or(Path::new(""))).cluster_file())
        }
        Source::File(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
        Source::Stdin => None,
    }
}

/// All nodes are processes of the operator's machine.
pub fn is_local(spec: &ClusterFile) -> bool {
    spec.deploy.as_ref().is_some_and(|deploy| deploy.transport == Transport::Local)
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
        assert_eq!(refused.exit, Exit::Refused);
        assert!(refused.hints.iter().any(|hint| hint.ends_with("--binary /up/esnode")), "{refused:?}");
        for meant in ["0123456789 release", "unknown debug"] {
            refuse_playground(&built(meant)).unwrap();
        }
        // What is built for other machines cannot be asked.
        refuse_playground(&Program::default()).unwrap();
    }
}

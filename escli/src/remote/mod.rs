//! Nodes on hosts of their own, reached over SSH: implements [`crate::engine::ports::Hosts`].
//!
//! `scripts` is what is run there, `sight` understands what a look prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node};
use tokio::sync::OnceCell;

use crate::described::Described;
use crate::engine::lock::Holder;
use crate::engine::ports::{Hosts, PortError};
use crate::evidence::Evidence;
use crate::exit::{Exit, Failure};
use crate::identity;
use crate::last_words;
use crate::plan::Action;
use crate::plan::facts::{HostFacts, Reach};
use crate::plan::layout::HostLayout;
use crate::plan::program::Program;
use crate::plan::wanted::{self, Wanted};
use crate::sha256;
use crate::ssh::{
    self, Connection, Destination, Input, Limits, Lines, Operator, Output, Passphrases, Said, SshError,
};

mod claims;
pub mod scripts;
mod sight;

/// Copying a program over a slow line takes its time; the operation's own limit stands above it.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// Bytes of a backup that take a second more, at the worst.
const SLOW: u64 = 1 << 20;
/// Between two looks at a process that was asked to end.
const POLL: Duration = Duration::from_millis(50);
/// How long a killed process may take to go away.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long a node is given to answer another one's knock.
const KNOCK_S: u64 = 2;

/// How each node's host is reached, or why that makes no sense.
pub type Destinations = BTreeMap<NodeId, Result<Destination, SshError>>;

/// How the hosts of `spec` are reached, by its own account and that of the operator's SSH configuration.
pub fn destinations(spec: &ClusterFile) -> Destinations {
    let operator = Operator::here(ssh::ConfigFile::Default);
    let for_all = spec.deploy.as_ref().and_then(|deploy| deploy.ssh.as_ref());
    let resolve = |node: &Node| {
        Destination::resolve(&node.host, node.ssh.as_ref(), for_all, &operator, &mut |question| {
            ssh::ask(&operator.config, question)
        })
    };
    spec.cluster.nodes.iter().map(|node| (node.id, resolve(node))).collect()
}

/// The hosts of one cluster.
pub struct RemoteHosts {
    layout: HostLayout,
    links: BTreeMap<NodeId, Link>,
    wanted: Wanted,
    described: Described,
    program: Option<Program>,
    passphrases: Arc<Passphrases>,
    limits: Limits,
    /// For one command.
    limit: Duration,
}

/// A node, where its host is, and the connection once there is one.
struct Link {
    node: Node,
    destination: Result<Destination, SshError>,
    connection: OnceCell<Connection>,
}

/// A host kept from other operators; given back when dropped.
pub struct Lease {
    _lines: Lines,
}

impl RemoteHosts {
    /// The hosts of `spec`; those of `goal` are given files. Nothing is reached yet. `limit` is for reaching a host, and for one command there.
    ///
    /// # Errors
    /// Usage, when cluster.yaml names what cannot be.
    pub fn new(
        spec: &ClusterFile,
        goal: &ClusterFile,
        described: Described,
        mut destinations: Destinations,
        passphrases: Arc<Passphrases>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let layout = HostLayout::of(spec).map_err(Failure::usage)?;
        let wanted = wanted::remote(goal, &layout, |text| sha256::hex(text.as_bytes()));
        let links = spec.cluster.nodes.iter().filter_map(|node| {
            let destination = destinations.remove(&node.id)?;
            Some((node.id, Link { node: node.clone(), destination, connection: OnceCell::new() }))
        });
        let links = links.collect();
        let limits = Limits { open: limit, silence: limit.max(Limits::default().silence) };
        Ok(Self { layout, links, wanted, described, program: None, passphrases, limits, limit })
    }

    /// Lets looks compare what is installed with `program`.
    pub fn expect(&mut self, program: Option<Program>) {
        self.program = program;
    }

    /// What each node should be given.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What is where on each host.
    pub fn layout(&self) -> &HostLayout {
        &self.layout
    }

    fn link(&self, id: NodeId) -> Result<&Link, PortError> {
        self.links.get(&id).ok_or_else(|| PortError::Failed(format!("node {id} is not in cluster.yaml")))
    }

    /// The connection to a node's host, opened when it is first needed.
    async fn connection(&self, id: NodeId) -> Result<&Connection, PortError> {
        let link = self.link(id)?;
        let destination = link.destination.clone().map_err(|error| explained(&error))?;
        let open = || Connection::open(destination, Arc::clone(&self.passphrases), self.limits);
        link.connection.get_or_try_init(open).await.map_err(|error| explained(&error))
    }

    /// Runs a command line of the operator's there, in the login shell.
    pub async fn run(&self, id: NodeId, command: &str, limit: Duration) -> Result<Output, PortError> {
        self.connection(id).await?.run(command, Input::None, limit).await.map_err(|error| explained(&error))
    }

    /// Runs a script there and returns what it printed.
    async fn script(
        &self,
        id: NodeId,
        script: &str,
        input: Input,
        limit: Duration,
    ) -> Result<String, PortError> {
        let line = ssh::quote::join(["exec", "sh", "-c", script]);
        let connection = self.connection(id).await?;
        let output = connection.run(&line, input, limit).await.map_err(|error| explained(&error))?;
        if output.success() {
            return Ok(output.text());
        }
        let said = output.error_text();
        let cause = last_words::cause(said.as_bytes()).unwrap_or_else(|| format!("{:?}", output.status));
        let mut failure = Failure::failed(format!("node {id}: {cause}"));
        failure.details = said.lines().filter(|line| *line != cause).map(str::to_owned).collect();
        Err(PortError::Explained(Box::new(failure)))
    }

    async fn simple(&self, id: NodeId, script: &str) -> Result<(), PortError> {
        self.script(id, script, Input::None, self.limit).await.map(drop)
    }

    async fn place_text(&self, id: NodeId, path: &str, text: &str) -> Result<(), PortError> {
        let script = scripts::place(&self.layout, path, "644", &sha256::hex(text.as_bytes()), "");
        self.script(id, &script, Input::Bytes(text.as_bytes().to_vec()), self.limit).await.map(drop)
    }

    async fn gone(&self, id: NodeId, within: Duration) -> Result<bool, PortError> {
        let gone = async {
            while self.is_running(id).await? {
                tokio::time::sleep(POLL).await;
            }
            Ok(true)
        };
        tokio::time::timeout(within, gone).await.unwrap_or(Ok(false))
    }

    /// What the node logs, as it comes.
    pub async fn follow(&self, id: NodeId, lines: usize) -> Result<Lines, PortError> {
        let script = scripts::log_follow(&self.layout, lines);
        let line = ssh::quote::join(["exec", "sh", "-c", script.as_str()]);
        self.connection(id).await?.stream(&line).await.map_err(|error| explained(&error))
    }

    /// What the host says of itself and of the node.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn evidence(&self, id: NodeId, what: Evidence) -> Result<String, PortError> {
        self.script(id, &scripts::evidence(&self.layout, id, what), Input::None, self.limit).await
    }

    /// Has the installed program read all that the node has on its disk; its verdict as JSON.
    ///
    /// # Errors
    /// When it comes to none.
    pub async fn verify(&self, id: NodeId, limit: Duration) -> Result<String, PortError> {
        self.script(id, &scripts::verify(&self.layout), Input::None, limit).await
    }

    /// Keeps other operators from the host for as long as the lease lives.
    ///
    /// # Errors
    /// [`Exit::Locked`] with who holds it.
    pub async fn lease(&self, id: NodeId, holder: &Holder) -> Result<Lease, PortError> {
        let holder = serde_json::to_string(holder).unwrap_or_default();
        let script = scripts::lease(&self.layout, &holder);
        let line = ssh::quote::join(["exec", "sh", "-c", script.as_str()]);
        let mut lines = self.connection(id).await?.stream(&line).await.map_err(|error| explained(&error))?;
        let mut said = Vec::new();
        while let Some(next) = lines.next().await {
            match next.map_err(|error| explained(&error))? {
                Said::Line(_, line) if line == "held" => return Ok(Lease { _lines: lines }),
                Said::Line(_, line) => said.push(line),
                Said::Ended(_) => break,
            }
        }
        Err(PortError::Explained(Box::new(not_leased(id, &said))))
    }

    /// Adds a line to the host's own account of what operators did there.
    pub async fn note(&self, id: NodeId, line: &str) -> Result<(), PortError> {
        let input = Input::Bytes(format!("{line}\n").into_bytes());
        self.script(id, &scripts::note(&self.layout), input, self.limit).await.map(drop)
    }
}

fn not_leased(id: NodeId, said: &[String]) -> Failure {
    let holder = said.iter().find_map(|line| serde_json::from_str::<Holder>(line).ok());
    match holder {
        Some(Holder { who, operation, since, .. }) => Failure::new(
            Exit::Locked,
            format!("another operation is running on node {id}'s host: {operation} by {who} since {since}"),
        )
        .hint("wait until it is done, then try again; the host is free as soon as that escli has ended"),
        None => {
            let mut failure =
                Failure::failed(format!("node {id}: its host cannot be kept from other operators"));
            failure.details = said.to_vec();
            failure
        }
    }
}

fn not_ours(path: &Path) -> PortError {
    PortError::Failed(format!("{} is the operator's own", path.display()))
}

fn explained(error: &SshError) -> PortError {
    let report = error.report();
    let exit = match error {
        SshError::Unreachable(_) | SshError::Refused(_) | SshError::Lost(_) => Exit::Unreachable,
        SshError::Failed(_) => Exit::Failed,
    };
    PortError::Explained(Box::new(Failure {
        exit,
        message: report.message.clone(),
        details: report.details.clone(),
        hints: report.hints.clone(),
    }))
}

impl Hosts for RemoteHosts {
    async fn look(&self, id: NodeId) -> Result<HostFacts, PortError> {
        let release = self.program.as_ref().map(|program| program.release.as_str());
        let script = scripts::look(&self.layout, id, release);
        let said = self.script(id, &script, Input::None, self.limit).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(sight::facts(&said, &self.link(id)?.node, i64::try_from(now).unwrap_or_default()))
    }

    async fn is_running(&self, id: NodeId) -> Result<bool, PortError> {
        let pid = self.script(id, &scripts::is_running(&self.layout, id), Input::None, self.limit).await?;
        Ok(!pid.is_empty())
    }

    async fn ensure_dirs(&self, id: NodeId) -> Result<(), PortError> {
        self.simple(id, &scripts::ensure_dirs(&self.layout)).await
    }

    async fn write_config(&self, id: NodeId) -> Result<(), PortError> {
        let text = self.wanted.text(id).unwrap_or_default();
        self.place_text(id, &self.layout.config(), text).await
    }

    async fn has(&self, id: NodeId, action: &Action) -> Result<bool, PortError> {
        if matches!(action, Action::PlaceBackup { .. } | Action::Rebuild { .. }) {
            let said = self.script(id, &scripts::identity(&self.layout), Input::None, self.limit).await?;
            let (identity, sum) = said.split_once(scripts::SUM_MARK).unwrap_or((&said, ""));
            return Ok(identity::has(action, identity, sum).unwrap_or_default());
        }
        // The same look as ever, at what the action is about and nothing else.
        let release = match action {
            Action::PlaceBinary { release, .. } => Some(release.as_str()),
            _ => None,
        };
        let said = self.script(id, &scripts::glance(&self.layout, release), Input::None, self.limit).await?;
        Ok(sight::facts(&said, &self.link(id)?.node, 0).has(action))
    }

    async fn install(&self, id: NodeId, action: &Action) -> Result<(), PortError> {
        match action {
            Action::EnsureUser { .. } => self.simple(id, &scripts::ensure_user(&self.layout)).await,
            Action::RemoveLeftovers => self.simple(id, &scripts::remove_leftovers(&self.layout)).await,
            Action::PlaceBinary { source, release, sha256 } => {
                let path = self.layout.released(release);
                let script = scripts::place(&self.layout, &path, "755", sha256, scripts::RUNS);
                self.script(id, &script, Input::File(source.clone()), COPY_LIMIT).await.map(drop)
            }
            Action::SwitchRelease { release } => {
                self.simple(id, &scripts::switch(&self.layout, release)).await
            }
            Action::InstallUnit { .. } => {
                let text = self.wanted.unit(id).unwrap_or_default();
                self.place_text(id, &self.layout.unit(), text).await?;
                self.simple(id, &scripts::enable(&self.layout)).await
            }
            Action::PlaceBackup { source, bytes, .. } => {
                let limit = COPY_LIMIT + Duration::from_secs(bytes / SLOW);
                let input = Input::File(source.clone());
                self.script(id, &scripts::unpack(&self.layout), input, limit).await.map(drop)
            }
            Action::Rebuild { cluster, members, .. } => {
                let script = scripts::rebuild(&self.layout, id, *cluster, members);
                self.script(id, &script, Input::None, COPY_LIMIT).await.map(drop)
            }
            Action::DisableUnit => self.simple(id, &scripts::disable(&self.layout)).await,
            other => Err(PortError::Failed(format!("{} installs nothing", other.name()))),
        }
    }

    async fn start(&self, id: NodeId, _binary: &Path) -> Result<u32, PortError> {
        let pid = self.script(id, &scripts::start(&self.layout, id), Input::None, self.limit).await?;
        pid.trim()
            .parse()
            .map_err(|_| PortError::Failed(format!("node {id}: started, but there is no process: {pid}")))
    }

    async fn stop(&self, id: NodeId, force: bool, within: Duration) -> Result<(), PortError> {
        // With systemd the command itself waits, by the unit's own limit.
        let stop =
            self.script(id, &scripts::stop(&self.layout, id, false), Input::None, within + self.limit).await;
        if stop.is_ok() && self.gone(id, within).await? {
            return Ok(());
        }
        if !force {
            stop?;
            return Err(PortError::Failed(format!("node {id} did not end within {within:?}")));
        }
        self.simple(id, &scripts::stop(&self.layout, id, true)).await?;
        if self.gone(id, KILL_LIMIT).await? {
            return Ok(());
        }
        Err(PortError::Failed(format!("node {id} is still there after SIGKILL")))
    }

    async fn wipe(&self, id: NodeId) -> Result<(), PortError> {
        if self.is_running(id).await? {
            return Err(PortError::Failed(format!("node {id} runs; its data is not deleted")));
        }
        self.script(id, &scripts::wipe(&self.layout), Input::None, COPY_LIMIT).await.map(drop)
    }

    async fn read_config(&self, id: NodeId) -> Result<Option<String>, PortError> {
        let text = self.script(id, &scripts::read_config(&self.layout), Input::None, self.limit).await?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    async fn log_tail(&self, id: NodeId, lines: usize) -> Result<Vec<String>, PortError> {
        let text = self.script(id, &scripts::log_tail(&self.layout, lines), Input::None, self.limit).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    async fn free_base_port(&self, _count: usize) -> Option<u16> {
        None
    }

    async fn has_cluster_file(&self, path: &Path) -> bool {
        self.described.is_at(path)
    }

    async fn write_cluster_file(&self, path: &Path) -> Result<(), PortError> {
        self.described.write(path)
    }

    // The cluster.yaml of nodes on hosts of their own is the operator's.
    async fn remove_cluster_file(&self, path: &Path) -> Result<(), PortError> {
        Err(not_ours(path))
    }

    async fn mesh(&self, id: NodeId) -> Result<BTreeMap<NodeId, Reach>, PortError> {
        let others: Vec<_> =
            self.links.values().map(|link| &link.node).filter(|node| node.id != id).collect();
        let peers: Vec<_> = others.iter().map(|node| (node.host.clone(), node.cluster_port)).collect();
        let limit =
            self.limit + Duration::from_secs(KNOCK_S) * u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let said = self.script(id, &scripts::mesh(&peers, KNOCK_S), Input::None, limit).await?;
        let reach = |line: &str| match line {
            "open" => Reach::Open,
            "silent" => Reach::Silent,
            _ => Reach::Unknown,
        };
        Ok(others.iter().map(|node| node.id).zip(said.lines().map(reach)).collect())
    }
}

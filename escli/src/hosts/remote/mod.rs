//! Nodes on hosts of their own, reached over SSH: implements [`crate::engine::ports::Hosts`].
//!
//! `scripts` and `service` write the shell scripts, `shell` how each of them begins. `frame` separates a script's
//! output from what the login prints. `inventory` parses what an inspection prints, `claims` what it says of the
//! cluster that the host belongs to. `lease` keeps other operators away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::engine::crash_log;
use crate::engine::lock::Holder;
use crate::engine::ports::{Hosts, PortError, PortErrorKind};
use crate::files::sha256;
use crate::hosts::evidence::Evidence;
use crate::hosts::identity;
use crate::hosts::ssh::{
    self, Connection, Destination, Input, Limits, Operator, Output, Passphrases, SshError, SshErrorKind,
    StreamEvent,
};
use crate::plan::Action;
use crate::plan::desired::{self, DesiredFiles};
use crate::plan::facts::{HostFacts, Process, Reachability};
use crate::plan::layout::HostLayout;
use crate::plan::program::Program;

mod claims;
mod frame;
mod inventory;
mod lease;
pub mod scripts;
pub mod service;
mod shell;

pub use lease::Lease;

/// Limit of a step that copies a program, or works on a whole data directory: lines and disks may be slow. The limit of
/// the whole operation applies as well.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// The slowest copy of a backup that is waited for.
const MIN_COPY_BYTES_PER_SECOND: u64 = 1 << 20;
/// Time between two checks whether a node has stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a process may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long a host waits for another node's port to accept its connection, in seconds.
const PROBE_TIMEOUT_S: u64 = 2;

/// How many hosts `ssh -G` is asked about at once; each takes a process.
const MAX_CONCURRENT_LOOKUPS: usize = 32;

/// The way to each node's host, or why there is none.
pub type Destinations = BTreeMap<NodeId, Result<Destination, SshError>>;

/// Finds the way to each host of `spec`, from cluster.yaml and from the SSH configuration of the operator who runs
/// this.
pub fn destinations(spec: &ClusterFile) -> Destinations {
    resolve(spec, &Operator::here(ssh::ConfigFile::Default))
}

/// As [`destinations`], for any operator. Asks about many hosts at once, since a configuration may run programs and
/// query the name service.
pub fn resolve(spec: &ClusterFile, operator: &Operator) -> Destinations {
    let for_all = spec.deploy.as_ref().and_then(|deploy| deploy.ssh.as_ref());
    let resolve = |node: &Node| {
        Destination::resolve(&node.host, node.ssh.as_ref(), for_all, operator, &mut |question| {
            ssh::ask(&operator.config, question)
        })
    };
    let broken = || SshError::failed("the thread that reads the SSH configuration has ended");
    let mut found = Destinations::new();
    for nodes in spec.cluster.nodes.chunks(MAX_CONCURRENT_LOOKUPS) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes.iter().map(|node| (node.id, scope.spawn(|| resolve(node)))).collect();
            let answers =
                asked.into_iter().map(|(id, way)| (id, way.join().unwrap_or_else(|_| Err(broken()))));
            found.extend(answers);
        });
    }
    found
}

/// The hosts of one cluster, with the connections to them.
pub struct RemoteHosts {
    layout: HostLayout,
    links: BTreeMap<NodeId, Link>,
    wanted: DesiredFiles,
    program: Option<Program>,
    passphrases: Arc<Passphrases>,
    limits: Limits,
    /// Limit of one command.
    limit: Duration,
}

/// A node, the way to its host, and the connection once there is one.
struct Link {
    node: Node,
    destination: Result<Destination, SshError>,
    connection: OnceCell<Connection>,
}

impl RemoteHosts {
    /// Returns the hosts of `spec`. The files to install are made from `goal`. No connection is opened yet; `limit` is
    /// the limit of opening one, and of each command.
    pub fn new(
        layout: HostLayout,
        spec: &ClusterFile,
        goal: &ClusterFile,
        mut destinations: Destinations,
        passphrases: Arc<Passphrases>,
        limit: Duration,
    ) -> Self {
        let wanted = desired::remote(goal, &layout, |text| sha256::hex(text.as_bytes()));
        let links = spec.cluster.nodes.iter().filter_map(|node| {
            let destination = destinations.remove(&node.id)?;
            Some((node.id, Link { node: node.clone(), destination, connection: OnceCell::new() }))
        });
        let links = links.collect();
        let limits = Limits { open: limit, silence: limit.max(Limits::default().silence) };
        Self { layout, links, wanted, program: None, passphrases, limits, limit }
    }

    /// Sets the program that inspections compare with the installed one.
    pub fn expect(&mut self, program: Option<Program>) {
        self.program = program;
    }

    /// The files that each node is to have.
    pub fn wanted(&self) -> &DesiredFiles {
        &self.wanted
    }

    /// The paths, user and kind of service that are the same on each host.
    pub fn layout(&self) -> &HostLayout {
        &self.layout
    }

    fn link(&self, id: NodeId) -> Result<&Link, PortError> {
        self.links.get(&id).ok_or_else(|| PortError::failed(format!("node {id} is not in cluster.yaml")))
    }

    /// The connection to a node's host, opened when it is first needed.
    async fn connection(&self, id: NodeId) -> Result<&Connection, PortError> {
        let link = self.link(id)?;
        let destination = link.destination.clone().map_err(|error| port_error(&error))?;
        let open = || Connection::open(destination, Arc::clone(&self.passphrases), self.limits);
        link.connection.get_or_try_init(open).await.map_err(|error| port_error(&error))
    }

    /// Runs a command of the operator on the node's host, in the login shell.
    ///
    /// # Errors
    /// When the host cannot be reached, or the command has not ended within `limit`.
    pub async fn run(&self, id: NodeId, command: &str, limit: Duration) -> Result<Output, PortError> {
        self.connection(id).await?.run(command, Input::None, limit).await.map_err(|error| port_error(&error))
    }

    /// Runs a script on the node's host, with `input` as its standard input, and returns its standard output.
    async fn script(
        &self,
        id: NodeId,
        script: &str,
        input: Input,
        limit: Duration,
    ) -> Result<String, PortError> {
        let mark = mark();
        let connection = self.connection(id).await?;
        let output = connection.run(&frame::line(&mark, script), input, limit).await;
        let output = output.map_err(|error| port_error(&error))?;
        let said = frame::read(&mark, &output)?;
        if said.code == 0 {
            return Ok(said.stdout);
        }
        let said_so = said.stderr;
        let cause = crash_log::cause(said_so.as_bytes());
        let cause = cause.unwrap_or_else(|| format!("exit status {}", said.code));
        let details = said_so.lines().filter(|line| *line != cause).map(str::to_owned).collect();
        Err(PortError { details, ..PortError::failed(format!("node {id}: {cause}")) })
    }

    async fn simple(&self, id: NodeId, script: &str) -> Result<(), PortError> {
        self.script(id, script, Input::None, self.limit).await.map(drop)
    }

    async fn place_text(&self, id: NodeId, path: &str, text: &str) -> Result<(), PortError> {
        let script = scripts::place(&self.layout, path, "644", &sha256::hex(text.as_bytes()), "");
        self.script(id, &script, Input::Bytes(text.as_bytes().to_vec()), self.limit).await.map(drop)
    }

    /// Waits until the node is stopped: no process is left, and no service manager will start it again. Returns false
    /// if it is not stopped `within` this time.
    async fn gone(&self, id: NodeId, within: Duration) -> Result<bool, PortError> {
        let gone = async {
            while self.process(id).await? != Process::Stopped {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(true)
        };
        tokio::time::timeout(within, gone).await.unwrap_or(Ok(false))
    }

    /// Follows the node's log, beginning with its last `lines` lines.
    ///
    /// # Errors
    /// If the host cannot be reached.
    pub async fn follow(&self, id: NodeId, lines: usize) -> Result<Following, PortError> {
        let mark = mark();
        let line = frame::line(&mark, &scripts::log_follow(&self.layout, lines));
        let lines = self.connection(id).await?.stream(&line).await.map_err(|error| port_error(&error))?;
        Ok(Following { lines, framed: frame::Lines::new(&mark) })
    }

    /// Returns what the host's script for `what` prints about the host or the node.
    ///
    /// # Errors
    /// If the host cannot be reached, or the script fails.
    pub async fn evidence(&self, id: NodeId, what: Evidence) -> Result<String, PortError> {
        self.script(id, &scripts::evidence(&self.layout, what), Input::None, self.limit).await
    }

    /// Runs `esnode verify` of the installed program on the node's data directory, and returns its verdict as JSON.
    ///
    /// # Errors
    /// If the host cannot be reached, or the program gives no verdict within `limit`.
    pub async fn verify(&self, id: NodeId, limit: Duration) -> Result<String, PortError> {
        self.script(id, &scripts::verify(&self.layout), Input::None, limit).await
    }

    /// Takes the lease of the node's host, which keeps other operators away for as long as the returned value lives.
    ///
    /// # Errors
    /// [`PortErrorKind::Locked`], with who holds it; those of a host that cannot be reached.
    pub async fn lease(&self, id: NodeId, holder: &Holder) -> Result<Lease, PortError> {
        let mark = mark();
        let line = frame::line(&mark, &lease::hold(&self.layout, holder, lease::RELEASE_AFTER_S));
        let held = self.connection(id).await?.hold(&line, lease::KEEP_ALIVE).await;
        let lines = held.map_err(|error| port_error(&error))?;
        let taken = tokio::time::timeout(self.limit + lease::LOCK_WAIT, Lease::taken(id, &mark, lines)).await;
        taken.unwrap_or_else(|_| Err(lease::unsaid(id)))
    }

    /// Appends a line to the history of operations that the host keeps.
    ///
    /// # Errors
    /// If the host cannot be reached, or the line cannot be written.
    pub async fn note(&self, id: NodeId, line: &str) -> Result<(), PortError> {
        let input = Input::Bytes(format!("{line}\n").into_bytes());
        self.script(id, &scripts::note(&self.layout), input, self.limit).await.map(drop)
    }
}

/// The log of a node, line by line as it is written.
#[derive(Debug)]
pub struct Following {
    lines: ssh::Lines,
    framed: frame::Lines,
}

impl Following {
    /// Returns the next line, or, as the last event, how the stream ended; `None` after that.
    ///
    /// # Errors
    /// If the host goes silent, or its login runs no commands.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, PortError>> {
        loop {
            let said = match self.lines.next().await? {
                Ok(said) => said,
                Err(error) => return Some(Err(port_error(&error))),
            };
            match self.framed.take(said) {
                Ok(None) => {}
                Ok(Some(said)) => return Some(Ok(said)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns a new mark for [`frame`]: 122 random bits, which no other output can contain.
fn mark() -> String {
    Uuid::new_v4().simple().to_string()
}

fn port_error(error: &SshError) -> PortError {
    let kind = match error.kind {
        SshErrorKind::Unreachable | SshErrorKind::Refused | SshErrorKind::Lost => PortErrorKind::Unreachable,
        SshErrorKind::Failed => PortErrorKind::Failed,
    };
    error.clone().with_kind(kind)
}

impl Hosts for RemoteHosts {
    async fn inspect(&self, id: NodeId) -> Result<HostFacts, PortError> {
        let release = self.program.as_ref().map(|program| program.release.as_str());
        let script = scripts::inspect(&self.layout, release);
        let said = self.script(id, &script, Input::None, self.limit).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(inventory::facts(&said, &self.link(id)?.node, i64::try_from(now).unwrap_or_default()))
    }

    async fn process(&self, id: NodeId) -> Result<Process, PortError> {
        let said = self.script(id, &service::stands(&self.layout), Input::None, self.limit).await?;
        Ok(service::standing(&said))
    }

    async fn ensure_dirs(&self, id: NodeId) -> Result<(), PortError> {
        self.simple(id, &scripts::ensure_dirs(&self.layout)).await
    }

    async fn write_config(&self, id: NodeId) -> Result<(), PortError> {
        let text = self.wanted.text(id).unwrap_or_default();
        self.place_text(id, &self.layout.config(), text).await
    }

    async fn has(&self, id: NodeId, action: &Action) -> Result<bool, PortError> {
        if matches!(action, Action::PlaceBackup { .. } | Action::Recover { .. }) {
            let said = self.script(id, &scripts::identity(&self.layout), Input::None, self.limit).await?;
            let (identity, sum) = said.split_once(scripts::SUM_MARK).unwrap_or((&said, ""));
            return Ok(identity::has(action, identity, sum).unwrap_or_default());
        }
        // Inspects only what the action is about, with the same script.
        let release = match action {
            Action::PlaceBinary { release, .. } => Some(release.as_str()),
            _ => None,
        };
        let said = self.script(id, &scripts::probe(&self.layout, release), Input::None, self.limit).await?;
        Ok(inventory::facts(&said, &self.link(id)?.node, 0).has(action))
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
                let limit = COPY_LIMIT + Duration::from_secs(bytes / MIN_COPY_BYTES_PER_SECOND);
                let input = Input::File(source.clone());
                self.script(id, &scripts::unpack(&self.layout), input, limit).await.map(drop)
            }
            Action::Recover { cluster, members, .. } => {
                let script = scripts::recover(&self.layout, id, *cluster, members);
                self.script(id, &script, Input::None, COPY_LIMIT).await.map(drop)
            }
            Action::DisableUnit => self.simple(id, &scripts::disable(&self.layout)).await,
            other => Err(PortError::failed(format!("{} does not install anything", other.name()))),
        }
    }

    async fn start(&self, id: NodeId, _binary: &Path) -> Result<u32, PortError> {
        let pid = self.script(id, &service::start(&self.layout, id), Input::None, self.limit).await?;
        pid.trim()
            .parse()
            .map_err(|_| PortError::failed(format!("node {id}: started, but it has no process: {pid}")))
    }

    async fn stop(&self, id: NodeId, force: bool, within: Duration) -> Result<(), PortError> {
        // With systemd the command itself waits until the unit has stopped, up to the unit's own limit.
        let asked =
            self.script(id, &service::stop(&self.layout, false), Input::None, within + self.limit).await;
        // If the command failed, nothing was asked to stop, so there is no point in waiting; but the node may have
        // stopped.
        let is_gone = match &asked {
            Ok(_) => self.gone(id, within).await?,
            Err(_) => matches!(self.process(id).await, Ok(Process::Stopped)),
        };
        if is_gone {
            return Ok(());
        }
        if !force {
            asked?;
            return Err(PortError::failed(format!("node {id} did not stop within {within:?}")));
        }
        self.simple(id, &service::stop(&self.layout, true)).await?;
        if self.gone(id, KILL_LIMIT).await? {
            return Ok(());
        }
        Err(PortError::failed(format!("node {id} is still running after SIGKILL")))
    }

    async fn wipe(&self, id: NodeId) -> Result<(), PortError> {
        if self.process(id).await? != Process::Stopped {
            return Err(PortError::failed(format!("node {id} is not stopped; its data was not deleted")));
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

    async fn peer_reachability(&self, id: NodeId) -> Result<BTreeMap<NodeId, Reachability>, PortError> {
        let others: Vec<_> =
            self.links.values().map(|link| &link.node).filter(|node| node.id != id).collect();
        let peers: Vec<_> = others.iter().map(|node| (node.host.clone(), node.cluster_port)).collect();
        let limit = self.limit
            + Duration::from_secs(PROBE_TIMEOUT_S) * u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let said =
            self.script(id, &scripts::peer_reachability(&peers, PROBE_TIMEOUT_S), Input::None, limit).await?;
        let reach = |line: &str| match line {
            "open" => Reachability::Open,
            "silent" => Reachability::Silent,
            "unresolved" => Reachability::Unresolved,
            _ => Reachability::Unknown,
        };
        Ok(others.iter().map(|node| node.id).zip(said.lines().map(reach)).collect())
    }
}

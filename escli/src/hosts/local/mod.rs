//! Nodes as processes of this machine: implements [`crate::engine::ports::Hosts`].

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shared::backup::SUM;
use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node};

use crate::backup;
use crate::cluster_file::template;
use crate::engine::crash_log;
use crate::engine::ports::{Hosts, PortError};
use crate::files;
use crate::hosts::evidence::{self, Evidence};
use crate::hosts::identity;
use crate::hosts::ssh::quote;
use crate::plan::Action;
use crate::plan::claims::{Claims, Deployed};
use crate::plan::desired::{self, DesiredFiles};
use crate::plan::facts::{HostFacts, Process, Reachability, TakenPort};

pub mod layout;
pub mod process;
pub mod releases;
pub mod tail;

pub use layout::Layout;

/// Longest wait until a process that was just started can be recognised, or has ended.
const START_TIMEOUT: Duration = Duration::from_millis(200);
/// Time between two checks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Time limit of a script that collects evidence.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The nodes of one local cluster.
#[derive(Debug)]
pub struct LocalHosts {
    layout: Layout,
    nodes: BTreeMap<NodeId, Node>,
    wanted: DesiredFiles,
}

impl LocalHosts {
    /// Returns the nodes of `spec` under `layout`. The files to install are made from `goal`.
    pub fn new(layout: Layout, spec: &ClusterFile, goal: &ClusterFile) -> Self {
        let wanted = desired::local(goal, |id| layout.data(id));
        let nodes = spec.cluster.nodes.iter().map(|node| (node.id, node.clone())).collect();
        Self { layout, nodes, wanted }
    }

    /// The files that each node is to have.
    pub fn wanted(&self) -> &DesiredFiles {
        &self.wanted
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }

    /// The paths of the cluster.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn pid(&self, id: NodeId) -> Option<u32> {
        let arguments = process::arguments(id, &self.layout.config(id));
        let noted = fs::read_to_string(self.layout.pid(id)).ok().and_then(|text| text.trim().parse().ok());
        match noted {
            Some(pid) if process::is_node(pid, &arguments) => Some(pid),
            // If the pid file is lost or stale, a running node must still be found, or it would be started a second
            // time.
            _ if self.layout.config(id).exists() => process::find_node(&arguments),
            _ => None,
        }
    }

    fn taken(&self, id: NodeId) -> Vec<TakenPort> {
        let Some(node) = self.nodes.get(&id) else { return Vec::new() };
        let host = node.bind.as_deref().unwrap_or(&node.host);
        let wanted = [
            ("client_port", node.client_port),
            ("cluster_port", node.cluster_port),
            ("http_port", node.http_port),
        ];
        wanted
            .into_iter()
            .filter_map(|(key, port)| Some((key, address(host, port).filter(|address| !is_free(*address))?)))
            .map(|(key, address)| TakenPort {
                port: address.port(),
                key: key.to_owned(),
                holder: process::listener_on(address),
            })
            .collect()
    }

    fn spawn(&self, id: NodeId, binary: &Path) -> io::Result<u32> {
        // The log tells who reads and writes what, so only the owner may read it.
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.layout.log(id))?;
        // In a process group of its own, the node is not ended by Ctrl-C in this terminal, nor when the terminal is
        // closed: both only reach the terminal's foreground group.
        let child = Command::new(binary)
            .args(process::arguments(id, &self.layout.config(id)))
            .current_dir(self.layout.node(id))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
        files::write_atomically(&self.layout.pid(id), &format!("{}\n", child.id()))?;
        Ok(child.id())
    }

    /// Returns one kind of information about this machine and the node.
    ///
    /// # Errors
    /// If it cannot be collected.
    pub async fn evidence(&self, id: NodeId, what: Evidence) -> Result<String, PortError> {
        let running = || {
            self.pid(id).ok_or_else(|| PortError::failed(format!("node {id} is not running on this machine")))
        };
        let script = match what {
            Evidence::Version => format!("exec /proc/{}/exe --version --json", running()?),
            Evidence::Service => format!("pid={}\n{}", running()?, evidence::PROCESS),
            Evidence::Machine => {
                let place = |path: &Path| quote::word(&path.display().to_string());
                evidence::machine(&place(self.layout.dir()), &place(&self.layout.data(id)), "")
            }
            Evidence::Operations => {
                return Err(PortError::failed("only remote hosts keep a record of operations".to_owned()));
            }
        };
        let mut command = tokio::process::Command::new("sh");
        let run = command.args(["-c", &script]).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(ASK_LIMIT, run).await;
        let output = output.map_err(|_| PortError::failed(format!("no answer within {ASK_LIMIT:?}")))?;
        let output = output.map_err(|error| PortError::failed(format!("cannot run sh: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(PortError::failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    async fn recover(
        &self,
        id: NodeId,
        binary: &Path,
        cluster: ClusterId,
        members: &[NodeId],
    ) -> Result<(), PortError> {
        let mut command = tokio::process::Command::new(binary);
        command.args(process::arguments(id, &self.layout.config(id)));
        command.args(identity::recover(cluster, members)).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await;
        let output =
            output.map_err(|error| PortError::failed(format!("cannot run {}: {error}", binary.display())))?;
        if output.status.success() {
            return Ok(());
        }
        Err(PortError::failed(format!("node {id}: {}", last_line(&output.stderr))))
    }

    /// Runs `binary verify` on the node's data directory, and returns its verdict as JSON.
    ///
    /// # Errors
    /// If the program gives no verdict.
    pub async fn verify(&self, id: NodeId, binary: &Path) -> Result<String, PortError> {
        let mut command = tokio::process::Command::new(binary);
        command.args(["verify", "--json", "--data-dir"]).arg(self.layout.data(id));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output =
            output.map_err(|error| PortError::failed(format!("cannot run {}: {error}", binary.display())))?;
        if output.stdout.is_empty() {
            return Err(PortError::failed(last_line(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn gone(&self, id: NodeId, within: Duration) -> bool {
        let began = Instant::now();
        while self.pid(id).is_some() {
            if began.elapsed() > within {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }
}

impl Hosts for LocalHosts {
    async fn inspect(&self, id: NodeId) -> Result<HostFacts, PortError> {
        let pid = self.pid(id);
        let config = fs::read_to_string(self.layout.config(id)).ok();
        let config_hash = config.as_deref().and_then(desired::hash_of);
        Ok(HostFacts {
            process: pid.map_or(Process::Stopped, |pid| Process::Running { pid }),
            config_hash,
            dirs: self.layout.data(id).is_dir(),
            data_empty: files::is_empty(&self.layout.data(id)),
            claims: claims(&self.layout, id, config.as_deref()),
            current: releases::current(&self.layout, id),
            installed: releases::installed(&self.layout, id),
            exe: pid.and_then(process::exe),
            taken: if pid.is_some() { Vec::new() } else { self.taken(id) },
            machine: None,
        })
    }

    async fn process(&self, id: NodeId) -> Result<Process, PortError> {
        Ok(self.pid(id).map_or(Process::Stopped, |pid| Process::Running { pid }))
    }

    async fn has(&self, id: NodeId, action: &Action) -> Result<bool, PortError> {
        if let Action::PlaceBinary { release, sha256, .. } = action {
            return Ok(releases::has(&self.layout, release, sha256));
        }
        let own = |file| fs::read_to_string(self.layout.data(id).join(file)).unwrap_or_default();
        if let Some(has) = identity::has(action, &own(identity::FILE), &own(SUM)) {
            return Ok(has);
        }
        self.inspect(id).await.map(|host| host.has(action))
    }

    async fn peer_reachability(&self, _id: NodeId) -> Result<BTreeMap<NodeId, Reachability>, PortError> {
        Ok(BTreeMap::new())
    }

    async fn install(&self, id: NodeId, action: &Action) -> Result<(), PortError> {
        match action {
            Action::PlaceBinary { source, release, sha256 } => {
                releases::place(&self.layout, id, source, release, sha256)
            }
            Action::SwitchRelease { release } => {
                releases::switch(&self.layout, self.nodes.keys().copied(), id, release)
            }
            Action::PlaceBackup { source, .. } => {
                let (source, data) = (source.clone(), self.layout.data(id));
                let unpacked = tokio::task::spawn_blocking(move || backup::unpack(&source, &data)).await;
                let unpacked = unpacked.map_err(|error| PortError::failed(error.to_string()))?;
                unpacked.map_err(|error| PortError::failed(format!("node {id}: {error}")))
            }
            Action::Recover { binary, cluster, members } => self.recover(id, binary, *cluster, members).await,
            other => Err(PortError::failed(format!("{} is for remote hosts", other.name()))),
        }
    }

    async fn ensure_dirs(&self, id: NodeId) -> Result<(), PortError> {
        let data = self.layout.data(id);
        let made = fs::create_dir_all(&data).and_then(|()| {
            // Only the owner may read the events.
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(&data, private)
        });
        made.map_err(|error| failed("create", &data, &error))
    }

    async fn write_config(&self, id: NodeId) -> Result<(), PortError> {
        let text = self.wanted.text(id).ok_or_else(|| unknown(id))?;
        let path = self.layout.config(id);
        files::write_atomically(&path, text).map_err(|error| failed("write", &path, &error))
    }

    async fn start(&self, id: NodeId, binary: &Path) -> Result<u32, PortError> {
        let failed = |error| PortError::failed(format!("cannot start node {id}: {error}"));
        let pid = self.spawn(id, binary).map_err(failed)?;
        // For a moment a new process does not have the command line by which it is recognised. One that has ended never
        // has it.
        let seen = async {
            while self.pid(id) != Some(pid) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let _ended = tokio::time::timeout(START_TIMEOUT, seen).await;
        Ok(pid)
    }

    async fn stop(&self, id: NodeId, force: bool, within: Duration) -> Result<(), PortError> {
        let Some(pid) = self.pid(id) else { return Ok(()) };
        signal(pid, Signal::TERM)?;
        if !self.gone(id, within).await {
            if !force {
                return Err(PortError::failed(format!(
                    "node {id} (pid {pid}) did not stop within {within:?}"
                )));
            }
            signal(pid, Signal::KILL)?;
            if !self.gone(id, KILL_LIMIT).await {
                return Err(PortError::failed(format!(
                    "node {id} (pid {pid}) is still running after SIGKILL"
                )));
            }
        }
        let path = self.layout.pid(id);
        files::remove(&path).map_err(|error| failed("delete", &path, &error))
    }

    async fn wipe(&self, id: NodeId) -> Result<(), PortError> {
        let path = self.layout.node(id);
        if let Some(pid) = self.pid(id) {
            return Err(PortError::failed(format!(
                "node {id} is running (pid {pid}); its data was not deleted"
            )));
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path, &error)),
            _ => {
                let left = self.nodes.keys().filter_map(|id| releases::current(&self.layout, *id));
                releases::keep(&self.layout, &left.collect());
                Ok(())
            }
        }
    }

    async fn read_config(&self, id: NodeId) -> Result<Option<String>, PortError> {
        let path = self.layout.config(id);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    async fn log_tail(&self, id: NodeId, lines: usize) -> Result<Vec<String>, PortError> {
        let path = self.layout.log(id);
        tail::last_lines(&path, lines).map_err(|error| failed("read", &path, &error))
    }
}

/// Returns a first port with which all ports of a new local cluster of `count` nodes are free; `None` if there is none.
pub fn free_base_port(count: usize) -> Option<u16> {
    let count = u8::try_from(count).ok()?;
    (10_000..60_000).step_by(1_000).find(|base| {
        let spec = template::local_spec("free", count, Some(*base));
        spec.cluster.nodes.iter().all(|node| {
            let ports = [node.client_port, node.cluster_port, node.http_port];
            ports.iter().all(|port| address(&node.host, *port).is_some_and(is_free))
        })
    })
}

/// Returns what an earlier deployment has left in the node's directory.
fn claims(layout: &Layout, id: NodeId, config: Option<&str>) -> Claims {
    let data = layout.data(id);
    let path = layout.config(id).display().to_string();
    let file = config.and_then(|text| identity::deployed(&path, text)).map(|(file, named)| {
        let other = named.filter(|named| !files::is_empty(named) && !files::is_same(named, &data));
        Deployed { elsewhere: other.map(|other| other.display().to_string()), ..file }
    });
    let store = fs::read_to_string(data.join(identity::FILE)).ok();
    Claims {
        place: Some(layout.node(id).display().to_string()),
        data: data.display().to_string(),
        file,
        store: store.and_then(|text| identity::store(&text)),
    }
}

fn last_line(said: &[u8]) -> String {
    crash_log::cause(said).unwrap_or_else(|| "esnode printed nothing".to_owned())
}

/// Returns the socket address of a listener; `None` if the host name cannot be resolved.
fn address(host: &str, port: u16) -> Option<SocketAddr> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some((ip, port).into()),
        Err(_) => (host, port).to_socket_addrs().ok()?.next(),
    }
}

/// Returns whether nothing listens on `address`: tries to listen there, for a moment.
fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn signal(pid: u32, signal: Signal) -> Result<(), PortError> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| PortError::failed(format!("{pid} is not a process id")))?;
    match kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(PortError::failed(format!("cannot signal pid {pid}: {error}"))),
    }
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> PortError {
    PortError::failed(format!("cannot {verb} {}: {error}", path.display()))
}

fn unknown(id: NodeId) -> PortError {
    PortError::failed(format!("node {id} is not in cluster.yaml"))
}

#[cfg(test)]
mod tests;

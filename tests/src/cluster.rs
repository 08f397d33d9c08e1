//! A cluster of real `esnode` processes, each on a loopback address of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use shared::api::{ClusterStatus, RaftRole};
use shared::ids::NodeId;
use tempfile::TempDir;

use crate::power::Disk;
use crate::ready::leader_of_all;

/// How long anything that must happen may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A program of this workspace, as the build left it beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let target = test.ancestors().nth(2).expect("tests live in target/PROFILE/deps");
    let path = target.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// The node's program with the stamp of another version.
pub fn stamped(version: &str) -> PathBuf {
    let path = binary("esnode").with_file_name("stamped").join(format!("esnode-{version}"));
    assert!(path.exists(), "{} is missing: run tests/stamp.sh first", path.display());
    path
}

/// Three or more nodes; killed and removed when dropped.
pub struct Cluster {
    /// Disks of the nodes' own, where a test wants them: unmounted before the folder goes.
    pub(crate) disks: Vec<Disk>,
    dir: TempDir,
    hosts: Vec<String>,
    /// Where the nodes look for each other, if not on `hosts`.
    proxies: Vec<String>,
    nodes: Vec<Option<Child>>,
    program: PathBuf,
    /// What stands at the end of every configuration.
    extra: String,
}

impl Cluster {
    /// Starts `size` nodes in order and returns at once.
    pub fn start(size: usize) -> Result<Self> {
        Self::start_with(size, "", &binary("esnode"))
    }

    /// The same with more text at the end of each node's `cluster.yaml`, and a program of the caller's choice.
    pub fn start_with(size: usize, extra: &str, program: &Path) -> Result<Self> {
        let mut cluster = Self::prepare(size, extra, program)?;
        cluster.launch_all()?;
        Ok(cluster)
    }

    /// Everything but the processes.
    pub fn prepare(size: usize, extra: &str, program: &Path) -> Result<Self> {
        Self::lay_out(size, extra, program, false)
    }

    /// The same for up to four nodes that look for each other where proxies listen, see [`Self::proxy`].
    pub fn prepare_behind_proxies(size: usize) -> Result<Self> {
        Self::lay_out(size, "", &binary("esnode"), true)
    }

    fn lay_out(size: usize, extra: &str, program: &Path, proxied: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("eventstream-").tempdir()?;
        // Every process has its own part of 127.0.0.0/8, so suites that run at once never share an address.
        let pid = std::process::id();
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 20;
        let (high, low) = (1 + (pid >> 8) % 250, pid % 256);
        let address = |last: usize| format!("127.{high}.{low}.{}", serial * 10 + last);
        let hosts = (1..=size).map(address).collect();
        let proxies = (1..=size).filter(|_| proxied).map(|id| address(id + 5)).collect();
        let nodes = (0..size).map(|_| None).collect();
        let program = program.to_owned();
        let extra = extra.to_owned();
        let cluster = Self { disks: Vec::new(), dir, hosts, proxies, nodes, program, extra };
        for id in cluster.ids() {
            std::fs::create_dir_all(cluster.node_dir(id))?;
            std::fs::write(cluster.config(id), cluster.yaml(id) + &cluster.extra)?;
        }
        Ok(cluster)
    }

    /// Prepares one node more, with a configuration that names all; those of the others stay as they are.
    pub fn grow(&mut self) -> Result<NodeId> {
        let first: std::net::Ipv4Addr = self.hosts[0].parse()?;
        let [a, b, c, d] = first.octets();
        let last = usize::from(d) + self.hosts.len();
        self.hosts.push(format!("{a}.{b}.{c}.{last}"));
        self.nodes.push(None);
        let id = self.hosts.len() as NodeId;
        std::fs::create_dir_all(self.node_dir(id))?;
        std::fs::write(self.config(id), self.yaml(id) + &self.extra)?;
        Ok(id)
    }

    /// Where the node is: the body that adds it to the cluster.
    pub fn introduction(&self, id: NodeId) -> String {
        format!(r#"{{"id": {id}, "host": "{}", "port": 9100}}"#, self.hosts[Self::position(id)])
    }

    /// Starts every node.
    pub fn launch_all(&mut self) -> Result<()> {
        self.ids().into_iter().try_for_each(|id| self.launch(id))
    }

    /// Starts a cluster and waits until it has a leader that serves.
    pub fn ready(size: usize) -> Result<Self> {
        let cluster = Self::start(size)?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// All node ids, from 1.
    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.hosts.len() as u64).collect()
    }

    fn yaml(&self, id: NodeId) -> String {
        let mut nodes = String::new();
        for (host, id) in self.hosts.iter().zip(1..) {
            let proxy = self.proxies.get(Self::position(id));
            let reached = proxy.unwrap_or(host);
            nodes += &format!(
                "    - id: {id}\n      host: {reached}\n      client_port: 9000\n      cluster_port: 9100\n"
            );
            if proxy.is_some() {
                nodes += &format!("      bind: {host}\n      advertised_host: {host}\n");
            }
        }
        let data = self.data_dir(id);
        format!(
            "cluster:\n  name: test\n  node_id: {id}\n  nodes:\n{nodes}  storage:\n    data_dir: {}\n",
            data.display()
        )
    }

    fn position(id: NodeId) -> usize {
        usize::try_from(id).expect("node ids are small") - 1
    }

    fn node_dir(&self, id: NodeId) -> PathBuf {
        self.dir.path().join(format!("n{id}"))
    }

    /// The node's configuration file.
    pub fn config(&self, id: NodeId) -> PathBuf {
        self.node_dir(id).join("cluster.yaml")
    }

    /// The node's data directory.
    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        self.node_dir(id).join("data")
    }

    /// Where Kafka clients reach the node.
    pub fn kafka(&self, id: NodeId) -> SocketAddr {
        format!("{}:9000", self.hosts[Self::position(id)]).parse().expect("a loopback address")
    }

    /// Where the node listens, and where the others look for it when proxies stand between them.
    pub fn proxy(&self, id: NodeId) -> (&str, &str) {
        (&self.hosts[Self::position(id)], &self.proxies[Self::position(id)])
    }

    /// Whether the node was started and not ended since.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.nodes[Self::position(id)].is_some()
    }

    /// Where the other nodes reach the node.
    pub fn peer(&self, id: NodeId) -> SocketAddr {
        format!("{}:9100", self.hosts[Self::position(id)]).parse().expect("a loopback address")
    }

    /// Where operators reach the node.
    pub fn admin(&self, id: NodeId) -> SocketAddr {
        format!("{}:8080", self.hosts[Self::position(id)]).parse().expect("a loopback address")
    }

    /// All Kafka addresses, as clients want them.
    pub fn bootstrap(&self) -> String {
        self.ids().iter().map(|id| self.kafka(*id).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Starts a node that is not running.
    pub fn launch(&mut self, id: NodeId) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.node_dir(id).join("log"))?;
        let child = Command::new(&self.program)
            .arg(format!("--node-id={id}"))
            .arg(format!("--config={}", self.config(id).display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.nodes[Self::position(id)] = Some(child);
        Ok(())
    }

    /// What is started from now on.
    pub fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// The process id of a running node.
    pub fn os_pid(&self, id: NodeId) -> u32 {
        self.nodes[Self::position(id)].as_ref().expect("the node runs").id()
    }

    fn pid(&self, id: NodeId) -> Pid {
        let child = self.nodes[Self::position(id)].as_ref().expect("the node runs");
        Pid::from_child(child)
    }

    /// Sends a signal to a running node.
    pub fn signal(&self, id: NodeId, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(id), signal)?)
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, id: NodeId) -> Result<()> {
        self.signal(id, Signal::KILL)?;
        self.reap(id).map(drop)
    }

    /// SIGTERM, and waits for the end; returns whether the node exited with 0.
    pub fn stop(&mut self, id: NodeId) -> Result<bool> {
        self.signal(id, Signal::TERM)?;
        Ok(self.reap(id)?.success())
    }

    /// Waits until the node has exited by itself.
    pub fn reap(&mut self, id: NodeId) -> Result<std::process::ExitStatus> {
        let mut child = self.nodes[Self::position(id)].take().context("the node is not running")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.nodes[Self::position(id)] = Some(child);
                bail!("node {id} does not end; its log:\n{}", self.log(id));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the node has logged.
    pub fn log(&self, id: NodeId) -> String {
        std::fs::read_to_string(self.node_dir(id).join("log")).unwrap_or_default()
    }

    /// `GET` on a node's admin port: status line's code and body.
    pub fn get(&self, id: NodeId, path: &str) -> Result<(u16, String)> {
        crate::client::http(&format!("{}:8080", self.hosts[Self::position(id)]), "GET", path, "")
    }

    /// `POST` on a node's admin port.
    pub fn post(&self, id: NodeId, path: &str, body: &str) -> Result<(u16, String)> {
        crate::client::http(&format!("{}:8080", self.hosts[Self::position(id)]), "POST", path, body)
    }

    /// `DELETE` on a node's admin port.
    pub fn delete(&self, id: NodeId, path: &str) -> Result<(u16, String)> {
        crate::client::http(&format!("{}:8080", self.hosts[Self::position(id)]), "DELETE", path, "")
    }

    /// The node's own account of the cluster.
    pub fn status(&self, id: NodeId) -> Result<ClusterStatus> {
        let (code, body) = self.get(id, "/cluster/status")?;
        if code != 200 {
            bail!("status of node {id}: {code} {body}");
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// The node that says it leads, the newest term first.
    pub fn leader(&self) -> Option<NodeId> {
        let statuses = self.ids().into_iter().filter_map(|id| self.status(id).ok());
        statuses.filter(|s| s.state == Some(RaftRole::Leader)).max_by_key(|s| s.term).map(|s| s.node_id)
    }

    /// Waits until some node leads.
    pub fn wait_leader(&self) -> Result<NodeId> {
        self.wait("a leader", |cluster| cluster.leader())
    }

    /// Waits until a leader serves and every running node follows it with everything applied.
    pub fn wait_ready(&self) -> Result<NodeId> {
        self.wait("every running node to be ready", |cluster| {
            let running =
                || cluster.ids().into_iter().filter(|id| cluster.nodes[Self::position(*id)].is_some());
            let leader = leader_of_all(|| running().map(|id| cluster.status(id).ok()).collect())?;
            let serves = || cluster.get(leader, "/health/ready").is_ok_and(|(code, _)| code == 200);
            serves().then_some(leader)
        })
    }

    /// Polls until there is an answer, or fails with every node's log.
    pub fn wait<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let logs: String = self.ids().iter().map(|id| format!("--- node {id}\n{}", self.log(*id))).collect();
        bail!("waited {PATIENCE:?} in vain for {what}\n{logs}")
    }
}

static SERIAL: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

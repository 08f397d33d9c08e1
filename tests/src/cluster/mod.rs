//! A cluster of real `esnode` processes, each on a loopback address of its own.

mod admin;
mod disks;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use shared::ids::NodeId;
use tempfile::TempDir;

use crate::programs::binary;

/// How long a test waits for anything that must happen.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// Three or more nodes; killed and removed when dropped.
pub struct Cluster {
    /// Disks of single nodes, where a test mounts some. Unmounted before the folder is removed.
    disks: Vec<disks::Disk>,
    dir: TempDir,
    hosts: Vec<String>,
    /// Where the nodes look for each other, if not on `hosts`.
    proxies: Vec<String>,
    nodes: Vec<Option<Child>>,
    program: PathBuf,
    /// The end of every configuration.
    extra: String,
}

impl Cluster {
    /// Starts `size` nodes in order and returns at once.
    pub fn start(size: usize) -> Result<Self> {
        Self::start_with(size, "", &binary("esnode"))
    }

    /// The same with `extra` at the end of each node's `cluster.yaml`, and another program.
    pub fn start_with(size: usize, extra: &str, program: &Path) -> Result<Self> {
        let mut cluster = Self::prepare(size, extra, program)?;
        cluster.launch_all()?;
        Ok(cluster)
    }

    /// Writes the configurations, and starts nothing.
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

    /// Prepares one more node, whose configuration names all. The configurations of the others stay as they
    /// are.
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

    /// The body of the request that adds the node to the cluster.
    pub fn join_request(&self, id: NodeId) -> String {
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

    /// Where the node listens, and where the others connect to it when proxies are in between.
    pub fn proxy(&self, id: NodeId) -> (&str, &str) {
        (&self.hosts[Self::position(id)], &self.proxies[Self::position(id)])
    }

    /// Whether the node was started and was not reaped since.
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

    /// All Kafka addresses, as clients take them.
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

    /// Starts this program from now on.
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

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(&mut self, id: NodeId) -> Result<()> {
        self.signal(id, Signal::KILL)?;
        self.reap(id).map(drop)
    }

    /// Sends SIGTERM and waits for the end. Returns whether the node exited with 0.
    pub fn stop(&mut self, id: NodeId) -> Result<bool> {
        self.signal(id, Signal::TERM)?;
        Ok(self.reap(id)?.success())
    }

    /// Stops every node, each of which must exit with 0.
    pub fn stop_all(&mut self) -> Result<()> {
        for id in self.ids() {
            ensure!(self.stop(id)?, "node {id} did not stop cleanly; its log:\n{}", self.log(id));
        }
        Ok(())
    }

    /// Waits until the node has exited by itself.
    pub fn reap(&mut self, id: NodeId) -> Result<std::process::ExitStatus> {
        let mut child = self.nodes[Self::position(id)].take().context("the node is not running")?;
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.nodes[Self::position(id)] = Some(child);
                bail!("node {id} did not end within {MAX_WAIT:?}; its log:\n{}", self.log(id));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The node's log.
    pub fn log(&self, id: NodeId) -> String {
        std::fs::read_to_string(self.node_dir(id).join("log")).unwrap_or_default()
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

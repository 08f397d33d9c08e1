//! Nodes on real Linux hosts inside this machine, each with an address, a disk and a systemd, on a network
//! that can be cut.
//!
//! `tests/lab/lab.sh` makes the hosts; this drives it. Only one lab exists on a machine at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use shared::api::ClusterStatus;
use shared::ids::NodeId;

use crate::cluster::MAX_WAIT;
use crate::http;
use crate::programs::binary;
use crate::ready::leader_of_all;
use crate::skip;

/// Locked by whoever uses the lab; the script's own lock is held for one command only.
const IN_USE: &str = "/var/tmp/eventstream-lab.in-use";

/// The unit on each host, started again after each boot.
const UNIT: &str = "\
[Unit]
Description=EventStream

[Service]
ExecStart=/opt/eventstream/esnode --node-id=ID --config=/opt/eventstream/config/cluster.yaml
StandardOutput=append:/var/log/eventstream.log
StandardError=inherit
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
";

const CONFIG: &str = "\
cluster:
  node_id: ID
  nodes:
NODES
  raft:
    election_timeout_min: 150
    election_timeout_max: 300
    heartbeat_interval: 50
    rpc_timeout: 100
  storage:
    data_dir: /var/lib/eventstream/raft
    wal_sync: true
    snapshot_interval: 1000
network:
  max_connections: 1000
  tcp_nodelay: true
  keepalive: true
";

const NODE: &str = "    - { id: ID, host: HOST, client_port: 9000, cluster_port: 9100 }\n";

/// Booted hosts, removed on drop.
pub struct Lab {
    size: u64,
    _only: std::fs::File,
}

impl Lab {
    /// Boots hosts `h1` and on, with node `id` installed on host `id`. The first `members` of them are in the
    /// configuration of all; each of the others has itself in its own as well. `None` where this machine
    /// cannot have a lab and `SKIP` allows that.
    pub fn boot(size: u64, members: u64) -> Result<Option<Self>> {
        let Some(lab) = Self::bare(size)? else { return Ok(None) };
        for id in lab.ids() {
            lab.install(id, members)?;
        }
        Ok(Some(lab))
    }

    /// Boots hosts with nothing on them but systemd and sshd.
    pub fn bare(size: u64) -> Result<Option<Self>> {
        if let Err(lacking) = script(&["base"]) {
            return skip::allowed("lab", &format!("{lacking:#}")).map(|()| None);
        }
        let only = std::fs::File::create(IN_USE)?;
        flock(&only, FlockOperation::LockExclusive)?;
        let lab = Self { size, _only: only };
        script(&["up", &size.to_string()])?;
        Ok(Some(lab))
    }

    fn install(&self, id: NodeId, members: u64) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let config = file("cluster.yaml", yaml(id, members))?;
        let unit = file("unit", UNIT.replace("ID", &id.to_string()))?;
        self.put(id, &binary("esnode"), "/opt/eventstream/esnode")?;
        self.put(id, &config, "/opt/eventstream/config/cluster.yaml")?;
        self.put(id, &unit, "/etc/systemd/system/eventstream.service")?;
        self.exec(id, &["mkdir", "-p", "/var/lib/eventstream/raft"])?;
        self.exec(id, &["systemctl", "--quiet", "enable", "eventstream"]).map(drop)
    }

    /// All node ids, from 1; node `id` is on host `id`.
    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.size).collect()
    }

    /// Copies a file of this machine to a host.
    pub fn put(&self, id: NodeId, from: &Path, to: &str) -> Result<()> {
        script(&["put", &host(id), &from.display().to_string(), to]).map(drop)
    }

    /// Runs a command on a host, even when the network is cut. Returns its output.
    pub fn exec(&self, id: NodeId, command: &[&str]) -> Result<String> {
        script(&[&["exec", &host(id)], command].concat())
    }

    /// Starts the node.
    pub fn start(&self, id: NodeId) -> Result<()> {
        self.exec(id, &["systemctl", "start", "eventstream"]).map(drop)
    }

    /// Stops the node. Returns how it ended, according to systemd.
    pub fn stop(&self, id: NodeId) -> Result<String> {
        self.exec(id, &["systemctl", "stop", "eventstream"])?;
        let result = self.exec(id, &["systemctl", "show", "-P", "Result", "eventstream"])?;
        Ok(result.trim().to_owned())
    }

    /// Cuts the power of these hosts: no connection is closed.
    pub fn cut_power(&self, ids: &[NodeId]) -> Result<()> {
        ids.iter().try_for_each(|id| script(&["kill", &host(*id)]).map(drop))
    }

    /// Boots a host again from its disk, and the node with it.
    pub fn boot_host(&self, id: NodeId) -> Result<()> {
        script(&["start", &host(id)]).map(drop)
    }

    /// Reboots a host cleanly. Returns when it is starting.
    pub fn reboot(&self, id: NodeId) -> Result<()> {
        script(&["reboot", &host(id)]).map(drop)
    }

    /// Stops every process; the kernel still accepts connections.
    pub fn freeze(&self, id: NodeId) -> Result<()> {
        script(&["freeze", &host(id)]).map(drop)
    }

    /// Undoes [`Self::freeze`].
    pub fn thaw(&self, id: NodeId) -> Result<()> {
        script(&["thaw", &host(id)]).map(drop)
    }

    /// Drops everything from the host to the other hosts.
    pub fn mute(&self, id: NodeId) -> Result<()> {
        script(&["block", &host(id), "peers"]).map(drop)
    }

    /// Drops everything from the other hosts to the host.
    pub fn deafen(&self, id: NodeId) -> Result<()> {
        script(&["block", "peers", &host(id)]).map(drop)
    }

    /// Cuts the host off from the other hosts, but not from this machine.
    pub fn isolate(&self, id: NodeId) -> Result<()> {
        self.mute(id)?;
        self.deafen(id)
    }

    /// Drops this percentage of packets from and to the host.
    pub fn lose(&self, id: NodeId, percent: u8) -> Result<()> {
        script(&["loss", &host(id), &percent.to_string()]).map(drop)
    }

    /// Lets the network carry everything again.
    pub fn heal(&self) -> Result<()> {
        script(&["heal"]).map(drop)
    }

    /// Cuts the host off from this machine, but not from the other hosts.
    pub fn cut_off(&self, id: NodeId) -> Result<()> {
        script(&["block", "operator", &host(id)])?;
        script(&["block", &host(id), "operator"]).map(drop)
    }

    /// The SSH key that every host accepts, for `root`, `admin` (sudo), `pwadmin` (sudo asks) and `guest` (no
    /// sudo).
    pub fn key(&self) -> Result<PathBuf> {
        Ok(script(&["key"])?.trim().into())
    }

    /// A known_hosts file with the keys of all hosts.
    pub fn known_hosts(&self) -> Result<PathBuf> {
        Ok(script(&["known_hosts"])?.trim().into())
    }

    /// The IP address of the host.
    pub fn address(&self, id: NodeId) -> String {
        address(id)
    }

    /// Where Kafka clients reach the node.
    pub fn kafka(&self, id: NodeId) -> SocketAddr {
        format!("{}:9000", address(id)).parse().expect("an address")
    }

    /// The node's log, also while its host is off.
    pub fn log(&self, id: NodeId) -> String {
        std::fs::read_to_string(disk(id).join("var/log/eventstream.log")).unwrap_or_default()
    }

    /// The node's data directory as this machine sees it, to be opened only while the host is off.
    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        disk(id).join("var/lib/eventstream/raft")
    }

    /// What the node reports of itself and the cluster.
    pub fn status(&self, id: NodeId) -> Result<ClusterStatus> {
        let (code, body) = http::call(&format!("{}:8080", address(id)), "GET", "/cluster/status", "")?;
        ensure!(code == 200, "status of node {id}: {code} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Waits until all of these nodes follow one of them, with everything applied.
    pub fn wait_ready(&self, among: &[NodeId]) -> Result<NodeId> {
        self.wait("a leader that all follow", || {
            leader_of_all(|| among.iter().map(|id| self.status(*id).ok()).collect())
        })
    }

    /// Polls until `ask` returns something. After [`MAX_WAIT`] fails with the logs of all nodes.
    pub fn wait<T>(&self, what: &str, ask: impl Fn() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + MAX_WAIT;
        while Instant::now() < deadline {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let logs: String = self.ids().iter().map(|id| format!("--- node {id}\n{}", self.log(*id))).collect();
        bail!("timed out after {MAX_WAIT:?} waiting for {what}\n{logs}")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = script(&["down"]) {
            eprintln!("the lab was not removed: {error:#}");
        }
    }
}

fn host(id: NodeId) -> String {
    format!("h{id}")
}

fn address(id: NodeId) -> String {
    format!("10.77.0.{}", 10 + id)
}

fn disk(id: NodeId) -> PathBuf {
    script(&["disk", &host(id)]).unwrap_or_default().trim().into()
}

/// The documentation's configuration, with the hosts' addresses.
fn yaml(id: NodeId, members: u64) -> String {
    let known = (1..=members).chain((id > members).then_some(id));
    let node = |id| NODE.replace("ID", &format!("{id}")).replace("HOST", &address(id));
    CONFIG.replace("ID", &id.to_string()).replace("NODES", &known.map(node).collect::<String>())
}

fn script(arguments: &[&str]) -> Result<String> {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/lab.sh");
    let output = Command::new(&lab).args(arguments).output().with_context(|| lab.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "lab.sh {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

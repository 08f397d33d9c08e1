//! What was found on hosts and nodes at one moment. Only `observe` collects facts; planners and views read them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::{ClusterStatus, RaftRole};
use shared::ids::{ClusterId, NodeId};

use super::Action;
use super::claims::{Claims, Stranger};

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The facts about every node of cluster.yaml.
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    /// A first port with which all ports of a new local cluster of this size are free. It is only searched for if a
    /// wanted port is taken.
    pub free_base_port: Option<u16>,
    /// For each host that was asked, whether it reaches the other nodes' `cluster_port`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peer_reachability: PeerReachability,
    /// How each node's admin port is reached from the operator's machine; found out together with `peer_reachability`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub admin_routes: BTreeMap<NodeId, AdminRoute>,
    /// How far the logs of stopped nodes reach; only read for operations that depend on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<NodeId, Log>,
    /// The id that is remembered for this cluster.yaml. An id behind it is that of a cluster whose bootstrap in its
    /// place has begun, and which no node has reported yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<ClusterId>,
}

/// The way from the operator's machine to a node's admin port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "route", rename_all = "snake_case")]
pub enum AdminRoute {
    /// Directly.
    Direct,
    /// Through SSH, since the direct way is closed.
    Tunnelled {
        /// Why the direct way failed; empty if it was not tried.
        why: String,
    },
    /// The port cannot be reached.
    Closed {
        /// Why, as a text for operators.
        why: String,
    },
}

/// For each host, whether it reaches each other node.
pub type PeerReachability = BTreeMap<NodeId, BTreeMap<NodeId, Reachability>>;

/// Whether a port can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// Something listens on the port, or the host refuses the connection itself: nothing on the way blocks it.
    Open,
    /// There was no answer.
    Silent,
    /// The name of the other host cannot be resolved there.
    Unresolved,
    /// The host has no program to try it with.
    Unknown,
}

/// The log of a stopped node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "log", rename_all = "snake_case")]
pub enum Log {
    /// The log is complete, and ends here.
    Whole(LogEnd),
    /// Parts of the log are damaged or missing.
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The log could not be read.
    Unread {
        /// Why not.
        reason: String,
    },
}

/// The last entry of a log. Of two logs, the one with the greater value holds more (Raft paper, 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogEnd {
    /// Term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
}

/// The facts about one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// What was found on its host.
    pub host: HostInspection,
    /// What it answered on its admin port.
    pub api: ApiAnswer,
}

/// What was found on a node's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sight", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "there is one for each node, and nearly always the largest")]
pub enum HostInspection {
    /// The host was not asked, because the command only needs the admin API.
    NotAsked,
    /// The host could not be asked.
    Unreachable {
        /// Why, as a text for operators.
        reason: String,
        /// Further lines, e.g. what ssh printed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        details: Vec<String>,
        /// What the operator can do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<String>,
    },
    /// The host was inspected.
    Seen(Box<HostFacts>),
}

/// What was found on a host about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// State of the node's process.
    pub process: Process,
    /// Hash of its configuration file, as in `ClusterStatus::config_hash`; `None` if there is no file, or an invalid
    /// one.
    pub config_hash: Option<String>,
    /// The node's directories exist.
    pub dirs: bool,
    /// The data directory is missing or empty.
    pub data_empty: bool,
    /// The release that its next start runs; `None` if no releases are installed.
    #[serde(default)]
    pub current: Option<String>,
    /// Path of that release's program, on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<PathBuf>,
    /// Path of the program that its process runs, as the system reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The node's ports on which another process listens.
    pub taken: Vec<TakenPort>,
    /// What the last deployment left: which node and cluster it was for.
    #[serde(default)]
    pub claims: Claims,
    /// The machine; `None` for local nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// A node's machine, and what is installed there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its architecture, as `uname -m` prints it.
    pub arch: String,
    /// Its C library, e.g. `glibc 2.36`; `None` if it could not be found out.
    pub libc: Option<String>,
    /// systemd is its service manager.
    pub systemd: bool,
    /// Why no command can be run as root there; `None` if it can.
    pub no_root: Option<String>,
    /// The user that is to own the data exists.
    pub user: bool,
    /// Owner and mode of the data directory, e.g. `root 755`; `None` if there is none.
    #[serde(default)]
    pub owner: Option<String>,
    /// Directories that the login user would have to write to but may not, if nothing is done as root.
    #[serde(default)]
    pub closed: Vec<String>,
    /// Name of the login user.
    #[serde(default)]
    pub login: Option<String>,
    /// The login user has a systemd of its own, and it runs.
    #[serde(default)]
    pub manager: bool,
    /// That systemd runs from boot to shutdown, not only while the user is logged in.
    #[serde(default)]
    pub lingers: bool,
    /// Temporary files that failed uploads have left.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// SHA-256 of the unit's text, in hex; `None` if there is no unit.
    pub unit: Option<String>,
    /// The unit starts at boot.
    pub enabled: bool,
    /// SHA-256 of the program of the wanted release, in hex; `None` if it is not there.
    pub program: Option<String>,
    /// Free space for the data directory, in MiB.
    pub free_data_mib: u64,
    /// Free space for releases, in MiB.
    pub free_install_mib: u64,
    /// How far its clock is ahead of this machine's, in seconds.
    pub skew_s: i64,
}

/// A node's process on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum Process {
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// There is no process at the moment, but its unit is starting or stopping.
    Restarting,
    /// The service manager cannot be asked.
    Unknown,
    /// There is no process, and nothing will start one.
    Stopped,
}

impl Process {
    /// Returns whether it runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Returns whether there is no process at the moment, whatever comes next.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Restarting | Self::Stopped)
    }
}

/// A port on which another process listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPort {
    /// The port's number.
    pub port: u16,
    /// The key in cluster.yaml that names it, e.g. `http_port`.
    pub key: String,
    /// The process that listens, e.g. `python3 (pid 4711)`; `None` if the system does not tell.
    pub holder: Option<String>,
}

/// What a node answered on its admin port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ApiAnswer {
    /// Its status.
    Status(Box<ClusterStatus>),
    /// Nothing that counts.
    Silent {
        /// Why, in a few words, e.g. `connection refused :8080`.
        reason: String,
        /// The other node that answered instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stranger: Option<Stranger>,
    },
}

impl ApiAnswer {
    /// Returns the value for a port on which nothing answers.
    pub fn silent(reason: impl Into<String>) -> Self {
        Self::Silent { reason: reason.into(), stranger: None }
    }
}

impl HostFacts {
    /// Returns whether the host already is in the state that `action` leads to.
    pub fn has(&self, action: &Action) -> bool {
        let machine = |has: &dyn Fn(&Machine) -> bool| self.machine.as_ref().is_some_and(has);
        match action {
            Action::EnsureDirs => self.dirs,
            Action::WriteConfig { hash } => self.config_hash.as_ref() == Some(hash),
            Action::Wipe => !self.dirs && self.config_hash.is_none(),
            Action::EnsureUser { .. } => machine(&|machine| machine.user),
            Action::PlaceBinary { sha256, .. } => {
                machine(&|machine| machine.program.as_ref() == Some(sha256))
            }
            Action::SwitchRelease { release } => self.current.as_ref() == Some(release),
            Action::RemoveLeftovers => machine(&|machine| machine.leftovers.is_empty()),
            Action::InstallUnit { hash } => {
                machine(&|machine| machine.unit.as_ref() == Some(hash) && machine.enabled)
            }
            Action::DisableUnit => machine(&|machine| !machine.enabled),
            _ => false,
        }
    }
}

impl HostFacts {
    /// Returns the release that the node's process runs; `None` if there is no process, or its program is not a
    /// release.
    pub fn runs_release(&self) -> Option<&str> {
        let (_, rest) = self.exe.as_deref()?.split_once("/releases/")?;
        rest.split('/').next()
    }
}

impl NodeFacts {
    /// Returns the status that the node reported.
    pub fn status(&self) -> Option<&ClusterStatus> {
        match &self.api {
            ApiAnswer::Status(status) => Some(status),
            ApiAnswer::Silent { .. } => None,
        }
    }

    /// Returns what was found on the host.
    pub fn host(&self) -> Option<&HostFacts> {
        match &self.host {
            HostInspection::Seen(facts) => Some(facts),
            HostInspection::NotAsked | HostInspection::Unreachable { .. } => None,
        }
    }

    /// Returns the node's process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.host()?.process {
            Process::Running { pid } => Some(pid),
            Process::Restarting | Process::Unknown | Process::Stopped => None,
        }
    }
}

impl Facts {
    /// Returns where the node's log ends, as the node reported or as was read from its disk.
    pub fn log_end(&self, id: NodeId) -> Option<LogEnd> {
        let answer = self.nodes.get(&id).and_then(NodeFacts::status);
        let answered = answer
            .map(|status| LogEnd { term: status.last_term.unwrap_or_default(), index: status.last_index });
        answered.or_else(|| match self.logs.get(&id)? {
            Log::Whole(end) => Some(*end),
            Log::Damaged { .. } | Log::Unread { .. } => None,
        })
    }

    /// Returns the statuses of all nodes that answered.
    pub fn statuses(&self) -> impl Iterator<Item = (NodeId, &ClusterStatus)> {
        self.nodes.iter().filter_map(|(id, node)| Some((*id, node.status()?)))
    }

    /// Returns the node that says it leads; if two do, the one in the higher term.
    pub fn leader(&self) -> Option<NodeId> {
        self.statuses()
            .filter(|(_, status)| status.state == Some(RaftRole::Leader))
            .max_by_key(|(_, status)| status.term)
            .map(|(id, _)| id)
    }

    /// Returns the nodes whose process runs, in order of their ids.
    pub fn running(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.pid().is_some()).map(|(id, _)| *id).collect()
    }
}

//! What was seen of hosts and cluster at one moment. Only `observe` makes them; planners and views read them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::{ClusterStatus, RaftRole};
use shared::ids::{ClusterId, NodeId};

use super::Action;
use super::claims::{Claims, Stranger};

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// One for every node of cluster.yaml.
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    /// A first port with which a new local cluster of this size would find all its ports free; looked for only when
    /// a wanted port is taken.
    pub free_base_port: Option<u16>,
    /// For each host that was asked, whether it reaches the other nodes' `cluster_port`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peer_reachability: PeerReachability,
    /// How each node's admin port is reached from the operator's machine, looked at together with that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub admin_routes: BTreeMap<NodeId, AdminRoute>,
    /// How far the logs of nodes that do not run reach; read only where an operation depends on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<NodeId, Log>,
    /// The cluster that was brought up with this cluster.yaml before, from here; behind it one that was being begun in its
    /// place, and that nobody has seen yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<ClusterId>,
}

/// How a node's admin port is reached from the operator's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "route", rename_all = "snake_case")]
pub enum AdminRoute {
    /// Directly.
    Direct,
    /// Through SSH, since the direct way is closed.
    Tunnelled {
        /// What the direct way came to; empty where nobody tries it.
        why: String,
    },
    /// Not at all.
    Closed {
        /// Why, for people.
        why: String,
    },
}

/// From each host to each other node.
pub type PeerReachability = BTreeMap<NodeId, BTreeMap<NodeId, Reachability>>;

/// Whether a port can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// Somebody listens, or the machine says that nobody does: nothing is in between.
    Open,
    /// No answer.
    Silent,
    /// The name has no address there.
    Unresolved,
    /// Nothing there to try it with.
    Unknown,
}

/// What a node that does not run has on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "log", rename_all = "snake_case")]
pub enum Log {
    /// A whole log.
    Whole(LogEnd),
    /// Not all that was written is there.
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// It could not be read.
    Unread {
        /// Why.
        reason: String,
    },
}

/// The last entry of a log. Of two logs that with the larger one holds more (Raft paper, 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogEnd {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// What was seen of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// What its host says.
    pub host: HostInspection,
    /// What its admin API says.
    pub api: ApiAnswer,
}

/// What a node's host says, when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sight", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "there is one for each node, and nearly always the largest")]
pub enum HostInspection {
    /// Not asked: the command needs the admin API only.
    NotAsked,
    /// Could not be asked.
    Unreachable {
        /// Why, for people.
        reason: String,
        /// Evidence, line by line.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        details: Vec<String>,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<String>,
    },
    /// Answered.
    Seen(Box<HostFacts>),
}

/// What a host says about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The node's process.
    pub process: Process,
    /// Hash of the node's file on disk, as `ClusterStatus::config_hash`; `None` when there is none or it is broken.
    pub config_hash: Option<String>,
    /// The node's directories exist.
    pub dirs: bool,
    /// The data directory is missing or has nothing in it.
    pub data_empty: bool,
    /// The release that its next start runs, where releases are kept.
    #[serde(default)]
    pub current: Option<String>,
    /// That release's program, on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<PathBuf>,
    /// The program that its process runs, as the system names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The ports it wants, taken by something that is not this node.
    pub taken: Vec<TakenPort>,
    /// Whose node it is, by what the last deployment left there.
    #[serde(default)]
    pub claims: Claims,
    /// What its machine is and has; `None` where nodes are processes of the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// What a node's machine is, and what is installed on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As `uname -m` says it.
    pub arch: String,
    /// The C library, e.g. `glibc 2.36`, when it says so.
    pub libc: Option<String>,
    /// systemd runs it.
    pub systemd: bool,
    /// Why nothing can be done as root there; `None` when it can.
    pub no_root: Option<String>,
    /// The user that is to own the data exists.
    pub user: bool,
    /// Owner and mode of the data directory, e.g. `root 755`; `None` when there is none.
    #[serde(default)]
    pub owner: Option<String>,
    /// Where the user that logs in would have to write and may not, when nothing is done as root.
    #[serde(default)]
    pub closed: Vec<String>,
    /// Who logs in there.
    #[serde(default)]
    pub login: Option<String>,
    /// A systemd of that user's own runs.
    #[serde(default)]
    pub manager: bool,
    /// It runs from boot to shutdown, not only while the user is logged in.
    #[serde(default)]
    pub lingers: bool,
    /// Files of uploads that never came to their end.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// SHA-256 of the unit's text.
    pub unit: Option<String>,
    /// The unit is started at boot.
    pub enabled: bool,
    /// SHA-256 of the program in the wanted release's place.
    pub program: Option<String>,
    /// Room left where the data is, in MiB.
    pub free_data_mib: u64,
    /// Room left where releases go, in MiB.
    pub free_install_mib: u64,
    /// How far its clock is ahead of the operator's, in seconds.
    pub skew_s: i64,
}

/// A node's process on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum Process {
    /// Runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Does not just now, and comes or goes by itself: a unit between two starts, or on its way in or out.
    Restarting,
    /// The service manager there cannot be asked.
    Unknown,
    /// Does not, and nothing will start it by itself.
    Stopped,
}

impl Process {
    /// It runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// There is none: the last one has ended, whatever comes next.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Restarting | Self::Stopped)
    }
}

/// A port that something else listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPort {
    /// The port.
    pub port: u16,
    /// The key in cluster.yaml that wants it, e.g. `http_port`.
    pub key: String,
    /// Who has it, e.g. `python3 (pid 4711)`, when the system tells.
    pub holder: Option<String>,
}

/// What a node's admin API says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ApiAnswer {
    /// It answered.
    Status(Box<ClusterStatus>),
    /// It did not.
    Silent {
        /// Why, short, e.g. `connection refused :8080`.
        reason: String,
        /// Somebody else did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stranger: Option<Stranger>,
    },
}

impl ApiAnswer {
    /// Nobody answered.
    pub fn silent(reason: impl Into<String>) -> Self {
        Self::Silent { reason: reason.into(), stranger: None }
    }
}

impl HostFacts {
    /// It already is as `action` would make it.
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
    /// The release that the node's process runs; `None` when it runs none, or a program that is no release.
    pub fn runs_release(&self) -> Option<&str> {
        let (_, rest) = self.exe.as_deref()?.split_once("/releases/")?;
        rest.split('/').next()
    }
}

impl NodeFacts {
    /// What the node said of the cluster.
    pub fn status(&self) -> Option<&ClusterStatus> {
        match &self.api {
            ApiAnswer::Status(status) => Some(status),
            ApiAnswer::Silent { .. } => None,
        }
    }

    /// What the host said.
    pub fn host(&self) -> Option<&HostFacts> {
        match &self.host {
            HostInspection::Seen(facts) => Some(facts),
            HostInspection::NotAsked | HostInspection::Unreachable { .. } => None,
        }
    }

    /// Its process id, when it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.host()?.process {
            Process::Running { pid } => Some(pid),
            Process::Restarting | Process::Unknown | Process::Stopped => None,
        }
    }
}

impl Facts {
    /// Where the node's log ends, by its own answer or by what lies on its disk.
    pub fn log_end(&self, id: NodeId) -> Option<LogEnd> {
        let answer = self.nodes.get(&id).and_then(NodeFacts::status);
        let answered = answer
            .map(|status| LogEnd { term: status.last_term.unwrap_or_default(), index: status.last_index });
        answered.or_else(|| match self.logs.get(&id)? {
            Log::Whole(end) => Some(*end),
            Log::Damaged { .. } | Log::Unread { .. } => None,
        })
    }

    /// Every answer, by node.
    pub fn statuses(&self) -> impl Iterator<Item = (NodeId, &ClusterStatus)> {
        self.nodes.iter().filter_map(|(id, node)| Some((*id, node.status()?)))
    }

    /// The node that says it leads, in the highest term when two say so.
    pub fn leader(&self) -> Option<NodeId> {
        self.statuses()
            .filter(|(_, status)| status.state == Some(RaftRole::Leader))
            .max_by_key(|(_, status)| status.term)
            .map(|(id, _)| id)
    }

    /// The nodes whose process runs, in order of their ids.
    pub fn running(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.pid().is_some()).map(|(id, _)| *id).collect()
    }
}

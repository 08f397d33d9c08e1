//! Everything that a step can do. It is a closed list that can be serialised, so that a later escli can read a journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::ids::{ClusterId, NodeId};
use shared::spec::{Node, authority};

/// What one step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Write the cluster.yaml of a new local cluster.
    WriteClusterFile {
        /// Path of the file.
        path: PathBuf,
    },
    /// Create the user that owns the data.
    EnsureUser {
        /// Name of the user.
        user: String,
    },
    /// Create the node's directories.
    EnsureDirs,
    /// Delete the temporary files that failed uploads have left.
    RemoveLeftovers,
    /// Copy the node's program into its release directory.
    PlaceBinary {
        /// Path of the program on the operator's machine.
        source: PathBuf,
        /// Name of the release.
        release: String,
        /// SHA-256 of the program, in hex.
        sha256: String,
    },
    /// Make the next start run another release.
    SwitchRelease {
        /// Name of the release.
        release: String,
    },
    /// Install the systemd unit, and make it start at boot.
    InstallUnit {
        /// SHA-256 of its text, in hex.
        hash: String,
    },
    /// Write the node's configuration file.
    WriteConfig {
        /// Hash of the new file, as in `ClusterStatus::config_hash`.
        hash: String,
    },
    /// Start the node's process.
    StartNode {
        /// Path of the program on the node's host.
        binary: PathBuf,
    },
    /// Ask the node's process to end, and wait until it has.
    StopNode {
        /// Kill it if it does not end in time.
        force: bool,
    },
    /// Wait until the node's process answers on its admin port.
    AwaitLive,
    /// Wait until a majority of the running nodes follows one leader.
    AwaitLeader {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Raise the on-disk format that the cluster writes. Older programs cannot read the data afterwards.
    RaiseFormat {
        /// The wanted format; the newest that every node reads if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u16>,
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Check that the nodes agree on cluster id, leader and term.
    VerifyCluster {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Check, immediately before the node is stopped, that the others keep a majority.
    CheckQuorum {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Transfer leadership to the node.
    TransferLeader,
    /// Wait until the node follows the leader and keeps up with it.
    AwaitCaughtUp {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
        /// The configuration that it must run with, as in `ClusterStatus::config_hash`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<String>,
    },
    /// Check that the members' hosts reach the node's `cluster_port`.
    ProveReach {
        /// The nodes whose hosts try it.
        from: Vec<NodeId>,
    },
    /// Add the node to the cluster, as a learner at first.
    AddMember {
        /// The node's id, host and ports.
        member: Box<Node>,
        /// It stays a learner.
        stays_learner: bool,
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Wait until the leader has made the learner a voter.
    AwaitVoter {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
    },
    /// Remove the node from the cluster, and check that a majority knows of it.
    RemoveMember {
        /// The nodes that stay.
        nodes: Vec<NodeId>,
    },
    /// Make the node's unit no longer start at boot.
    DisableUnit,
    /// Watch that the node runs the wanted version, follows one leader and keeps up with it, without a break for a
    /// while.
    Soak {
        /// The nodes to ask.
        nodes: Vec<NodeId>,
        /// The version that it must report; `None` if the program could not be run here to ask for its version.
        version: Option<String>,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Unpack a backup into the node's empty data directory.
    PlaceBackup {
        /// Path of the backup on the operator's machine.
        source: PathBuf,
        /// SHA-256 of its manifest, in hex.
        sum: String,
        /// Total length of its files, in bytes.
        bytes: u64,
        /// Identity of the cluster that will continue from it.
        cluster: ClusterId,
    },
    /// Recover: make the log in the node's data directory that of another cluster.
    Recover {
        /// Path of the program on the node's host.
        binary: PathBuf,
        /// Identity of the new cluster.
        cluster: ClusterId,
        /// The members of the new cluster.
        members: Vec<NodeId>,
    },
    /// Delete the node's directory with all its data.
    Wipe,
    /// Delete the cluster.yaml that escli wrote itself.
    RemoveClusterFile {
        /// Path of the file.
        path: PathBuf,
    },
}

/// What performing an action changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing: it only checks or waits.
    Observes,
    /// It changes something, by a method of its own.
    Changes,
    /// It changes what is installed on the node's host, by `Hosts::install`.
    Installs,
}

impl Action {
    /// Returns the action's row in the table of all actions: its name in documents and journals, the last part of its
    /// step's id, its effect, and a few words for people.
    #[rustfmt::skip]
    fn row(&self) -> (&'static str, &'static str, Effect, &'static str) {
        use Effect::{Changes, Installs, Observes};
        match self {
            Self::WriteClusterFile { .. } => ("write_cluster_file", "file", Changes, "write the cluster.yaml"),
            Self::EnsureUser { .. } => ("ensure_user", "user", Installs, "create its user"),
            Self::EnsureDirs => ("ensure_dirs", "dirs", Changes, "create its directories"),
            Self::RemoveLeftovers => ("remove_leftovers", "leftovers", Installs, "delete leftovers of failed uploads"),
            Self::PlaceBinary { .. } => ("place_binary", "binary", Installs, "copy esnode"),
            Self::SwitchRelease { .. } => ("switch_release", "release", Installs, "switch its release"),
            Self::InstallUnit { .. } => ("install_unit", "unit", Installs, "install its systemd unit"),
            Self::WriteConfig { .. } => ("write_config", "config", Changes, "write its cluster.yaml"),
            Self::StartNode { .. } => ("start_node", "start", Changes, "start it"),
            Self::StopNode { .. } => ("stop_node", "stop", Changes, "stop it"),
            Self::AwaitLive => ("await_live", "live", Observes, "wait until it answers"),
            Self::AwaitLeader { .. } => ("await_leader", "leader", Observes, "wait for a leader"),
            Self::RaiseFormat { .. } => ("raise_format", "format", Changes, "write data in the newest on-disk format that all read from now on"),
            Self::VerifyCluster { .. } => ("verify_cluster", "verify", Observes, "check that all agree"),
            Self::CheckQuorum { .. } => ("check_quorum", "quorum-check", Observes, "check that the others keep a quorum without it"),
            Self::TransferLeader => ("transfer_leader", "transfer-leader", Changes, "make it the leader"),
            Self::AwaitCaughtUp { .. } => ("await_caught_up", "caught-up", Observes, "wait until it has caught up"),
            Self::ProveReach { .. } => ("prove_reach", "reach", Observes, "check that the members reach it"),
            Self::AddMember { .. } => ("add_member", "join", Changes, "add it to the cluster"),
            Self::AwaitVoter { .. } => ("await_voter", "voter", Observes, "wait until it votes"),
            Self::RemoveMember { .. } => ("remove_member", "drain", Changes, "remove it from the cluster"),
            Self::DisableUnit => ("disable_unit", "disable", Installs, "no longer start it at boot"),
            Self::Soak { .. } => ("soak", "soak", Observes, "watch it serve without a break"),
            Self::PlaceBackup { .. } => ("place_backup", "copy", Installs, "copy the log"),
            Self::Recover { .. } => ("recover", "recover", Installs, "start a new cluster from its log"),
            Self::Wipe => ("wipe", "wipe", Changes, "delete its data"),
            Self::RemoveClusterFile { .. } => ("remove_cluster_file", "remove-file", Changes, "delete the cluster.yaml"),
        }
    }

    /// Returns its name in documents and in the journal.
    pub fn name(&self) -> &'static str {
        self.row().0
    }

    /// Returns the last part of its step's id.
    pub fn verb(&self) -> &'static str {
        self.row().1
    }

    /// Returns whether it changes what is installed on the node's host, by `Hosts::install`.
    pub fn installs(&self) -> bool {
        self.row().2 == Effect::Installs
    }

    /// Returns whether performing it changes something; false if it only checks or waits.
    pub fn changes(&self) -> bool {
        self.row().2 != Effect::Observes
    }

    /// Returns a few words for people, e.g. `start it`, with what the action is about.
    pub fn describe(&self) -> String {
        match self {
            Self::WriteClusterFile { path } => format!("write {}", path.display()),
            Self::EnsureUser { user } => format!("create the user {user}"),
            Self::PlaceBinary { release, .. } => format!("copy esnode {release}"),
            Self::SwitchRelease { release } => format!("switch to release {release}"),
            Self::StopNode { force: true } => "stop it, and kill it if it does not stop".to_owned(),
            Self::RaiseFormat { to: Some(to), .. } => {
                format!("write data in on-disk format {to} from now on")
            }
            Self::AddMember { member, .. } => {
                format!("add it to the cluster, at {}", authority(&member.host, member.cluster_port))
            }
            Self::Soak { version, ms, .. } => {
                let what = version.as_deref().unwrap_or("it");
                format!("watch {what} serve without a break for {ms} ms")
            }
            Self::PlaceBackup { bytes, .. } => format!("copy {} MiB of log", bytes.div_ceil(1 << 20)),
            Self::Recover { members, .. } => {
                let members: Vec<String> = members.iter().map(|id| format!("n{id}")).collect();
                format!("start a new cluster of {} from its log", members.join(", "))
            }
            Self::RemoveClusterFile { path } => format!("delete {}", path.display()),
            _ => self.row().3.to_owned(),
        }
    }
}

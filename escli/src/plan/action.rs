//! Everything a step can do: a closed list that serialises, so that a journal can be read by a later escli.

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
        /// Where.
        path: PathBuf,
    },
    /// Create the user that owns the data.
    EnsureUser {
        /// Its name.
        user: String,
    },
    /// Create the node's directories.
    EnsureDirs,
    /// Delete what uploads left that never came to their end.
    RemoveLeftovers,
    /// Copy the node's program to its place among the releases.
    PlaceBinary {
        /// The operator's copy.
        source: PathBuf,
        /// The release's name.
        release: String,
        /// What it must be there, as hex SHA-256.
        sha256: String,
    },
    /// Let the next start be that of another release.
    SwitchRelease {
        /// The release's name.
        release: String,
    },
    /// Install the systemd unit, to be started at boot.
    InstallUnit {
        /// Hex SHA-256 of its text.
        hash: String,
    },
    /// Give the node its file.
    WriteConfig {
        /// Hash of what it will say, as `ClusterStatus::config_hash`.
        hash: String,
    },
    /// Start the node's process.
    StartNode {
        /// The program, on the node's host.
        binary: PathBuf,
    },
    /// Ask the node to end, and wait until it has.
    StopNode {
        /// Kill it when it does not end in time.
        force: bool,
    },
    /// Wait until the node's process answers on its admin port.
    AwaitLive,
    /// Wait until the running majority follows one leader.
    AwaitLeader {
        /// The nodes that should follow it.
        nodes: Vec<NodeId>,
    },
    /// Raise the on-disk format that the cluster's data is written in. Older programs do not read it any more.
    RaiseFormat {
        /// The wanted format; the newest that every node reads when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u16>,
        /// The nodes asked.
        nodes: Vec<NodeId>,
    },
    /// See that the nodes agree on cluster id, leader and term.
    VerifyCluster {
        /// The nodes asked.
        nodes: Vec<NodeId>,
    },
    /// See, just before the node is stopped, that the others keep their majority.
    CheckQuorum {
        /// The nodes asked.
        nodes: Vec<NodeId>,
    },
    /// Hand leadership to the node.
    TransferLeader,
    /// Wait until the node follows the one leader and keeps up.
    AwaitCaughtUp {
        /// The nodes asked.
        nodes: Vec<NodeId>,
        /// What it must run with, as `ClusterStatus::config_hash`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<String>,
    },
    /// See that the members reach the node's `cluster_port`.
    ProveReach {
        /// The nodes whose hosts try it.
        from: Vec<NodeId>,
    },
    /// Have the cluster take the node in, as a learner at first.
    AddMember {
        /// Where it is.
        member: Box<Node>,
        /// It never votes.
        stays_learner: bool,
        /// The nodes asked.
        nodes: Vec<NodeId>,
    },
    /// Wait until the leader has made the learner a voter.
    AwaitVoter {
        /// The nodes asked.
        nodes: Vec<NodeId>,
    },
    /// Have the cluster let the node go, and see that a majority knows.
    RemoveMember {
        /// The nodes that stay.
        nodes: Vec<NodeId>,
    },
    /// Let the node's unit no longer be started at boot.
    DisableUnit,
    /// See that the node runs the wanted version, follows one leader and keeps up, without a break for a while.
    Soak {
        /// The nodes asked.
        nodes: Vec<NodeId>,
        /// What it must report; `None` when the program could not be asked.
        version: Option<String>,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Put a backup in the place of the node's data.
    PlaceBackup {
        /// The backup, on the operator's machine.
        source: PathBuf,
        /// SHA-256 of what it says of itself.
        sum: String,
        /// Bytes of its files.
        bytes: u64,
        /// The cluster that will continue from it.
        cluster: ClusterId,
    },
    /// Make the node's log that of another cluster.
    Recover {
        /// The program, on the node's host.
        binary: PathBuf,
        /// The cluster to come.
        cluster: ClusterId,
        /// Its members.
        members: Vec<NodeId>,
    },
    /// Delete the node's directory with all its data.
    Wipe,
    /// Delete the cluster.yaml that escli wrote itself.
    RemoveClusterFile {
        /// Where.
        path: PathBuf,
    },
}

/// What performing an action does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing: it looks or waits.
    Observes,
    /// It changes something, by a call of its own.
    Changes,
    /// It changes what is installed on the node's host, by `Hosts::install`.
    Installs,
}

impl Action {
    /// The table of all actions: name in documents and journals, last part of the step's id, effect, a few words for people.
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

    /// Returns whether performing it changes something, as opposed to looking or waiting.
    pub fn changes(&self) -> bool {
        self.row().2 != Effect::Observes
    }

    /// Returns a few words for people, e.g. `start it`, with what this action is about.
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

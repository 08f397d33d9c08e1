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
        /// The cluster that will carry on with it.
        cluster: ClusterId,
    },
    /// Make the node's log that of another cluster.
    Rebuild {
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

impl Action {
    /// Its name in documents; the same as in the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WriteClusterFile { .. } => "write_cluster_file",
            Self::EnsureUser { .. } => "ensure_user",
            Self::EnsureDirs => "ensure_dirs",
            Self::RemoveLeftovers => "remove_leftovers",
            Self::PlaceBinary { .. } => "place_binary",
            Self::SwitchRelease { .. } => "switch_release",
            Self::InstallUnit { .. } => "install_unit",
            Self::WriteConfig { .. } => "write_config",
            Self::StartNode { .. } => "start_node",
            Self::StopNode { .. } => "stop_node",
            Self::AwaitLive => "await_live",
            Self::AwaitLeader { .. } => "await_leader",
            Self::RaiseFormat { .. } => "raise_format",
            Self::VerifyCluster { .. } => "verify_cluster",
            Self::CheckQuorum { .. } => "check_quorum",
            Self::TransferLeader => "transfer_leader",
            Self::AwaitCaughtUp { .. } => "await_caught_up",
            Self::ProveReach { .. } => "prove_reach",
            Self::AddMember { .. } => "add_member",
            Self::AwaitVoter { .. } => "await_voter",
            Self::RemoveMember { .. } => "remove_member",
            Self::DisableUnit => "disable_unit",
            Self::Soak { .. } => "soak",
            Self::PlaceBackup { .. } => "place_backup",
            Self::Rebuild { .. } => "rebuild",
            Self::Wipe => "wipe",
            Self::RemoveClusterFile { .. } => "remove_cluster_file",
        }
    }

    /// The last part of a step's id.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::WriteClusterFile { .. } => "file",
            Self::EnsureUser { .. } => "user",
            Self::EnsureDirs => "dirs",
            Self::RemoveLeftovers => "leftovers",
            Self::PlaceBinary { .. } => "binary",
            Self::SwitchRelease { .. } => "release",
            Self::InstallUnit { .. } => "unit",
            Self::WriteConfig { .. } => "config",
            Self::StartNode { .. } => "start",
            Self::StopNode { .. } => "stop",
            Self::AwaitLive => "live",
            Self::AwaitLeader { .. } => "leader",
            Self::RaiseFormat { .. } => "format",
            Self::VerifyCluster { .. } => "verify",
            Self::CheckQuorum { .. } => "safe",
            Self::TransferLeader => "lead",
            Self::AwaitCaughtUp { .. } => "caught-up",
            Self::ProveReach { .. } => "reach",
            Self::AddMember { .. } => "join",
            Self::AwaitVoter { .. } => "voter",
            Self::RemoveMember { .. } => "leave",
            Self::DisableUnit => "disable",
            Self::Soak { .. } => "soak",
            Self::PlaceBackup { .. } => "copy",
            Self::Rebuild { .. } => "rebuild",
            Self::Wipe => "wipe",
            Self::RemoveClusterFile { .. } => "remove-file",
        }
    }

    /// A few words for people, e.g. `start the node`.
    pub fn describe(&self) -> String {
        match self {
            Self::WriteClusterFile { path } => format!("write {}", path.display()),
            Self::EnsureUser { user } => format!("create the user {user}"),
            Self::EnsureDirs => "create its directories".to_owned(),
            Self::RemoveLeftovers => "delete what broken uploads left".to_owned(),
            Self::PlaceBinary { release, .. } => format!("copy esnode {release}"),
            Self::SwitchRelease { release } => format!("make {release} the release that is started"),
            Self::InstallUnit { .. } => "install its systemd unit".to_owned(),
            Self::WriteConfig { .. } => "write its cluster.yaml".to_owned(),
            Self::StartNode { .. } => "start it".to_owned(),
            Self::StopNode { force: false } => "stop it".to_owned(),
            Self::StopNode { force: true } => "stop it, kill it if it does not end".to_owned(),
            Self::AwaitLive => "wait until it answers".to_owned(),
            Self::AwaitLeader { .. } => "wait for a leader".to_owned(),
            Self::RaiseFormat { to: Some(to), .. } => {
                format!("write data in on-disk format {to} from now on")
            }
            Self::RaiseFormat { to: None, .. } => {
                "write data in the newest on-disk format that all read from now on".to_owned()
            }
            Self::VerifyCluster { .. } => "check that all agree".to_owned(),
            Self::CheckQuorum { .. } => "see that the others can go on without it".to_owned(),
            Self::TransferLeader => "make it the leader".to_owned(),
            Self::AwaitCaughtUp { .. } => "wait until it has caught up".to_owned(),
            Self::ProveReach { .. } => "see that the members reach it".to_owned(),
            Self::AddMember { member, .. } => {
                format!("have the cluster take it in, at {}", authority(&member.host, member.cluster_port))
            }
            Self::AwaitVoter { .. } => "wait until it votes".to_owned(),
            Self::RemoveMember { .. } => "have the cluster let it go".to_owned(),
            Self::DisableUnit => "no longer start it at boot".to_owned(),
            Self::Soak { version: Some(version), ms, .. } => {
                format!("see {version} serve steadily for {ms} ms")
            }
            Self::Soak { version: None, ms, .. } => format!("see it serve steadily for {ms} ms"),
            Self::PlaceBackup { bytes, .. } => format!("copy {} MiB of log", bytes.div_ceil(1 << 20)),
            Self::Rebuild { members, .. } => {
                let members: Vec<String> = members.iter().map(|id| format!("n{id}")).collect();
                format!("let its log begin a new cluster of {}", members.join(", "))
            }
            Self::Wipe => "delete its data".to_owned(),
            Self::RemoveClusterFile { path } => format!("delete {}", path.display()),
        }
    }

    /// Changes what lies on the node's host, beside what has a call of its own.
    pub fn installs(&self) -> bool {
        matches!(
            self,
            Self::EnsureUser { .. }
                | Self::RemoveLeftovers
                | Self::PlaceBinary { .. }
                | Self::SwitchRelease { .. }
                | Self::InstallUnit { .. }
                | Self::DisableUnit
                | Self::PlaceBackup { .. }
                | Self::Rebuild { .. }
        )
    }

    /// Running it changes something, as opposed to looking or waiting.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::AwaitLive
                | Self::AwaitLeader { .. }
                | Self::VerifyCluster { .. }
                | Self::CheckQuorum { .. }
                | Self::AwaitCaughtUp { .. }
                | Self::ProveReach { .. }
                | Self::AwaitVoter { .. }
                | Self::Soak { .. }
        )
    }
}

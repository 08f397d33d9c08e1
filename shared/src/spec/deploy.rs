//! The `deploy` section: how the operator's tool reaches the machines and what it puts there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `deploy` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// How to reach the nodes' machines.
    pub transport: Transport,
    /// How to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// How to become root there.
    pub privilege: Privilege,
    /// What keeps the node running.
    pub service: Service,
    /// The user that owns the data; created when missing.
    pub user: Option<String>,
    /// Where releases go.
    pub install_dir: Option<PathBuf>,
    /// The esnode binary to install.
    pub binary: Option<PathBuf>,
}

/// How to reach the nodes' machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Over SSH.
    #[default]
    Ssh,
    /// All nodes are processes of this machine.
    Local,
}

/// How to become root on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// Not at all: the user that logs in owns everything.
    None,
    /// `sudo -n`.
    #[default]
    Sudo,
}

/// What keeps a node running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// A systemd unit.
    #[default]
    Systemd,
    /// A plain process with a pid file.
    Process,
}

/// How to log in to a machine. What is absent comes from `~/.ssh/config`, then from SSH's own defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The user to log in as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The SSH port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// The file of known host keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
    /// `strict`, `accept-new`, or the fingerprint that the host must have (`SHA256:...`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_keys: Option<String>,
    /// A machine to go through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
}

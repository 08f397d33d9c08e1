//! The `deploy` section: how escli reaches the machines, and what it installs there.

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
    /// The user that owns the data; created when missing. Absent: the tool's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where releases go on the hosts: an absolute path. Absent: the tool's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_dir: Option<PathBuf>,
    /// The esnode binary to install, a path here; `~/` is your home.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// A systemd unit; without root one of the user's own systemd.
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
    /// The private key, a path here; `~/` is your home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// The file of known host keys, a path here; `~/` is your home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
    /// `strict`, `accept-new`, or the fingerprint that the host must have (`SHA256:...`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_keys: Option<HostKeys>,
    /// A machine to connect through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
}

/// Which host keys are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostKeys {
    /// Only the keys in the file of known hosts.
    Strict,
    /// The keys in the file of known hosts, and any key of a host that is not in it yet.
    AcceptNew,
    /// The one with this fingerprint: `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints it.
    Pinned(String),
}

impl TryFrom<String> for HostKeys {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        match text.as_str() {
            "strict" => Ok(Self::Strict),
            "accept-new" => Ok(Self::AcceptNew),
            _ => match text.strip_prefix("SHA256:") {
                Some(hash) if hash.len() == 43 && hash.bytes().all(base64) => Ok(Self::Pinned(text)),
                _ => Err(format!(
                    "{text:?}; expected strict, accept-new, or a fingerprint as `ssh-keygen -l` prints \
                     it: SHA256: and 43 characters"
                )),
            },
        }
    }
}

impl From<HostKeys> for String {
    fn from(keys: HostKeys) -> Self {
        match keys {
            HostKeys::Strict => "strict".to_owned(),
            HostKeys::AcceptNew => "accept-new".to_owned(),
            HostKeys::Pinned(fingerprint) => fingerprint,
        }
    }
}

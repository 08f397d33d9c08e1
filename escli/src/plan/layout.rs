//! PURE: paths and users on a host that is reached over SSH.

use serde::{Deserialize, Serialize};
use std::path::Path;

use shared::spec::{self, ClusterFile, Deploy, Privilege, Service};

/// Default directory for releases and configuration.
const INSTALL_DIR: &str = "/opt/eventstream";
/// Default owner of the data.
const USER: &str = "eventstream";
/// Name of the systemd unit.
pub const UNIT: &str = "eventstream";

/// Paths on each host, and who may do what there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLayout {
    /// The directory of releases, of the link to the current one, and of the configuration.
    pub install: String,
    /// The data directory.
    pub data: String,
    /// The user that owns the data and runs the node; `None` for the login user.
    pub user: Option<String>,
    /// How to become root.
    pub privilege: Privilege,
    /// What keeps the node running.
    pub service: Service,
}

impl HostLayout {
    /// Returns the layout that cluster.yaml describes.
    ///
    /// # Errors
    /// A path or name with characters that have a meaning to a shell, and what is expected instead.
    pub fn of(file: &ClusterFile) -> Result<Self, String> {
        let deploy = file.deploy.clone().unwrap_or_default();
        let Deploy { install_dir, user, privilege, service, .. } = deploy;
        let install = path("deploy.install_dir", install_dir.as_deref().unwrap_or(Path::new(INSTALL_DIR)))?;
        let data = path("cluster.storage.data_dir", &file.cluster.storage.data_dir)?;
        let user = match privilege {
            Privilege::None => None,
            Privilege::Sudo => Some(name("deploy.user", user.unwrap_or_else(|| USER.to_owned()))?),
        };
        Ok(Self { install, data, user, privilege, service })
    }

    /// Path of the program that each start runs.
    pub fn program(&self) -> String {
        format!("{}/esnode", self.install)
    }

    /// Path of a release's program.
    pub fn released(&self, release: &str) -> String {
        format!("{}/releases/{release}/esnode", self.install)
    }

    /// Path of the node's cluster.yaml.
    pub fn config(&self) -> String {
        format!("{}/config/cluster.yaml", self.install)
    }

    /// Path of the log, if the node logs to a file.
    pub fn log(&self) -> String {
        format!("{}/run/log", self.install)
    }

    /// Returns whether the node is a unit of the login user's systemd, not of the machine's.
    pub fn is_user_unit(&self) -> bool {
        self.service == Service::Systemd && self.privilege == Privilege::None
    }

    /// Returns whether the node logs to a file in `install`. It does unless root can be used, because only root can
    /// always read systemd's journal.
    pub fn logs_to_file(&self) -> bool {
        self.service == Service::Process || self.is_user_unit()
    }

    /// The directory of units, as a shell expands it.
    pub fn units(&self) -> &'static str {
        if self.is_user_unit() { "$HOME/.config/systemd/user" } else { "/etc/systemd/system" }
    }

    /// Path of the unit, as a shell expands it.
    pub fn unit(&self) -> String {
        format!("{}/{UNIT}.service", self.units())
    }

    /// Path of the link that makes the unit start at boot, as a shell expands it.
    pub fn wanted_by(&self) -> String {
        let target = if self.is_user_unit() { "default" } else { "multi-user" };
        format!("{}/{target}.target.wants/{UNIT}.service", self.units())
    }
}

fn path(key: &str, path: &Path) -> Result<String, String> {
    let refused = |wanted| format!("{key} is {}; expected {wanted}", path.display());
    spec::host_dir(path).map(str::to_owned).map_err(refused)
}

fn name(key: &str, name: String) -> Result<String, String> {
    let refused = |wanted| format!("{key} is {name}; expected {wanted}");
    spec::host_user(&name).map_err(refused)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::remote_spec;

    #[test]
    fn what_cluster_yaml_does_not_say_is_as_documented() {
        let layout = HostLayout::of(&remote_spec(3)).unwrap();
        assert_eq!(layout.program(), "/opt/eventstream/esnode");
        assert_eq!(layout.released("1.4.2"), "/opt/eventstream/releases/1.4.2/esnode");
        assert_eq!(layout.config(), "/opt/eventstream/config/cluster.yaml");
        assert_eq!(
            (layout.data.as_str(), layout.user.as_deref()),
            ("/var/lib/eventstream/raft", Some("eventstream"))
        );
    }

    #[test]
    fn what_a_shell_would_read_is_refused() {
        for bad in ["relative", "/", "/a b", "/a;reboot", "/$HOME", "/a/../etc", "/a'b"] {
            let mut spec = remote_spec(3);
            spec.cluster.storage.data_dir = bad.into();
            assert!(HostLayout::of(&spec).unwrap_err().starts_with("cluster.storage.data_dir is "), "{bad}");
        }
        for bad in ["", "Root", "-x", "a b", "a;b"] {
            let mut spec = remote_spec(3);
            spec.deploy = Some(Deploy { user: Some(bad.to_owned()), ..Deploy::default() });
            assert!(HostLayout::of(&spec).is_err(), "{bad}");
        }
    }
}

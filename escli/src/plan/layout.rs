//! PURE: what is where on a host that the operator reaches over SSH.

use serde::{Deserialize, Serialize};
use std::path::Path;

use shared::spec::{self, ClusterFile, Deploy, Privilege, Service};

/// Where things go when cluster.yaml does not say.
const INSTALL_DIR: &str = "/opt/eventstream";
/// Who owns the data when cluster.yaml does not say.
const USER: &str = "eventstream";
/// The systemd unit.
pub const UNIT: &str = "eventstream";

/// What is where on each host, and who may do what there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLayout {
    /// Releases, the program's links and the configuration.
    pub install: String,
    /// The node's data directory.
    pub data: String,
    /// Owns the data and runs the node; `None` for the user that logs in.
    pub user: Option<String>,
    /// How to become root.
    pub privilege: Privilege,
    /// What keeps the node running.
    pub service: Service,
}

impl HostLayout {
    /// As cluster.yaml says.
    ///
    /// # Errors
    /// A path or a name that would mean something to a shell, and what is expected of it.
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

    /// What each start runs.
    pub fn program(&self) -> String {
        format!("{}/esnode", self.install)
    }

    /// Where a release's program lies.
    pub fn released(&self, release: &str) -> String {
        format!("{}/releases/{release}/esnode", self.install)
    }

    /// The node's cluster.yaml.
    pub fn config(&self) -> String {
        format!("{}/config/cluster.yaml", self.install)
    }

    /// Where the node logs, if to a file.
    pub fn log(&self) -> String {
        format!("{}/run/log", self.install)
    }

    /// The systemd of the user that logs in runs the node, not that of the machine.
    pub fn is_user_unit(&self) -> bool {
        self.service == Service::Systemd && self.privilege == Privilege::None
    }

    /// The node logs to a file beside its program: only root can be sure to read what systemd keeps.
    pub fn logs_to_file(&self) -> bool {
        self.service == Service::Process || self.is_user_unit()
    }

    /// Where systemd looks for units, as a shell spells it.
    pub fn units(&self) -> &'static str {
        if self.is_user_unit() { "$HOME/.config/systemd/user" } else { "/etc/systemd/system" }
    }

    /// The systemd unit's file, as a shell spells it.
    pub fn unit(&self) -> String {
        format!("{}/{UNIT}.service", self.units())
    }

    /// What is there once a boot starts the unit, as a shell spells it.
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

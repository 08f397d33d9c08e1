//! PURE: the systemd unit of a node, the same bytes every time.
//!
//! The unit may read what every program may, write to its data directory, and use TCP; nothing else (systemd.exec(5)).

use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node};

use super::layout::HostLayout;

/// Ports below this one need a privilege (ip(7), `ip_unprivileged_port_start`).
const FIRST_COMMON_PORT: u16 = 1024;

/// Restrictions that a user's own systemd supports too; it cannot use namespaces or capabilities.
const FILTERS: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
# Threads whose work can wait step back by setpriority(2), which is among @resources.
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=setpriority
SystemCallErrorNumber=EPERM
";

/// Restrictions that only the machine's systemd supports.
const HARDENING: &str = "\
ProtectSystem=strict
ProtectHome=HOME
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
PrivateUsers=PRIVATE_USERS
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
DevicePolicy=closed
KeyringMode=private
RemoveIPC=yes
";

/// Returns the unit of node `id`; `None` if there is no such node.
pub fn unit(spec: &ClusterFile, layout: &HostLayout, id: NodeId) -> Option<String> {
    let node = spec.node(id)?;
    if layout.is_user_unit() {
        return Some(user_unit(spec, layout, id));
    }
    let owner = layout.user.as_ref().map(|user| format!("User={user}\nGroup={user}\n")).unwrap_or_default();
    let HostLayout { install, data, .. } = layout;
    let capability = if binds_low_port(node) { "CAP_NET_BIND_SERVICE" } else { "" };
    // In a user namespace of its own, the node could not use the capability.
    let private_users = if capability.is_empty() { "yes" } else { "no" };
    let home = if data.starts_with("/home/") || data.starts_with("/root/") || install.starts_with("/home/") {
        "no"
    } else {
        "yes"
    };
    let hardening = HARDENING.replace("PRIVATE_USERS", private_users).replace("=HOME", &format!("={home}"));
    Some(format!(
        "# Written by escli, which writes it again whenever it says something else.
[Unit]
Description=EventStream node {id} of {name}
Wants=network-online.target
After=network-online.target
# Never give up: a node that cannot start is tried again until somebody looks.
StartLimitIntervalSec=0

[Service]
Type=exec
{owner}ExecStart={program} --node-id={id} --config={config}
Restart=on-failure
RestartSec=1
TimeoutStopSec=60
LimitNOFILE=65536
UMask=0077
ReadWritePaths={data}
CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
{hardening}{FILTERS}
[Install]
WantedBy=multi-user.target
",
        name = spec.cluster.name,
        program = layout.program(),
        config = layout.config(),
    ))
}

/// Returns the unit for the login user's systemd, which cannot wait for the network or run as another user.
fn user_unit(spec: &ClusterFile, layout: &HostLayout, id: NodeId) -> String {
    format!(
        "# Written by escli, which writes it again whenever it says something else.
[Unit]
Description=EventStream node {id} of {name}
# Never give up: a node that cannot start is tried again until somebody looks.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={program} --node-id={id} --config={config}
Restart=on-failure
RestartSec=1
TimeoutStopSec=60
LimitNOFILE=65536
UMask=0077
StandardOutput=append:{log}
StandardError=inherit
{FILTERS}
[Install]
WantedBy=default.target
",
        name = spec.cluster.name,
        program = layout.program(),
        config = layout.config(),
        log = layout.log(),
    )
}

fn binds_low_port(node: &Node) -> bool {
    [node.client_port, node.cluster_port, node.http_port].iter().any(|port| *port < FIRST_COMMON_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::spec::{Deploy, Privilege};

    use crate::plan::tests::remote_spec;

    fn text(spec: &ClusterFile) -> String {
        unit(spec, &HostLayout::of(spec).unwrap(), 2).unwrap()
    }

    #[test]
    fn it_runs_what_the_documentation_runs_as_a_user_of_its_own() {
        let text = text(&remote_spec(3));
        let start =
            "ExecStart=/opt/eventstream/esnode --node-id=2 --config=/opt/eventstream/config/cluster.yaml\n";
        for line in
            [start, "User=eventstream\n", "ReadWritePaths=/var/lib/eventstream/raft\n", "UMask=0077\n"]
        {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(text.contains("CapabilityBoundingSet=\n") && text.contains("PrivateUsers=yes\n"), "{text}");
        assert!(!text.contains("HOME"), "{text}");
    }

    #[test]
    fn a_user_without_root_gets_what_their_own_systemd_can_do() {
        let mut spec = remote_spec(3);
        let install_dir = Some("/home/ada/es".into());
        spec.deploy = Some(Deploy { privilege: Privilege::None, install_dir, ..Deploy::default() });
        let text = text(&spec);
        for line in [
            "NoNewPrivileges=yes\n",
            "StandardOutput=append:/home/ada/es/run/log\n",
            "WantedBy=default.target\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        for word in ["User=", "Protect", "Private", "Capabilit", "network-online"] {
            assert!(!text.contains(word), "{word} takes root or a namespace:\n{text}");
        }
    }

    #[test]
    fn a_low_port_costs_one_capability() {
        let mut spec = remote_spec(3);
        spec.cluster.nodes[1].client_port = 992;
        assert!(text(&spec).contains("AmbientCapabilities=CAP_NET_BIND_SERVICE\n"));
    }
}

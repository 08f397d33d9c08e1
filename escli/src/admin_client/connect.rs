//! The admin API as a cluster's hosts let it be reached: directly, through the jump host that leads to them, or through
//! their own SSH server.

use std::sync::Arc;

use shared::spec::{ClusterFile, Node};

use super::AdminClient;
use super::route::{Route, SshTunnel};
use crate::engine::ports::PortError;
use crate::hosts::remote::{Destinations, destinations};
use crate::hosts::ssh::{Destination, Passphrases};
use crate::settings::Settings;

/// The admin ports of the nodes of `spec`, for commands that need nothing else of their hosts.
///
/// # Errors
/// When no client can be set up.
pub fn admin(settings: &Settings, spec: &ClusterFile) -> Result<AdminClient, PortError> {
    if spec.is_local() {
        return AdminClient::new(spec, settings.host_timeout);
    }
    through(settings, spec, &destinations(spec), &settings.passphrases)
}

/// The same, where it is known already how to reach the hosts.
///
/// # Errors
/// When no client can be set up.
pub fn through(
    settings: &Settings,
    spec: &ClusterFile,
    destinations: &Destinations,
    passphrases: &Arc<Passphrases>,
) -> Result<AdminClient, PortError> {
    AdminClient::by(spec, settings.host_timeout, |node, limit| {
        // A host that cannot be resolved for SSH may answer all the same.
        let Some(Ok(destination)) = destinations.get(&node.id) else { return Route::direct(limit) };
        let Some((last, before)) = destination.jumps.split_last() else {
            let own = SshTunnel::new(destination.clone(), listens(node), node.http_port, passphrases);
            return Route::either(limit, own);
        };
        let via = Destination { jumps: before.to_vec(), ..last.clone() };
        Ok(Route::behind(limit, SshTunnel::new(via, &node.host, node.http_port, passphrases)))
    })
}

/// Where the node listens, as its own host calls it.
fn listens(node: &Node) -> &str {
    match node.bind.as_deref() {
        None | Some("0.0.0.0") => "127.0.0.1",
        Some("::") => "::1",
        Some(address) => address,
    }
}

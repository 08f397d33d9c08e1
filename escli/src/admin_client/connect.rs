//! Chooses the route to each node's admin API: directly, through the jump host that leads to its host, or through the
//! host's own SSH server.

use std::sync::Arc;

use shared::spec::{ClusterFile, Node};

use super::AdminClient;
use super::route::{Route, SshTunnel};
use crate::engine::ports::PortError;
use crate::hosts::remote::{Destinations, destinations};
use crate::hosts::ssh::{Destination, Passphrases};
use crate::settings::Settings;

/// Returns a client for the admin ports of the nodes of `spec`, for commands that do not use the hosts in any other
/// way.
///
/// # Errors
/// If no HTTP client can be created.
pub fn admin(settings: &Settings, spec: &ClusterFile) -> Result<AdminClient, PortError> {
    if spec.is_local() {
        return AdminClient::new(spec, settings.host_timeout);
    }
    through(settings, spec, &destinations(spec), &settings.passphrases)
}

/// As [`admin`], for a caller that already knows the way to each host.
///
/// # Errors
/// If no HTTP client can be created.
pub fn through(
    settings: &Settings,
    spec: &ClusterFile,
    destinations: &Destinations,
    passphrases: &Arc<Passphrases>,
) -> Result<AdminClient, PortError> {
    AdminClient::by(spec, settings.host_timeout, |node, limit| {
        // A host that SSH cannot resolve may still answer directly.
        let Some(Ok(destination)) = destinations.get(&node.id) else { return Route::direct(limit) };
        let Some((last, before)) = destination.jumps.split_last() else {
            let own = SshTunnel::new(destination.clone(), listens(node), node.http_port, passphrases);
            return Route::either(limit, own);
        };
        let via = Destination { jumps: before.to_vec(), ..last.clone() };
        Ok(Route::behind(limit, SshTunnel::new(via, &node.host, node.http_port, passphrases)))
    })
}

/// Returns the address of the node's admin port, as seen from its own host.
fn listens(node: &Node) -> &str {
    match node.bind.as_deref() {
        None | Some("0.0.0.0") => "127.0.0.1",
        Some("::") => "::1",
        Some(address) => address,
    }
}
